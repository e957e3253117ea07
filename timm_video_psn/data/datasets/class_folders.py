"""Data sets whose folders say what videos show: a folder for each class, or a metadata file beside the videos."""

from __future__ import annotations

import csv
import json
import os
from collections import Counter, defaultdict
from collections.abc import Iterable
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from timm_video_psn.data.datasets.index import LabelSets, PathTable, VideoIndex
from timm_video_psn.data.datasets.labels import plain_name
from timm_video_psn.data.datasets.locate import (
    accepted_endings,
    endings_in_words,
    holds_frames,
    is_video_file,
    list_folder,
    walk_videos,
)
from timm_video_psn.data.datasets.parsing import NoAnnotationsError, ParseErrors
from timm_video_psn.files import first_names

_SPLITS = ("train", "val")
_FOLDERS = {  # of a split, as the Hub's data sets also call them
    "train": ("train", "training"),
    "val": ("val", "validation", "valid", "dev"),
    "test": ("test", "testing", "eval"),
}
_METADATA = ("metadata.csv", "metadata.jsonl")
_LABEL_COLUMNS = ("label", "labels", "class", "class_name", "category", "action")
_LAYOUT = "train/<class>/<videos> and val/<class>/<videos>, or just <class>/<videos>"


def read_folder(data_dir: str | os.PathLike[str] | None, split: str) -> VideoIndex:
    """Reads a data set that has one folder for each class, or a metadata file for each split.

    Videos lie anywhere below `data_dir/train/<class>/` and `data_dir/val/<class>/`; or below `data_dir/<class>/`, and
    are then used for both splits. A video is a file with a video extension, or a folder that holds its frames as
    images. Labels follow the sorted class names. Where there is no `train`, `val` can be read alone, to test a model.

    The VideoFolder layout of Hugging Face's datasets has a `metadata.csv` or `metadata.jsonl` in `train/`,
    `validation/` and `test/`, or one above them, with a column `file_name` and a column `label` (see
    `_read_metadata`).

    Args:
        data_dir: Folder of the data set.
        split: "train", "val" or "test"; their folders may have the other names of `_FOLDERS`.

    Raises:
        ValueError: The folder has another layout, or classes lack videos.
        FileNotFoundError: There is no such folder or split.
    """
    if data_dir is None:
        raise ValueError("the data set 'folder' needs data_dir (--data-dir): name the folder of the data set")
    root = Path(data_dir)
    if not root.is_dir():
        raise FileNotFoundError(f"data_dir={root} is not a folder; name the folder that holds {_LAYOUT}")
    if any(_metadata_in(root / _folder_of(root, each)) for each in _FOLDERS) or _metadata_in(root):
        return _read_metadata(root, split)
    shared = not _has_split_folders(root, split)
    if not shared and (root / _folder_of(root, "train")).is_dir():
        _check_same_classes(root, split)
    name_of_split = _folder_of(root, split)
    top = root if shared else root / name_of_split
    ignored, repeated = Counter(os.path.splitext(name)[1].lower() for name in list_folder(top)[1]), []  # noqa: PTH122
    videos: dict[str, list[str]] = {}
    for name, folders in _classes(top).items():
        walks = [walk_videos(root, folder if shared else f"{name_of_split}/{folder}") for folder in folders]
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


class _Row(NamedTuple):
    """A video of a metadata file."""

    path: str  # from the data folder
    labels: tuple[int | str, ...]


