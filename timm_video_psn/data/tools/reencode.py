"""Smaller copies of videos, as files or as folders of frames; a copy gets its name when it is complete."""

from __future__ import annotations

import os
import shutil
from collections.abc import Callable
from fractions import Fraction
from pathlib import Path
from typing import NamedTuple

import numpy as np
from PIL import Image

from timm_video_psn.data.datasets.locate import accepted_endings, endings_in_words, is_video_file, walk_videos
from timm_video_psn.data.video.errors import DecodeError
from timm_video_psn.data.video.reader import VideoReader


class Outcome(NamedTuple):
    """What became of a video."""

    path: Path
    was_there: bool = False
    error: str | None = None


def pairs_below(source: Path, target: Path, rename: Callable[[Path], Path]) -> list[tuple[Path, Path]]:
    """Every video below a folder, with the path of its copy.

    Args:
        source: folder of the originals.
        target: folder of the copies.
        rename: function from an original's name to the copy's name.

    Raises:
        FileNotFoundError: no such folder.
        ValueError: it holds no videos, one folder lies in the other, or two videos would become one.
    """
    if not source.is_dir():
        raise FileNotFoundError(f"{source} is no folder; name the folder that holds the videos")
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


def resize_video(pair: tuple[Path, Path], short_side: int, crf: int) -> Outcome:
    """Re-encodes a video with x264, without sound, to a short side of at most `short_side`.

    Every frame is kept, with the mean frame rate of the original.

    Args:
        pair: the original and its copy.
        short_side: short side of the copy's frames, rounded to even sides.
        crf: x264's constant rate factor.
    """
    return _made_whole(pair, lambda source, temporary: _encode(source, temporary, short_side, crf))


def extract_frames(pair: tuple[Path, Path], short_side: int, quality: int) -> Outcome:
    """Writes every frame of a video as `00001.jpg` and so on.

    Args:
        pair: the video and its folder.
        short_side: largest short side of the images.
        quality: JPEG quality.
    """
    return _made_whole(pair, lambda source, temporary: _extract(source, temporary, short_side, quality))


def _made_whole(pair: tuple[Path, Path], make: Callable[[VideoReader, Path], None]) -> Outcome:
    """Makes a copy under another name, and renames it; one that lacks frames would pass for whole, so there is none."""
    source, target = pair
    if target.exists():
        return Outcome(source, was_there=True)
    target.parent.mkdir(parents=True, exist_ok=True)
    temporary = target.with_name(f".{target.stem}.{os.getpid()}.tmp{target.suffix}")
    try:
        with VideoReader(source) as reader:
            make(reader, temporary)
        temporary.replace(target)
    except DecodeError as error:
        return Outcome(source, error=error.reason)
    finally:
        if temporary.is_dir():
            shutil.rmtree(temporary)
        temporary.unlink(missing_ok=True)
    return Outcome(source)


def _encode(source: VideoReader, target: Path, short_side: int, crf: int) -> None:
    import av

    rate = Fraction(source.fps or 25).limit_denominator(30000)
    with av.open(str(target), "w") as container:
        stream = container.add_stream("libx264", rate=rate, options={"crf": str(crf), "threads": "1"})
        stream.pix_fmt = "yuv420p"
        for number, frame in enumerate(source.frames()):
            height, width = (max(2, side // 2 * 2) for side in _smaller(frame, short_side))
            if number == 0:
                stream.height, stream.width = height, width
            picture = Image.fromarray(frame).resize((width, height), Image.Resampling.BICUBIC)
            container.mux(stream.encode(av.VideoFrame.from_image(picture)))
        container.mux(stream.encode(None))


def _extract(source: VideoReader, target: Path, short_side: int, quality: int) -> None:
    target.mkdir()
    for number, frame in enumerate(source.frames(), 1):
        height, width = _smaller(frame, short_side)
        picture = Image.fromarray(frame).resize((width, height), Image.Resampling.BICUBIC)
        picture.save(target / f"{number:05d}.jpg", quality=quality)


def _smaller(frame: np.ndarray, short_side: int) -> tuple[int, int]:
    """Height and width with that short side; those of a smaller frame stay as they are."""
    height, width = frame.shape[:2]
    scale = min(1.0, short_side / min(height, width))
    return max(1, round(height * scale)), max(1, round(width * scale))
