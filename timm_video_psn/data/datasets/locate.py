"""Where the videos of a data set lie: official folders and endings are tried, and what is there counts."""

from __future__ import annotations

import os
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import NamedTuple

from timm_video_psn.data.datasets.index import PathTable
from timm_video_psn.data.video.frame_folder import ImageNames
from timm_video_psn.files import first_names

AT_MOST = 20  # names or lines that an error message lists
PROBES = 64  # videos by which a layout is recognised
ENDINGS = (".mp4", ".webm", ".mkv", ".avi", "")  # an empty one stands for frame folders


class PathTemplate(NamedTuple):
    """A video is `prefix + name + suffix` from the data set's folder; `images` name the frames of frame folders."""

    prefix: str
    suffix: str
    images: ImageNames | None = None

    def paths(self, names: Iterable[str]) -> PathTable:
        """Paths of the videos of some names."""
        return PathTable.from_paths(f"{self.prefix}{name}{self.suffix}" for name in names)


def locate_videos(root: Path, names: Sequence[str], folders: Sequence[str], official: str, what: str) -> PathTemplate:
    """Finds the folder in which the videos of a list lie, and what their names end in.

    Args:
        root: folder of the data set.
        names: of the videos, without folder and ending.
        folders: in which they may lie, from `root`, the official one first; all folders in `root` are tried after them.
        official: ending of the official videos, tried before others; an empty one stands for frame folders.
        what: the data set.

    Returns:
        The place where most of some videos are, the first of equals.

    Raises:
        FileNotFoundError: not one of the videos is there.
    """
    suffixes = tuple(dict.fromkeys((official, *ENDINGS)))
    candidates = [folder for folder in dict.fromkeys([*folders, *list_folder(root)[0]]) if (root / folder).is_dir()]
    pairs = [(f"{folder}/" if folder else "", suffix) for folder in candidates for suffix in suffixes]
    probes = evenly(names)
    present = [sum(_is_present(root, name, pair) for name in probes) for pair in pairs]
    if any(present):
        return _with_images(root, probes, pairs[present.index(max(present))])
    for pair in pairs:  # hardly any is there: look for all of them before saying that there are none
        if any(_is_present(root, name, pair) for name in names):
            return _with_images(root, names, pair)
    example = ", ".join(f"{names[0]}{suffix}" + ("" if suffix else "/ (a folder of frames)") for suffix in suffixes)
    raise FileNotFoundError(
        f"not one of the {len(names)} videos of {what} is in {root}; looked for {example} and so on in "
        f"{first_names([folder or 'the folder itself' for folder in candidates])}; --data-dir is the folder that holds "
        "both the annotations and the folder of the videos"
    )


def evenly(names: Sequence[str]) -> list[str]:
    """Some of many names, spread over all."""
    count = min(PROBES, len(names))
    return [names[i * len(names) // count] for i in range(count)]


def _with_images(root: Path, names: Iterable[str], pair: tuple[str, str]) -> PathTemplate:
    """The place, with the names of the images in the first frame folders that are there."""
    if pair[1]:
        return PathTemplate(*pair)
    present = (root / f"{pair[0]}{name}" for name in names if _is_present(root, name, pair))
    return PathTemplate(*pair, ImageNames.found_in_most(present))


def _is_present(root: Path, name: str, pair: tuple[str, str]) -> bool:
    path = f"{root}/{pair[0]}{name}{pair[1]}"
    return os.path.isfile(path) if pair[1] else os.path.isdir(path)  # noqa: PTH112, PTH113  # a Path each is slow


def list_folder(folder: Path) -> tuple[list[str], list[str]]:
    """Names of the folders and of the files in a folder, sorted; hidden ones are left out."""
    with os.scandir(folder) as entries:
        visible = sorted((entry.name, entry.is_dir()) for entry in entries if not entry.name.startswith("."))
    return [name for name, is_dir in visible if is_dir], [name for name, is_dir in visible if not is_dir]
