"""One video as the members of a tar shard: what they are called, and how clips come out of them.

A sample follows the convention of WebDataset: members whose names are alike up to the first dot. Its key is the video's
number in its data set, in nine digits.

    000000017.json        index, path, label, label_name, frames, sha256 (of all other members, one after the other)
    000000017.mp4         a video file, byte for byte, with its own ending
    000000018.json
    000000018.000000.jpg  or a frame folder: one member a frame, byte for byte, numbered from 0 in their order
    000000018.000001.jpg

`frames` is the number of frames of a frame folder, and null for a video file. A video that is only a part of its file,
which is packed whole, has `part`: the frames before it, and its length, 0 for all that follow. A video that was missing
when the shard was written has `missing`, the reason, and no other members.
"""

from __future__ import annotations

import hashlib
import io
import json
import re
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from timm_video_psn.console import printable
from timm_video_psn.data.datasets.index import VideoIndex, check_part
from timm_video_psn.data.video.errors import DecodeError, in_plain_words
from timm_video_psn.data.video.frame_folder import frame_names, is_folder, read_image
from timm_video_psn.data.video.limits import CLIP_SIDE_PX, MAX_PIXELS
from timm_video_psn.data.video.reader import VideoReader, check_is_file

Member = tuple[str, bytes]  # what follows the key and a dot in its name, and its content

_FRAME = re.compile(r"([0-9]{1,9})\.(?:jpe?g|png)")
_MOST = 2**31 - 1  # frames, and videos
_MOST_ABOUT = 2**20  # bytes of a description


def sample_key(number: int) -> str:
    """Key of a video's members.

    Args:
        number: Number of the video in its data set.
    """
    return f"{number:09d}"


def pack(index: VideoIndex, number: int) -> tuple[list[Member], str | None]:
    """The members of a video, its description first.

    Args:
        index: Index of the data set.
        number: Number of the video.

    Returns:
        The members, and why the video is not among them, None if it is.
    """
    label = int(index.labels[number])
    about: dict[str, Any] = {
        "index": number,
        "path": index.paths[number],
        "label": label,
        "label_name": index.class_names[label] if label >= 0 else None,
    }
    try:
        members, about["frames"] = _read(index, number)
    except DecodeError as error:
        about["missing"] = error.reason
        return [("json", json.dumps(about).encode())], error.reason
    if index.images is None and any(part := index.part(number)):
        about["part"] = part
    about["sha256"] = _digest(content for _, content in members)
    return [("json", json.dumps(about).encode()), *members], None


def _read(index: VideoIndex, number: int) -> tuple[list[Member], int | None]:
    """Members of a video, and how many frames they are if each is one."""
    path = index.root / index.paths[number]
    if index.images is not None:
        files = index.images.files(path, *index.part(number))
    elif is_folder(path):
        files = [path / name for name in frame_names(path)]
    else:
        check_is_file(path)
        with in_plain_words(path, "the file cannot be read"):
            return [(_ending(path), path.read_bytes())], None
    with in_plain_words(path, "its images cannot be read"):
        # An image that its annotation states and that is not there stays missing: reading the clip says so.
        there = [(place, file) for place, file in enumerate(files) if file.exists()]
        return [(f"{place:06d}{file.suffix.lower()}", file.read_bytes()) for place, file in there], len(files)


def _ending(path: Path) -> str:
    """Of a video's name, as far as it can be part of a member's name."""
    ending = path.suffix.lower().removeprefix(".")
    return ending if re.fullmatch(r"[a-z0-9]+", ending) and ending != "json" else "video"


def _digest(contents: Iterable[bytes]) -> str:
    digest = hashlib.sha256()
    for content in contents:
        digest.update(content)
    return digest.hexdigest()


def _description(content: bytes) -> dict[str, Any]:
    """What a sample says of its video, each of the type and in the range that it may have.

    Raises:
        KeyError, ValueError, TypeError, AttributeError, RecursionError: It is no such description.
    """
    if len(content) > _MOST_ABOUT:
        raise ValueError(f"it has {len(content):,} bytes")
    about = json.loads(content)
    first, length = about.get("part", (0, 0))
    missing, frames = about.get("missing"), about.get("frames")
    if missing is not None and not isinstance(missing, str):
        raise TypeError("its reason is not text")
    return {
        "index": _number(about["index"]),
        "path": about.get("path"),
        "missing": missing,
        "sha256": None if missing is not None else about["sha256"],
        "part": (_number(first), _number(length)),
        "frames": None if frames is None else _number(frames, least=1),
    }


def _number(value: Any, least: int = 0) -> int:
    """A whole number that arrays can hold."""
    if type(value) is not int or not least <= value <= _MOST:
        raise ValueError(f"{str(value)[:40]!r} is not a number from {least} to {_MOST:,}")
    return value


