"""Small real videos whose frames all differ from each other, and the judge of what a reader makes of them."""

import multiprocessing
from concurrent.futures import ProcessPoolExecutor
from fractions import Fraction
from pathlib import Path

import av
import numpy as np

REAL_CLIPS = Path(__file__).parents[2].parent / "shared" / "clips"

B_FRAMES = {"bf": "3", "g": "12", "b-pyramid": "normal"}
# name -> (codec, options of the encoder, pixel format)
VIDEOS = {
    "b_frames.mp4": ("libx264", B_FRAMES, "yuv420p"),
    "b_frames.mkv": ("libx264", B_FRAMES, "yuv420p"),
    "open_groups.mkv": ("libx264", {"x264-params": "open-gop=1:keyint=12:bframes=3"}, "yuv420p"),
    "intra_refresh.mkv": ("libx264", {"x264-params": "intra-refresh=1:keyint=12"}, "yuv420p"),
    "interlaced.mp4": ("libx264", {"x264-params": "interlaced=1:keyint=12"}, "yuv420p"),
    "one_group.mp4": ("libx264", {"g": "1000"}, "yuv420p"),
    "odd_size.mkv": ("libx264", B_FRAMES, "yuv444p"),
    "vp9.webm": ("libvpx-vp9", {"g": "12", "auto-alt-ref": "1", "lag-in-frames": "16"}, "yuv420p"),
    "odd_size.webm": ("libvpx-vp9", {"g": "12"}, "yuv420p"),
    "ten_bit.mp4": ("libx264", B_FRAMES, "yuv420p10le"),
    "av1_ten_bit.webm": ("libsvtav1", {"g": "12", "preset": "12"}, "yuv420p10le"),
    "hevc_ten_bit.mp4": ("libx265", {"x265-params": "keyint=12:open-gop=1:log-level=none"}, "yuv420p10le"),
    "uneven_rate.mp4": ("libx264", B_FRAMES, "yuv420p"),
    "uneven_rate.webm": ("libvpx-vp9", {"g": "12"}, "yuv420p"),
    "vp8.webm": ("libvpx", {"g": "12", "auto-alt-ref": "1", "lag-in-frames": "16"}, "yuv420p"),
    "mpeg4.avi": ("mpeg4", {"bf": "2", "g": "12"}, "yuv420p"),
    "h264.avi": ("libx264", B_FRAMES, "yuv420p"),
    "mjpeg.mov": ("mjpeg", {}, "yuvj420p"),
    "h264.m2ts": ("libx264", B_FRAMES, "yuv420p"),
}
NUM_FRAMES = 48


def moving_noise(height: int = 48, width: int = 64, num_frames: int = NUM_FRAMES) -> np.ndarray:
    """A noise picture shifted by a pixel from frame to frame; (T, H, W, 3)."""
    picture = np.random.default_rng(0).integers(0, 256, (height, width, 3), dtype=np.uint8)
    return np.stack([np.roll(picture, shift, axis=1) for shift in range(num_frames)])


def encoded(frames: np.ndarray, codec: str, options: dict[str, str], pix_fmt: str, path: Path) -> Path:
    """The frames as a video file."""
    # As root, SVT-AV1 gives the thread that calls it real-time priority, and all that this thread starts inherits it:
    # browsers and training runs of later tests would let nothing else on the machine run.
    if codec == "libsvtav1":
        with ProcessPoolExecutor(1, multiprocessing.get_context("spawn")) as apart:
            return apart.submit(_encoded_here, frames, codec, options, pix_fmt, path).result(timeout=120)
    return _encoded_here(frames, codec, options, pix_fmt, path)


def _encoded_here(frames: np.ndarray, codec: str, options: dict[str, str], pix_fmt: str, path: Path) -> Path:
    with av.open(str(path), "w", format="mpegts" if path.suffix == ".m2ts" else None) as container:
        stream = container.add_stream(codec, rate=25, options=options)
        stream.height, stream.width, stream.pix_fmt = *frames.shape[1:3], pix_fmt
        if path.stem.startswith("uneven"):
            stream.codec_context.time_base = Fraction(1, 1000)
        time_ms = 0
        for number, frame in enumerate(frames):
            picture = av.VideoFrame.from_ndarray(frame, format="rgb24")
            if path.stem.startswith("uneven"):  # a phone in the dark: 10 to 100 ms from frame to frame
                picture.pts, picture.time_base = time_ms, Fraction(1, 1000)
                time_ms += 10 + 37 * number % 91
            container.mux(stream.encode(picture))
        container.mux(stream.encode(None))
    return path


def decoded_plainly(path: Path) -> np.ndarray:
    """The judge: all frames that FFmpeg shows from start to end."""
    with av.open(str(path)) as container:
        return np.stack([frame.to_ndarray(format="rgb24") for frame in container.decode(video=0)])
