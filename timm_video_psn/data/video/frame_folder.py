"""Videos as folders of images: all of them in natural order, or those that are numbered after a template."""

from __future__ import annotations

import re
from collections import Counter, defaultdict
from collections.abc import Callable, Iterable, Iterator, Sequence
from itertools import islice
from pathlib import Path
from typing import BinaryIO, NamedTuple

import numpy as np
import numpy.typing as npt

from timm_video_psn.data.video.errors import DecodeError, in_plain_words

IMAGE_EXTENSIONS = frozenset({".jpeg", ".jpg", ".png"})
_NUMBERED = re.compile(r"(?P<prefix>.*?)(?P<number>\d+)(?P<suffix>\.\w+)", re.DOTALL)
_PROBES = 9  # folders by which names are told
_NO_FRAMES = re.compile(r"flow|^[xyuv]_?$", re.IGNORECASE)  # optical flow lies beside the frames in many copies


class ImageNames(NamedTuple):
    """Names like `img_00001.jpg`: a template, and the number of a video's first frame.

    Where a folder holds frames and optical flow, or frames of several videos one after the other, the names say which
    image is which frame. Names may repeat that of their folder, as SlowFast's `78687/78687_000001.jpg` do.
    """

    template: str  # as `str.format` takes it: the number, and `{folder}` for the name of the folder
    first: int

    @classmethod
    def found_in(cls, folder: Path) -> ImageNames | None:
        """The names that the images of a folder have, flow set aside; None where no image is numbered."""
        numbers: dict[tuple[str, str], list[str]] = defaultdict(list)  # (prefix, suffix) -> numbers as written
        for file in folder.iterdir():
            match = _NUMBERED.fullmatch(file.name)
            if match and is_frame_image(file.name) and not _NO_FRAMES.search(match["prefix"]):
                numbers[match["prefix"], match["suffix"]].append(match["number"])
        if not numbers:
            return None
        (prefix, suffix), written = max(sorted(numbers.items()), key=lambda item: len(item[1]))
        width = min(map(len, written))  # all the same where zeros fill up; else numbers grow longer
        literal = [part.replace("{", "{{").replace("}", "}}") for part in (prefix, suffix)]
        if prefix.rstrip("_-.") == folder.name:
            literal[0] = "{folder}" + prefix[len(folder.name) :]
        return cls(f"{literal[0]}{{:0{width}d}}{literal[1]}", min(map(int, written)))

    @classmethod
    def found_in_most(cls, folders: Iterable[Path]) -> ImageNames | None:
        """The names that the images of most of some folders have.

        One that is empty, or lacks its first frame, does not stand for all.

        Args:
            folders: frame folders; only the first few are examined.
        """
        found = [names for folder in islice(folders, _PROBES) if (names := cls.found_in(folder)) is not None]
        return Counter(found).most_common(1)[0][0] if found else None

    def name(self, folder: Path, number: int) -> str:
        """Name of an image.

        Args:
            folder: that it lies in.
            number: in its name.
        """
        return self.template.format(number, folder=folder.name)

    def decode(
        self, folder: Path, choose: Callable[[int], Iterable[int]], skip: int = 0, length: int = 0
    ) -> npt.NDArray[np.uint8]:
        """Reads frames of a video that lies in a folder as images.

        Args:
            folder: with the images.
            choose: gets the number of frames, returns the indices of the wanted ones.
            skip: frames of the folder that precede the video.
            length: frames of the video; 0 for all from `skip` on.

        Returns:
            RGB frames (number of indices, H, W, 3).

        Raises:
            DecodeError: the folder or a wanted image is missing or damaged, or images differ in size.
        """
        if not is_folder(folder):
            raise DecodeError(folder, "there is no such folder of frames; check the name and the data folder")
        wanted = [int(index) for index in choose(length or self._count(folder, skip))]
        frames = {index: self._read(folder, self.first + skip + index, length) for index in sorted(set(wanted))}
        sizes = sorted({frame.shape[:2] for frame in frames.values()})
        if len(sizes) > 1:
            raise DecodeError(folder, f"its frames differ in size, (height, width) is {sizes}; extract them again")
        return np.stack([frames[index] for index in wanted])  # (number of indices, H, W, 3)

    def files(self, folder: Path, skip: int = 0, length: int = 0) -> list[Path]:
        """The images of a video in order, as `decode` would read them; they may be missing.

        Args:
            folder: as for `decode`.
            skip: likewise.
            length: likewise.

        Raises:
            DecodeError: the folder is missing, or holds no image of the video.
        """
        if not is_folder(folder):
            raise DecodeError(folder, "there is no such folder of frames; check the name and the data folder")
        count = length or self._count(folder, skip)
        return [folder / self.name(folder, self.first + skip + index) for index in range(count)]

    def _count(self, folder: Path, skip: int) -> int:
        """Images in a row from the video's first frame on."""
        with in_plain_words(folder, "the folder cannot be read"):
            names = {file.name for file in folder.iterdir()}
        count = 0
        while self.name(folder, self.first + skip + count) in names:
            count += 1
        if not count:
            example = self.name(folder, self.first + skip)
            raise DecodeError(folder, f"the folder holds no image {example}, as those of the data set are named")
        return count

    def _read(self, folder: Path, number: int, length: int) -> npt.NDArray[np.uint8]:
        from PIL import Image

        name = self.name(folder, number)
        stated = f"; its annotation states {length} frames" if length else ""
        reason = f"image {name} cannot be read{stated}"
        pillow_errors: Sequence[type[Exception]] = (SyntaxError, EOFError, Image.DecompressionBombError)
        with in_plain_words(folder, reason, *pillow_errors), Image.open(folder / name) as image:
            return np.asarray(image.convert("RGB"))  # (H, W, 3)


