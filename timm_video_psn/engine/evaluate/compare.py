"""Two score files of the same videos: which model is better, by how much, how surely, and on which classes.

The same videos are hard for both models, so that the difference is known better than either accuracy: it depends only
on the videos that one model alone names correctly.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np

from timm_video_psn.engine.evaluate.accuracy import ranks_of_labels
from timm_video_psn.engine.evaluate.intervals import Interval, difference_interval, mcnemar_p, share_interval
from timm_video_psn.engine.evaluate.scores import Scores, align


class ClassChange(NamedTuple):
    """Top-1 of both models within a class in percent, and the second's gain over the first in points."""

    name: str
    videos: int
    first: float
    second: float
    gain: Interval


@dataclass(frozen=True)
class Comparison:
    """The second model against the first.

    Attributes:
        first: Top-1 of the first model.
        second: Top-1 of the second model.
        difference: Second - first, in points.
        only_first: Number of videos that the first alone names correctly.
        only_second: Number of videos that the second alone names correctly.
        num_videos: Number of videos with a label.
        num_expected: Number of videos that there should be.
        p_value: McNemar's exact test, two-sided.
        classes: The classes with videos, largest gain first.
        protocols: Protocols of both.
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


def compare(first: Scores, second: Scores, names: Sequence[str]) -> Comparison:
    """Compares two models on the videos that have a label.

    Args:
        first: Scores of one model.
        second: Scores of another model for the same videos.
        names: Names of the two, for messages.

    Raises:
        ValueError: The videos, their labels or the classes differ, or no video has a label, or some have several.
    """
    first, second = align([first, second], names)
    if not first.labelled:
        raise ValueError(
            f"none of the {len(first)} videos of {names[0]} has a label; there is nothing to compare: test both models "
            "on a split with labels, such as val"
        )
    if first.targets is not None:
        raise ValueError("--compare counts videos that one model names rightly, and these have several labels each")
    rows = np.flatnonzero(first.labels >= 0)
    first, second = first.take(rows), second.take(rows)
    a, b = (ranks_of_labels(scores.scores, scores.labels) < 1 for scores in (first, second))
    only_first, only_second = int((a & ~b).sum()), int((b & ~a).sum())
    return Comparison(
        first=share_interval(int(a.sum()), len(a)),
        second=share_interval(int(b.sum()), len(b)),
        difference=difference_interval(a, b),
        only_first=only_first,
        only_second=only_second,
        num_videos=len(rows),
        num_expected=max(first.num_expected, second.num_expected),
        p_value=mcnemar_p(only_first, only_second),
        classes=_changes(first, a, b),
        protocols=(first.protocol, second.protocol),
    )


def class_rows(comparison: Comparison) -> Iterator[tuple[str | int | float, ...]]:
    """The rows of a table: class, videos, both accuracies, the gain and its bounds.

    Args:
        comparison: See `compare`.
    """
    for change in comparison.classes:
        numbers = (change.first, change.second, *change.gain)
        yield (change.name, change.videos, *(round(number, 4) for number in numbers))


def _changes(scores: Scores, a: np.ndarray, b: np.ndarray) -> tuple[ClassChange, ...]:
    """Each class with videos, largest gain first."""
    changes = []
    for label in np.unique(scores.labels).tolist():
        old, new = (hits[scores.labels == label] for hits in (a, b))
        gain = difference_interval(old, new)
        changes.append(
            ClassChange(scores.class_names[label], len(old), 100 * float(old.mean()), 100 * float(new.mean()), gain)
        )
    return tuple(sorted(changes, key=lambda change: -change.gain.value))
