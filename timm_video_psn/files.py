"""Files that appear whole or not at all, their checksums, and lists of names for messages."""

import csv
import hashlib
import io
import os
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any


@contextmanager
def atomic_path(path: Path) -> Iterator[Path]:
    """Gives a temporary name beside `path`; the file takes its place when the block ends without an error.

    Args:
        path: the file to write.

    Raises:
        OSError: the file could not be written; the message names it, and an older file of that name is untouched.
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


def write_text(path: Path, text: str) -> None:
    """Writes a UTF-8 text file, whole or not at all.

    Args:
        path: the file.
        text: its content; bytes of file names that are not UTF-8 (surrogate escapes) are written as they were.
    """
    write_bytes(path, text.encode("utf-8", "surrogateescape"))


def write_bytes(path: Path, content: bytes) -> None:
    """Writes a file, whole or not at all.

    Args:
        path: the file.
        content: content of the file.
    """
    with atomic_path(path) as temporary:
        temporary.write_bytes(content)


def write_csv(path: Path, header: Sequence[str], rows: Iterable[Sequence[Any]]) -> None:
    """Writes a CSV file, whole or not at all.

    Args:
        path: the file.
        header: names of the columns.
        rows: a cell a column.
    """
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    writer.writerow(header)
    writer.writerows(rows)
    write_text(path, text.getvalue())


def file_sha256(path: Path) -> str:
    """Returns the sha256 of a file, as `sha256sum` prints it.

    Args:
        path: the file.
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
        names: all of them.
        most: how many to write out.
    """
    known = [str(name) for name in names]
    more = f" and {len(known) - most} more" if len(known) > most else ""
    return ", ".join(known[:most]) + more
