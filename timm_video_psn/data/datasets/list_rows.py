"""The lines of list files and tables: paths and numbers, with or without a header, quotation marks or a tab."""

from __future__ import annotations

import csv
import re
from array import array
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path

from timm_video_psn.data.datasets.index import PathTable
from timm_video_psn.data.datasets.locate import is_video_file
from timm_video_psn.data.datasets.parsing import ParseErrors, text_encoding

_LINE = re.compile(r"(?P<path>.+?)(?P<numbers>(?:[ \t,]+-?\d+)*)(?P<more>(?:[;|][ \t]*\d+)*)[ \t]*$")
_SEVERAL = re.compile(r"[ \t,]\d+([;|][ \t]*\d+)+[ \t]*$")  # at the end of a line: labels of one video
_FORMS = {0: "path", 1: "path label", 2: "path frames label", 3: "path first_frame frames label"}  # by their numbers
_MOST = 2**31 - 1
_DELIMITERS = ",;\t"
# What the columns of a table are called, the first name that is there before the others.
_PATH = (
    *("path", "file", "filename", "file_name", "filepath", "file_path", "video", "video_path", "video_file"),
    *("video_name", "clip", "clip_path", "clip_name", "name"),
)
_LABEL = ("label_id", "label_idx", "class_id", "class_idx", "class_index", "label", "labels", "class", "target")
_FRAMES = ("frames", "num_frames", "n_frames", "frame_count", "total_frames")
_FIRST = ("first_frame", "start_frame", "offset")

Parsed = tuple[str, list[int], list[int]]  # path, the numbers after it in the order of `_FORMS`, further labels


@dataclass
class Rows:
    """What a list file holds, as columns."""

    path: Path
    paths: PathTable = field(default_factory=lambda: PathTable.from_paths(()))
    labels: array[int] = field(default_factory=lambda: array("q"))
    lengths: array[int] = field(default_factory=lambda: array("i"))
    first_frames: array[int] = field(default_factory=lambda: array("i"))
    lines: array[int] = field(default_factory=lambda: array("i"))
    more_labels: dict[int, list[int]] = field(default_factory=dict)  # by row, for videos with several
    are_files: bool = True  # else frame folders
    form: str = "path"  # of all lines
    notes: list[str] = field(default_factory=list)


def parse_list(path: Path, labelled: bool) -> Rows:
    """Returns the columns of a list file or table.

    Args:
        path: List file.
        labelled: Whether a video without a label is an error.

    Raises:
        ValueError: Malformed lines, by number.
    """
    rows, errors = Rows(path), ParseErrors(path)
    with path.open(encoding=text_encoding(path), errors="surrogateescape", newline=None) as file:
        lines = ((number, line.rstrip("\n")) for number, line in enumerate(file, 1) if not line.isspace())
        try:
            rows.paths = PathTable.from_paths(_parse_lines(rows, errors, lines, labelled))
        except UnicodeDecodeError as error:
            raise ValueError(f"{path} is damaged: it begins as UTF-16, but is not ({error.reason})") from error
    errors.raise_if_any()
    if not len(rows.paths):
        raise ValueError(f"{path} lists no videos; expected a line `path label` for each")
    return rows


def _parse_lines(rows: Rows, errors: ParseErrors, lines: Iterator[tuple[int, str]], labelled: bool) -> Iterator[str]:
    """The paths one by one, while the numbers go into the columns."""
    first = next(lines, None)
    if first is None:
        return
    table = _Table.begun_by(first[1])
    split = _PlainLines(first[1]) if table is None else table
    if table is not None and table.has_header:
        rows.notes += table.notes
    else:
        yield from _take(rows, errors, *first, split, labelled)
    for number, line in lines:
        yield from _take(rows, errors, number, line, split, labelled)


def _take(
    rows: Rows, errors: ParseErrors, number: int, line: str, split: _PlainLines | _Table, labelled: bool
) -> Iterator[str]:
    """Takes a line into the columns; gives its path."""
    try:
        path, numbers, more = split(line)
    except ValueError as error:
        errors.add(number, str(error))
        return
    is_file, form = is_video_file(path), _FORMS.get(len(numbers))
    if not rows.lines:
        rows.are_files, rows.form = is_file, form or ""
    if form is None or (labelled and not numbers):
        errors.add(number, _misfit(line, is_file, numbers, is_first=not rows.lines))
    elif form != rows.form or is_file != rows.are_files:
        kind = "files" if rows.are_files else "frame folders"
        errors.add(number, f"{line.strip()[:80]!r} is not `{rows.form}` for {kind}, as the lines before it are")
    else:
        is_total = not labelled and len(numbers) == 1 and split.only_total(is_file)
        if reason := _append(rows, numbers, number, is_total):
            errors.add(number, reason)
        elif more:
            rows.more_labels[len(rows.labels) - 1] = more
    yield path


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


def _misfit(line: str, is_file: bool, numbers: list[int], is_first: bool) -> str:
    """What is wrong with a line that has too few or too many numbers."""
    shown = repr(line.strip()[:80])
    if not numbers:
        parts = re.split(r"[\s,;]+", line.strip())
        files = [place for place, part in enumerate(parts) if is_video_file(part)]
        if files and not is_file:
            return f"{shown}: {_no_number(' '.join(parts[files[-1] + 1 :]))}"
        hint = ", or `path,label` as the header of a table" if is_first else ""
        return f"{shown} has no label; expected `path label`{hint}"
    if is_file:
        return (
            f"{shown} has {len(numbers)} numbers after a video file; expected `path label`, or `path label;label` for "
            "several labels"
        )
    return f"{shown} has {len(numbers)} numbers; expected one of {', '.join(list(_FORMS.values())[1:])}"


