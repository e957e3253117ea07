"""Plain list files of videos and labels, as TSM, GSM, GST, TEA, mmaction, SlowFast and VideoMAE use them."""

from __future__ import annotations

import os
import re
from array import array
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from itertools import islice
from pathlib import Path

import numpy as np

from timm_video_psn.data.datasets.index import PathTable, VideoIndex
from timm_video_psn.data.datasets.list_names import NAME_FILES, named_by_file, names_by_folder
from timm_video_psn.data.datasets.locate import evenly, list_folder
from timm_video_psn.data.datasets.parsing import (
    NoAnnotationsError,
    ParseErrors,
    annotation_of,
    data_folder,
    find_file,
    note_of_names,
)
from timm_video_psn.data.video.errors import DecodeError
from timm_video_psn.data.video.frame_folder import ImageNames
from timm_video_psn.data.video.reader import VIDEO_EXTENSIONS, VideoReader
from timm_video_psn.files import first_names

LIST_FOLDERS = ("", "annotations", "labels", "lists")
_LINE = re.compile(r"(?P<path>.+?)(?P<numbers>(?:[ \t,]+-?\d+)*)[ \t]*$")
_BASES = ("", "videos", "rawframes", "frames", "img")  # folders in which the listed paths may begin
_COLUMNS = {  # numbers after the path -> what they are, for files and for frame folders
    True: {0: "path", 1: "path label", 2: "path frames label", 3: "path first_frame frames label"},
    False: {0: "path", 1: "path label", 2: "path frames label", 3: "path first_frame frames label"},
}
_MOST = 2**31 - 1
_PROBES = 9  # videos that are looked at


@dataclass
class Rows:
    """What a list file holds, as columns."""

    path: Path
    paths: PathTable = field(default_factory=lambda: PathTable.from_paths(()))
    labels: array[int] = field(default_factory=lambda: array("q"))
    lengths: array[int] = field(default_factory=lambda: array("i"))
    first_frames: array[int] = field(default_factory=lambda: array("i"))
    lines: array[int] = field(default_factory=lambda: array("i"))
    are_files: bool = True  # else frame folders
    form: str = "path"  # of all lines


def list_names(split: str) -> tuple[str, ...]:
    """Names that the list of a split may have; a `*` stands for anything."""
    parts = {"train": ("train",), "val": ("val", "validation"), "test": ("test",)}[split]
    forms = ("{}.txt", "{}.csv", "{}_list.txt", "{}_videofolder.txt", "*{}_list_videos.txt", "*{}_list_rawframes.txt")
    return tuple(form.format(part) for form in forms for part in parts)


def read_list(data_dir: Path | None, split: str, files: Mapping[str, Path]) -> VideoIndex:
    """Reads list files: a video a line, its path first and its label last.

    The numbers are parted from the path and from each other by blanks, tabs or a comma; the path itself may hold
    blanks. All lines of a file have the same form, one of

    - `path.mp4 label` for video files (mmaction, SlowFast, VideoMAE);
    - `folder frames label` for frame folders (TSM, GSM, GST, TEA, mmaction);
    - `folder first_frame frames label` for parts of frame folders (mmaction's with_offset);
    - `folder label` for frame folders whose images are counted when they are read;
    - `path.mp4 frames label`, whose frames are not used, since a video file knows them itself; a list with several
      labels for each video looks the same, and is refused when the files tell another number of frames;
    - `path.mp4 first_frame frames label` for parts of video files.

    In a test split the label may be missing, and `folder number` then gives the frames.

    Files: `train.txt` and `val.txt`, also `.csv`, `{train,val}_list.txt`, `{train,val}_videofolder.txt`,
    `*{train,val}_list_videos.txt` and `*{train,val}_list_rawframes.txt`; in the folder itself, in `annotations/`,
    `labels/` or `lists/`; or the files that `--train-list` and `--val-list` name. Paths are absolute, or begin in the
    data folder, in the folder of the list, or in a folder of the data folder such as `videos/` or `rawframes/`.

    How images are named is read off the first frame folders that are there. Class names come from a file with a name a
    line (`classes.txt`, `category.txt`, `label_map.txt`, ...; or JSON `{name: label}`) beside the list or in the data
    folder; else from the folders of the videos, if each label has one folder of its own; else classes are numbers, and
    are never mirrored, because nothing tells which of them speak of left and right. The training list tells the
    classes; where there is none, a validation list tells its own, to test a model on it alone.

    Args:
        data_dir: folder of the data set.
        split: "train", "val" or "test".
        files: list files of splits that lie elsewhere.

    Raises:
        ValueError: malformed lines, or labels beyond the classes.
        FileNotFoundError: the list, or every video of it, is missing.
    """
    what = "the list data set"
    root = data_folder(data_dir, files, what)
    path = find_list(root, split, files, LIST_FOLDERS, what)
    names = named_by_file(root, path, LIST_FOLDERS)
    rows = parse_list(path, labelled=split != "test")
    notes = []
    if names is None:
        # Validation may lack classes, so that the training list says what there is, wherever there is one.
        train = rows if split == "train" else training_rows(root, split, files, LIST_FOLDERS, what, rows)
        names = names_by_folder(train.paths, train.labels)
        count = max(train.labels, default=-1) + 1
        notes += [note_of_names(path)] if split != "train" and train is rows else []
    named = names is not None
    class_names = tuple(names or (str(label).zfill(len(str(count - 1))) for label in range(count)))
    check_labels(rows, len(class_names))
    if not named:
        notes.append(
            f"the classes have no names (looked for {NAME_FILES[0]} and similar files): clips are not mirrored, "
            "because left and right classes could not be swapped"
        )
    if split != "test" and min(rows.labels) > 0:
        notes.append(f"the smallest label in {path.name} is {min(rows.labels)}, but labels are assumed to start at 0")
    labels = np.array(rows.labels, dtype=np.int64)
    return index_of_list(root, rows, class_names, labels, split, named, tuple(notes))


