"""Data sets that have one folder for each class."""

from __future__ import annotations

import os
from collections.abc import Sequence
from pathlib import Path

import numpy as np

from timm_video_psn.data.datasets.index import PathTable, VideoIndex
from timm_video_psn.data.datasets.locate import list_folder
from timm_video_psn.data.datasets.parsing import NoAnnotationsError
from timm_video_psn.data.video.frame_folder import is_frame_image
from timm_video_psn.data.video.reader import VIDEO_EXTENSIONS
from timm_video_psn.files import first_names

_SPLITS = ("train", "val")
_LAYOUT = "train/<class>/<videos> and val/<class>/<videos>, or just <class>/<videos>"


def read_folder(data_dir: str | os.PathLike[str] | None, split: str) -> VideoIndex:
    """Reads a data set that has one folder for each class.

    Videos lie anywhere below `data_dir/train/<class>/` and `data_dir/val/<class>/`; or below `data_dir/<class>/`, and
    are then used for both splits. A video is a file with a video extension, or a folder that holds its frames as
    images. Labels follow the sorted class names. Where there is no `train`, `val` can be read alone, to test a model.
    """
    if data_dir is None:
        raise ValueError("the data set 'folder' needs data_dir (--data-dir): name the folder of the data set")
    root = Path(data_dir)
    if not root.is_dir():
        raise FileNotFoundError(f"data_dir={root} is no folder; name the folder that holds {_LAYOUT}")
    shared = not _has_split_folders(root, split)
    if not shared and (root / "train").is_dir():
        _check_same_classes(root)
    top = root if shared else root / split
    class_names = _class_names(top)
    found = [_find_videos(root, name if shared else f"{split}/{name}") for name in class_names]
    empty = [name for name, (videos, _) in zip(class_names, found, strict=True) if not videos]
    if empty:
        raise ValueError(
            f"{len(empty)} of {len(class_names)} classes in {top} have no video: {first_names(empty)}; accepted are "
            f"files ending in {', '.join(sorted(VIDEO_EXTENSIONS))} and folders of frame images; add some or remove "
            "the class"
        )
    return VideoIndex(
        paths=PathTable.from_paths(video for videos, _ in found for video in videos),
        labels=np.repeat(np.arange(len(found), dtype=np.int64), [len(videos) for videos, _ in found]),
        class_names=tuple(class_names),
        root=root,
        ignored=len(list_folder(top)[1]) + sum(ignored for _, ignored in found),
        shared_split=shared,
    )


def _has_split_folders(root: Path, wanted: str) -> bool:
    """Whether the data set is parted; an error where the part that is needed is missing, or that to validate on."""
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
    return any(not _is_frame_folder(*list_folder(folder / name)) for name in list_folder(folder)[0])


def _check_same_classes(root: Path) -> None:
    train, val = (set(_class_names(root / split)) for split in _SPLITS)
    if train != val:
        raise ValueError(
            f"train and val in {root} have different classes; "
            f"only in train: {first_names(sorted(train - val)) or 'none'}; "
            f"only in val: {first_names(sorted(val - train)) or 'none'}; both need the same class folders"
        )


def _class_names(top: Path) -> list[str]:
    folders, files = list_folder(top)
    if folders:
        return folders
    loose = sum(_is_video(name) for name in files)
    found = f"{loose} videos but no class folders" if loose else "neither class folders nor videos"
    raise ValueError(f"{top} holds {found}; accepted is {_LAYOUT}; make one folder for each class")


def _find_videos(root: Path, folder: str, is_class: bool = True) -> tuple[list[str], int]:
    """All videos below a folder, as paths from `root`, and the number of files that are none."""
    folders, files = list_folder(root / folder)
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
