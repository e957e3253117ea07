"""Which videos a data set has and what they show: one reader for each data set, all with one result."""

from __future__ import annotations

import difflib
import hashlib
import os
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import numpy.typing as npt

from timm_video_psn.data.decode import VIDEO_EXTENSIONS, is_frame_image
from timm_video_psn.data.motion import MOTION_PAIRS, check_motion_folder, is_motion_folder, prepare_motion

SPLITS = ("train", "val")
_NAMED_AT_MOST = 20  # names that an error message lists


class PathTable(Sequence[str]):
    """Many paths in one buffer.

    A list of a million strings is a million objects whose reference counts every worker process writes to, which copies
    their memory into each of them. Here they are one bytes object and one array.

    Args:
        buffer: all paths one after the other, as the file system encodes them.
        offsets: where each begins in the buffer, and where the last one ends; (n + 1,).
    """

    def __init__(self, buffer: bytes, offsets: npt.NDArray[np.int64]) -> None:
        self.buffer = buffer
        self._offsets = offsets

    @classmethod
    def from_paths(cls, paths: Iterable[str | os.PathLike[str]]) -> PathTable:
        """Packs paths; the iterable is walked once."""
        encoded = [os.fsencode(path) for path in paths]
        offsets = np.zeros(len(encoded) + 1, dtype=np.int64)
        np.cumsum([len(path) for path in encoded], out=offsets[1:])
        return cls(b"".join(encoded), offsets)

    def __len__(self) -> int:
        return len(self._offsets) - 1

    def __getitem__(self, index: int) -> str:  # type: ignore[override]  # no slices: nobody needs them
        if not -len(self) <= index < len(self):
            raise IndexError(f"path {index} asked for, but there are {len(self)}")
        index %= len(self)
        return os.fsdecode(self.buffer[self._offsets[index] : self._offsets[index + 1]])


@dataclass(frozen=True, eq=False)
class VideoIndex:
    """The videos of one split, as columns: video `i` is `root / paths[i]` and shows `class_names[labels[i]]`.

    Args:
        paths: of the videos, relative to `root`; files or frame folders.
        labels: class of each video, (n,).
        class_names: in label order.
        root: folder of the data set.
        ignored: files passed over because they are no video.
        shared_split: whether training and validation are the same videos, because the data set does not part them.
        reversal_pairs: labels of two classes that only the order of the frames tells apart.
    """

    paths: PathTable
    labels: npt.NDArray[np.int64]
    class_names: tuple[str, ...]
    root: Path
    ignored: int = 0
    shared_split: bool = False
    reversal_pairs: tuple[tuple[int, int], ...] = ()

    def __len__(self) -> int:
        return len(self.paths)

    def fingerprint(self) -> str:
        """Tells these videos, in this order and with these labels, from others."""
        return hashlib.sha256(self.paths.buffer + self.labels.tobytes()).hexdigest()


Reader = Callable[[Path | None, str], VideoIndex]  # (data_dir, split)


def read_index(dataset: str, data_dir: str | os.PathLike[str] | None, split: str) -> VideoIndex:
    """Reads which videos a split of a data set has.

    Args:
        dataset: a name in `DATASETS`.
        data_dir: where the data set lies; None only for data sets that can do without (motion).
        split: "train" or "val".

    Raises:
        ValueError: unknown data set or split, or a data set that is not laid out as its reader expects.
        FileNotFoundError: no data set there.
    """
    if dataset not in DATASETS:
        near = difflib.get_close_matches(dataset, DATASETS, n=3, cutoff=0.4)
        hint = f"; near names: {', '.join(near)}" if near else ""
        raise ValueError(f"dataset={dataset!r} is unknown{hint}; known data sets: {', '.join(sorted(DATASETS))}")
    if split not in SPLITS:
        raise ValueError(f"split={split!r} of data set {dataset!r} asked for; there are {' and '.join(SPLITS)}")
    return DATASETS[dataset](None if data_dir is None else Path(data_dir), split)


