"""The error of a video that cannot be decoded, and the words for what libraries and file systems raise."""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path


class DecodeError(ValueError):
    """A video cannot be decoded, or not the frames that were asked for.

    Args:
        path: the video file or frame folder.
        reason: what is wrong with it, in plain words.
    """

    def __init__(self, path: str | os.PathLike[str], reason: str) -> None:
        super().__init__(str(path), reason)  # both in args, so that the error survives the way out of a worker process
        self.path = Path(path)
        self.reason = reason

    def __str__(self) -> str:
        return f"cannot decode {self.args[0]}: {self.reason}"  # as it was given: a path has no // as URLs have


@contextmanager
def in_plain_words(path: str | Path, reason: str, *library_errors: type[Exception]) -> Iterator[None]:
    """Turns what a decoding library or the file system raises into a `DecodeError`."""
    expected: tuple[type[Exception], ...] = (OSError, ValueError, *library_errors)
    try:
        yield
    except DecodeError:
        raise
    except expected as error:
        raise DecodeError(path, f"{reason} ({short_message(error)})") from error


@contextmanager
def no_file_errors(path: Path) -> Iterator[None]:
    """Turns what the file system raises, as where a network disk goes away, into a `DecodeError`."""
    try:
        yield
    except OSError as error:
        raise DecodeError(path, f"it cannot be read ({short_message(error)})") from error


def short_message(error: Exception) -> str:
    """Message of an error without its number and path."""
    return getattr(error, "strerror", None) or str(error)
