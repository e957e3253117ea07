"""Kinetics-400 as its owners and mirrors ship it (Kay et al., 2017)."""

from __future__ import annotations

import csv
import re
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import NamedTuple

import numpy as np

from timm_video_psn.data.datasets.index import PathTable, VideoIndex
from timm_video_psn.data.datasets.labels import plain_name
from timm_video_psn.data.datasets.list_file import (
    LIST_FOLDERS,
    check_labels,
    count_from_0,
    find_list,
    index_of_list,
    named_by_file,
    names_by_folder,
    training_rows,
)
from timm_video_psn.data.datasets.list_rows import parse_list
from timm_video_psn.data.datasets.locate import walk_videos
from timm_video_psn.data.datasets.parsing import (
    NoAnnotationsError,
    ParseErrors,
    data_folder,
    find_file,
    note_of_names,
    read_text,
    text_encoding,
    unknown_name,
)
from timm_video_psn.data.video.frame_folder import ImageNames
from timm_video_psn.files import first_names

_FOLDERS = (*LIST_FOLDERS, "kinetics400", "kinetics_400", "k400")
_OFFICIAL = {"train": ("train",), "val": ("val", "validate", "validation"), "test": ("test",)}
_PREFIXES = ("kinetics-400_", "kinetics_400_", "kinetics400_", "kinetics_", "k400_", "")
_CLIP = re.compile(r"(?P<id>.{11})_(?P<start>\d{1,6})(?:_\d{1,6})?")  # of both file-name forms
_WHAT = "Kinetics-400"


class _Rows(NamedTuple):
    """What an official csv lists."""

    ids: list[str]
    starts: list[int]
    ends: list[int]
    names: list[str]  # of classes; "" where a test split does not tell
    lines: list[int]


def read_k400(data_dir: Path | None, split: str, files: Mapping[str, Path]) -> VideoIndex:
    """Reads Kinetics-400.

    Accepted layout:

    - annotations: `kinetics-400_{train,val,test}.csv`, `kinetics_{train,val,test}.csv`, `{train,val,test}.csv` (the
      second also as `validate` or `validation`) with a header `label,youtube_id,time_start,time_end,split`, `is_cc`
      after it or not, labels quoted or not, no label in a test split; in the folder itself, in `annotations/`,
      `labels/`, `lists/` or `kinetics400/`. Or lists `path label` of any name that the `list` data set accepts.
    - videos of an official csv: `<youtube_id>_<start>_<end>.mp4` with six digits, or `<youtube_id>_<start>.mp4`, or
      frame folders of such names; in any folder, as `train/<class>/` or `val/` are. A clip that
      lies in a folder whose name has "replacement" in it takes the place of its damaged namesake. Clips that are not
      there stay in the index and are reported when they are read, so that accuracies say "n of N videos".

    Without training annotations, the validation annotations name the classes, so that a model can be tested on them.
    Labels follow the sorted class names, also where a list numbers them otherwise; folders of a list that write them
    with underscores are taken for the classes of the csv.

    Args:
        data_dir: Folder of the data set.
        split: "train", "val" or "test".
        files: Annotation files of splits that lie elsewhere.

    Raises:
        ValueError: Malformed annotations, or lists without names for the classes.
        FileNotFoundError: Annotations, or all videos, are missing.
    """
    root = data_folder(data_dir, files, _WHAT)
    path = _annotation(root, split, files)
    if not _is_official(path):
        return _read_path_list(root, path, split, files)
    rows = _read_csv(path, labelled=split != "test")
    train_path = _names_path(root, path, split, files)
    if not _is_official(train_path):
        raise ValueError(f"{path} has a csv header, but {train_path} is a list of paths; use one form for both")
    train = rows if train_path == path else _read_csv(train_path, labelled=True)
    class_names = tuple(sorted(set(train.names)))
    paths, images, missing = _find_clips(root, rows)
    notes = [f"{missing} of {len(rows.ids)} {split} videos of {path.name} are missing"] if missing else []
    if split != "train" and train_path == path:
        notes.append(note_of_names(path))
    return VideoIndex(
        paths=paths,
        labels=_labels(path, rows, class_names, train_path),
        class_names=class_names,
        root=root,
        images=images,
        notes=tuple(notes),
    )


def _names_path(root: Path, path: Path, split: str, files: Mapping[str, Path]) -> Path:
    """The csv that names the classes: the training csv, or the validation csv if there is no other."""
    try:
        return path if split == "train" else _annotation(root, "train", files)
    except NoAnnotationsError:
        if split == "test":
            raise
        return path


def _annotation(root: Path, split: str, files: Mapping[str, Path]) -> Path:
    """The csv, or else the list, of a split."""
    names = [f"{prefix}{part}.csv" for prefix in _PREFIXES for part in _OFFICIAL[split]]
    if split not in files and (found := find_file(root, _FOLDERS, names)):
        return found
    return find_list(root, split, files, _FOLDERS, f"{_WHAT} ({', '.join(names[:1])}, {_PREFIXES[3]}{split}.csv)")


def _is_official(path: Path) -> bool:
    """Whether a file begins with the header of the official csv."""
    with path.open(encoding=text_encoding(path), errors="replace") as file:
        return "youtube_id" in file.readline()


