"""Videos that cannot be read: each is named once, all are counted, and too many of them end the run."""

import logging
from typing import Any

from timm_video_psn.data import Batch, Broken
from timm_video_psn.engine.evaluate import Evaluation

_logger = logging.getLogger(__name__)


class BrokenVideos:
    """Counts the training videos that were skipped.

    Args:
        max_share: share of the videos seen, or of those to validate, that ends the run.
    """

    def __init__(self, max_share: float):
        self.max_share = max_share
        self.count = 0  # skipped, each time that it was
        self.seen = 0
        self._named: set[str] = set()
        self._short = False

    def note(self, batch: Batch) -> None:
        """Count the videos of a training batch.

        Args:
            batch: as the loader gives it.

        Raises:
            ValueError: more than the allowed share could not be read.
        """
        self._name(batch.broken, "skipped")
        self.count += len(batch.broken)
        self.seen += len(batch.broken) + len(batch.label)
        # A share of few videos says little: one may always be broken.
        if self.count > max(1, self.max_share * self.seen) and len(self._named) > 1:
            self._stop(f"{self.count} of {self.seen} training videos read so far", batch.broken)

    def note_evaluation(self, evaluation: Evaluation) -> None:
        """Name the validation videos that could not be read.

        Args:
            evaluation: the result, over the others.

        Raises:
            ValueError: more than the allowed share could not be read.
        """
        self._name(evaluation.broken, "not evaluated")
        if len(evaluation.broken) > max(1, self.max_share * evaluation.num_expected):
            found = f"{len(evaluation.broken)} of {evaluation.num_expected} validation videos"
            self._stop(found, list(evaluation.broken))

    def state_dict(self) -> dict[str, Any]:
        """What resuming needs."""
        return {"count": self.count, "seen": self.seen, "named": sorted(self._named)}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Undo `state_dict`.

        Args:
            state: what it returned.
        """
        self.count, self.seen, self._named = state["count"], state["seen"], set(state["named"])

    def _name(self, broken: Any, what: str) -> None:
        for item in broken:
            if item.path not in self._named:
                self._named.add(item.path)
                _logger.warning("%s: %s (%s)", what, item.path, item.reason)

    def _stop(self, found: str, last: list[Broken]) -> None:
        names = "; ".join(f"{item.path}: {item.reason}" for item in last[:3])
        raise ValueError(
            f"{found} could not be decoded, more than --max-broken {self.max_share:g} allows; the last: {names}. "
            "Mend or remove them, or raise --max-broken"
        )