def read_folder(data_dir: str | os.PathLike[str] | None, split: str) -> VideoIndex:
    """Reads a data set that has one folder for each class.

    Videos lie anywhere below `data_dir/train/<class>/` and `data_dir/val/<class>/`; or below `data_dir/<class>/`, and
    are then used for both splits. A video is a file with a video extension, or a folder that holds its frames as
    images. Labels follow the sorted class names.
    """
    if data_dir is None:
        raise ValueError("the data set 'folder' was asked for without data_dir; name the folder of the data set")
    root = Path(data_dir)
    if not root.is_dir():
        raise FileNotFoundError(f"data_dir={root} is no folder; name the folder that holds {_LAYOUT}")
    shared = not _has_split_folders(root)
    if not shared:
        _check_same_classes(root)
    top = root if shared else root / split
    class_names = _class_names(top)
    found = [_find_videos(root, name if shared else f"{split}/{name}") for name in class_names]
    empty = [name for name, (videos, _) in zip(class_names, found, strict=True) if not videos]
    if empty:
        raise ValueError(
            f"{len(empty)} of {len(class_names)} classes in {top} have no video: {_some(empty)}; accepted are files "
            f"ending in {', '.join(sorted(VIDEO_EXTENSIONS))} and folders of frame images; add some or remove the class"
        )
    return VideoIndex(
        paths=PathTable.from_paths(video for videos, _ in found for video in videos),
        labels=np.repeat(np.arange(len(found), dtype=np.int64), [len(videos) for videos, _ in found]),
        class_names=tuple(class_names),
        root=root,
        ignored=len(_list(top)[1]) + sum(ignored for _, ignored in found),
        shared_split=shared,
    )


def read_motion(data_dir: str | os.PathLike[str] | None, split: str) -> VideoIndex:
    """Reads the embedded motion data set, which is generated where it is not there yet (`motion.prepare_motion`)."""
    present = data_dir is not None and is_motion_folder(Path(data_dir))
    folder = Path(data_dir) if data_dir is not None and present else prepare_motion(data_dir)
    index = read_folder(folder, split)
    check_motion_folder(folder, split, index.class_names, len(index))
    return replace(index, reversal_pairs=MOTION_PAIRS)


# A further data set is one reader and one entry here.
DATASETS: dict[str, Reader] = {"folder": read_folder, "motion": read_motion}

_LAYOUT = "train/<class>/<videos> and val/<class>/<videos>, or just <class>/<videos>"


def _has_split_folders(root: Path) -> bool:
    """Whether the data set is parted; an error where one part is missing."""
    present = [split for split in SPLITS if (root / split).is_dir()]
    if len(present) == 1 and _holds_classes(root / present[0]):
        raise FileNotFoundError(
            f"{root} has a folder {present[0]} but not both of {' and '.join(SPLITS)}; found: {_some(_list(root)[0])}; "
            f"accepted is {_LAYOUT}; rename or add the other"
        )
    return len(present) == len(SPLITS)


def _holds_classes(folder: Path) -> bool:
    """Whether folders in it are more than the frames of one video: then it is a split, not a class named train."""
    return any(not _is_frame_folder(*_list(folder / name)) for name in _list(folder)[0])


def _check_same_classes(root: Path) -> None:
    train, val = (set(_class_names(root / split)) for split in SPLITS)
    if train != val:
        raise ValueError(
            f"train and val in {root} have different classes; only in train: {_some(sorted(train - val)) or 'none'}; "
            f"only in val: {_some(sorted(val - train)) or 'none'}; both need the same class folders"
        )


def _class_names(top: Path) -> list[str]:
    folders, files = _list(top)
    if folders:
        return folders
    loose = sum(_is_video(name) for name in files)
    found = f"{loose} videos but no class folders" if loose else "neither class folders nor videos"
    raise ValueError(f"{top} holds {found}; accepted is {_LAYOUT}; make one folder for each class")


def _find_videos(root: Path, folder: str, is_class: bool = True) -> tuple[list[str], int]:
    """All videos below a folder, as paths from `root`, and the number of files that are none."""
    folders, files = _list(root / folder)
    if not is_class and _is_frame_folder(folders, files):
        return [folder], 0
    videos = [f"{folder}/{name}" for name in files if _is_video(name)]
    ignored = len(files) - len(videos)
    for name in folders:
        inner, inner_ignored = _find_videos(root, f"{folder}/{name}", is_class=False)
        videos += inner
        ignored += inner_ignored
    return videos, ignored


def _is_frame_folder(folders: Sequence[str], files: Sequence[str]) -> bool:
    """Whether the images in a folder are frames; beside videos or other folders they are something else."""
    return not folders and any(map(is_frame_image, files)) and not any(map(_is_video, files))


def _is_video(name: str) -> bool:
    return os.path.splitext(name)[1].lower() in VIDEO_EXTENSIONS  # noqa: PTH122  # a Path for each file is slow


def _list(folder: Path) -> tuple[list[str], list[str]]:
    """Names of the folders and of the files in a folder, sorted; hidden ones are left out."""
    with os.scandir(folder) as entries:
        visible = sorted((entry.name, entry.is_dir()) for entry in entries if not entry.name.startswith("."))
    return [name for name, is_dir in visible if is_dir], [name for name, is_dir in visible if not is_dir]


def _some(names: Sequence[str]) -> str:
    """Names for a message, the first twenty of them."""
    more = f" and {len(names) - _NAMED_AT_MOST} more" if len(names) > _NAMED_AT_MOST else ""
    return ", ".join(names[:_NAMED_AT_MOST]) + more
