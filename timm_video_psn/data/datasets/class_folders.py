"""Data sets that have one folder for each class."""

from __future__ import annotations

import os
from collections import Counter, defaultdict
from pathlib import Path

import numpy as np

from timm_video_psn.data.datasets.index import PathTable, VideoIndex
from timm_video_psn.data.datasets.labels import plain_name
from timm_video_psn.data.datasets.locate import (
    accepted_endings,
    endings_in_words,
    holds_frames,
    is_video_file,
    list_folder,
    walk_videos,
)
from timm_video_psn.data.datasets.parsing import NoAnnotationsError
from timm_video_psn.files import first_names

_SPLITS = ("train", "val")
_LAYOUT = "train/<class>/<videos> and val/<class>/<videos>, or just <class>/<videos>"


def read_folder(data_dir: str | os.PathLike[str] | None, split: str) -> VideoIndex:
    """Reads a data set that has one folder for each class.

    Videos lie anywhere below `data_dir/train/<class>/` and `data_dir/val/<class>/`; or below `data_dir/<class>/`, and
    are then used for both splits. A video is a file with a video extension, or a folder that holds its frames as
    images. Labels follow the sorted class names. Where there is no `train`, `val` can be read alone, to test a model.

    Args:
        data_dir: Folder of the data set.
        split: "train" or "val".

    Raises:
        ValueError: The folder has another layout, or classes lack videos.
        FileNotFoundError: There is no such folder or split.
    """
    if data_dir is None:
        raise ValueError("the data set 'folder' needs data_dir (--data-dir): name the folder of the data set")
    root = Path(data_dir)
    if not root.is_dir():
        raise FileNotFoundError(f"data_dir={root} is not a folder; name the folder that holds {_LAYOUT}")
    shared = not _has_split_folders(root, split)
    if not shared and (root / "train").is_dir():
        _check_same_classes(root)
    top = root if shared else root / split
    ignored, repeated = Counter(os.path.splitext(name)[1].lower() for name in list_folder(top)[1]), []  # noqa: PTH122
    videos: dict[str, list[str]] = {}
    for name, folders in _classes(top).items():
        walks = [walk_videos(root, folder if shared else f"{split}/{folder}") for folder in folders]
        videos[name] = [path for walk in walks for path in walk.paths]
        for walk in walks:
            ignored += walk.ignored
            repeated += walk.repeated
    _check_none_empty(top, videos, ignored)
    notes = [f"files that are not videos are not used: {endings_in_words(ignored)} in {top}"] if ignored else []
    notes += [f"links to folders above them are not followed: {first_names(repeated, 3)}"] if repeated else []
    return VideoIndex(
        paths=PathTable.from_paths(path for paths in videos.values() for path in paths),
        labels=np.repeat(np.arange(len(videos), dtype=np.int64), [len(paths) for paths in videos.values()]),
        class_names=tuple(videos),
        root=root,
        shared_split=shared,
        notes=tuple(notes),
    )


def _check_none_empty(top: Path, videos: dict[str, list[str]], ignored: Counter[str]) -> None:
    """Raises for classes without videos."""
    empty = [name for name, paths in videos.items() if not paths]
    if empty:
        passed_over = f"; files passed over: {endings_in_words(ignored)}" if ignored else ""
        raise ValueError(
            f"{len(empty)} of {len(videos)} classes in {top} have no video: {first_names(empty)}{passed_over}; "
            f"accepted are folders of frame images and files ending in {accepted_endings()}; add some, or remove "
            "the class"
        )


def _has_split_folders(root: Path, wanted: str) -> bool:
    """Whether the data set has splits; an error where the one to read, or the one to validate on, is missing."""
    present = [split for split in _SPLITS if (root / split).is_dir()]
    if len(present) == 1 and _holds_classes(root / present[0]):
        if present == ["val"] == [wanted]:
            return True
        raise NoAnnotationsError(
            f"{root} has a folder {present[0]} but not both of {' and '.join(_SPLITS)}; "
            f"found: {first_names(list_folder(root)[0])}; accepted is {_LAYOUT}; rename or add the other"
        )
    return len(present) == len(_SPLITS)


def _holds_classes(folder: Path) -> bool:
    """Whether folders in it are more than the frames of one video: then it is a split, not a class named train."""
    return any(not holds_frames(*list_folder(folder / name)) for name in list_folder(folder)[0])


def _check_same_classes(root: Path) -> None:
    train, val = (set(_classes(root / split)) for split in _SPLITS)
    if train != val:
        raise ValueError(
            f"train and val in {root} have different classes; "
            f"only in train: {first_names(sorted(train - val)) or 'none'}; "
            f"only in val: {first_names(sorted(val - train)) or 'none'}; both need the same class folders"
        )


def _classes(top: Path) -> dict[str, list[str]]:
    """Names of the classes, sorted, and the folders of each: two may write the same name in two Unicode forms."""
    folders, files = list_folder(top)
    above = {top.resolve(), *top.resolve().parents}
    classes: dict[str, list[str]] = defaultdict(list)
    for folder in folders:
        if (top / folder).resolve() not in above:
            classes[plain_name(folder)].append(folder)
    if classes:
        return dict(sorted(classes.items()))
    loose = sum(map(is_video_file, files))
    found = f"{loose} videos but no class folders" if loose else "neither class folders nor videos"
    raise ValueError(f"{top} holds {found}; accepted is {_LAYOUT}; make one folder for each class")
