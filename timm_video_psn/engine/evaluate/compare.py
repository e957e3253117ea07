"""Two score files of the same videos: which model is better, by how much, how surely, and on which classes.

The same videos are hard for both models, so that the difference is known better than either accuracy: it depends only
on the videos that one model names correctly and the other does not. Its interval is a bootstrap over videos with both
models' answers kept together; McNemar's exact test is a binomial test on those videos.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np

from timm_video_psn.engine.evaluate.accuracy import Interval, bootstrap_mean, percentile_bounds, ranks_of_labels
from timm_video_psn.engine.evaluate.scores import Scores, align


class ClassChange(NamedTuple):
    """Top-1 of both models within a class, in percent."""

    name: str
    videos: int
    first: float
    second: float

    @property
    def gain(self) -> float:
        """Of the second over the first, in points."""
        return self.second - self.first


@dataclass(frozen=True)
class Comparison:
    """The second model against the first.

    Args:
        first: its top-1.
        second: its top-1.
        difference: second - first, in points.
        only_first: videos that the first alone names correctly.
        only_second: videos that the second alone names correctly.
        num_videos: with a label.
        num_expected: videos that there should be.
        p_value: of McNemar's exact test, two-sided.
        classes: with videos, largest gain first.
        protocols: of both.
    """

    first: Interval
    second: Interval
    difference: Interval
    only_first: int
    only_second: int
    num_videos: int
    num_expected: int
    p_value: float
    classes: tuple[ClassChange, ...]
    protocols: tuple[str, str]


def compare(first: Scores, second: Scores, names: Sequence[str], resamples: int, seed: int = 0) -> Comparison:
    """Compare two models on the videos that have a label.

    Args:
        first: scores of one model.
        second: scores of the other, of the same videos.
        names: of the two, for messages.
        resamples: of the bootstrap.
        seed: of the bootstrap.

    Raises:
        ValueError: the videos, their labels or the classes differ, or no video has a label.
    """
    first, second = align([first, second], names)
    if not first.labelled:
        raise ValueError(f"none of the {len(first)} videos of {names[0]} has a label; there is nothing to compare")
    rows = np.flatnonzero(first.labels >= 0)
    first, second = first.take(rows), second.take(rows)
    a, b = ranks_of_labels(first) < 1, ranks_of_labels(second) < 1
    only_first, only_second, total = int((a & ~b).sum()), int((b & ~a).sum()), len(rows)
    cells = np.array([only_first, only_second, total - only_first - only_second])
    # the last cell may be empty, and gets at most what rounding leaves: it does not count for the difference
    drawn = np.random.default_rng(seed).multinomial(total, cells / total, size=resamples)  # (resamples, 3)
    low, high = percentile_bounds(100 * (drawn[:, 1] - drawn[:, 0]) / total)
    return Comparison(
        first=bootstrap_mean(a, resamples, seed),
        second=bootstrap_mean(b, resamples, seed),
        difference=Interval(100 * (only_second - only_first) / total, low, high),
        only_first=only_first,
        only_second=only_second,
        num_videos=total,
        num_expected=max(first.num_expected, second.num_expected),
        p_value=mcnemar_p(only_first, only_second),
        classes=_changes(first, a, b),
        protocols=(first.protocol, second.protocol),
    )


def mcnemar_p(only_first: int, only_second: int) -> float:
    """McNemar's exact test, two-sided: P(a split at least as uneven) if both were equally likely, at most 1.

    Args:
        only_first: videos that the first model alone names correctly.
        only_second: videos that the second alone names correctly.
    """
    total, term, tail = only_first + only_second, 1, 0
    for k in range(min(only_first, only_second) + 1):  # term is the binomial coefficient (total, k), a whole number
        tail += term
        term = term * (total - k) // (k + 1)
    return min(1.0, 2 * tail / 2**total)


def _changes(scores: Scores, a: np.ndarray, b: np.ndarray) -> tuple[ClassChange, ...]:
    """Each class with videos, largest gain first."""
    num_classes = len(scores.class_names)
    videos, first, second = (
        np.bincount(scores.labels, weights=weights, minlength=num_classes) for weights in (np.ones(len(a)), a, b)
    )
    changes = [
        ClassChange(name, int(videos[label]), 100 * first[label] / videos[label], 100 * second[label] / videos[label])
        for label, name in enumerate(scores.class_names)
        if videos[label]
    ]
    return tuple(sorted(changes, key=lambda change: -change.gain))
