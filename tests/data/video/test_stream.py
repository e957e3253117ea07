"""Frames in order, from files, folders and a stream that a real server sends."""

import functools
import http.server
import threading
from fractions import Fraction

import av
import numpy as np
import pytest
from PIL import Image

from tests.data.sample_videos import decoded_plainly, encoded, moving_noise
from timm_video_psn.data import DecodeError, FrameStream, VideoReader, is_live, write_video


@pytest.fixture
def video(tmp_path):
    """30 frames, each brighter than the one before, 10 a second."""
    frames = np.stack([np.full((32, 48, 3), 8 * i, np.uint8) for i in range(30)])
    write_video(tmp_path / "video.mp4", frames, fps=10)
    return tmp_path / "video.mp4"


def test_a_file_gives_every_frame_once_with_its_time(video):
    with FrameStream(video) as stream:
        frames = list(stream)
    with VideoReader(video) as reader:
        expected = reader.read(range(reader.num_frames))
    assert [round(frame.time_sec, 6) for frame in frames] == [i / 10 for i in range(30)]
    assert np.array_equal(np.stack([frame.rgb() for frame in frames]), expected)
    assert stream.fps == 10
    assert not stream.live


def test_frames_of_uneven_length_keep_their_times(tmp_path):
    path, times = tmp_path / "uneven.mkv", [0, 100, 150, 900, 1000]
    with av.open(str(path), "w") as container:
        stream = container.add_stream("libx264", rate=25)
        stream.width = stream.height = 32
        stream.pix_fmt = "yuv420p"
        stream.codec_context.time_base = Fraction(1, 1000)
        for time in times:
            frame = av.VideoFrame.from_ndarray(np.full((32, 32, 3), time // 5, np.uint8), format="rgb24")
            frame.pts, frame.time_base = time, stream.codec_context.time_base
            container.mux(stream.encode(frame))
        container.mux(stream.encode(None))
    with FrameStream(path) as stream:
        assert [round(1000 * frame.time_sec) for frame in stream] == times


def test_a_folder_of_images_is_timed_by_the_rate_it_is_given(tmp_path):
    for number in range(12):
        Image.fromarray(np.full((8, 8, 3), number, np.uint8)).save(tmp_path / f"{number}.png")
    with FrameStream(tmp_path, fps=4) as stream:
        frames = list(stream)
    assert [frame.time_sec for frame in frames] == [i / 4 for i in range(12)]
    assert [int(frame.rgb()[0, 0, 0]) for frame in frames] == list(range(12))
    with pytest.raises(ValueError, match="without a frame rate; give one, for example --fps 12"):
        FrameStream(tmp_path)


def test_a_stream_comes_over_the_network(video):
    handler = functools.partial(http.server.SimpleHTTPRequestHandler, directory=str(video.parent))
    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), handler) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        url = f"http://127.0.0.1:{server.server_port}/video.mp4"
        with FrameStream(url) as stream:
            assert stream.live
            assert len(list(stream)) == 30
        with pytest.raises(DecodeError, match="cannot be opened"):
            FrameStream(url.replace("video", "other"))
        server.shutdown()


def test_what_is_live_is_told_by_its_name(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    assert is_live("0")
    assert is_live("rtsp://camera/1")
    assert not is_live("clip.mp4")
    (tmp_path / "0").mkdir()  # a folder of this name is what is meant
    assert not is_live("0")


def test_a_camera_that_is_not_there_is_said_so():
    with pytest.raises(DecodeError, match="camera"):
        FrameStream("97")


def test_a_damaged_file_is_refused_in_plain_words(tmp_path, video):
    whole = video.read_bytes()
    (tmp_path / "cut.mp4").write_bytes(whole[: len(whole) // 2])
    with pytest.raises(DecodeError, match="cut short"):
        FrameStream(tmp_path / "cut.mp4")


class TestAStreamThatTurnsToGarbage:
    """A transport stream with key frames at 0, 12 and 24, sent by a real server."""

    @pytest.fixture
    def film(self, tmp_path):
        frames = moving_noise(num_frames=36)
        options = {"x264-params": "keyint=12:min-keyint=12:scenecut=0:bframes=2"}
        return encoded(frames, "libx264", options, "yuv420p", tmp_path / "film.ts")

    @pytest.fixture
    def served(self, tmp_path):
        handler = functools.partial(http.server.SimpleHTTPRequestHandler, directory=str(tmp_path))
        with http.server.ThreadingHTTPServer(("127.0.0.1", 0), handler) as server:
            threading.Thread(target=server.serve_forever, daemon=True).start()
            yield f"http://127.0.0.1:{server.server_port}/film.ts"
            server.shutdown()

    def given(self, url):
        """What came, as numbers of the frames of the whole film; -1 for any other picture."""
        frames, error = [], None
        try:
            with FrameStream(url) as stream:
                frames.extend(frame.rgb() for frame in stream)
        except DecodeError as caught:
            error = caught
        return [self.numbers.get(frame.tobytes(), -1) for frame in frames], error

    @pytest.mark.parametrize("seed", range(6))
    @pytest.mark.parametrize("lasts", [True, False], ids=["to its end", "for a while"])
    def test_gives_no_spoilt_frame_and_goes_on_with_the_next_key_frame(self, film, served, seed, lasts):
        self.numbers = {frame.tobytes(): number for number, frame in enumerate(decoded_plainly(film))}
        assert self.given(served) == (list(range(36)), None)
        rng, whole = np.random.default_rng(seed), film.read_bytes()
        start = int(len(whole) * rng.uniform(0.4, 0.55))
        end = len(whole) if lasts else start + 3000
        film.write_bytes(whole[:start] + rng.bytes(end - start) + whole[end:])
        came, error = self.given(served)
        came = came[:-1] if lasts and came[-1] < 0 else came  # a last frame may be cut where nothing shows it
        assert -1 not in came
        assert came == sorted(came)
        assert came[:10] == list(range(10))
        assert error is None
        assert (came[-12:] == list(range(24, 36))) is not lasts