def _read_metadata(root: Path, split: str) -> VideoIndex:
    """Reads the rows of a split.

    Labels are names, numbered in their sorted order, or numbers; in a JSON file a list of them is several classes of a
    video. The training rows tell the classes.
    """
    found = {each: rows for each in _FOLDERS if (rows := _metadata_rows(root, each)) is not None}
    shared = not found and split != "test"
    if shared and (path := _metadata_in(root)) is not None:
        found[split] = _parse_metadata(path, "")
    if split not in found:
        raise NoAnnotationsError(
            f"{root} has no videos of the split {split!r}: looked for {' or '.join(_METADATA)} in "
            f"{', '.join(_FOLDERS[split])}, and for rows of these folders in {root}"
        )
    rows, train = found[split], found.get("train", found[split])
    known = {label for row in train for label in row.labels}
    numbers = [label for label in known if isinstance(label, int)]
    named = len(numbers) < len(known)
    names = sorted(map(str, known)) if named else [str(number) for number in range(max(numbers, default=-1) + 1)]
    label_of = {name: number for number, name in enumerate(names)}
    for row in rows:
        unknown = [label for label in row.labels if str(label) not in label_of]
        if unknown or not (row.labels or split == "test"):
            what = f"label {unknown[0]!r}, which no training video has" if unknown else "no label"
            raise ValueError(f"the metadata of {root} gives {row.path} {what}; the classes are {first_names(names)}")
    if not any((root / row.path).exists() for row in rows):
        raise FileNotFoundError(f"not one of the {len(rows)} videos of {split} is there, for example {rows[0].path}")
    sets = LabelSets.from_sets([label_of[str(label)] for label in row.labels] for row in rows)
    several = any(len(row.labels) > 1 for row in (*rows, *train))
    return VideoIndex(
        paths=PathTable.from_paths(row.path for row in rows),
        labels=sets.smallest(),
        class_names=tuple(map(plain_name, names)),
        root=root,
        shared_split=shared,
        named=named,
        label_sets=sets if several else None,
    )


def _metadata_rows(root: Path, split: str) -> list[_Row] | None:
    """The rows of a split; None where no metadata file lies in its folder, and no row of one above names it."""
    folder = _folder_of(root, split)
    if (path := _metadata_in(root / folder)) is not None:
        return _parse_metadata(path, f"{folder}/")
    if (path := _metadata_in(root)) is None:
        return None
    return [row for row in _parse_metadata(path, "") if row.path.startswith(f"{folder}/")] or None


def _parse_metadata(path: Path, prefix: str) -> list[_Row]:
    """The videos of a file, whose paths begin in its folder."""
    errors, rows = ParseErrors(path), []
    with path.open(encoding="utf-8-sig", newline="") as file:
        lines: Iterable[Any] = csv.DictReader(file) if path.suffix == ".csv" else filter(str.strip, file)
        for number, line in enumerate(lines, 2 if path.suffix == ".csv" else 1):
            try:
                entry = line if isinstance(line, dict) else json.loads(line)
                name = next(key for key in entry if key == "file_name" or key.endswith("_file_name"))
                column = next((key for key in _LABEL_COLUMNS if key in entry), None)
                labels = [] if column is None or entry[column] in (None, "") else entry[column]
                labels = labels if isinstance(labels, list) else [labels]
                rows.append(_Row(f"{prefix}{entry[name]}", tuple(map(_as_label, labels))))
            except (ValueError, TypeError, AttributeError, StopIteration) as error:
                why = f" ({error})" if str(error) else ""
                errors.add(number, f"expected file_name and one of {', '.join(_LABEL_COLUMNS)}{why}")
    errors.raise_if_any()
    return rows


def _as_label(value: Any) -> int | str:
    """A label as a number where it is one, as a CSV file writes it, too."""
    if isinstance(value, (bool, dict, list, float)):
        raise TypeError(f"label {value!r} is neither a name nor a number")
    return int(value) if str(value).isdecimal() else str(value)


def _metadata_in(folder: Path) -> Path | None:
    """The metadata file of a folder; others of the name, without a column `file_name`, are something else."""
    for path in (folder / name for name in _METADATA):
        if path.is_file():
            with path.open(encoding="utf-8-sig", errors="replace") as file:
                if "file_name" in file.readline():
                    return path
    return None


def _folder_of(root: Path, split: str) -> str:
    """The name that the folder of a split has, the usual one where there is none."""
    return next((name for name in _FOLDERS[split] if (root / name).is_dir()), split)


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
    present = [split for split in _SPLITS if (root / _folder_of(root, split)).is_dir()]
    if wanted == "test":
        if (root / _folder_of(root, "test")).is_dir():
            return True
        raise NoAnnotationsError(f"{root} has no folder test; the splits there are: {', '.join(present) or 'none'}")
    if len(present) == 1 and _holds_classes(root / _folder_of(root, present[0])):
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


def _check_same_classes(root: Path, split: str) -> None:
    other = "test" if split == "test" else "val"
    train, val = (set(_classes(root / _folder_of(root, each))) for each in ("train", other))
    if train != val:
        raise ValueError(
            f"train and {other} in {root} have different classes; "
            f"only in train: {first_names(sorted(train - val)) or 'none'}; "
            f"only in {other}: {first_names(sorted(val - train)) or 'none'}; both need the same class folders"
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
