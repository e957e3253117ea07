"""What is wrong with the videos: each unreadable one is named once, all are counted, too many end the run."""

import csv
import errno
import io
import logging
import os
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any

from timm_video_psn.data import Batch, UnreadableVideo, VideoIndex
from timm_video_psn.engine.distributed import is_first
from timm_video_psn.engine.evaluate.evaluate import Evaluation
from timm_video_psn.files import csv_cell

_logger = logging.getLogger(__name__)
_HEADER = ("path", "reason", "epoch", "split")


class DataReport:
    """Counts the training videos that were skipped, and tells of videos that are shorter than a clip.

    Several processes hear of one another's unreadable videos, so that they count alike; the first one lists them.

    Args:
        index: Training videos.
        num_frames: Frames of a clip.
        max_unreadable: Share of the training or of the validation videos that may be unreadable.
        skipped: List that every unreadable video goes to.
    """

    def __init__(self, index: VideoIndex, num_frames: int, max_unreadable: float, skipped: "SkippedList"):
        self.index = index
        self.skipped = skipped
        self.num_frames = num_frames
        self.max_unreadable = max_unreadable
        self.unreadable = 0  # each time that one was skipped
        self._named: dict[str, set[str]] = {"train": set(), "val": set()}
        self._told_of_short: set[str] = set()

    def note(self, batch: Batch, epoch: int) -> None:
        """Counts the videos of a training batch.

        Args:
            batch: Batch of the loader.
            epoch: Number of its epoch, from 1.

        Raises:
            ValueError: More than the allowed share could not be read.
        """
        self._name(batch.unreadable, epoch, "train", "skipped")
        self.unreadable += len(batch.unreadable)
        short = batch.num_frames < self.num_frames
        if short.any() and "train" not in self._told_of_short:
            self._told_of_short.add("train")
            first = int(short.nonzero()[0])
            path = self.index.root / self.index.paths[int(batch.index[first])]
            _logger.warning(
                "%s has only %d frames for a clip of %d: some are repeated",
                *(path, int(batch.num_frames[first]), self.num_frames),
            )
        self._check(len(self._named["train"]), len(self.index), "training", batch.unreadable)

    def note_evaluation(self, evaluation: Evaluation, epoch: int) -> None:
        """Names the validation videos that could not be read.

        Args:
            evaluation: Result over the others.
            epoch: Number of the epoch before it, from 1.

        Raises:
            ValueError: More than the allowed share could not be read.
        """
        self._name(evaluation.unreadable, epoch, "val", "not evaluated")
        if evaluation.num_short and "val" not in self._told_of_short and is_first():
            self._told_of_short.add("val")
            _logger.warning(
                "%d of %d validation videos have fewer frames than a clip of %d: some are repeated",
                *(evaluation.num_short, evaluation.num_videos, self.num_frames),
            )
        self._check(len(evaluation.unreadable), evaluation.num_expected, "validation", evaluation.unreadable)

    def state_dict(self) -> dict[str, Any]:
        """Returns what resuming needs."""
        return {"broken": self.unreadable, "named": sorted(self._named["train"])}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Undoes `state_dict`.

        Args:
            state: What it returned.
        """
        self.unreadable, self._named["train"] = state["broken"], set(state["named"])

    def _name(self, unreadable: Sequence[UnreadableVideo], epoch: int, split: str, what: str) -> None:
        """Warns of each video once and lists it, in one process for all."""
        named = self._named[split]
        for item in unreadable:
            if item.path not in named and is_first():
                _logger.warning("%s: %s (%s)", what, item.path, item.reason)
            named.add(item.path)
        if is_first():
            self.skipped.add(unreadable, epoch, split)

    def _check(self, found: int, total: int, which: str, last: Sequence[UnreadableVideo]) -> None:
        """Raises where too many videos cannot be read."""
        if found > self.max_unreadable * total:
            names = "; ".join(map(str, last[:3]))
            raise ValueError(
                f"{found} of {total} {which} videos could not be decoded, more than --max-unreadable "
                f"{self.max_unreadable:g} allows; the last: {names}. Repair or remove them, or raise that share"
            )


class SkippedList:
    """`skipped.csv`: every video that a run could not read, once, with the reason and the epoch that met it first.

    The file begins with its first entry. A line is appended by one write, and a line that a process died over is cut
    off by the next process, so the file always holds whole lines. A run that resumes adds to the file and names no
    video again.

    Args:
        path: Path of the file.
    """

    def __init__(self, path: Path):
        self.path = path
        self._known: set[tuple[str, str]] | None = None  # (split, path) of the entries; None until the file is read

    def add(self, unreadable: Iterable[UnreadableVideo], epoch: int, split: str) -> None:
        """Appends the videos that are not in the file yet.

        Args:
            unreadable: Videos.
            epoch: Number of the epoch that met them, from 1.
            split: "train" or "val".

        Raises:
            OSError: The file cannot be written.
        """
        new = {(split, csv_cell(item.path)): item for item in unreadable}
        if not new:
            return
        if self._known is None:
            self._known = self._mend()
        lines = io.StringIO()
        writer = csv.writer(lines, lineterminator="\n")
        if not self.path.exists():
            writer.writerow(_HEADER)
        for key, item in new.items():
            if key not in self._known:
                self._known.add(key)
                writer.writerow((key[1], csv_cell(" ".join(item.reason.split())), epoch, split))
        if lines.tell():
            self._append(os.fsencode(lines.getvalue()))

    def _append(self, lines: bytes) -> None:
        """One write; a full disk is an error."""
        try:
            with self.path.open("ab", buffering=0) as file:
                if file.write(lines) < len(lines):
                    raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
                os.fsync(file.fileno())
        except OSError as error:
            raise OSError(f"could not write {self.path}: {error}") from error

    def _mend(self) -> set[tuple[str, str]]:
        """The entries of the run that this one resumes, after cutting off a line that has no end."""
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
        return {(row[3], row[0]) for row in rows if len(row) == len(_HEADER)}
