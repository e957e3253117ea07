"""What is wrong with the videos: each one that cannot be read is named once, all are counted, too many end the run."""

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

_logger = logging.getLogger(__name__)

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


def warn_of_repeats(path: str, found: int, wanted: int) -> None:
    """Say that a video is shorter than a clip.

    Args:
        path: the video.
        found: its frames.
        wanted: frames of a clip.
    """
    _logger.warning("%s has only %d frames for a clip of %d: some are repeated", path, found, wanted)


class DataReport:
    """Counts the training videos that were skipped, and tells of those that are shorter than a clip.

    Several processes hear of one another's unreadable videos, so that they count alike; the first one lists them.

    Args:
        index: the training videos.
        num_frames: frames of a clip.
        max_unreadable: share of the training or of the validation videos that may be unreadable.
        skipped: where every unreadable video is listed.
    """

    def __init__(self, index: VideoIndex, num_frames: int, max_unreadable: float, skipped: SkippedList):
        self.index = index
        self.skipped = skipped
        self.num_frames = num_frames
        self.max_unreadable = max_unreadable
        self.unreadable = 0  # each time that one was skipped
        self._named: set[str] = set()
        self._named_of_validation: set[str] = set()
        self._told_of_short = self._told_of_short_validation = False

    def note(self, batch: Batch, epoch: int) -> None:
        """Count the videos of a training batch.

        Args:
            batch: as the loader gives it.
            epoch: of the batch, from 1.

        Raises:
            ValueError: more than the allowed share could not be read.
        """
        self._name(batch.unreadable, "skipped", self._named)
        if is_first():
            self.skipped.add(batch.unreadable, epoch, "train")
        self._tell_of_short(batch)
        self.unreadable += len(batch.unreadable)
        if len(self._named) > self.max_unreadable * len(self.index):
            self._stop(f"{len(self._named)} of {len(self.index)} training videos", batch.unreadable)

    def note_evaluation(self, evaluation: Evaluation, epoch: int) -> None:
        """Name the validation videos that could not be read.

        Args:
            evaluation: the result, over the others.
            epoch: that it followed, from 1.

        Raises:
            ValueError: more than the allowed share could not be read.
        """
        self._name(evaluation.unreadable, "not evaluated", self._named_of_validation)
        if is_first():
            self.skipped.add(evaluation.unreadable, epoch, "val")
        if evaluation.num_short and not self._told_of_short_validation and is_first():
            self._told_of_short_validation = True
            _logger.warning(
                "%d of %d validation videos have fewer frames than a clip of %d: some are repeated",
                *(evaluation.num_short, evaluation.num_videos, self.num_frames),
            )
        if len(evaluation.unreadable) > self.max_unreadable * evaluation.num_expected:
            found = f"{len(evaluation.unreadable)} of {evaluation.num_expected} validation videos"
            self._stop(found, evaluation.unreadable)

    def state_dict(self) -> dict[str, Any]:
        """What resuming needs."""
        return {"broken": self.unreadable, "named": sorted(self._named)}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Undo `state_dict`.

        Args:
            state: what it returned.
        """
        self.unreadable, self._named = state["broken"], set(state["named"])

    def _name(self, unreadable: Sequence[UnreadableVideo], what: str, named: set[str]) -> None:
        """Warn of each video once, in one process for all."""
        for item in unreadable:
            if item.path not in named and is_first():
                _logger.warning("%s: %s (%s)", what, item.path, item.reason)
            named.add(item.path)

    def _tell_of_short(self, batch: Batch) -> None:
        """Say once that frames are repeated, and in which video first."""
        short = batch.num_frames < self.num_frames
        if self._told_of_short or not short.any():
            return
        self._told_of_short = True
        first = int(short.nonzero()[0])
        path = self.index.root / self.index.paths[int(batch.index[first])]
        warn_of_repeats(str(path), int(batch.num_frames[first]), self.num_frames)

    def _stop(self, found: str, last: Sequence[UnreadableVideo]) -> None:
        names = "; ".join(f"{item.path}: {item.reason}" for item in last[:3])
        raise ValueError(
            f"{found} could not be decoded, more than --max-unreadable {self.max_unreadable:g} allows; the last: "
            f"{names}. Repair or remove them, or raise that share"
        )