class FrameFolder:
    """Folder of images, one a frame, in natural order."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self._names = frame_names(path)
        self.num_frames = len(self._names)
        self.fps: float | None = None

    def read(self, indices: Sequence[int]) -> dict[int, np.ndarray]:
        """Frames (H, W, 3) by index."""
        return {index: self._read_image(self._names[index]) for index in indices}

    def frames(self) -> Iterator[np.ndarray]:
        """All frames (H, W, 3) in order."""
        return map(self._read_image, self._names)

    def close(self) -> None:
        """Nothing is held open."""

    def _read_image(self, name: str) -> np.ndarray:
        return read_image(self._path, name, self._path / name)


def is_folder(path: Path) -> bool:
    """Whether there is a folder of that name; a `DecodeError` where the file system does not tell.

    Args:
        path: path of the video.
    """
    with in_plain_words(path, "it cannot be reached"):
        return path.is_dir()


def frame_names(folder: Path) -> list[str]:
    """Names of the frame images in a folder, in natural order.

    Args:
        folder: frame folder of the video.

    Raises:
        DecodeError: the folder cannot be read, or holds none.
    """
    with in_plain_words(folder, "the folder cannot be read"):
        names = [file.name for file in folder.iterdir() if is_frame_image(file.name)]
    if not names:
        raise DecodeError(folder, f"the folder holds no frame image ({', '.join(sorted(IMAGE_EXTENSIONS))})")
    return sorted(names, key=_natural_key)


def read_image(video: Path, name: str, source: Path | BinaryIO) -> np.ndarray:
    """Pixels of a frame image, (H, W, 3).

    Args:
        video: that the frame is of, for the error.
        name: file name of the image, for the error.
        source: where the image lies.

    Raises:
        DecodeError: the image is missing or damaged.
    """
    from PIL import Image

    reason = f"image {name} cannot be read"
    pillow_errors = (SyntaxError, EOFError, Image.DecompressionBombError)  # the first two: a png cut short
    with in_plain_words(video, reason, *pillow_errors), Image.open(source) as image:
        return np.asarray(image.convert("RGB"))  # (H, W, 3)


def is_frame_image(name: str) -> bool:
    """Whether a file of this name is a frame of its folder; hidden files (`._1.jpg` of macOS) are not."""
    return not name.startswith(".") and Path(name).suffix.lower() in IMAGE_EXTENSIONS


def _natural_key(name: str) -> tuple[list[int | str], str]:
    """Sorts digits by value: text and numbers alternate, so that like is compared with like."""
    parts = [int(part) if part.isdigit() else part for part in re.split(r"([0-9]+)", name)]
    return parts, name  # the name itself settles 1.jpg and 01.jpg
