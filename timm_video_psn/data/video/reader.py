"""Exact frames out of a video file or a folder of frame images, decoding as little as possible."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterable, Iterator, Sequence
from pathlib import Path
from typing import Literal, Protocol, get_args

import numpy as np

from timm_video_psn.data.video.errors import DecodeError, in_plain_words, no_file_errors
from timm_video_psn.data.video.frame_folder import FrameFolder, is_folder
from timm_video_psn.data.video.limits import CLIP_SIDE_PX, MAX_PIXELS

VIDEO_EXTENSIONS = frozenset(
    {
        *(".3g2", ".3gp", ".asf", ".avi", ".divx", ".dv", ".f4v", ".flv", ".gif", ".m2t", ".m2ts", ".m2v", ".m4v"),
        *(".mkv", ".mov", ".mp4", ".mpe", ".mpeg", ".mpg", ".mts", ".mxf", ".ogm", ".ogv", ".qt", ".rm", ".rmvb"),
        *(".ts", ".vob", ".webm", ".wmv"),
    }
)

# "auto" is PyAV: it is always there, and benchmarks/loading.py finds torchcodec at most a tenth faster, on VP9, and a
# third slower on H.264.
Decoder = Literal["auto", "pyav", "torchcodec"]


class VideoReader:
    """Reads any frames of a video file, or of a folder of frame images, by index.

    Frame `i` is the i-th frame that a plain decode of the whole file shows, turned as the file asks players to turn it
    (videos of a phone held upright). After a damaged frame no frame is read until the next key frame. The images of a
    folder are frames in natural order (`frame9.jpg` before `frame10.jpg`); `fps` of a folder is None.

    Args:
        path: Video file (the containers and codecs of docs/data.md) or folder of jpg, jpeg or png images.
        decoder: Decoder of video files; "auto" is "pyav".
        source: What to read frames from if nothing lies at `path`, which then is only the video's name.
        max_pixels: Most pixels that the frames of one `read` may have together. A single frame may have a 16th of it.

    Raises:
        DecodeError: The file is missing, damaged or no video, or its frames are too large.
        ImportError: The decoder is not installed.
        ValueError: The decoder is unknown.

    Example:
        >>> with VideoReader("clip.mp4") as reader:  # doctest: +SKIP
        ...     frames = reader.read([0, reader.num_frames // 2])  # (2, H, W, 3)
    """

    def __init__(
        self,
        path: str | os.PathLike[str],
        decoder: Decoder = "auto",
        source: FrameSource | None = None,
        max_pixels: int = MAX_PIXELS,
    ) -> None:
        self.path = Path(path)
        with no_file_errors(self.path):
            self._source = _open_source(self.path, decoder, max_pixels) if source is None else source
        self.num_frames = self._source.num_frames
        self.fps = self._source.fps

    def __enter__(self) -> VideoReader:
        return self

    def __exit__(self, *exc_info: object) -> None:
        self.close()

    @property
    def note(self) -> str:
        """What is worth knowing about the file: which of several video streams is read; mostly empty."""
        return getattr(self._source, "note", "")

    def close(self) -> None:
        """Closes the file."""
        self._source.close()

    def read(self, indices: Iterable[int], short_side: int | None = None) -> np.ndarray:
        """Decodes frames.

        Args:
            indices: Frame numbers from 0 to `num_frames - 1`, in any order, repeats allowed.
            short_side: Shorter side in pixels to which larger frames are shrunk as soon as each is decoded, so that
                only small ones are held together; None for their own size.

        Returns:
            uint8 RGB array (number of indices, H, W, 3), in the order of `indices`.

        Raises:
            IndexError: An index lies outside the video.
            DecodeError: A wanted frame cannot be decoded (another frame never takes its place), or the frames are too
                large.
        """
        wanted = [int(index) for index in indices]
        if not wanted:
            raise ValueError(f"no frame of {self.path} is asked for; give at least one index")
        outside = [index for index in wanted if not 0 <= index < self.num_frames]
        if outside:
            raise IndexError(
                f"frame {outside[0]} of {self.path} is asked for, but it has {self.num_frames} frames; "
                f"use indices from 0 to {self.num_frames - 1}"
            )
        with no_file_errors(self.path):
            frames = self._source.read(sorted(set(wanted)), short_side)
            shape = frames[wanted[0]].shape
            self._check_sizes({frame.shape[:2] for frame in frames.values()})
            clip = np.empty((len(wanted), *shape), np.uint8)
            while frames:  # each is let go of as soon as it is copied
                index, frame = frames.popitem()
                clip[np.equal(wanted, index)] = frame
        return clip  # (number of indices, H, W, 3)

    def frames(self, short_side: int | None = None) -> Iterator[np.ndarray]:
        """Yields all frames (H, W, 3) in order, with few of them in memory, in one pass through the file.

        Args:
            short_side: As for `read`.

        Raises:
            DecodeError: A frame cannot be decoded; the frames before it have been given.
        """
        size: tuple[int, ...] | None = None
        with no_file_errors(self.path):
            for frame in self._source.frames(short_side):
                self._check_sizes({size or frame.shape[:2], frame.shape[:2]})
                size = frame.shape[:2]
                yield frame

    def _check_sizes(self, sizes: set[tuple[int, ...]]) -> None:
        if len(sizes) > 1:
            reason = f"its frames differ in size, (height, width) is {sorted(sizes)}; re-encode it to one size"
            raise DecodeError(self.path, reason)


def decode_clip(
    path: str | os.PathLike[str],
    choose: Callable[[int], Iterable[int]],
    decoder: Decoder = "auto",
    short_side: int | None = CLIP_SIDE_PX,
    max_pixels: int = MAX_PIXELS,
) -> np.ndarray:
    """Decodes the frames that `choose` picks once the length of the video is known.

    Args:
        path: Video file or frame folder.
        choose: Gets the number of frames of the video, returns the indices of the wanted ones.
        decoder: As `VideoReader` takes it.
        short_side: As `VideoReader.read` takes it.
        max_pixels: As `VideoReader` takes it.

    Returns:
        uint8 RGB array (number of indices, H, W, 3).

    Raises:
        DecodeError: As `VideoReader`.
    """
    with VideoReader(path, decoder, max_pixels=max_pixels) as reader:
        return reader.read(choose(reader.num_frames), short_side)


def check_decoder(decoder: str) -> None:
    """Raises for a decoder that is unknown or cannot be loaded.

    Args:
        decoder: Name of the decoder.

    Raises:
        ImportError: The decoder is not installed, or does not load here.
        ValueError: The decoder is unknown.
    """
    if decoder not in get_args(Decoder):
        raise ValueError(f"decoder={decoder!r} is unknown; use one of {', '.join(get_args(Decoder))}")
    if decoder == "torchcodec":
        from timm_video_psn.data.video.torchcodec_backend import decoder_class

        decoder_class()


class FrameSource(Protocol):
    """What `VideoReader` reads from: `FrameFolder`, `VideoFile` or `TorchcodecFile`."""

    num_frames: int
    fps: float | None

    def read(self, indices: Sequence[int], short_side: int | None = None) -> dict[int, np.ndarray]:
        """Decodes frames (H, W, 3), by index; the indices are increasing and lie in the video."""

    def frames(self, short_side: int | None = None) -> Iterator[np.ndarray]:
        """Yields all frames (H, W, 3) in order."""

    def close(self) -> None:
        """Closes the file."""


def _open_source(path: Path, decoder: Decoder, max_pixels: int) -> FrameSource:
    if decoder not in get_args(Decoder):
        check_decoder(decoder)
    if is_folder(path):
        return FrameFolder(path, max_pixels)
    if not is_there(path):
        raise DecodeError(path, "there is no such file or folder; check the name and the data folder")
    check_is_file(path)
    if decoder == "torchcodec":
        from timm_video_psn.data.video.torchcodec_backend import TorchcodecFile

        return TorchcodecFile(path, max_pixels)
    from timm_video_psn.data.video.pyav_backend import VideoFile  # loads FFmpeg, which frame folders do without

    return VideoFile(path, max_pixels=max_pixels)


def check_is_file(path: Path) -> None:
    """Raises where a path is not a file, but a pipe or a device, from which reading might never return.

    Args:
        path: video.

    Raises:
        DecodeError: It is not a file, or the file system does not tell.
    """
    with in_plain_words(path, "it cannot be reached"):
        if path.exists() and not path.is_file():
            raise DecodeError(path, "it is neither file nor folder, but a pipe, socket or device")


def is_there(path: Path) -> bool:
    """Whether a file or folder exists.

    Args:
        path: video.

    Raises:
        DecodeError: The file system does not tell.
    """
    with in_plain_words(path, "it cannot be reached"):
        return path.exists()
