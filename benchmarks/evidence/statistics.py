"""What the rows of docs/gestures.csv say: accuracies, paired differences and their intervals."""

from collections.abc import Iterable, Mapping, Sequence
from typing import NamedTuple

import numpy as np
from scipy import stats

from .data import NUM_FOLDS

CLASSES = ("carret", "circlecc", "del", "down", "left", "right", "square", "star", "tick", "up")
REVERSAL = {"down": "up", "up": "down", "left": "right", "right": "left"}  # the same gesture run backwards
LEVEL = 0.95


class Estimate(NamedTuple):
    """A number of percent or points with its interval; NaN where there are too few runs for one."""

    value: float
    low: float
    high: float

    def __str__(self) -> str:
        if np.isnan(self.low):
            return f"{self.value:.1f}"
        return f"{self.value:.1f} ({self.low:.1f} to {self.high:.1f})"


class Runs:
    """The finished runs, by system."""

    def __init__(self, rows: Iterable[Mapping[str, str]]):
        self.rows = {(row["system"], int(row["fold"]), int(row["seed"])): row for row in rows}

    def cells(self, system: str) -> list[tuple[int, int]]:
        """(fold, seed) of a system's runs."""
        return sorted((fold, seed) for name, fold, seed in self.rows if name == system)

    def of(self, system: str) -> list[Mapping[str, str]]:
        """A system's rows."""
        return [self.rows[(system, *cell)] for cell in self.cells(system)]

    def top1(self, system: str, column: str = "predicted") -> Estimate:
        """Accuracy in percent over all tested videos; its interval resamples the videos, of which each counts once."""
        by_video: dict[tuple[int, int], list[float]] = {}
        for fold, seed in self.cells(system):
            for video, hit in enumerate(hits(self.rows[system, fold, seed], column)):
                by_video.setdefault((fold, video), []).append(hit)
        if not by_video:
            return Estimate(*3 * (float("nan"),))
        values = 100 * np.array([np.mean(each) for each in by_video.values()])
        draws = np.random.default_rng(0).choice(values, (4000, len(values))).mean(1)
        tails = (50 * (1 - LEVEL), 50 * (1 + LEVEL))
        return Estimate(values.mean(), *np.percentile(draws, tails))

    def difference(self, weaker: str, stronger: str) -> tuple[Estimate, list[tuple[int, int]]]:
        """Points by which one system beats another on the folds and seeds that both have, and those."""
        shared = sorted(set(self.cells(weaker)) & set(self.cells(stronger)))
        pairs = [[float(self.rows[(name, *cell)]["top1"]) for cell in shared] for name in (weaker, stronger)]
        return corrected_interval(np.subtract(pairs[1], pairs[0])), shared

    def after_reversal(self, system: str) -> float:
        """Percent of the reversed videos of left, right, up and down that are taken for the opposite gesture."""
        opposite = {str(CLASSES.index(name)): str(CLASSES.index(other)) for name, other in REVERSAL.items()}
        pairs = [pair for row in self.of(system) for pair in zip(row["truth"], row["reversed"], strict=True)]
        return 100 * float(np.mean([opposite[truth] == seen for truth, seen in pairs if truth in opposite] or [np.nan]))

    def confusion(self, system: str) -> np.ndarray:
        """Share of each true class (rows) that is taken for each class (columns)."""
        counts = np.zeros((len(CLASSES), len(CLASSES)))
        for row in self.of(system):
            np.add.at(counts, (np.array([*map(int, row["truth"])]), np.array([*map(int, row["predicted"])])), 1)
        return counts / np.maximum(counts.sum(1, keepdims=True), 1)


def hits(row: Mapping[str, str], column: str = "predicted") -> np.ndarray:
    """Whether each test video is classified correctly; the share of shuffled orders in which it is."""
    digits = [list(each) for each in row[column].split()]
    return (np.array(digits) == np.array(list(row["truth"]))).mean(0)


def corrected_interval(differences: Sequence[float] | np.ndarray) -> Estimate:
    """Mean and interval of differences between two systems, one for each fold and seed.

    The runs share training videos, so that their plain standard error is too small. The corrected t-test for repeated
    cross-validation (Nadeau and Bengio, 2003; Bouckaert and Frank, 2004) replaces 1/n by 1/n + test / training videos.
    """
    count = len(differences)
    if count == 0:
        return Estimate(*3 * (float("nan"),))
    mean = float(np.mean(differences))
    if count == 1:
        return Estimate(mean, float("nan"), float("nan"))
    error = np.std(differences, ddof=1) * np.sqrt(1 / count + 1 / (NUM_FOLDS - 1))
    half = float(stats.t.ppf((1 + LEVEL) / 2, count - 1) * error)
    return Estimate(mean, mean - half, mean + half)


def verdict(paper: float, ours: Estimate) -> str:
    """Whether a claim of the paper holds: the interval must lie on one side of zero."""
    if np.isnan(ours.low):
        return "too few runs"
    sign = 1 if paper >= 0 else -1
    low, high = sorted((sign * ours.low, sign * ours.high))
    return "holds" if low > 0 else "does not hold" if high < 0 else "cannot be told"
