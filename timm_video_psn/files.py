"""Files and folders that appear whole or not at all, CSV cells, checksums, and lists of names for messages."""

import csv
import glob
import hashlib
import io
import os
import shutil
import time
import uuid
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

_ABANDONED_SEC = 3600  # a draft that nobody has touched for so long will not be finished
_FORMULA = ("=", "+", "-", "@", "\t", "\r")


@contextmanager
def atomic_path(path: Path) -> Iterator[Path]:
    """Gives a temporary name beside `path`; the file takes its place when the block ends without an error.

    Args:
        path: The file to write.

    Raises:
        OSError: The file could not be written; the message names it, and an older file of that name is untouched.
    """
    temporary = path.with_name(f".{path.name}.{os.getpid()}.tmp")
    try:
        yield temporary
        with temporary.open("rb+") as file:
            os.fsync(file.fileno())
        temporary.replace(path)
    except OSError as error:
        raise OSError(f"could not write {path}: {error}; what was there before is untouched") from error
    finally:
        temporary.unlink(missing_ok=True)


@contextmanager
def atomic_folder(path: Path) -> Iterator[Path]:
    """Gives a new folder beside `path`, which takes that name when the block ends without an error.

    Drafts that processes left behind which were killed more than an hour ago are removed.

    Args:
        path: Folder to make; its parents are made, too.

    Raises:
        OSError: The folder could not be made, or another process has made it meanwhile.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    for abandoned in path.parent.glob(f".{glob.escape(path.name)}.*.tmp"):
        with suppress(OSError):  # another process may remove it, too
            if time.time() - abandoned.stat().st_mtime > _ABANDONED_SEC:
                shutil.rmtree(abandoned, ignore_errors=True)
    temporary = path.with_name(f".{path.name}.{uuid.uuid4().hex[:8]}.tmp")
    temporary.mkdir()
    try:
        yield temporary
        temporary.replace(path)
    finally:
        shutil.rmtree(temporary, ignore_errors=True)


def remove_leftovers(folder: Path) -> None:
    """Removes the temporary files that a killed process left in a folder which only this process writes now.

    Args:
        folder: Folder with files of `atomic_path`; it may be absent.
    """
    for leftover in folder.glob(".*.tmp"):
        leftover.unlink()


def write_text(path: Path, text: str) -> None:
    """Writes a UTF-8 text file, whole or not at all.

    Args:
        path: The file.
        text: Content; bytes of file names that are not UTF-8 (surrogate escapes) are written unchanged.
    """
    write_bytes(path, text.encode("utf-8", "surrogateescape"))


def write_bytes(path: Path, content: bytes) -> None:
    """Writes a file, whole or not at all.

    Args:
        path: The file.
        content: Content of the file.
    """
    with atomic_path(path) as temporary:
        temporary.write_bytes(content)


def write_csv(path: Path, header: Sequence[str], rows: Iterable[Sequence[Any]]) -> None:
    """Writes a CSV file, whole or not at all, with cells as `csv_cell` makes them.

    Args:
        path: File to write.
        header: Names of the columns.
        rows: Cells, one a column.
    """
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    writer.writerow(map(csv_cell, header))
    writer.writerows(map(csv_cell, row) for row in rows)
    write_text(path, text.getvalue())


def csv_cell(value: Any) -> Any:
    """Returns a value for a CSV file; text that a spreadsheet would run as a formula gets an apostrophe before it.

    Class names and paths come from strangers' files, and `=HYPERLINK(...)` is not to be a link in somebody's results.
    Carriage returns, which Python's csv would leave unquoted, are escaped.

    Args:
        value: Content of a cell.
    """
    if not isinstance(value, str) or not value.startswith(_FORMULA) or _is_number(value):
        return value.replace("\r", "\\r") if isinstance(value, str) else value
    return "'" + value.replace("\r", "\\r")


def _is_number(text: str) -> bool:
    try:
        float(text)
    except ValueError:
        return False
    return True


def file_sha256(path: Path) -> str:
    """Returns the sha256 of a file, as `sha256sum` prints it.

    Args:
        path: The file.
    """
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest() if hasattr(hashlib, "file_digest") else _sha256(file)


def _sha256(file: Any) -> str:
    """For Python 3.10, whose hashlib cannot read files."""
    digest = hashlib.sha256()
    while block := file.read(1 << 20):
        digest.update(block)
    return digest.hexdigest()


def first_names(names: Iterable[object], most: int = 20) -> str:
    """Joins names for a message: the first few, and how many more there are.

    Args:
        names: All names.
        most: Number of names to write out.
    """
    known = [str(name) for name in names]
    more = f" and {len(known) - most} more" if len(known) > most else ""
    return ", ".join(known[:most]) + more