def _read_csv(path: Path, labelled: bool) -> _Rows:
    """The rows of an official csv."""
    rows, errors = _Rows([], [], [], [], []), ParseErrors(path)
    header, *lines = read_text(path).split("\n")
    columns = [name.strip().strip('"') for name in header.split(",")]
    lacking = {"youtube_id", "time_start", "time_end", *(("label",) if labelled else ())} - set(columns)
    if lacking:
        errors.add(1, f"the header lacks {', '.join(sorted(lacking))}")
        errors.raise_if_any()
    for number, line in enumerate(lines, 2):
        if not line.strip():
            continue
        try:
            reason = _take(rows, dict(zip(columns, _fields(line), strict=False)), number, labelled)
        except csv.Error as error:
            reason = f"{line[:80]!r}: {error}; are its quotation marks in pairs?"
        if reason:
            errors.add(number, reason)
    errors.raise_if_any()
    if not rows.ids:
        raise ValueError(f"{path} lists no videos; download it again")
    return rows


def _fields(line: str) -> list[str]:
    """Fields of a line, which ends there, so that a lost quotation mark does not swallow the lines after it."""
    return next(csv.reader([line.rstrip("\r")], skipinitialspace=True, strict=True))


def _take(rows: _Rows, row: Mapping[str, str | None], line: int, labelled: bool) -> str:
    """Adds a row; returns what is wrong with it, or nothing."""
    video, name = row.get("youtube_id") or "", plain_name((row.get("label") or "").strip().strip('"'))
    if len(video) != 11:
        return f"{video!r} is not a YouTube id of 11 characters"
    try:
        start, end = (round(float(row.get(key) or "")) for key in ("time_start", "time_end"))
    except (ValueError, OverflowError):
        return f"times {row.get('time_start')!r} and {row.get('time_end')!r} are not numbers"
    if labelled and not name:
        return f"video {video} has no label"
    rows.ids.append(video)
    rows.starts.append(start)
    rows.ends.append(end)
    rows.names.append(name)
    rows.lines.append(line)
    return ""


def _labels(
    path: Path, rows: _Rows, class_names: Sequence[str], named_in: Path
) -> np.ndarray[tuple[int], np.dtype[np.int64]]:
    """Labels by name, -1 without one."""
    label_of, errors = {name: label for label, name in enumerate(class_names)} | {"": -1}, ParseErrors(path)
    for name, line in zip(rows.names, rows.lines, strict=True):
        if name not in label_of:
            errors.add(line, unknown_name(name, class_names, named_in))
    errors.raise_if_any()
    return np.array([label_of[name] for name in rows.names], dtype=np.int64)


def _find_clips(root: Path, rows: _Rows) -> tuple[PathTable, ImageNames | None, int]:
    """Paths of the clips, how their images are named if they are frame folders, and how many are not there."""
    found: dict[str, str] = {}
    for path, key in _clips(root):
        if key not in found or "replacement" in path:
            found[key] = path
    keys = [f"{video}_{start}" for video, start in zip(rows.ids, rows.starts, strict=True)]
    present = next((found[key] for key in keys if key in found), None)
    official = [f"{video}_{start:06d}_{end:06d}.mp4" for video, start, end in zip(*rows[:3], strict=True)]
    if present is None:
        seen = first_names([path for path, _ in zip(found.values(), range(3), strict=False)]) or "no clip at all"
        raise FileNotFoundError(
            f"not one of the {len(keys)} videos of {_WHAT} is in {root} and its folders; looked for "
            f"{official[0]}, {keys[0]}.mp4 and so on, also as frame folders; found: {seen}"
        )
    folder = f"{present.rpartition('/')[0]}/" if "/" in present else ""  # only for naming what is missing
    paths = (found.get(key) or f"{folder}{name}" for key, name in zip(keys, official, strict=True))
    is_folder = (root / present).is_dir()
    folders = (root / found[key] for key in keys if key in found)
    images = ImageNames.found_in_most(filter(Path.is_dir, folders)) if is_folder else None
    return PathTable.from_paths(paths), images, sum(key not in found for key in keys)


def _clips(root: Path) -> Iterator[tuple[str, str]]:
    """Clips below a folder, as paths from the root and `<youtube_id>_<start>` without leading zeros."""
    for path in walk_videos(root, is_video_folder=lambda name: _CLIP.fullmatch(name) is not None).paths:
        name = path.rpartition("/")[2]
        match = _CLIP.fullmatch(name) or _CLIP.fullmatch(name.rpartition(".")[0])
        if match:
            yield path, f"{match['id']}_{int(match['start'])}"


def _read_path_list(root: Path, path: Path, split: str, files: Mapping[str, Path]) -> VideoIndex:
    """A list `path label`, its labels renumbered in the order of the sorted class names."""
    rows = parse_list(path, labelled=split != "test")
    listed = named_by_file(root, path, LIST_FOLDERS)
    notes = [*rows.notes]
    if listed is not None:
        names: list[str] | None = listed.names
        notes += count_from_0(rows, listed)
    else:
        train = rows if split == "train" else training_rows(root, split, files, _FOLDERS, _WHAT, rows)
        names = names_by_folder(train.paths, train.labels)
        notes += [note_of_names(path)] if split != "train" and train is rows else []
    if names is None:
        raise ValueError(
            f"{path} numbers the classes of {_WHAT}, and nothing names them: the videos do not lie in a folder for "
            f"each class, and there is no classes.txt with a name a line; add one (lists of {_WHAT} come in several "
            "orders)"
        )
    check_labels(rows, len(names))
    if rows.more_labels:
        raise ValueError(f"{path} has videos of several classes, but in {_WHAT} each video has one; use --dataset list")
    names = [name.replace("_", " ") for name in names]  # folders often have underscores; the csv's classes have none
    order = sorted(names)
    canonical = np.array([*(order.index(name) for name in names), -1], dtype=np.int64)  # the last one is for label -1
    labels = canonical[np.array(rows.labels, dtype=np.int64)]
    return index_of_list(root, rows, tuple(order), labels, split, named=True, notes=tuple(notes))
