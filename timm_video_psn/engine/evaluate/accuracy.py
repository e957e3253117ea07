"""Accuracy of scores: top-1, top-5, the mean over classes, each class, who is taken for whom; with 95 % intervals.

The intervals are percentiles of the bootstrap over videos. To draw n of n videos with replacement and count the hits is
to draw the counts from a multinomial distribution, so that a thousand resamples are one call. They tell how far the
number would move with other videos of the same kind; they know nothing of other seeds of the training.
"""

from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
import numpy.typing as npt

from timm_video_psn.engine.evaluate.scores import Scores, check_finite

LEVEL = 0.95
RESAMPLES = 2000
_AT_ONCE = 200  # resamples of all classes that are held in memory at once

Floats = npt.NDArray[np.float64]


class Interval(NamedTuple):
    """A percentage and the bounds of its 95 % bootstrap interval."""

    value: float
    low: float
    high: float

    def __str__(self) -> str:
        return f"{self.value:.2f} [{self.low:.2f}, {self.high:.2f}]"


class ClassAccuracy(NamedTuple):
    """Top-1 within a class; `accuracy` is None for a class without videos, and so is what it is mistaken for."""

    label: int
    name: str
    videos: int
    correct: int
    accuracy: Interval | None
    taken_for: str | None  # the class that its wrongly named videos are given most often
    taken_for_videos: int


@dataclass(frozen=True, eq=False)
class Accuracy:
    """Percentages over the videos whose label is known.

    Args:
        top1: the highest score is the label's.
        top5: the label's score is among the five highest.
        mean_class: mean of the classes' top-1; classes without videos do not count.
        pair_top1: only the two classes of a video's reversal pair compete; None where there are no pairs.
        num_videos: with a label.
        classes: a row a class.
        confusion: videos by class and by predicted class, (K, K).
    """

    top1: Interval
    top5: Interval
    mean_class: Interval
    pair_top1: Interval | None
    num_videos: int
    classes: tuple[ClassAccuracy, ...]
    confusion: npt.NDArray[np.int64]


def measure(
    scores: Scores, pairs: tuple[tuple[int, int], ...] = (), resamples: int = RESAMPLES, seed: int = 0
) -> Accuracy:
    """Measure the videos that have a label.

    Args:
        scores: of a test.
        pairs: of classes that only the order of the frames tells apart.
        resamples: of the bootstrap.
        seed: of the bootstrap.

    Raises:
        ValueError: no video has a label, or a score is not finite.
    """
    if not scores.labelled:
        raise ValueError(f"none of the {len(scores)} videos has a label; there is no accuracy to measure")
    check_finite(scores)
    scores = scores.take(np.flatnonzero(scores.labels >= 0))
    labels, ranks = scores.labels, ranks_of_labels(scores)
    num_classes = len(scores.class_names)
    confusion = np.zeros((num_classes, num_classes), dtype=np.int64)
    np.add.at(confusion, (labels, top1_of(scores)), 1)
    mean_class, by_class = _class_intervals(confusion, resamples, seed)
    pair_hits = _pair_hits(scores, pairs)
    return Accuracy(
        top1=bootstrap_mean(ranks < 1, resamples, seed),
        top5=bootstrap_mean(ranks < 5, resamples, seed),
        mean_class=mean_class,
        pair_top1=bootstrap_mean(pair_hits, resamples, seed) if len(pair_hits) else None,
        num_videos=len(scores),
        classes=tuple(
            _class_row(label, name, confusion[label], by_class[label], scores.class_names)
            for label, name in enumerate(scores.class_names)
        ),
        confusion=confusion,
    )


def top1_of(scores: Scores) -> npt.NDArray[np.int64]:
    """The class of the highest score of each video, the first of several, (N,).

    Args:
        scores: of a test.
    """
    return scores.scores.argmax(1).astype(np.int64)


