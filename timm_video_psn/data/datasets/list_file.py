"""Plain list files of videos and labels, as TSM, GSM, GST, TEA, mmaction, SlowFast and VideoMAE use them."""

from __future__ import annotations

import os
import unicodedata
from collections.abc import Callable, Iterable, Mapping, Sequence
from itertools import islice
from pathlib import Path

import numpy as np

from timm_video_psn.data.datasets.index import LabelSets, PathTable, VideoIndex
from timm_video_psn.data.datasets.labels import plain_name
from timm_video_psn.data.datasets.list_rows import Rows, parse_list
from timm_video_psn.data.datasets.locate import evenly, list_folder
from timm_video_psn.data.datasets.parsing import (
    NamesFile,
    NoAnnotationsError,
    ParseErrors,
    annotation_of,
    data_folder,
    find_file,
    note_of_names,
    read_names_file,
)
from timm_video_psn.data.video.errors import DecodeError
from timm_video_psn.data.video.frame_folder import ImageNames
from timm_video_psn.data.video.reader import VideoReader
from timm_video_psn.files import first_names

LIST_FOLDERS = ("", "annotations", "labels", "lists")
NAME_FILES = (
    *("classes.txt", "category.txt", "categories.txt", "label_map.txt", "labels.txt", "class_names.txt"),
    *("classInd.txt", "classes.csv", "labels.json", "classes.json", "classids.json", "kinetics_classnames.json"),
)
_BASES = ("", "videos", "rawframes", "frames", "img")  # folders in which the listed paths may begin
_PROBES = 9  # videos that are looked at


def list_names(split: str) -> tuple[str, ...]:
    """Names that the list of a split may have; a `*` stands for anything."""
    parts = {"train": ("train",), "val": ("val", "validation"), "test": ("test",)}[split]
    forms = ("{}.txt", "{}.csv", "{}_list.txt", "{}_videofolder.txt", "*{}_list_videos.txt", "*{}_list_rawframes.txt")
    return tuple(form.format(part) for form in forms for part in parts)


