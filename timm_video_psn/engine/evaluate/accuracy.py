"""Accuracy of scores with intervals: top-1, top-5, mean over classes, each class, and which classes are confused."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
import numpy.typing as npt

from timm_video_psn.engine.evaluate.intervals import Floats, Interval, mean_interval, share_interval
from timm_video_psn.engine.evaluate.ranking import average_precisions
from timm_video_psn.engine.evaluate.scores import Scores, check_finite

Integers = npt.NDArray[np.int64]


class ClassAccuracy(NamedTuple):
    """Top-1 within a class; a class without videos has no `accuracy`, one without mistakes no `most_confused_with`.

    Where videos may have several classes, `correct` counts the class's videos that it has a probability of 0.5 in.
    """

    label: int
    name: str
    videos: int
    correct: int
    accuracy: Interval | None
    most_confused_with: str | None  # the class that its wrongly named videos are given most often
    confused_videos: int
    average_precision: float | None = None  # in percent, of models with a score for each class by itself


@dataclass(frozen=True, eq=False)
class Accuracy:
    """Percentages over the videos whose label is known.

    Attributes:
        top1: Share of the videos whose label, or one of whose labels, has the highest score.
        top5: Share of the videos with a label among the five highest scores; None for five classes or fewer.
        mean_class: Mean of the classes' top-1; classes without videos do not count. None where videos may have several
            classes.
        pair_top1: Top-1 where only the two classes of a video's reversal pair compete; None where there are no pairs.
        num_videos: Number of videos with a label.
        classes: A row for each class.
        confusion: Videos by class and by predicted class, (K, K); None where videos may have several classes.
        mean_ap: Mean average precision (mAP) in percent; None for models whose classes exclude one another.
    """

    top1: Interval
    top5: Interval | None
    mean_class: Interval | None
    pair_top1: Interval | None
    num_videos: int
    classes: tuple[ClassAccuracy, ...]
    confusion: Integers | None
    mean_ap: float | None = None


def measure(scores: Scores, pairs: Sequence[tuple[int, int]] = ()) -> Accuracy:
    """Measures the videos that have a label.

    Args:
        scores: Scores of a test.
        pairs: Pairs of classes that only the order of the frames tells apart.

    Raises:
        ValueError: No video has a label, or a score is not finite.
    """
    if not scores.labelled:
        raise ValueError(f"none of the {len(scores)} videos has a label; there is no accuracy to measure")
    check_finite(scores)
    scores = scores.take(np.flatnonzero(scores.labels >= 0))
    labels, total, num_classes = scores.best_labels(), len(scores), len(scores.class_names)
    ranks = ranks_of_labels(scores.scores, labels)
    in_pairs = pair_hits(scores.scores, labels, pairs)
    precisions: Sequence[float | None] = [None] * num_classes
    if scores.activation == "sigmoid":
        found = average_precisions(scores.scores, scores.one_hot())
        precisions = [None if np.isnan(value) else float(value) for value in found]
    if scores.targets is None:
        confusion = np.zeros((num_classes, num_classes), dtype=np.int64)
        np.add.at(confusion, (labels, scores.scores.argmax(1)), 1)
        videos, correct = confusion.sum(1), confusion.diagonal()
        rows = [
            _class_row(*row, scores.class_names) for row in zip(range(num_classes), confusion, precisions, strict=True)
        ]
    else:
        confusion = None
        hits = scores.targets & (scores.probabilities() >= 0.5)
        videos, correct = scores.targets.sum(0), hits.sum(0)
        columns = zip(videos.tolist(), correct.tolist(), precisions, strict=True)
        rows = [_found_row(label, *column, scores.class_names) for label, column in enumerate(columns)]
    known = [value for value in precisions if value is not None]
    return Accuracy(
        top1=share_interval(int((ranks < 1).sum()), total),
        top5=share_interval(int((ranks < 5).sum()), total) if num_classes > 5 else None,
        mean_class=mean_interval(correct[videos > 0], videos[videos > 0]) if confusion is not None else None,
        pair_top1=share_interval(float(in_pairs.sum()), len(in_pairs)) if len(in_pairs) else None,
        num_videos=total,
        classes=tuple(rows),
        confusion=confusion,
        mean_ap=float(np.mean(known)) if known else None,
    )


def ranks_of_labels(scores: npt.NDArray[np.floating], labels: Integers) -> Integers:
    """Number of classes before the label's: those that score higher, and of equal ones those with a smaller number.

    Args:
        scores: (N, K), finite.
        labels: (N,).

    Returns:
        (N,).
    """
    own = scores[np.arange(len(scores)), labels][:, None]
    before = np.arange(scores.shape[1])[None] < labels[:, None]
    return np.asarray(((scores > own) | ((scores == own) & before)).sum(1))


def pair_hits(scores: npt.NDArray[np.floating], labels: Integers, pairs: Sequence[tuple[int, int]]) -> Floats:
    """1 where a video's class beats the other class of its pair, 1/2 for a tie; videos of other classes are left out.

    A tie counts half, so that a model that cannot tell the two apart has 50 %, however its classes are numbered.

    Args:
        scores: (N, K).
        labels: (N,).
        pairs: Pairs of classes.

    Returns:
        (videos of paired classes,).
    """
    partner = np.full(scores.shape[1], -1)
    for a, b in pairs:
        partner[a], partner[b] = b, a
    rows = np.flatnonzero(partner[labels] >= 0)
    own, other = scores[rows, labels[rows]], scores[rows, partner[labels[rows]]]
    return (own > other) + 0.5 * (own == other)


def _found_row(
    label: int, videos: int, correct: int, precision: float | None, class_names: Sequence[str]
) -> ClassAccuracy:
    """A class of the table, where videos may have several."""
    share = share_interval(correct, videos) if videos else None
    return ClassAccuracy(label, class_names[label], videos, correct, share, None, 0, precision)


def _class_row(label: int, row: Integers, precision: float | None, class_names: Sequence[str]) -> ClassAccuracy:
    """A class of the table, from its row of the confusion matrix."""
    videos, correct, wrong = int(row.sum()), int(row[label]), row.copy()
    wrong[label] = 0
    other = int(wrong.argmax())
    return ClassAccuracy(
        label,
        class_names[label],
        videos,
        correct,
        share_interval(correct, videos) if videos else None,
        class_names[other] if wrong[other] else None,
        int(wrong[other]),
        precision,
    )
