"""Smaller copies of videos, as files or as folders of frames; a copy gets its name when it is complete."""

from __future__ import annotations

from collections.abc import Callable
from fractions import Fraction
from pathlib import Path
from typing import NamedTuple

import numpy as np
from PIL import Image

from timm_video_psn.data.datasets.locate import accepted_endings, endings_in_words, is_video_file, walk_videos
from timm_video_psn.data.video.errors import DecodeError
from timm_video_psn.data.video.limits import MAX_PIXELS
from timm_video_psn.data.video.reader import VideoReader
from timm_video_psn.files import atomic_folder, atomic_path

# A clip of spread frames decodes from the key frame before each frame, so that near key frames spare most of the work;
# benchmarks/loading.py measures how much, and what it costs in bytes.
KEY_FRAME_INTERVAL = 16


class Outcome(NamedTuple):
    """What became of a video."""

    path: Path
    was_there: bool = False
    error: str | None = None
    num_bytes: tuple[int, int] = (0, 0)  # of the original and of its copy


def pairs_below(source: Path, target: Path, rename: Callable[[Path], Path]) -> list[tuple[Path, Path]]:
    """Returns every video file below a folder, with the path of its copy.

    Args:
        source: Folder of the originals.
        target: Folder of the copies.
        rename: Function from the name of an original to the name of its copy.

    Raises:
        FileNotFoundError: There is no such folder.
        ValueError: It holds no videos, one folder lies in the other, or two videos would become one.
    """
    if not source.is_dir():
        raise FileNotFoundError(f"{source} is not a folder; name the folder that holds the videos")
    here, there = source.resolve(), target.resolve()
    if here == there or here in there.parents or there in here.parents:
        raise ValueError(f"the copies ({target}) would lie among the originals ({source}); name a folder elsewhere")
    found = walk_videos(source)
    videos = [source / path for path in found.paths if is_video_file(path)]
    if not videos:
        passed_over = f"; files passed over: {endings_in_words(found.ignored)}" if found.ignored else ""
        raise ValueError(f"{source} holds no video{passed_over}; accepted are files ending in {accepted_endings()}")
    pairs = [(path, target / rename(path.relative_to(source))) for path in videos]
    first: dict[Path, Path] = {}
    for path, copy in pairs:
        if (other := first.setdefault(copy, path)) != path:
            raise ValueError(f"{other} and {path} would both become {copy}; rename one of them")
    return pairs


def resize_video(
    pair: tuple[Path, Path],
    short_side: int,
    crf: int,
    key_frame_interval: int = KEY_FRAME_INTERVAL,
    max_pixels: int = MAX_PIXELS,
) -> Outcome:
    """Re-encodes a video with x264 for fast loading, without sound, to a short side of at most `short_side`.

    Every frame is kept, with the mean frame rate of the original.

    Args:
        pair: Original and its copy.
        short_side: Short side of the copy in pixels, rounded to an even number.
        crf: Constant rate factor of x264.
        key_frame_interval: Frames from one key frame to the next, at most.
        max_pixels: As `VideoReader` takes it.
    """
    source, target = pair
    if target.exists():
        return Outcome(source, was_there=True)
    target.parent.mkdir(parents=True, exist_ok=True)
    try:
        with VideoReader(source, max_pixels=max_pixels) as reader, atomic_path(target) as temporary:
            _encode(reader, temporary, short_side, crf, key_frame_interval)
    except DecodeError as error:
        return Outcome(source, error=error.reason)
    return Outcome(source, num_bytes=(source.stat().st_size, target.stat().st_size))


def extract_frames(pair: tuple[Path, Path], short_side: int, quality: int, max_pixels: int = MAX_PIXELS) -> Outcome:
    """Writes every frame of a video as `00001.jpg` and so on.

    Args:
        pair: Video and its folder.
        short_side: Short side of the images in pixels, at most.
        quality: Quality of JPEG.
        max_pixels: As `VideoReader` takes it.
    """
    source, target = pair
    if target.exists():
        return Outcome(source, was_there=True)
    try:
        with VideoReader(source, max_pixels=max_pixels) as reader, atomic_folder(target) as temporary:
            for number, frame in enumerate(reader.frames(), 1):
                height, width = _smaller(frame, short_side)
                picture = Image.fromarray(frame).resize((width, height), Image.Resampling.BICUBIC)
                picture.save(temporary / f"{number:05d}.jpg", quality=quality)
    except DecodeError as error:
        return Outcome(source, error=error.reason)
    return Outcome(source, num_bytes=(source.stat().st_size, sum(file.stat().st_size for file in target.iterdir())))


def _encode(source: VideoReader, target: Path, short_side: int, crf: int, key_frame_interval: int) -> None:
    """Writes all frames of a video, or raises the reader's error before the file has its name."""
    import av

    rate = Fraction(source.fps or 25).limit_denominator(30000)
    options = {"crf": str(crf), "g": str(key_frame_interval), "tune": "fastdecode", "threads": "1"}
    try:
        with av.open(str(target), "w", format="mp4", container_options={"movflags": "+faststart"}) as container:
            stream = container.add_stream("libx264", rate=rate, options=options)
            stream.pix_fmt = "yuv420p"
            for number, frame in enumerate(source.frames()):
                height, width = (max(2, side // 2 * 2) for side in _smaller(frame, short_side))
                if number == 0:
                    stream.height, stream.width = height, width
                picture = Image.fromarray(frame).resize((width, height), Image.Resampling.BICUBIC)
                container.mux(stream.encode(av.VideoFrame.from_image(picture)))
            container.mux(stream.encode(None))
    except av.FFmpegError as error:  # the reader's are DecodeErrors
        raise OSError(str(error)) from error


def _smaller(frame: np.ndarray, short_side: int) -> tuple[int, int]:
    """Height and width with that short side; a smaller frame keeps its own."""
    height, width = frame.shape[:2]
    scale = min(1.0, short_side / min(height, width))
    return max(1, round(height * scale)), max(1, round(width * scale))