def find_list(root: Path, split: str, files: Mapping[str, Path], folders: Sequence[str], what: str) -> Path:
    """The list file of a split.

    Raises:
        FileNotFoundError: there is none.
        ValueError: there are several of the same form.
    """
    names = list_names(split)
    if split not in files:
        for name in names:
            prefix, star, suffix = name.rpartition("*")
            for folder in (root / folder for folder in folders if star and (root / folder).is_dir()):
                matches = [file for file in list_folder(folder)[1] if file.startswith(prefix) and file.endswith(suffix)]
                if len(matches) > 1:
                    raise ValueError(
                        f"{folder} has several lists of the split {split!r}: {first_names(matches)}; "
                        f"name one with --{split}-list"
                    )
                if matches:
                    return folder / matches[0]
            if not star and (found := find_file(root, folders, (name,))):
                return found
    return annotation_of(split, files, root, folders, names, what)


def training_rows(
    root: Path, split: str, files: Mapping[str, Path], folders: Sequence[str], what: str, rows: Rows
) -> Rows:
    """The training list, which tells the classes; where there is none, a validation list has to tell its own.

    Args:
        root: folder of the data set.
        split: split that is read, "val" or "test".
        files: list files that lie elsewhere.
        folders: folders in which lists may lie.
        what: name of the data set, for messages.
        rows: parsed lines of the split.
    """
    try:
        return parse_list(find_list(root, "train", files, folders, what), labelled=True)
    except NoAnnotationsError:
        if split == "test":
            raise
        return rows


def parse_list(path: Path, labelled: bool) -> Rows:
    """Columns of a list file.

    Args:
        path: the file.
        labelled: whether a video without a label is malformed.

    Raises:
        ValueError: malformed lines, by number.
    """
    rows, errors = Rows(path), ParseErrors(path)
    rows.paths = PathTable.from_paths(_parse_lines(rows, errors, labelled))
    errors.raise_if_any()
    if not len(rows.paths):
        raise ValueError(f"{path} lists no videos; expected a line `path label` for each")
    return rows


def _parse_lines(rows: Rows, errors: ParseErrors, labelled: bool) -> Iterator[str]:
    """The paths one by one, while the numbers go into the columns."""
    form: str | None = None
    separator, columns = " ", 0  # of the first line
    with rows.path.open(encoding="utf-8-sig", errors="surrogateescape") as file:
        for number, line in enumerate(file, 1):
            parsed = _split_like(line, separator, columns, rows.are_files) if columns else None
            if parsed is None:
                if line.isspace():
                    continue
                parsed = _split(line)
            path, is_file, numbers = parsed
            this = _COLUMNS[is_file].get(len(numbers))
            if form is None:
                form, rows.are_files, rows.form = this, is_file, this or ""
                separator, columns = "\t" if "\t" in line else " ", len(numbers)
            if this is None or (labelled and not numbers):
                errors.add(number, _misfit(line, is_file, numbers))
            elif this != form or is_file != rows.are_files:
                kind = "files" if rows.are_files else "frame folders"
                errors.add(number, f"{line.strip()[:80]!r} is not `{form}` for {kind}, as the lines before it are")
            else:
                reason = _append(rows, numbers, number, is_total=not labelled and not is_file and len(numbers) == 1)
                if reason:
                    errors.add(number, reason)
                yield path


def _split_like(line: str, separator: str, columns: int, is_file: bool) -> tuple[str, bool, list[int]] | None:
    """Path and numbers of a line of the form of those before it; None where that is not plain to see.

    A million lines go this way, so it is the fast one.
    """
    path, *texts = line.rsplit(separator, columns)
    if len(texts) != columns or _is_file(path) != is_file or (separator in path and not is_file):
        return None
    try:
        return path, is_file, [int(text) for text in texts]
    except ValueError:
        return None


def _split(line: str) -> tuple[str, bool, list[int]]:
    """Path, whether it is a video file, and the numbers after it, of any line that is not blank."""
    match = _LINE.match(line)
    assert match is not None
    path = match["path"].strip()
    return path, _is_file(path), [int(text) for text in match["numbers"].replace(",", " ").split()]


