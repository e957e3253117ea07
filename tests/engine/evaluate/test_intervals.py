"""Intervals against scipy's, a paper's table, and simulations: they hold the truth as often as they say."""

from fractions import Fraction
from itertools import product

import numpy as np
import pytest
from scipy.stats import binomtest

from timm_video_psn.engine.evaluate.intervals import difference_interval, mcnemar_p, mean_interval, share_interval


@pytest.mark.parametrize(("hits", "total"), [(9, 9), (0, 9), (0, 1), (1, 2), (5, 9), (300, 1000), (997, 1000)])
def test_a_share_has_the_interval_of_scipy(hits, total):
    expected = binomtest(hits, total).proportion_ci(method="wilson")
    value, low, high = share_interval(hits, total)
    assert value == pytest.approx(100 * hits / total)
    assert (low, high) == pytest.approx((100 * expected.low, 100 * expected.high), abs=1e-9)
    assert low <= value <= high


def test_nine_of_nine_are_not_certain():
    assert str(share_interval(9, 9)) == "100.00 [70.09, 100.00]"


def test_half_hits_lie_between_whole_ones():
    bounds = [share_interval(hits, 9)[1:] for hits in (4, 4.5, 5)]
    assert bounds[0] < bounds[1] < bounds[2]
    assert share_interval(4.5, 9).value == 50.0


def test_the_mean_of_one_class_is_about_its_share():
    one, share = mean_interval(np.array([27]), np.array([30])), share_interval(27, 30)
    assert one.value == share.value
    assert one.low == pytest.approx(share.low, abs=2)
    assert mean_interval(np.array([3, 3, 3]), np.array([3, 3, 3])).low < 80


@pytest.mark.parametrize("videos", [1, 3, 30])
@pytest.mark.parametrize("hard", [False, True])
def test_intervals_of_a_mean_over_classes_hold_the_truth(videos, hard):
    rng = np.random.default_rng(0)
    shares = rng.beta(9, 9, 20) if hard else rng.beta(18, 2, 20)
    held = 0
    for _ in range(1000):
        hits = rng.binomial(videos, shares)
        low, high = mean_interval(hits, np.full(20, videos))[1:]
        held += low <= 100 * shares.mean() <= high
    assert 0.9 <= held / 1000 <= 0.99


def test_intervals_of_a_difference_hold_the_truth_in_about_95_of_100_cases():
    rng = np.random.default_rng(0)
    for joint in ([0.5, 0.2, 0.1, 0.2], [0.8, 0.1, 0.02, 0.08], [0.05, 0.45, 0.1, 0.4]):
        truth = 100 * (joint[1] - joint[2])  # gained less lost
        held = 0
        for _ in range(1000):
            cells = rng.choice(4, 40, p=joint)  # both, gained, lost, neither
            _, low, high = difference_interval(np.isin(cells, (0, 2)), np.isin(cells, (0, 1)))
            held += low <= truth <= high
        assert 0.93 <= held / 1000 <= 0.99


def test_the_interval_of_a_difference_is_the_paper_s():
    """Newcombe 1998, Table II: 36 pairs right in both, 12 in the one alone, 2 in the other alone, 0 in neither."""
    cells = np.repeat(np.arange(4), (36, 12, 2, 0))
    _, low, high = difference_interval(np.isin(cells, (0, 2)), np.isin(cells, (0, 1)))
    assert (round(low, 2), round(high, 2)) == (5.69, 34.04)


def test_differences_turn_round_with_the_models_and_are_never_certain():
    rng = np.random.default_rng(1)
    old, new = rng.random(30) < 0.4, rng.random(30) < 0.7
    value, low, high = difference_interval(old, new)
    assert difference_interval(new, old) == pytest.approx((-value, -high, -low))
    _, low, high = difference_interval(np.ones(10, dtype=bool), np.ones(10, dtype=bool))
    assert low < 0 < high


def test_pairs_that_agree_make_the_interval_narrower():
    old = np.arange(40) < 20
    agreeing, opposed = np.arange(40) < 24, np.arange(40) >= 16
    widths = [high - low for _, low, high in (difference_interval(old, new) for new in (agreeing, opposed))]
    assert widths[0] < widths[1]


def test_mcnemar_is_exact():
    for only_first, only_second in product(range(8), range(8)):
        total = only_first + only_second
        outcomes = [Fraction(1)]
        for _ in range(total):  # a fair coin for each video
            outcomes = [(a + b) / 2 for a, b in zip([*outcomes, Fraction(0)], [Fraction(0), *outcomes], strict=True)]
        uneven = abs(only_first - only_second)
        p = sum(share for k, share in enumerate(outcomes) if abs(k - (total - k)) >= uneven)
        assert mcnemar_p(only_first, only_second) == pytest.approx(float(p), rel=1e-12)
    assert mcnemar_p(0, 2000) == pytest.approx(2.0**-1999)
    assert mcnemar_p(5000, 5200) == pytest.approx(0.0488, abs=1e-4)
