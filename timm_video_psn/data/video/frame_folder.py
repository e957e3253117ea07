"""Videos as folders of images: all of them in natural order, or those that are numbered after a template."""

from __future__ import annotations

import re
from collections import Counter, defaultdict
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import suppress
from itertools import islice
from pathlib import Path
from typing import TYPE_CHECKING, BinaryIO, NamedTuple

import numpy as np
import numpy.typing as npt

from timm_video_psn.data.video.errors import DecodeError, in_plain_words, no_file_errors
from timm_video_psn.data.video.limits import CLIP_SIDE_PX, MAX_PIXELS, check_pixels

if TYPE_CHECKING:
    from PIL import Image

IMAGE_EXTENSIONS = frozenset({".jpeg", ".jpg", ".png"})
# What Pillow may take a frame for, whatever its name: its other readers start programs (EPS) or are seldom looked at.
_IMAGE_FORMATS = ("JPEG", "PNG")
_NUMBERED = re.compile(r"(?P<prefix>.*?)(?P<number>\d+)(?P<suffix>\.\w+)", re.DOTALL)
_PROBES = 9  # folders by which names are told
_NO_FRAMES = re.compile(r"flow|^[xyuv]_?$", re.IGNORECASE)  # optical flow lies beside the frames in many copies


class ImageNames(NamedTuple):
    """Names like `img_00001.jpg`: a template, and the number of a video's first frame.

    If a folder holds frames and optical flow, or frames of several videos one after the other, the names say which
    image is which frame. Names may repeat the name of their folder, as SlowFast's `78687/78687_000001.jpg` do.
    """

    template: str  # as `str.format` takes it: the number, and `{folder}` for the name of the folder
    first: int

    @classmethod
    def found_in(cls, folder: Path) -> ImageNames | None:
        """Reads the names from the images of a folder, except flow; returns None if no image is numbered.

        Args:
            folder: Frame folder.
        """
        numbers: dict[tuple[str, str], list[str]] = defaultdict(list)  # (prefix, suffix) -> numbers as written
        for file in folder.iterdir():
            match = _NUMBERED.fullmatch(file.name)
            if match and is_frame_image(file.name) and not _NO_FRAMES.search(match["prefix"]):
                numbers[match["prefix"], match["suffix"]].append(match["number"])
        if not numbers:
            return None
        (prefix, suffix), written = max(sorted(numbers.items()), key=lambda item: len(item[1]))
        width = min(map(len, written))  # all the same if zeros fill up; else numbers grow longer
        literal = [part.replace("{", "{{").replace("}", "}}") for part in (prefix, suffix)]
        if prefix.rstrip("_-.") == folder.name:
            literal[0] = "{folder}" + prefix[len(folder.name) :]
        return cls(f"{literal[0]}{{:0{width}d}}{literal[1]}", min(map(int, written)))

    @classmethod
    def found_in_most(cls, folders: Iterable[Path]) -> ImageNames | None:
        """Reads the names from the images of most of some folders.

        A folder that is empty, or lacks its first frame, does not stand for all.

        Args:
            folders: Frame folders; the first few are looked at.
        """
        found = []
        for folder in islice(folders, _PROBES):
            with suppress(OSError):  # one that cannot be read says so when its video is
                found += [names for names in (cls.found_in(folder),) if names is not None]
        return Counter(found).most_common(1)[0][0] if found else None

    def name(self, folder: Path, number: int) -> str:
        """Returns the name of an image.

        Args:
            folder: Frame folder.
            number: Number in the name.
        """
        return self.template.format(number, folder=folder.name)

    def decode(
        self,
        folder: Path,
        choose: Callable[[int], Iterable[int]],
        skip: int = 0,
        length: int = 0,
        short_side: int | None = CLIP_SIDE_PX,
        max_pixels: int = MAX_PIXELS,
    ) -> npt.NDArray[np.uint8]:
        """Reads frames of a video that lies in a folder as images.

        Args:
            folder: Frame folder.
            choose: Gets the number of frames, returns the indices of the wanted ones.
            skip: Frames of the folder before the video begins.
            length: Frames of the video; 0 for all from `skip` on.
            short_side: As `VideoReader.read` takes it.
            max_pixels: As `VideoReader` takes it.

        Returns:
            RGB frames (number of indices, H, W, 3).

        Raises:
            DecodeError: The folder or a wanted image is missing or damaged, images differ in size or are too large.
        """
        _check_is_folder(folder)
        wanted = [int(index) for index in choose(length or self._count(folder, skip))]
        stated = f"; its annotation states {length} frames" if length else ""
        frames = {}
        for index in sorted(set(wanted)):
            name = self.name(folder, self.first + skip + index)
            frames[index] = read_image(folder, name, folder / name, short_side, len(wanted), max_pixels, stated)
        sizes = sorted({frame.shape[:2] for frame in frames.values()})
        if len(sizes) > 1:
            raise DecodeError(folder, f"its frames differ in size, (height, width) is {sizes}; extract them again")
        with no_file_errors(folder):
            return np.stack([frames[index] for index in wanted])  # (number of indices, H, W, 3)

    def files(self, folder: Path, skip: int = 0, length: int = 0) -> list[Path]:
        """Lists the images of a video in order, as `decode` would read them; some may be missing.

        Args:
            folder: As for `decode`.
            skip: As for `decode`.
            length: As for `decode`.

        Raises:
            DecodeError: The folder is missing, or holds no image of the video.
        """
        _check_is_folder(folder)
        count = length or self._count(folder, skip)
        return [folder / self.name(folder, self.first + skip + index) for index in range(count)]

    def _count(self, folder: Path, skip: int) -> int:
        """Counts the images in a row from the video's first frame on."""
        with in_plain_words(folder, "the folder cannot be read"):
            names = {file.name for file in folder.iterdir()}
        count = 0
        while self.name(folder, self.first + skip + count) in names:
            count += 1
        if not count:
            example = self.name(folder, self.first + skip)
            raise DecodeError(folder, f"the folder holds no image {example}, the name that the data set gives it")
        return count


