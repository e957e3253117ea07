"""The sound of a labelled copy, judged by decoding it again."""

from fractions import Fraction
from pathlib import Path

import av
import numpy as np
import pytest
from av.stream import Disposition

from timm_video_psn.data import FrameStream
from timm_video_psn.engine.predict.overlay import annotate_video
from timm_video_psn.engine.predict.sliding_window import Span
from timm_video_psn.engine.trained_model import Prediction

RATE, FPS, SECONDS = 16000, 10, 2


def beeping(path: Path, codec: str, first_frame_sec: float = 0.0, poster: bool = False) -> Path:
    """A grey video of 2 s; from its first frame on, its sound is silent for 1 s and a tone for 1 s.

    A poster is a video stream of one larger picture at 0 s, ahead of the film; neither is marked as the default.
    """
    total = first_frame_sec + SECONDS
    time = np.arange(int(RATE * total)) / RATE
    wave = (0.5 * np.sin(2 * np.pi * 440 * time) * (time >= first_frame_sec + 1)).astype(np.float32)
    with av.open(str(path), "w", options={"default_mode": "passthrough"} if poster else {}) as container:
        still = container.add_stream("mjpeg", rate=FPS) if poster else None
        video, audio = container.add_stream("libx264", rate=FPS), container.add_stream(codec, rate=RATE, layout="mono")
        video.width, video.height, video.pix_fmt = 64, 48, "yuv420p"
        video.codec_context.time_base = Fraction(1, 1000)
        if still is not None:
            still.width, still.height, still.pix_fmt = 640, 480, "yuvj420p"
            container.mux(still.encode(av.VideoFrame.from_ndarray(np.zeros((480, 640, 3), np.uint8), format="rgb24")))
        for number in range(FPS * SECONDS):
            frame = av.VideoFrame.from_ndarray(np.full((48, 64, 3), 128, np.uint8), format="rgb24")
            frame.pts, frame.time_base = round(1000 * (first_frame_sec + number / FPS)), Fraction(1, 1000)
            container.mux(video.encode(frame))
        for start in range(0, len(wave) - 1023, 1024):
            samples = av.AudioFrame.from_ndarray(wave[None, start : start + 1024], format="fltp", layout="mono")
            samples.sample_rate, samples.pts, samples.time_base = RATE, start, Fraction(1, RATE)
            resampler = av.AudioResampler(format=audio.format, layout="mono", rate=RATE)
            for part in resampler.resample(samples):
                container.mux(audio.encode(part))
        container.mux([*video.encode(None), *audio.encode(None)])
    return path


def loudness(path: Path) -> dict[float, float]:
    """Root mean square of the sound in each half second."""
    heard: dict[float, list[float]] = {}
    with av.open(str(path)) as container:
        for frame in container.decode(audio=0):
            values = frame.to_ndarray().astype(np.float64)
            heard.setdefault(int(frame.time * 2) / 2, []).append(float(np.sqrt((values**2).mean())))
    return {time: float(np.mean(values)) for time, values in heard.items()}


def copy_of(video: Path, path: Path, sound_of: Path | None) -> Path:
    with FrameStream(video) as stream:
        annotate_video(path, stream, stream.fps, [Span(0, 2, [Prediction("class", 0.5)])], sound_of)
    return path


@pytest.mark.parametrize(
    ("name", "codec", "first"),
    [("v.mp4", "aac", 0.0), ("v.mkv", "pcm_s16le", 0.0), ("v.mkv", "libmp3lame", 1.0), ("w.mkv", "pcm_s16le", 1.0)],
)
def test_the_copy_sounds_at_the_same_moments_of_the_picture(tmp_path, name, codec, first):
    video = beeping(tmp_path / name, codec, first)
    heard = loudness(copy_of(video, tmp_path / "copy.mp4", video))
    assert max(heard[0.0], heard[0.5]) < 0.05
    assert heard[1.5] > 0.2
    assert max(heard) <= 2.0


def test_the_times_are_those_of_the_film_and_not_of_a_poster(tmp_path):
    video = beeping(tmp_path / "v.mkv", "pcm_s16le", 1.0, poster=True)
    with av.open(str(video)) as container:
        assert [bool(stream.disposition & Disposition.default) for stream in container.streams.video] == [False, False]
    heard = loudness(copy_of(video, tmp_path / "copy.mp4", video))
    assert max(heard[0.0], heard[0.5]) < 0.05
    assert heard[1.5] > 0.2


def test_a_part_of_a_video_has_the_sound_of_that_part(tmp_path):
    video = beeping(tmp_path / "v.mp4", "aac")
    with FrameStream(video) as stream:
        early = (frame for frame, _ in zip(stream, range(5), strict=False))
        annotate_video(tmp_path / "copy.mp4", early, stream.fps, [Span(0, 2, [Prediction("class", 0.5)])], video)
    assert set(loudness(tmp_path / "copy.mp4")) == {0.0}


def test_without_sound_the_copy_is_silent(tmp_path):
    video = beeping(tmp_path / "v.mp4", "aac")
    silent = copy_of(video, tmp_path / "silent.mp4", None)
    for copy in (silent, copy_of(silent, tmp_path / "again.mp4", silent)):
        with av.open(str(copy)) as container:
            assert not container.streams.audio
            assert sum(1 for _ in container.decode(video=0)) == FPS * SECONDS
