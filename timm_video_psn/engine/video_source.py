"""What may be given as a video: a file, a folder of frame images, a URL, or the frames themselves."""

from __future__ import annotations

import re
import shutil
import tempfile
import urllib.error
import urllib.request
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol, TypeAlias

import numpy as np
import numpy.typing as npt
import torch

from timm_video_psn.data import DecodeError, PathTable, VideoIndex, VideoReader
from timm_video_psn.data.video.limits import MAX_PIXELS
from timm_video_psn.data.video.reader import Decoder

Video: TypeAlias = str | Path | np.ndarray | torch.Tensor
_URL = re.compile(r"https?://", re.IGNORECASE)
_SILENT_SEC = 60  # that a server may say nothing


class FrameReader(Protocol):
    """A video whose frames are read by number."""

    num_frames: int
    fps: float | None

    def read(self, indices: Iterable[int]) -> np.ndarray:
        """Frames in the order of their numbers' list, uint8 (number of indices, H, W, 3)."""


class _Frames:
    """Frames in memory, (T, H, W, 3) uint8."""

    fps: float | None = None

    def __init__(self, frames: np.ndarray):
        self.frames = frames
        self.num_frames = len(frames)

    def read(self, indices: Iterable[int]) -> np.ndarray:
        """See `FrameReader`."""
        return np.ascontiguousarray(self.frames[list(indices)])


@dataclass(frozen=True, eq=False)
class GivenVideos(VideoIndex):
    """Videos given one by one, in the form of the index of a data set; they have no labels."""

    videos: Sequence[Video] = ()

    @classmethod
    def of(cls, videos: Sequence[Video], max_pixels: int = MAX_PIXELS) -> GivenVideos:
        """The index of some videos.

        Args:
            videos: See `open_source`.
            max_pixels: As `VideoReader` takes it.
        """
        paths = PathTable.from_paths(video_name(video) for video in videos)
        return cls(paths, np.full(len(videos), -1), (), Path(), videos=videos, max_pixels=max_pixels)

    def decode(
        self, number: int, choose: Callable[[int], Iterable[int]], decoder: Decoder = "auto"
    ) -> npt.NDArray[np.uint8]:
        """See `VideoIndex.decode`."""
        with open_source(self.videos[number], decoder, self.max_pixels) as reader:
            return reader.read(choose(reader.num_frames))


def video_name(video: Video) -> str:
    """What messages call a video: its path or URL, or the shape of its frames.

    Args:
        video: See `open_source`.

    Raises:
        TypeError: What was given is not a video.
    """
    if isinstance(video, (str, Path)):
        return str(video)
    if isinstance(video, (np.ndarray, torch.Tensor)):
        return f"frames of shape {tuple(video.shape)}"
    raise TypeError(f"{type(video).__name__} is not a video; give a path, a URL, or frames as an array or tensor")


@contextmanager
def open_source(video: Video, decoder: Decoder = "auto", max_pixels: int = MAX_PIXELS) -> Iterator[FrameReader]:
    """Opens a video while the block runs.

    Args:
        video: Path of a file or of a folder of frame images; http(s) URL of a file, which is downloaded; or all frames
            as a uint8 array or tensor, (T, H, W, 3) or (T, 3, H, W), RGB.
        decoder: Decoder of video files, as `VideoReader` takes it.
        max_pixels: As `VideoReader` takes it.

    Raises:
        DecodeError: The video cannot be downloaded or decoded.
        TypeError: What was given is not a video.
        ValueError: The frames have another shape or type.
    """
    if isinstance(video, (np.ndarray, torch.Tensor)):
        yield _Frames(_as_frames(video))
    elif _URL.match(video_name(video)):
        with tempfile.TemporaryDirectory(prefix="timm-video-psn-") as folder:
            path = Path(folder) / "video"
            _download(str(video), path)
            try:
                with VideoReader(path, decoder, max_pixels=max_pixels) as reader:
                    yield reader
            except DecodeError as error:
                raise DecodeError(str(video), error.reason) from error
    else:
        with VideoReader(video, decoder, max_pixels=max_pixels) as reader:
            yield reader


def _download(url: str, path: Path) -> None:
    """Saves what a URL gives."""
    try:
        with urllib.request.urlopen(url, timeout=_SILENT_SEC) as answer, path.open("wb") as file:
            shutil.copyfileobj(answer, file)
    except (urllib.error.URLError, OSError, ValueError) as error:
        raise DecodeError(url, f"it cannot be downloaded ({error})") from error


def _as_frames(video: np.ndarray | torch.Tensor) -> np.ndarray:
    """Frames as (T, H, W, 3)."""
    frames = video.detach().cpu().numpy() if isinstance(video, torch.Tensor) else video
    found = f"found {list(frames.shape)} {frames.dtype}"
    if frames.dtype != np.uint8:
        raise ValueError(f"frames are bytes from 0 to 255, uint8; {found}: convert them, without normalising")
    if frames.ndim == 4 and len(frames) and frames.shape[3] == 3:
        return frames
    if frames.ndim == 4 and len(frames) and frames.shape[1] == 3:
        return frames.transpose(0, 2, 3, 1)
    hint = "; give several videos as a list" if frames.ndim == 5 else ""
    raise ValueError(f"the frames of a video are (T, H, W, 3) or (T, 3, H, W), in RGB; {found}{hint}")