def read_list(data_dir: Path | None, split: str, files: Mapping[str, Path]) -> VideoIndex:
    """Reads list files: a video a line, its path first and its label last.

    The numbers are parted from the path and from each other by blanks, tabs or a comma; the path itself may hold
    blanks. A table of pandas or Excel is read, too: a first line such as `path,label` names the columns (`path`,
    `label`, and maybe `frames` and `first_frame`, each also under other usual names), fields may be quoted and parted
    by commas, semicolons or tabs, and the file may be UTF-16. All lines of a file have the same form, one of

    - `path.mp4 label` for video files (mmaction, SlowFast, VideoMAE);
    - `folder frames label` for frame folders (TSM, GSM, GST, TEA, mmaction);
    - `folder first_frame frames label` for parts of frame folders (mmaction's with_offset);
    - `folder label` for frame folders whose images are counted when they are read;
    - `path.mp4 frames label`, whose frames are not used, since a video file knows them itself; a list with several
      labels for each video looks the same, and is refused when the files tell another number of frames;
    - `path.mp4 first_frame frames label` for parts of video files.

    A video of several classes has their labels in the place of one, parted by semicolons or bars: `path.mp4,3;7`.

    In a test split the label may be missing, and `folder number` then gives the frames.

    Files: `train.txt` and `val.txt`, also `.csv`, `{train,val}_list.txt`, `{train,val}_videofolder.txt`,
    `*{train,val}_list_videos.txt` and `*{train,val}_list_rawframes.txt`; in the folder itself, in `annotations/`,
    `labels/` or `lists/`; or the files that `--train-list` and `--val-list` name. Paths are absolute, or begin in the
    data folder, in the folder of the list, or in a folder of the data folder such as `videos/` or `rawframes/`.

    How images are named is read off the first frame folders that are there. Class names come from a file with a name a
    line, with its number before it or without (`classes.txt`, `category.txt`, `label_map.txt`, ...; or JSON
    `{name: label}`), beside the list or in the data folder; else from the folders of the videos, if each label has one
    folder of its own; else classes are numbers, and are never mirrored, because nothing tells which of them speak of
    left and right. The training list tells the classes; where there is none, a validation list tells its own, to test
    a model on it alone.

    Args:
        data_dir: Folder of the data set.
        split: "train", "val" or "test".
        files: List files of splits that lie elsewhere.

    Raises:
        ValueError: Malformed lines, or labels beyond the classes.
        FileNotFoundError: The list, or every video of it, is missing.
    """
    what = "the list data set"
    root = data_folder(data_dir, files, what)
    path = find_list(root, split, files, LIST_FOLDERS, what)
    listed = named_by_file(root, path, LIST_FOLDERS)
    rows = parse_list(path, labelled=split != "test")
    notes = [*rows.notes]
    if listed is not None:
        names: list[str] | None = listed.names
        notes += count_from_0(rows, listed)
    else:
        # Validation may lack classes, so that the training list says what there is, wherever there is one.
        train = rows if split == "train" else training_rows(root, split, files, LIST_FOLDERS, what, rows)
        names = None if train.more_labels else names_by_folder(train.paths, train.labels)
        count = (
            max((label for labels in (train.labels, *train.more_labels.values()) for label in labels), default=-1) + 1
        )
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
        FileNotFoundError: There is none.
        ValueError: There are several of the same form.
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
        root: Folder of the data set.
        split: Split that is read, "val" or "test".
        files: List files that lie elsewhere.
        folders: Folders in which lists may lie.
        what: Name of the data set, for messages.
        rows: Parsed lines of the split.
    """
    try:
        return parse_list(find_list(root, "train", files, folders, what), labelled=True)
    except NoAnnotationsError:
        if split == "test":
            raise
        return rows


def count_from_0(rows: Rows, listed: NamesFile) -> list[str]:
    """Takes 1 from the labels where the file of class names counts from 1 and no label is 0; returns a note of it.

    Args:
        rows: Lines of the list.
        listed: Class names and the number of the first.
    """
    all_labels = (label for labels in (rows.labels, *rows.more_labels.values()) for label in labels)
    if listed.first != 1 or min((label for label in all_labels if label >= 0), default=0) < 1:
        return []
    for place, label in enumerate(rows.labels):
        rows.labels[place] = label - (label > 0)
    for place, more in rows.more_labels.items():
        rows.more_labels[place] = [label - 1 for label in more]
    return [f"the labels of {rows.path.name} are counted from 1, as the class names are: 1 is {listed.names[0]!r}"]


def check_labels(rows: Rows, num_classes: int) -> None:
    """Raises for labels beyond the classes, by line."""
    errors = ParseErrors(rows.path)
    further = ((label, rows.lines[row]) for row, more in rows.more_labels.items() for label in more)
    for label, line in (*zip(rows.labels, rows.lines, strict=True), *further):
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
    sets = None
    if rows.more_labels:
        sets = LabelSets.from_sets(
            [label, *rows.more_labels.get(row, ())] if label >= 0 else () for row, label in enumerate(labels.tolist())
        )
        labels = sets.smallest()
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
        label_sets=sets,
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
            "not fit either; accepted are `path label`, `path frames label`, and for several labels `path label;label`"
        )


def _locate(root: Path, rows: Rows, split: str) -> tuple[Path, list[str]]:
    """The folder in which the paths begin, and some of those that are there.

    Paths that were written on another system, with backslashes or in another Unicode form, are taken as they are here.
    """
    inner = dict.fromkeys([*_BASES, f"videos_{split}", f"rawframes_{split}", split, *list_folder(root)[0]])
    bases = [root, rows.path.parent, *(root / name for name in inner)]
    bases = [base for base in dict.fromkeys(bases) if base.is_dir()]
    probes, best = evenly(rows.paths), _PATH_FORMS[0]
    forms = [form for form in _PATH_FORMS if form is best or [*map(form, probes)] != probes]
    for paths in (probes, rows.paths):  # all of them only where none of some is there
        for base in bases:
            if paths is probes:
                best = max(forms, key=lambda form: sum(_exists(base, form(path), rows.are_files) for path in probes))
            there = (path for path in map(best, paths) if _exists(base, path, rows.are_files))
            if present := [*islice(there, _PROBES)]:
                if best is not _PATH_FORMS[0]:
                    rows.paths = PathTable.from_paths(map(best, rows.paths))
                rows.are_files = rows.are_files or (base / present[0]).is_file()  # of an ending that nobody knows
                return base, present
        best = _PATH_FORMS[0]
    kind = "video files" if rows.are_files else "videos"
    raise FileNotFoundError(
        f"not one of the {len(rows.paths)} {kind} of {rows.path} is there, for example {rows.paths[0]}; looked in "
        f"{first_names([str(base) for base in bases])}; --data-dir is the folder in which the listed paths begin"
    )


def _exists(base: Path, path: str, is_file: bool) -> bool:
    place = os.path.join(base, path)  # noqa: PTH118  # a Path each is slow
    return os.path.isfile(place) if is_file else os.path.exists(place)  # noqa: PTH110, PTH113


def _with_slashes(path: str) -> str:
    return path.replace("\\", "/")


_PATH_FORMS: tuple[Callable[[str], str], ...] = (
    lambda path: path,
    _with_slashes,
    lambda path: unicodedata.normalize("NFC", _with_slashes(path)),
    lambda path: unicodedata.normalize("NFD", _with_slashes(path)),
)


def named_by_file(root: Path, path: Path, folders: Sequence[str]) -> NamesFile | None:
    """Class names from a file beside the list or in the data folder, if there is one.

    Args:
        root: The data folder.
        path: Path of the list.
        folders: Folders to search in, below the data folder.
    """
    found = find_file(path.parent, ("",), NAME_FILES) or find_file(root, folders, NAME_FILES)
    return read_names_file(found) if found else None


def names_by_folder(paths: Iterable[str], labels: Iterable[int]) -> list[str] | None:
    """Class names from the folders of the videos, if each label has a folder of its own, and each folder a label.

    Args:
        paths: Paths of the videos.
        labels: Labels of the videos.
    """
    folder_of: dict[int, str] = {}
    for path, label in zip(map(_with_slashes, paths), labels, strict=True):
        folder = path.rpartition("/")[0].rpartition("/")[2]
        if not folder or folder_of.setdefault(label, folder) != folder:
            return None
    names = [plain_name(folder_of.get(label, "")) for label in range(max(folder_of, default=-1) + 1)]
    return names if len(set(names)) == len(names) > 1 and all(names) else None