def _no_number(word: str) -> str:
    return (
        f"labels are numbers; found the word {word!r}: number the classes from 0, and name them in classes.txt, a line "
        "each in that order"
    )


class _PlainLines:
    """Splits lines of a path and numbers after it, parted by blanks, tabs or commas; the path may hold blanks.

    Args:
        first: First line, whose separator the others most likely have.
    """

    def __init__(self, first: str) -> None:
        self.separator = "\t" if "\t" in first else " "
        path, numbers, _ = self._any(first)
        self.columns, self.is_file = len(numbers), is_video_file(path)

    def __call__(self, line: str) -> Parsed:
        """Path and numbers of a line; a million go the short way."""
        path, *texts = line.rsplit(self.separator, self.columns)
        is_alike = len(texts) == self.columns > 0 and is_video_file(path) == self.is_file
        if is_alike and (self.is_file or self.separator not in path):
            try:
                return path, [int(text) for text in texts], []
            except ValueError:
                pass
        return self._any(line)

    @staticmethod
    def only_total(is_file: bool) -> bool:
        """Whether the only number of a line, where labels may be missing, is the number of frames."""
        return not is_file

    @staticmethod
    def _any(line: str) -> Parsed:
        match = _LINE.match(line)
        assert match is not None
        numbers = [int(text) for text in match["numbers"].replace(",", " ").split()]
        return match["path"].strip(), numbers, [int(text) for text in _parts(match["more"]) if text]


class _Table:
    """Splits lines of a table as pandas and Excel write them: one delimiter, quoted fields, and mostly a header.

    Args:
        delimiter: Character between the fields.
        header: Names of the columns; None for a table without, whose columns are the path and its numbers.
    """

    def __init__(self, delimiter: str, header: list[str] | None) -> None:
        self.delimiter = delimiter
        self.has_header = header is not None
        self.notes: list[str] = []
        if header is None:
            return
        names = [name.strip().lower().replace(" ", "_") for name in header]
        chosen = [next((name for name in known if name in names), None) for known in (_PATH, _FIRST, _FRAMES, _LABEL)]
        if chosen[2] is None:
            chosen[1] = None  # of no use without the number of frames
        self._path, *self._numbers = (None if name is None else names.index(name) for name in chosen)
        unused = [name for name in names if name and name not in chosen]
        if unused:
            self.notes.append(f"columns of the table that are not used: {', '.join(unused)}")

    @classmethod
    def begun_by(cls, line: str) -> _Table | None:
        """The table that a first line begins; None for a plain list."""
        if _SEVERAL.search(line):
            return None
        for delimiter in _DELIMITERS:
            fields = _fields(line, delimiter)
            if fields is None or (len(fields) == 1 and delimiter != _DELIMITERS[-1]):
                continue
            names = {name.strip().lower().replace(" ", "_") for name in fields}
            if names & set(_PATH) and not any(map(_is_number, fields)):
                return cls(delimiter, fields)
            if len(fields) > 1 and ('"' in line or delimiter == ";"):
                return cls(delimiter, None)
        return None

    def only_total(self, is_file: bool) -> bool:
        """Whether the only number of a line, where labels may be missing, is the number of frames."""
        return self._numbers[2] is None if self.has_header else not is_file

    def __call__(self, line: str) -> Parsed:
        """Path and numbers of a line."""
        fields = _fields(line, self.delimiter)
        if fields is None:
            raise ValueError(f"{line.strip()[:80]!r}: its quotation marks are not in pairs")
        if not self.has_header:
            last, *more = _parts(fields[-1]) if len(fields) > 1 else [""]
            numbers = [_number(text) for text in (*fields[1:-1], *([last] if last else []))]
            return fields[0].strip(), numbers, [*map(_number, more)]
        if self._path is None or self._path >= len(fields):
            raise ValueError(f"{line.strip()[:80]!r} has no field for the path")
        cells = [fields[column].strip() for column in self._numbers if column is not None and column < len(fields)]
        further: list[str] = []
        if self._numbers[2] is not None and self._numbers[2] < len(fields):
            cells[-1], *further = _parts(cells[-1])
        return fields[self._path].strip(), [_number(text) for text in cells if text], [*map(_number, further)]


def _parts(cell: str) -> list[str]:
    """The labels of a video, parted by semicolons or bars."""
    return [part.strip() for part in re.split(r"[;|]", cell)]


def _fields(line: str, delimiter: str) -> list[str] | None:
    """Fields of a line, which ends there, so that a lost quotation mark does not swallow the lines after it."""
    try:
        return next(csv.reader([line], delimiter=delimiter, skipinitialspace=True, strict=True))
    except csv.Error:
        return None


def _is_number(text: str) -> bool:
    try:
        _number(text)
    except ValueError:
        return False
    return True


def _number(text: str) -> int:
    """A whole number, also where a table writes it as 3.0, as pandas does where another cell is empty."""
    try:
        value = float(text)
    except ValueError:
        raise ValueError(_no_number(text)) from None
    if not value.is_integer():  # nor infinite
        raise ValueError(f"{text!r} is not a whole number")
    return int(value)