def ranks_of_labels(scores: Scores) -> npt.NDArray[np.int64]:
    """How many classes come before the label's, (N,): those that score higher, and of equal ones those listed before.

    Args:
        scores: of a test, with labels.
    """
    own = scores.scores[np.arange(len(scores)), scores.labels][:, None]
    before = np.arange(scores.scores.shape[1])[None] < scores.labels[:, None]
    return ((scores.scores > own) | ((scores.scores == own) & before)).sum(1)


def bootstrap_mean(values: npt.ArrayLike, resamples: int, seed: int) -> Interval:
    """Mean in percent with its bootstrap interval.

    Args:
        values: of each video, (N,), from 0 to 1; best few different ones, as hits are.
        resamples: of the bootstrap.
        seed: of the bootstrap.
    """
    distinct, counts = np.unique(np.asarray(values, dtype=np.float64), return_counts=True)
    total = int(counts.sum())
    drawn = np.random.default_rng(seed).multinomial(total, counts / total, size=resamples)  # (resamples, distinct)
    return _interval(float(counts @ distinct / total), drawn @ distinct / total)


def percentile_bounds(drawn: Floats) -> tuple[float, float]:
    """Bounds of the middle 95 % of resampled values.

    Args:
        drawn: (resamples,).
    """
    low, high = np.percentile(drawn, [50 * (1 - LEVEL), 50 * (1 + LEVEL)])
    return float(low), float(high)


def _interval(value: float, drawn: Floats) -> Interval:
    low, high = percentile_bounds(drawn)
    return Interval(100 * value, 100 * low, 100 * high)


def _class_intervals(
    confusion: npt.NDArray[np.int64], resamples: int, seed: int
) -> tuple[Interval, list[Interval | None]]:
    """The mean over classes and each class, from resamples of the videos of all classes together."""
    videos, correct = confusion.sum(1), confusion.diagonal()
    cells = np.stack([correct, videos - correct], 1)  # (K, 2)
    filled, total = np.flatnonzero(cells.ravel()), int(videos.sum())
    rng = np.random.default_rng(seed)
    shares = np.full((resamples, len(cells)), np.nan)
    for start in range(0, resamples, _AT_ONCE):
        part = shares[start : start + _AT_ONCE]
        drawn = np.zeros((len(part), cells.size), dtype=np.int64)
        # cells of no videos are left out, since the last one gets what rounding leaves
        drawn[:, filled] = rng.multinomial(total, cells.ravel()[filled] / total, size=len(part))
        hits, misses = drawn.reshape(len(part), -1, 2).transpose(2, 0, 1)
        np.divide(hits, hits + misses, out=part, where=hits + misses > 0)
    by_class: list[Interval | None] = []
    for label, (count, hits) in enumerate(zip(videos.tolist(), correct.tolist(), strict=True)):
        seen = shares[:, label][~np.isnan(shares[:, label])]
        by_class.append(_interval(hits / count, seen) if count else None)
    present = videos > 0
    mean = float((correct[present] / videos[present]).mean())
    return _interval(mean, np.nanmean(shares[:, present], 1)), by_class


def _class_row(
    label: int, name: str, row: npt.NDArray[np.int64], accuracy: Interval | None, class_names: tuple[str, ...]
) -> ClassAccuracy:
    """A class of the table."""
    wrong = row.copy()
    wrong[label] = 0
    other = int(wrong.argmax())
    taken_for = class_names[other] if wrong[other] else None
    return ClassAccuracy(label, name, int(row.sum()), int(row[label]), accuracy, taken_for, int(wrong[other]))


def _pair_hits(scores: Scores, pairs: tuple[tuple[int, int], ...]) -> Floats:
    """1 where a video's class beats the other one of its pair, 1/2 for a tie; videos of other classes are left out."""
    partner = np.full(len(scores.class_names), -1)
    for a, b in pairs:
        partner[a], partner[b] = b, a
    rows = np.flatnonzero(partner[scores.labels] >= 0)
    own = scores.scores[rows, scores.labels[rows]]
    other = scores.scores[rows, partner[scores.labels[rows]]]
    return (own > other) + 0.5 * (own == other)
