"""The error of a video that cannot be decoded, and plain words for what libraries and file systems raise."""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path


class DecodeError(ValueError):
    """A video cannot be decoded, or some frames that were asked for cannot.

    Args:
        path: Video file or frame folder.
        reason: Explanation in plain words.
    """

    def __init__(self, path: str | os.PathLike[str], reason: str) -> None:
        super().__init__(str(path), reason)  # both in args, so that the error survives the way out of a worker process
        self.path = Path(path)
        self.reason = reason

    def __str__(self) -> str:
        return f"cannot decode {self.args[0]}: {self.reason}"  # the path as given, since Path would shorten a URL's //


@contextmanager
def in_plain_words(path: str | Path, reason: str, *library_errors: type[Exception]) -> Iterator[None]:
    """Turns errors of a decoding library, of the file system and of a full memory into a `DecodeError`."""
    expected: tuple[type[Exception], ...] = (ValueError, *library_errors)
    try:
        with no_file_errors(path, reason):
            yield
    except DecodeError:
        raise
    except expected as error:
        raise DecodeError(path, f"{reason} ({short_message(error)})") from error


@contextmanager
def no_file_errors(path: str | Path, reason: str = "it cannot be read") -> Iterator[None]:
    """Turns errors of the file system, as of a network disk that goes away, and a full memory into a `DecodeError`."""
    try:
        yield
    except MemoryError as error:
        raise DecodeError(path, "its frames need more memory than there is; make a smaller copy of it") from error
    except OSError as error:
        raise DecodeError(path, f"{reason} ({short_message(error)})") from error


def short_message(error: Exception) -> str:
    """Returns the message of an error without its number and path."""
    return getattr(error, "strerror", None) or str(error)
