"""What all readers of annotations share: files looked for by name, JSON, and errors by line."""

from __future__ import annotations

import codecs
import difflib
import json
import re
from collections.abc import Iterable, Iterator, Mapping, Sequence
from itertools import chain, islice
from pathlib import Path
from typing import Any, NamedTuple

from timm_video_psn.data.datasets.labels import plain_name
from timm_video_psn.data.datasets.locate import AT_MOST, list_folder
from timm_video_psn.files import first_names

_NUMBERED_NAME = re.compile(r"(?P<number>\d{1,6})(?:[ \t]*[,;:\t][ \t]*|[ \t]+)(?P<name>\S.*)")


class NoAnnotationsError(FileNotFoundError):
    """A data set has no annotations, or no folder, for a split."""


class ParseErrors:
    """Gathers what is wrong in an annotation file, to say it all at once.

    Args:
        path: The file.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        self.count = 0
        self._lines: list[str] = []

    def add(self, line: int, what: str) -> None:
        """Notes an error; beyond twenty they are only counted."""
        self.count += 1
        if len(self._lines) < AT_MOST:
            self._lines.append(f"{self.path}:{line}: {what}")

    def raise_if_any(self) -> None:
        """Raises a ValueError that lists them."""
        if not self.count:
            return
        more = f"\n  and {self.count - AT_MOST} more" if self.count > AT_MOST else ""
        lines = "malformed line" if self.count == 1 else "malformed lines"
        raise ValueError(
            f"{self.count} {lines} in {self.path}:\n  " + "\n  ".join(self._lines) + more + "\nfix or remove them"
        )


def data_folder(data_dir: Path | None, files: Mapping[str, Path], what: str) -> Path:
    """The folder of the data set; without one, the folder of the first annotation file.

    Raises:
        ValueError: Neither was given.
        FileNotFoundError: There is no such folder.
    """
    if data_dir is None and files:
        data_dir = next(iter(files.values())).absolute().parent
    if data_dir is None:
        raise ValueError(f"{what} was asked for without --data-dir; name the folder of the data set")
    if not data_dir.is_dir():
        raise FileNotFoundError(f"data_dir={data_dir} is not a folder; name the folder of {what}")
    return data_dir


def find_file(root: Path, folders: Sequence[str], names: Sequence[str]) -> Path | None:
    """The first of some names that is a file in the first of some folders below `root`."""
    return next((path for folder in folders for name in names if (path := root / folder / name).is_file()), None)


def annotation_of(
    split: str, files: Mapping[str, Path], root: Path, folders: Sequence[str], names: Sequence[str], what: str
) -> Path:
    """The annotation file of a split: the one that was given, else the first of its official names that is there.

    Raises:
        NoAnnotationsError: There is none; the message lists what was looked for.
        FileNotFoundError: The file that was given is not there.
    """
    if split in files:
        if not files[split].is_file():
            raise FileNotFoundError(f"--{split}-list {files[split]}: no such file; name an annotation file of {what}")
        return files[split]
    found = find_file(root, folders, names)
    if found is None:
        places = [root, *(root / folder for folder in folders if folder and (root / folder).is_dir())]
        seen = [(place / name).relative_to(root).as_posix() for place in places for name in chain(*list_folder(place))]
        raise NoAnnotationsError(
            f"{root} has no annotations for the split {split!r} of {what}; looked for {', '.join(names)} in "
            f"{', '.join(folder or 'the folder itself' for folder in folders)}; found: {first_names(seen)}; "
            f"name it with --{split}-list, or put it there"
        )
    return found


def note_of_names(path: Path) -> str:
    """The note for a split whose own annotations had to name the classes."""
    return f"there are no training annotations: {path.name} names the classes, and it may lack some"


def text_encoding(path: Path) -> str:
    """Returns the encoding of a text file: UTF-16 where it says so at its beginning, as Excel's "Unicode text" does.

    Args:
        path: Text file.

    Raises:
        ValueError: It is neither UTF-8 nor marked as UTF-16.
    """
    with path.open("rb") as file:
        start = file.read(256)
    if start.startswith((codecs.BOM_UTF16_LE, codecs.BOM_UTF16_BE)):
        return "utf-16"
    if b"\0" in start:
        raise ValueError(f"{path} is not UTF-8 text (byte {start.index(0)} is 0); save it as UTF-8")
    return "utf-8-sig"


def read_text(path: Path) -> str:
    """Content of a text file in UTF-8, with or without a byte order mark, or in UTF-16 with one.

    Raises:
        ValueError: It is not text.
    """
    encoding = text_encoding(path)
    try:
        return path.read_text(encoding=encoding)
    except UnicodeDecodeError as error:
        name = "UTF-16" if encoding == "utf-16" else "UTF-8"
        raise ValueError(f"{path} is not {name} text (byte {error.start}); save it as UTF-8") from error


class NamesFile(NamedTuple):
    """Class names in the order of a file, and the number that it gives the first."""

    names: list[str]
    first: int = 0


def read_names(path: Path) -> list[str]:
    """Class names in label order; see `read_names_file`."""
    return read_names_file(path).names


def read_names_file(path: Path) -> NamesFile:
    """Class names in label order: a name a line, or JSON: a list of names, or an object of name: label.

    Where every line has its number before the name, from 0 or from 1 on, as in `1 Archery` or `0,"archery"`, the
    numbers are no part of the names, and a header above them is none.
    """
    text = read_text(path)
    if path.suffix.lower() != ".json":
        return _numbered([plain_name(name) for line in text.splitlines() if (name := line.strip())])
    content = parse_json(path, text)
    if isinstance(content, list) and all(isinstance(name, str) for name in content):
        return NamesFile([plain_name(name) for name in content])
    try:
        labels = {plain_name(name.strip('"')): int(label) for name, label in content.items()}
    except (AttributeError, TypeError, ValueError):
        raise ValueError(f"{path}: expected a list of names, or an object of name: label") from None
    if sorted(labels.values()) != list(range(len(labels))):
        raise ValueError(f"{path}: the labels of {len(labels)} names are not 0 to {len(labels) - 1}, each once")
    return NamesFile(sorted(labels, key=lambda name: labels[name]))


def _numbered(lines: list[str]) -> NamesFile:
    """The names of lines that all begin with a number; the lines themselves where they do not."""
    for start in (0, 1):  # with a header or without
        matches = [_NUMBERED_NAME.fullmatch(line) for line in lines[start:]]
        numbered = {int(match["number"]): match["name"].strip('"') for match in matches if match}
        first = min(numbered, default=0)
        if len(numbered) == len(matches) > 1 and first <= 1 and max(numbered) == first + len(matches) - 1:
            return NamesFile([numbered[number] for number in sorted(numbered)], first)
    return NamesFile(lines)


def parse_json(path: Path, text: str, **options: Any) -> Any:
    """Content of a JSON file; a syntax error names file and line."""
    try:
        return json.loads(text, **options)
    except json.JSONDecodeError as error:
        raise ValueError(f"{path}:{error.lineno}: no valid JSON: {error.msg} (column {error.colno})") from error


def lines_of_items(text: str) -> Iterator[int]:
    """Lines at which the items of a JSON list begin; only an error needs them, so they are sought only then."""
    decoder, position, line, counted = json.JSONDecoder(), text.index("[") + 1, 1, 0
    while True:
        while position < len(text) and text[position] in " \t\r\n,":
            position += 1
        if position >= len(text) or text[position] == "]":
            return
        line += text.count("\n", counted, position)
        counted = position
        yield line
        _, position = decoder.raw_decode(text, position)


def raise_item_errors(path: Path, text: str, wrong: Mapping[int, str]) -> None:
    """Raises for the wrong items of a JSON list, by number, with the lines at which they begin."""
    errors = ParseErrors(path)
    lines = islice(lines_of_items(text), max(wrong, default=-1) + 1)
    for number, line in enumerate(lines):
        if number in wrong:
            errors.add(line, wrong[number])
    errors.raise_if_any()


def unknown_name(name: str, known: Iterable[str], named_in: Path) -> str:
    """What an error says of a class name that is none of those that a file names."""
    near = difflib.get_close_matches(name, list(known), n=1, cutoff=0.6)
    where = f" (they are named in {named_in.name})"
    return f"class {name!r} is none of the data set's{where}" + (f"; nearest: {near[0]!r}" if near else "")
