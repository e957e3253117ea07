"""`skipped.csv`: every video that a run could not read, once, with the reason and the epoch that met it first."""

import csv
import errno
import io
import os
from collections.abc import Iterable
from pathlib import Path

from timm_video_psn.data import UnreadableVideo

HEADER = ("path", "reason", "epoch", "split")


class SkippedList:
    """The file, made with its first entry.

    A line is appended by one write, and one that a process died over is cut off by the next process, so that the file
    always holds whole lines. A run that goes on adds to the file and names no video again.

    Args:
        path: of the file.
    """

    def __init__(self, path: Path):
        self.path = path
        self._known: set[tuple[str, str]] | None = None  # (split, path) of the entries; None until the file is read

    def add(self, unreadable: Iterable[UnreadableVideo], epoch: int, split: str) -> None:
        """Append the videos that are not in the file yet.

        Args:
            unreadable: the videos.
            epoch: in which they were met, from 1.
            split: "train" or "val".

        Raises:
            OSError: the file cannot be written.
        """
        new = {(split, item.path): item for item in unreadable}
        if not new:
            return
        if self._known is None:
            self._known = self._mend()
        lines = io.StringIO()
        writer = csv.writer(lines, lineterminator="\n")
        if not self.path.exists():
            writer.writerow(HEADER)
        for key, item in new.items():
            if key not in self._known:
                self._known.add(key)
                writer.writerow((item.path, " ".join(item.reason.split()), epoch, split))
        if lines.tell():
            self._append(os.fsencode(lines.getvalue()))

    def _append(self, lines: bytes) -> None:
        """One write; what a full disk has no room for is an error."""
        try:
            with self.path.open("ab", buffering=0) as file:
                if file.write(lines) < len(lines):
                    raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
                os.fsync(file.fileno())
        except OSError as error:
            raise OSError(f"could not write {self.path}: {error}") from error

    def _mend(self) -> set[tuple[str, str]]:
        """The entries of a run that this one goes on with, after cutting off a line that has no end."""
        if not self.path.exists():
            return set()
        content = self.path.read_bytes()
        whole = content.rfind(b"\n") + 1
        if whole < len(content):
            with self.path.open("rb+") as file:
                file.truncate(whole)
        if not whole:
            self.path.unlink()
        rows = csv.reader(io.StringIO(os.fsdecode(content[:whole])))
        return {(row[3], row[0]) for row in rows if len(row) == len(HEADER)}