def _is_file(path: str) -> bool:
    return path[path.rfind(".") :].lower() in VIDEO_EXTENSIONS


def _append(rows: Rows, numbers: list[int], line: int, is_total: bool) -> str:
    """Takes the numbers of a line into the columns; returns what is wrong with them, or nothing."""
    first, length, label = 0, 0, -1
    if is_total:
        length = numbers[0]
    elif numbers:
        *before, label = numbers
        first, length = (0, 0, *before)[-2:]
    if len(numbers) > 1 and length < 1:
        return f"{length} frames leave nothing to look at"
    if numbers and not is_total and label < 0:
        return f"label {label} is negative"
    if first < 0 or max(numbers, default=0) > _MOST:
        return f"numbers {numbers} are out of range"
    rows.labels.append(label)
    rows.lengths.append(length)
    rows.first_frames.append(first)
    rows.lines.append(line)
    return ""


def _misfit(line: str, is_file: bool, numbers: list[int]) -> str:
    shown = repr(line.strip()[:80])
    if not numbers:
        return f"{shown} has no label; expected `path label`"
    if is_file:
        return f"{shown} has {len(numbers)} numbers after a video file: several labels? expected `path label`"
    return f"{shown} has {len(numbers)} numbers; expected one of {', '.join(list(_COLUMNS[False].values())[1:])}"


def check_labels(rows: Rows, num_classes: int) -> None:
    """Raises for labels beyond the classes, by line."""
    if max(rows.labels, default=-1) < num_classes:
        return
    errors = ParseErrors(rows.path)
    for label, line in zip(rows.labels, rows.lines, strict=True):
        if label >= num_classes:
            errors.add(line, f"label {label}, but labels are 0 to {num_classes - 1}: there are {num_classes} classes")
    errors.raise_if_any()


def index_of_list(
    root: Path,
    rows: Rows,
    class_names: tuple[str, ...],
    labels: np.ndarray[tuple[int], np.dtype[np.int64]],
    split: str,
    named: bool,
    notes: tuple[str, ...],
) -> VideoIndex:
    """The index of a parsed list, once it is known where the videos lie."""
    base, present = _locate(root, rows, split)
    images = None if rows.are_files else ImageNames.found_in_most(base / path for path in present)
    stated, skipped = any(rows.lengths), any(rows.first_frames)
    if rows.are_files and "first_frame" not in rows.form and stated:
        _check_stated_frames(base, rows)
        stated = False
    if not rows.are_files and images is None and (stated or skipped):
        raise ValueError(f"{base / present[0]} holds no numbered images, but {rows.path} counts frames; see --data-dir")
    return VideoIndex(
        paths=rows.paths,
        labels=labels,
        class_names=class_names,
        root=base,
        images=images,
        lengths=np.array(rows.lengths, dtype=np.int32) if stated else None,
        first_frames=np.array(rows.first_frames, dtype=np.int32) if skipped else None,
        named=named,
        notes=notes,
    )


def _check_stated_frames(base: Path, rows: Rows) -> None:
    """Raises where the first of two numbers after video files is nowhere near their numbers of frames."""
    count = min(len(rows.paths), _PROBES)
    far = []
    for number in (i * len(rows.paths) // count for i in range(count)):
        try:
            with VideoReader(base / rows.paths[number]) as reader:
                found = reader.num_frames
        except DecodeError:
            continue  # missing or damaged videos are reported when they are read
        if not found / 2 <= rows.lengths[number] <= found * 2:
            far.append((rows.lines[number], rows.lengths[number], rows.paths[number], found))
    if len(far) > count / 2:
        line, stated, path, found = far[0]
        raise ValueError(
            f"{rows.path}:{line}: {stated} was taken for the frames of {path}, which has {found}, and other lines do "
            "not fit either; accepted are `path label` and `path frames label`, not several labels for a video"
        )


def _locate(root: Path, rows: Rows, split: str) -> tuple[Path, list[str]]:
    """The folder in which the paths begin, and some of those that are there."""
    inner = dict.fromkeys([*_BASES, f"videos_{split}", f"rawframes_{split}", split, *list_folder(root)[0]])
    bases = [root, rows.path.parent, *(root / name for name in inner)]
    bases = [base for base in dict.fromkeys(bases) if base.is_dir()]
    probes = evenly(rows.paths)
    for paths in (probes, rows.paths):  # all of them only where none of some is there
        for base in bases:
            present = [*islice((path for path in paths if _exists(base, path, rows.are_files)), _PROBES)]
            if present:
                return base, present
    kind = "video files" if rows.are_files else "frame folders"
    raise FileNotFoundError(
        f"not one of the {len(rows.paths)} {kind} of {rows.path} is there, for example {rows.paths[0]}; looked in "
        f"{first_names([str(base) for base in bases])}; --data-dir is the folder in which the listed paths begin"
    )


def _exists(base: Path, path: str, is_file: bool) -> bool:
    place = os.path.join(base, path)  # noqa: PTH118  # a Path each is slow
    return os.path.isfile(place) if is_file else os.path.isdir(place)  # noqa: PTH112, PTH113
