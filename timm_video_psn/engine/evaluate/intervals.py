"""95 % intervals of shares, of their mean over classes and of the difference of two, and McNemar's test.

A share of hits has Wilson's interval (1927): 9 of 9 is [70, 100] %, not [100, 100]. The intervals say how far a number
would move with other videos of the same kind; they know nothing of other seeds of the training.
"""

from typing import NamedTuple

import numpy as np
import numpy.typing as npt

ABOUT_INTERVALS = {"level": 0.95, "method": "Wilson; paired differences: Newcombe's method 10"}  # for result files
_Z = 1.959963984540054  # quantile of the normal distribution for 95 %

Floats = npt.NDArray[np.float64]


class Interval(NamedTuple):
    """A percentage and the bounds of its 95 % interval."""

    value: float
    low: float
    high: float

    def __str__(self) -> str:
        return f"{self.value:.2f} [{self.low:.2f}, {self.high:.2f}]"


def wilson_bounds(share: npt.ArrayLike, total: npt.ArrayLike) -> tuple[Floats, Floats]:
    """Wilson's bounds of shares, as `scipy.stats.binomtest(hits, total).proportion_ci(method="wilson")` gives them.

    Args:
        share: Hits / total, any shape; half hits are accepted, as ties within a pair give them.
        total: Number of trials, whole or, as an effective number, not.
    """
    p, n = np.asarray(share, dtype=np.float64), np.asarray(total, dtype=np.float64)
    centre = (p + _Z**2 / (2 * n)) / (1 + _Z**2 / n)
    half = _Z / (1 + _Z**2 / n) * np.sqrt(p * (1 - p) / n + _Z**2 / (4 * n**2))
    # at 0 and 1 a bound is the share itself, up to rounding
    return np.where(p > 0, (centre - half).clip(0, 1), 0.0), np.where(p < 1, (centre + half).clip(0, 1), 1.0)


def share_interval(hits: float, total: int) -> Interval:
    """A share in percent with Wilson's interval.

    Args:
        hits: Number of hits; half ones count.
        total: Number of videos, at least 1.
    """
    low, high = wilson_bounds(hits / total, total)
    return Interval(100 * hits / total, 100 * float(low), 100 * float(high))


def mean_interval(hits: npt.NDArray[np.int64], totals: npt.NDArray[np.int64]) -> Interval:
    """The mean of the shares of several classes in percent, with Wilson's interval at its effective number of videos.

    The effective number n is the one at which a single share would have the variance of the mean, m (1 - m) / n. In
    both, (hits + 1/2) / (total + 1) stands for each share, so that classes without a miss have a variance, too.
    Simulated with 5 to 100 classes of 1 to 50 videos, 90 to 99 % of the intervals hold the true mean, mostly 95 %.

    Args:
        hits: Hits of each class, (K,).
        totals: Videos of each class, (K,), each at least 1.
    """
    mean = float((hits / totals).mean())
    smooth = (hits + 0.5) / (totals + 1)
    variance = float((smooth * (1 - smooth) / totals).sum()) / len(totals) ** 2
    low, high = wilson_bounds(mean, smooth.mean() * (1 - smooth.mean()) / variance)
    return Interval(100 * mean, 100 * float(low), 100 * float(high))


def difference_interval(first: npt.NDArray[np.bool_], second: npt.NDArray[np.bool_]) -> Interval:
    """The second share of hits minus the first, on the same videos, in points.

    The interval is Newcombe's for paired proportions (1998, method 10): Wilson's bounds with the correlation of the
    pairs.

    Args:
        first: Hits of one model, (N,).
        second: Hits of another model on the same videos, (N,).
    """
    n = len(first)
    both, gained = int((first & second).sum()), int((~first & second).sum())
    lost, neither = int((first & ~second).sum()), int((~first & ~second).sum())
    p_new, p_old = (both + gained) / n, (both + lost) / n
    (low_new, low_old), (high_new, high_old) = wilson_bounds([p_new, p_old], n)
    margins = float(both + gained) * (lost + neither) * (both + lost) * (gained + neither)
    cross = float(both * neither - gained * lost)
    cross = max(cross - n / 2, 0.0) if cross > 0 else cross  # the method's correction of phi for continuity
    phi = cross / margins**0.5 if margins else 0.0

    def distance(a: float, b: float) -> float:
        return max(a * a - 2 * phi * a * b + b * b, 0.0) ** 0.5

    difference = p_new - p_old
    low = difference - distance(p_new - low_new, high_old - p_old)
    high = difference + distance(high_new - p_new, p_old - low_old)
    return Interval(100 * difference, 100 * float(low), 100 * float(high))


def mcnemar_p(only_first: int, only_second: int) -> float:
    """The p-value of McNemar's exact test, two-sided: a binomial test on the videos that one model alone gets right.

    Args:
        only_first: Number of videos that the first model alone names correctly.
        only_second: Number of videos that the second model alone names correctly.
    """
    from scipy.stats import binomtest  # loading it takes a second

    total = only_first + only_second
    return float(binomtest(only_first, total).pvalue) if total else 1.0