class FrameFolder:
    """Folder of images, one for each frame, in natural order.

    Args:
        path: folder.
        max_pixels: Most pixels that the frames of one `read` may have together.
    """

    def __init__(self, path: Path, max_pixels: int = MAX_PIXELS) -> None:
        self._path = path
        self._max_pixels = max_pixels
        self._names = frame_names(path)
        self.num_frames = len(self._names)
        self.fps: float | None = None

    def read(self, indices: Sequence[int], short_side: int | None = None) -> dict[int, np.ndarray]:
        """Reads frames (H, W, 3), by index."""
        return {index: self._read_image(self._names[index], len(indices), short_side) for index in indices}

    def frames(self, short_side: int | None = None) -> Iterator[np.ndarray]:
        """Yields all frames (H, W, 3) in order."""
        return (self._read_image(name, 1, short_side) for name in self._names)

    def close(self) -> None:
        """Does nothing, since no file is held open."""

    def _read_image(self, name: str, count: int, short_side: int | None) -> np.ndarray:
        return read_image(self._path, name, self._path / name, short_side, count, self._max_pixels)


def is_folder(path: Path) -> bool:
    """Whether a folder exists.

    Args:
        path: video.

    Raises:
        DecodeError: The file system does not tell.
    """
    with in_plain_words(path, "it cannot be reached"):
        return path.is_dir()


def _check_is_folder(folder: Path) -> None:
    if not is_folder(folder):
        raise DecodeError(folder, "there is no such folder of frames; check the name and the data folder")


def frame_names(folder: Path) -> list[str]:
    """Lists the names of the frame images in a folder, in natural order.

    Args:
        folder: Frame folder.

    Raises:
        DecodeError: The folder cannot be read, or holds none.
    """
    with in_plain_words(folder, "the folder cannot be read"):
        names = [file.name for file in folder.iterdir() if is_frame_image(file.name)]
    if not names:
        raise DecodeError(folder, f"the folder holds no frame image ({', '.join(sorted(IMAGE_EXTENSIONS))})")
    return sorted(names, key=_natural_key)


def read_image(
    video: Path,
    name: str,
    source: Path | BinaryIO,
    short_side: int | None = None,
    count: int = 1,
    max_pixels: int = MAX_PIXELS,
    stated: str = "",
) -> np.ndarray:
    """Reads a frame image as viewers show it.

    Args:
        video: Video that the frame belongs to, for the error.
        name: Name of the image, for the error.
        source: Where the image lies.
        short_side: As `VideoReader.read` takes it.
        count: Frames that are held together.
        max_pixels: As `VideoReader` takes it.
        stated: What else the error should say.

    Returns:
        RGB pixels (H, W, 3).

    Raises:
        DecodeError: The image is missing, damaged, too large or of a kind that no video consists of.
    """
    from PIL import Image, ImageOps

    # The first two: a png cut short. Pillow has a limit of its own for `max_pixels` raised above it.
    pillow_errors = (SyntaxError, EOFError, Image.DecompressionBombError)
    reason = f"image {name} cannot be read{stated}"
    with in_plain_words(video, reason, *pillow_errors), _open_image(video, reason, source) as image:
        width, height = image.size
        shown = check_pixels(video, (height, width), count, short_side, max_pixels)
        if image.format == "PNG" and getattr(image, "is_animated", False):
            raise DecodeError(video, f"image {name} is animated; a frame is a single picture")
        image.draft(None, shown[::-1])  # large JPEGs are decoded at a half, a quarter or an eighth of their size
        upright = ImageOps.exif_transpose(image)
        if upright.size[0] != image.size[0]:
            shown = shown[::-1]
        rgb = _to_rgb(video, name, upright)
        return np.asarray(rgb if rgb.size == shown[::-1] else rgb.resize(shown[::-1], Image.Resampling.BOX))


def _open_image(video: Path, reason: str, source: Path | BinaryIO) -> Image.Image:
    from PIL import Image, UnidentifiedImageError

    try:
        return Image.open(source, formats=_IMAGE_FORMATS)
    except UnidentifiedImageError as error:
        raise DecodeError(video, f"{reason} (it is neither JPEG nor PNG, or damaged from the start)") from error


def _to_rgb(video: Path, name: str, image: Image.Image) -> Image.Image:
    from PIL import Image

    if image.mode.startswith("I"):  # 16 bits of grey, which Pillow would cut off at 255
        return Image.fromarray((np.asarray(image) >> 8).astype(np.uint8)).convert("RGB")
    if image.has_transparency_data and np.asarray(image.convert("RGBA"))[..., 3].min() < 255:
        raise DecodeError(video, f"image {name} is transparent in part, which viewers show in different ways")
    return image.convert("RGB")


def is_frame_image(name: str) -> bool:
    """Whether a file of this name is a frame of its folder; hidden files (`._1.jpg` of macOS) are not."""
    return not name.startswith(".") and Path(name).suffix.lower() in IMAGE_EXTENSIONS


def _natural_key(name: str) -> tuple[list[int | str], str]:
    """Sorts digits by value: text and numbers alternate, so that like is compared with like."""
    parts = [int(part) if part.isdigit() else part for part in re.split(r"([0-9]+)", name)]
    return parts, name  # the name itself settles 1.jpg and 01.jpg
