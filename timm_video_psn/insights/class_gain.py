"""The classes that one model names better, or worse, than another on the same videos.

Two models are compared video by video: a class's gain is the difference of two accuracies that belong together, and its
interval is Newcombe's for paired proportions (1998, method 10: Wilson's limits with the correlation of the pairs).
"""

from dataclasses import dataclass
from pathlib import Path

import numpy as np

from timm_video_psn.engine.evaluate.scores import Scores
from timm_video_psn.insights.plotting import new_figure, save_figure, save_table

_Z = 1.959964  # of 95 %


@dataclass(frozen=True)
class ClassGain:
    """What changed in one class: accuracies in percent, the gain and its 95 % interval, and the videos behind it."""

    name: str
    before: float
    after: float
    low: float
    high: float
    num_videos: int

    @property
    def gain(self) -> float:
        """Percentage points."""
        return self.after - self.before


def class_gains(before: Scores, after: Scores) -> list[ClassGain]:
    """Compare two models class by class, on the videos that both have.

    Args:
        before: scores of the one.
        after: scores of the other.

    Returns:
        One entry for each class that has videos, the largest gain first.

    Raises:
        ValueError: other classes, other labels, no video in common, or none whose label is known.
    """
    if before.class_names != after.class_names:
        raise ValueError(
            f"the two files have other classes ({len(before.class_names)} and {len(after.class_names)}); compare "
            "models on one data set"
        )
    place = {video: number for number, video in enumerate(after.videos)}
    pairs = [(number, place[video]) for number, video in enumerate(before.videos) if video in place]
    if not pairs:
        raise ValueError("the two files have no video in common; compare models on one data set")
    first, second = (np.array(column) for column in zip(*pairs, strict=True))
    labels = before.labels[first]
    if not np.array_equal(labels, after.labels[second]):
        raise ValueError(
            "the two files give other labels to the same videos; compare models on one version of the data"
        )
    if not (labels >= 0).any():
        raise ValueError(
            f"none of the {len(labels)} videos in common has a label; use scores of a split with labels, such as val"
        )
    right = before.scores[first].argmax(1) == labels, after.scores[second].argmax(1) == labels
    gains = []
    for label in np.unique(labels[labels >= 0]).tolist():
        old, new = (hits[labels == label] for hits in right)
        low, high = paired_interval(old, new)
        gains.append(
            ClassGain(before.class_names[label], 100 * old.mean(), 100 * new.mean(), 100 * low, 100 * high, len(old))
        )
    return sorted(gains, key=lambda one: -one.gain)


def paired_interval(before: np.ndarray, after: np.ndarray) -> tuple[float, float]:
    """The 95 % interval of the difference of two paired proportions, Newcombe's method 10.

    Args:
        before: hits of the one, bool (N,).
        after: hits of the other on the same videos.
    """
    n = len(before)
    both, gained = int((before & after).sum()), int((~before & after).sum())
    lost, neither = int((before & ~after).sum()), int((~before & ~after).sum())
    p_new, p_old = (both + gained) / n, (both + lost) / n
    (low_new, high_new), (low_old, high_old) = _wilson(p_new, n), _wilson(p_old, n)
    margins = float(both + gained) * (lost + neither) * (both + lost) * (gained + neither)
    cross = float(both * neither - gained * lost)
    cross = max(cross - n / 2, 0.0) if cross > 0 else cross  # the method's correction of phi for continuity
    phi = cross / margins**0.5 if margins else 0.0

    def limit(a: float, b: float) -> float:
        return max(a * a - 2 * phi * a * b + b * b, 0.0) ** 0.5

    difference = p_new - p_old
    return (
        difference - limit(p_new - low_new, high_old - p_old),
        difference + limit(high_new - p_new, p_old - low_old),
    )


def _wilson(share: float, n: int) -> tuple[float, float]:
    """Wilson's limits of one proportion."""
    centre = (share + _Z**2 / (2 * n)) / (1 + _Z**2 / n)
    half = _Z / (1 + _Z**2 / n) * (share * (1 - share) / n + _Z**2 / (4 * n**2)) ** 0.5
    return centre - half, centre + half


def most_changed(gains: list[ClassGain], count: int = 10) -> list[ClassGain]:
    """The classes that gained most and those that lost most, each at most `count`, all of them if they are few.

    Args:
        gains: as `class_gains` returns them.
        count: at either end.
    """
    if len(gains) <= 2 * count:
        return gains
    return gains[:count] + gains[-count:]


def draw_class_gains(gains: list[ClassGain], path: Path, title: str = "", count: int = 10) -> Path:
    """Draw the most improved and the most worsened classes with their intervals.

    Args:
        gains: as `class_gains` returns them.
        path: the PNG file.
        title: above the picture.
        count: classes at either end.
    """
    shown = most_changed(gains, count)
    names = [f"{one.name} ({one.before:.0f} to {one.after:.0f} %, n={one.num_videos})" for one in shown]
    width = max(8.0, 4.5 + 0.065 * max(map(len, names)))  # inches; the names have theirs beside the bars
    figure = new_figure(width, 1.2 + 0.3 * len(shown))
    axis = figure.subplots()
    rows = np.arange(len(shown))[::-1]
    values = np.array([one.gain for one in shown])
    errors = np.array([(one.gain - one.low, one.high - one.gain) for one in shown]).T
    colours = ["tab:green" if value > 0 else "tab:red" if value < 0 else "tab:gray" for value in values]
    axis.barh(rows, values, color=colours, alpha=0.7, xerr=errors.clip(min=0), error_kw={"elinewidth": 1, "capsize": 2})
    axis.set_yticks(rows, names, fontsize=8)
    axis.axvline(0, color="black", linewidth=0.8)
    axis.set_xlabel("gain in top-1 accuracy, percentage points, with 95 % intervals")
    axis.grid(axis="x", alpha=0.3)
    figure.suptitle(title, fontsize=10)
    return save_figure(figure, path)


def save_class_gains(gains: list[ClassGain], path: Path) -> Path:
    """Write all classes, the largest gain first.

    Args:
        gains: as `class_gains` returns them.
        path: the CSV file.
    """
    header = ("class", "videos", "before", "after", "gain", "low", "high")
    rows = [(g.name, g.num_videos, float(g.before), float(g.after), float(g.gain), g.low, g.high) for g in gains]
    return save_table(header, rows, path)
