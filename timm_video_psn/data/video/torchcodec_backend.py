"""Reads wanted frames of one video file with torchcodec, where it is installed.

PyAV opens the file, says which stream is the video and which frame is shown when, and decodes the wanted frames, since
torchcodec does not say when a frame is damaged; torchcodec then gives their pixels. It finds frames by their time
stamps alone and does not mirror. So PyAV decodes files whose time stamps do not rise frame by frame, frames that
players mirror, and frames that torchcodec does not give.
"""

from __future__ import annotations

import importlib
import logging
from collections.abc import Iterator, Sequence
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np

from timm_video_psn.data.video.limits import MAX_PIXELS
from timm_video_psn.data.video.pyav_backend import VideoFile

_logger = logging.getLogger(__name__)
_left: list[str] = []  # to PyAV


def decoder_class() -> Any:
    """Returns torchcodec's `VideoDecoder`.

    Raises:
        ImportError: Torchcodec is not installed, or does not load here.
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


def _leave_to_pyav(what: str, error: Exception) -> None:
    """Warns of the first file of a process that torchcodec fails on; of others, only for debugging."""
    level = logging.DEBUG if _left else logging.WARNING
    _left.append(what)
    reason = next((line for line in str(error).splitlines() if line.strip()), type(error).__name__)
    _logger.log(level, "torchcodec %s (%s): PyAV decodes it, and any other such file, instead", what, reason)


class TorchcodecFile:
    """Best video stream of a file.

    Args:
        path: Video file.
        max_pixels: Most pixels that the frames of one `read` may have together.

    Raises:
        DecodeError: The file is not a video, or damaged, or its frames are too large.
        ImportError: Torchcodec is not there.
    """

    def __init__(self, path: Path, max_pixels: int = MAX_PIXELS) -> None:
        make = decoder_class()
        self._path = path
        self._file = VideoFile(path, max_pixels=max_pixels)
        self.num_frames, self.fps, self.note = self._file.num_frames, self._file.fps, self._file.note
        self._decoder: Any = None
        times = [self._file.seconds(index) or 0.0 for index in range(self.num_frames)]
        is_usual = self._file.bits == 8 and not any(side % 2 for side in self._file.size)
        if not is_usual or self._file.table.is_counted or any(first >= second for first, second in pairwise(times)):
            return
        options = {"dimension_order": "NHWC", "num_ffmpeg_threads": 1, "seek_mode": "exact"}
        try:
            decoder = make(str(path), stream_index=self._file.stream_index, **options)
            self._decoder = decoder if len(decoder) == self.num_frames else None
        except (RuntimeError, ValueError) as error:
            _leave_to_pyav(f"does not open {path}", error)

    def close(self) -> None:
        """Closes the file."""
        self._decoder = None
        self._file.close()

    def read(self, indices: Sequence[int], short_side: int | None = None) -> dict[int, np.ndarray]:
        """Decodes frames (H, W, 3), by index; the indices are increasing and lie in the video."""
        if self._decoder is not None and (short_side is None or min(self._file.size) <= short_side):
            if self._file.check(indices):
                return self._file.read(indices, short_side)
            try:
                batch = self._decoder.get_frames_at(indices=list(indices))
            except (RuntimeError, ValueError) as error:
                _leave_to_pyav(f"does not read {self._path}", error)
            else:
                times = np.array([self._file.seconds(index) for index in indices], dtype=float)
                if np.allclose(batch.pts_seconds.numpy(), times, rtol=0, atol=1e-4):
                    return dict(zip(indices, batch.data.numpy(), strict=True))
        return self._file.read(indices, short_side)

    def frames(self, short_side: int | None = None) -> Iterator[np.ndarray]:
        """Yields all frames (H, W, 3) in order, from PyAV, whose way through a file is as short."""
        return self._file.frames(short_side)
