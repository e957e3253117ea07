"""Reads wanted frames of one video file with torchcodec, where that is installed.

The same frames as `video_file`, by another route: torchcodec scans the file in C++ and decodes from the last key frame
on. It finds frames by their time stamps, and gives wrong ones where the container stores none (H.264 in avi). Such
files, and frames that it gives up on, are read by `video_file` instead, so that both decoders know the same videos.
Two differences remain, with torchcodec 0.17: it does not mirror where a display matrix asks for that, and after a seek
into x264's intra refresh (no key frames) its pictures are damaged.
"""

from __future__ import annotations

import importlib
import logging
from collections.abc import Iterator, Sequence
from contextlib import closing
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np

from timm_video_psn.data.video.container import is_timed, missing_bytes
from timm_video_psn.data.video.errors import DecodeError
from timm_video_psn.data.video.pyav_backend import VideoFile

_logger = logging.getLogger(__name__)


def decoder_class() -> Any:
    """Torchcodec's `VideoDecoder`.

    Raises:
        ImportError: torchcodec is not installed, or does not load here.
    """
    try:
        return importlib.import_module("torchcodec.decoders").VideoDecoder
    except ModuleNotFoundError as error:
        raise ImportError(
            "decoder 'torchcodec' was asked for, but it is not installed; pip install 'timm-video-psn[torchcodec]', or "
            "use the decoder 'pyav'"
        ) from error
    except (ImportError, OSError, RuntimeError) as error:  # it raises RuntimeError where no FFmpeg fits
        reason = next((line for line in str(error).splitlines() if line.strip()), type(error).__name__)
        raise ImportError(
            f"decoder 'torchcodec' was asked for, but it does not load here ({reason}); it needs FFmpeg's shared "
            "libraries (apt install ffmpeg, conda install ffmpeg), or use the decoder 'pyav', which brings its own"
        ) from error


class TorchcodecFile:
    """First video stream of a file.

    Args:
        path: the file.

    Raises:
        DecodeError: the file is no video, or damaged.
        ImportError: torchcodec is not there.
    """

    def __init__(self, path: Path) -> None:
        self._path = path
        self._other: VideoFile | None = None
        self._decoder: Any = None
        make = decoder_class()
        try:
            if is_timed(path) and not missing_bytes(path):
                self._decoder = make(str(path), dimension_order="NHWC", num_ffmpeg_threads=1, seek_mode="exact")
        except (RuntimeError, ValueError) as error:
            _logger.debug("torchcodec does not open %s: %s", path, error)
        if self._decoder is None or not len(self._decoder):
            self._decoder = None
            self._other = VideoFile(path)  # which says what is wrong, if anything
        source: Any = self._other or self._decoder.metadata
        self.num_frames: int = source.num_frames
        self.fps: float | None = source.fps if self._other else source.average_fps

    def close(self) -> None:
        """Closes the file."""
        self._decoder = None
        if self._other:
            self._other.close()

    def read(self, indices: Sequence[int]) -> dict[int, np.ndarray]:
        """Frames (H, W, 3) by index; the indices are increasing and lie in the video."""
        if self._decoder is not None:
            try:
                batch = self._decoder.get_frames_at(indices=list(indices))
            except (RuntimeError, ValueError) as error:
                _logger.debug("torchcodec does not read %s: %s", self._path, error)
            else:
                times = batch.pts_seconds.tolist()
                if all(first < second for first, second in pairwise(times)):
                    return dict(zip(indices, batch.data.numpy(), strict=True))
        if self._other is None:
            self._other = VideoFile(self._path)
        if self._other.num_frames != self.num_frames:
            counts = f"PyAV {self._other.num_frames}, torchcodec {self.num_frames}"
            raise DecodeError(self._path, f"its decoders count different numbers of frames: {counts}; re-encode it")
        return self._other.read(indices)

    def frames(self) -> Iterator[np.ndarray]:
        """All frames (H, W, 3) in order, from PyAV, whose way through a file is as short."""
        with closing(VideoFile(self._path)) as file:
            yield from file.frames()