@dataclass(frozen=True)
class PackedVideo:
    """A video out of a shard, still encoded.

    Args:
        path: Path of the video in its data set; the file need not exist.
        video: Content of a video file; None for frames.
        frames: Images by frame number.
        num_frames: Expected number of frames.
        part: Frames that precede the video, and its length, 0 for all that follow.
        reason: Why there is no video; None if there is one.
    """

    path: Path
    video: bytes | None = None
    frames: Mapping[int, bytes] = field(default_factory=dict)
    num_frames: int = 0
    part: tuple[int, int] = (0, 0)
    reason: str | None = None

    @classmethod
    def unpack(cls, members: Mapping[str, bytes], number: int, path: Path) -> PackedVideo:
        """The video of a sample, or the reason why it is none; nothing that a sample says is taken unchecked.

        Args:
            members: Content by what follows the key in a member's name.
            number: Number of the expected video.
            path: Path of the expected video.
        """
        contents = {name: content for name, content in members.items() if name != "json"}
        try:
            about = _description(members["json"])
        except (KeyError, ValueError, TypeError, AttributeError, RecursionError) as error:
            words = type(error).__name__ if isinstance(error, RecursionError) else printable(repr(error)[:200])
            return cls(path, reason=f"its description in the shard cannot be read ({words}); write the shard again")
        if about["index"] != number:
            other = printable(str(about["path"])[:200])
            reason = f"the shard holds another video in its place ({other}); shards and index do not fit"
            return cls(path, reason=reason)
        if about["missing"] is not None:
            return cls(path, reason=f"{about['missing']} (when the shard was written)")
        if about["sha256"] != _digest(contents.values()):
            return cls(path, reason="its bytes in the shard are not those that were written; copy the shard again")
        if about["frames"] is None:
            if len(contents) != 1:
                return cls(path, reason=f"the shard holds {len(contents)} files of it, not one; write the shard again")
            return cls(path, next(iter(contents.values())), part=about["part"])
        frames = {int(match[1]): content for name, content in contents.items() if (match := _FRAME.fullmatch(name))}
        return cls(path, frames=frames, num_frames=about["frames"], part=about["part"])

    def decode(self, choose: Callable[[int], Iterable[int]], max_pixels: int = MAX_PIXELS) -> npt.NDArray[np.uint8]:
        """Decodes frames, the same ones as from the file or folder that was packed.

        Args:
            choose: Function from the number of frames to the indices of the wanted ones.
            max_pixels: As `VideoReader` takes it.

        Returns:
            RGB frames (number of indices, H, W, 3).

        Raises:
            DecodeError: There is no video, or it is damaged.
        """
        if self.reason is not None:
            raise DecodeError(self.path, self.reason)
        first, length = self.part
        with VideoReader(self.path, source=self._source(max_pixels)) as reader:
            check_part(self.path, reader.num_frames, first, length)
            wanted = [first + index for index in choose(length or reader.num_frames - first)]
            return reader.read(wanted, CLIP_SIDE_PX)

    def _source(self, max_pixels: int) -> Any:
        """What the reader reads from."""
        if self.video is None:
            return PackedFrames(self.path, self.frames, self.num_frames, max_pixels)
        from timm_video_psn.data.video.pyav_backend import VideoFile  # loads FFmpeg, which frames do without

        return VideoFile(self.path, self.video, max_pixels)


class PackedFrames:
    """Frames of a video as encoded images in memory.

    Args:
        path: Path of the frame folder that they come from.
        images: Images by frame number.
        num_frames: Expected number of frames.
        max_pixels: As `VideoReader` takes it.
    """

    def __init__(self, path: Path, images: Mapping[int, bytes], num_frames: int, max_pixels: int = MAX_PIXELS) -> None:
        self._path = path
        self._images = images
        self._max_pixels = max_pixels
        self.num_frames = num_frames
        self.fps: float | None = None

    def read(self, indices: Sequence[int], short_side: int | None = None) -> dict[int, np.ndarray]:
        """Reads frames (H, W, 3), by index."""
        lost = [index for index in indices if index not in self._images]
        if lost:
            found = f"{len(self._images)} of the {self.num_frames} frames that its annotation states were there"
            raise DecodeError(self._path, f"frame {lost[0]} is missing: {found} when the shard was written")
        images = {index: io.BytesIO(self._images[index]) for index in indices}
        return {
            index: read_image(self._path, f"{index:06d}", image, short_side, len(images), self._max_pixels)
            for index, image in images.items()
        }

    def frames(self, short_side: int | None = None) -> Iterator[np.ndarray]:
        """Yields all frames (H, W, 3) in order."""
        return (self.read([index], short_side)[index] for index in range(self.num_frames))

    def close(self) -> None:
        """Nothing is held open."""
