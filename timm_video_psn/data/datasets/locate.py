"""Where videos lie: all videos below a folder, found by one walk, or the videos of a list, tried at official places."""

from __future__ import annotations

import os
from collections import Counter
from collections.abc import Callable, Iterable, Mapping, Sequence
from pathlib import Path
from typing import NamedTuple

from timm_video_psn.data.datasets.index import PathTable
from timm_video_psn.data.video.frame_folder import ImageNames, is_frame_image
from timm_video_psn.data.video.reader import VIDEO_EXTENSIONS
from timm_video_psn.files import first_names

AT_MOST = 20  # names or lines that an error message lists
PROBES = 64  # videos by which a layout is recognised
ENDINGS = (".mp4", ".webm", ".mkv", ".avi", "")  # an empty one stands for frame folders


class FoundVideos(NamedTuple):
    """What a walk has found; paths begin in its root and are parted by slashes."""

    paths: list[str]  # video files and folders of frames
    ignored: Counter[str]  # files that are not videos, by ending
    repeated: list[str]  # links to folders that the walk had been in, or that it lies in


def walk_videos(
    root: Path, folder: str = "", is_video_folder: Callable[[str], bool] = lambda name: False
) -> FoundVideos:
    """Finds all videos below a folder: files with a video's ending, and folders of frame images.

    Links to files and folders count as what they lead to, and no folder is entered twice, so that a link to a folder
    above it ends the walk there. Hidden files and folders are left out. The files of a folder come before its folders,
    both in the order of their names. A folder that cannot be read counts as a video, whose reading then says why.

    Args:
        root: Folder in which the paths begin.
        folder: Path of the folder to walk through, from `root`; its images alone do not make it a video.
        is_video_folder: Tells by its name that a folder is a video, so that it need not be looked into.

    Raises:
        OSError: The folder itself cannot be read.
    """
    found = FoundVideos([], Counter(), [])
    seen = {_identity(parent) for parent in (root / folder).resolve().parents}
    waiting = [folder]
    while waiting:
        path = waiting.pop()
        identity = _identity(root / path)
        if identity in seen:
            found.repeated.append(path)
            continue
        seen.add(identity)
        try:
            folders, files = list_folder(root / path)
        except OSError:
            if path == folder:
                raise
            found.paths.append(path)
            continue
        if path != folder and holds_frames(folders, files):
            found.paths.append(path)
            continue
        prefix = f"{path}/" if path else ""
        found.paths.extend(f"{prefix}{name}" for name in files if is_video_file(name))
        found.ignored.update(_ending(name) for name in files if not is_video_file(name))
        found.paths.extend(f"{prefix}{name}" for name in folders if is_video_folder(name))
        waiting.extend(f"{prefix}{name}" for name in reversed(folders) if not is_video_folder(name))
    return found


def list_folder(folder: Path) -> tuple[list[str], list[str]]:
    """Returns the names of the folders and of the files in a folder, sorted; hidden ones are left out.

    Args:
        folder: Folder to list.
    """
    with os.scandir(folder) as entries:
        visible = sorted((entry.name, _is_dir(entry)) for entry in entries if not entry.name.startswith("."))
    return [name for name, is_dir in visible if is_dir], [name for name, is_dir in visible if not is_dir]


def is_video_file(name: str) -> bool:
    """Returns whether a file name has a video's ending.

    Args:
        name: File name or path.
    """
    return _ending(name) in VIDEO_EXTENSIONS


def holds_frames(folders: Sequence[str], files: Sequence[str]) -> bool:
    """Returns whether the images in a folder are frames; beside videos or other folders they are something else.

    Args:
        folders: Names of the folders in it.
        files: Names of the files in it.
    """
    return not folders and any(map(is_frame_image, files)) and not any(map(is_video_file, files))


def endings_in_words(ignored: Mapping[str, int], most: int = 5) -> str:
    """Returns counts of files by ending for a message: `3 .json, 1 .srt`.

    Args:
        ignored: Counts by ending.
        most: Number of endings to write out.
    """
    common = Counter(ignored).most_common()
    more = f" and {sum(count for _, count in common[most:])} others" if len(common) > most else ""
    return ", ".join(f"{count} {ending or 'without ending'}" for ending, count in common[:most]) + more


def accepted_endings() -> str:
    """Returns the endings of video files for a message."""
    return ", ".join(sorted(VIDEO_EXTENSIONS))


def _ending(name: str) -> str:
    return os.path.splitext(name)[1].lower()  # noqa: PTH122  # a Path for each file is slow


def _is_dir(entry: os.DirEntry[str]) -> bool:
    """Whether an entry is a folder, or a link to one; a link that leads nowhere or to itself is none."""
    try:
        return entry.is_dir()
    except OSError:
        return False


def _identity(folder: Path) -> tuple[int, int] | str:
    """What tells a folder from all others, whatever links lead to it; its path where the system does not tell."""
    try:
        status = folder.stat()
    except OSError:
        return str(folder)
    return status.st_dev, status.st_ino


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
        root: Folder of the data set.
        names: Names of the videos, without folder and ending.
        folders: Folders to try first, below `root`, the official one first; all folders in `root` follow.
        official: Ending of the official videos, tried before others; an empty one stands for frame folders.
        what: The data set.

    Returns:
        The place where most of some videos are, the first of equals.

    Raises:
        FileNotFoundError: Not one of the videos is there.
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
