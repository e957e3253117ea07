"""Trajectories: what a class is, and that the frames without their order do not tell it from its partner."""

import functools

import numpy as np
import pytest

from timm_video_psn.data.datasets.motion import MOTION_CLASSES, MOTION_PAIRS
from timm_video_psn.data.datasets.motion_actions import ACTIONS, NUM_FRAMES, SIZE_PX, _split, draw_tent, ramp, tent

PAIRS = [(MOTION_CLASSES[first], MOTION_CLASSES[second]) for first, second in MOTION_PAIRS]


@functools.cache
def draws(name: str, count: int, seed: int) -> np.ndarray:
    """Trajectories of a class in the order of its frames; (count, 3, T) of x, y, radius."""
    action = ACTIONS[name]
    drawn = np.stack([np.stack(action.draw(np.random.default_rng((seed, i)))) for i in range(count)])
    return drawn[..., ::-1] if action.backwards else drawn


def excursion(values: np.ndarray) -> np.ndarray:
    """Values relative to their start; (count, T)."""
    return values - values[:, :1]


def kolmogorov_smirnov(first: np.ndarray, second: np.ndarray) -> float:
    """p-value of the hypothesis that two samples have one distribution (asymptotic)."""
    first, second = np.sort(np.round(first, 6)), np.sort(np.round(second, 6))
    values = np.concatenate([first, second])
    ranks = [np.searchsorted(sample, values, side="right") / len(sample) for sample in (first, second)]
    root = np.sqrt(len(first) * len(second) / (len(first) + len(second)))
    scaled = (root + 0.12 + 0.11 / root) * np.abs(ranks[0] - ranks[1]).max()
    if scaled < 0.2:  # where the series converges slowly, to 1
        return 1.0
    return min(1.0, 2 * sum((-1) ** (k - 1) * np.exp(-2 * (k * scaled) ** 2) for k in range(1, 101)))


def bag_statistics(trajectories: np.ndarray) -> dict[str, np.ndarray]:
    """Statistics that do not depend on the order of the frames; each (count,)."""
    x, y, radius = trajectories.transpose(1, 0, 2)
    statistics = {"mean x": x.mean(1), "spread x": x.std(1), "mean y": y.mean(1), "area": (radius**2).mean(1)}
    for name, values in (("x", x), ("y", y), ("radius", radius)):
        middle = (values.max(1) + values.min(1)) / 2
        statistics[f"time at either end of {name}"] = values.mean(1) - middle
        statistics[f"median {name}"] = np.median(values, axis=1)
    shares = np.stack([np.histogram(row, bins=6, range=(0, SIZE_PX))[0] for row in x], axis=1)
    return statistics | {f"share of frames in column {i}": share for i, share in enumerate(shares)}


@pytest.mark.parametrize("pair", PAIRS, ids="/".join)
def test_bags_of_frames_of_a_pair_have_one_distribution(pair):
    first, second = (bag_statistics(draws(name, 500, seed)) for seed, name in enumerate(pair))
    p_values = {name: kolmogorov_smirnov(first[name], second[name]) for name in first}
    assert min(p_values.values()) > 1e-3, p_values


def test_the_statistics_would_notice_a_rest_at_one_end():
    early, late = (np.stack([ramp(5 + extra, 6, 0) for _ in range(500)])[:, None].repeat(3, 1) for extra in (0, 6))
    assert kolmogorov_smirnov(bag_statistics(early)["mean x"], bag_statistics(late)["mean x"]) < 1e-6


def test_the_frames_of_a_tent_upside_down_are_those_of_another_tent():
    checked = 0
    for out in range(2, 8):
        for back in range(2, 8):
            for hold in range(NUM_FRAMES - out - back + 1):
                rest = NUM_FRAMES - out - back - hold
                frames = np.sort(1 - tent(rest // 2, out, hold, back, 0.3))
                partner = np.sort(tent(hold // 3, back, rest, out, 0.3))
                np.testing.assert_allclose(frames, partner, atol=1e-12)
                checked += 1
    assert checked > 500


def test_tents_stay_at_the_top_as_long_as_at_the_bottom():
    tents = np.stack([draw_tent(np.random.default_rng(i)) for i in range(4000)])
    np.testing.assert_allclose(tents.mean(), 0.5, atol=0.01)
    at_bottom, at_top = (tents == 0).sum(1), (tents == 1).sum(1)
    assert kolmogorov_smirnov(at_bottom, at_top) > 1e-3


@pytest.mark.parametrize("total", [4, 9, 24])
def test_splits_are_equally_likely(total):
    rng = np.random.default_rng(0)
    splits = [tuple(_split(rng, total, 2, 2)) for _ in range(4000)]
    counts = [splits.count((first, total - first)) for first in range(2, total - 1)]
    assert sum(counts) == 4000
    np.testing.assert_allclose(np.array(counts) * len(counts) / 4000, 1, atol=0.25)


class TestActions:
    COUNT = 300

    def test_slides_go_one_way(self):
        for name, sign in (("slide_right", 1), ("slide_left", -1)):
            x = sign * draws(name, self.COUNT, 0)[:, 0]
            assert (np.diff(x) >= 0).all()
            assert (x[:, -1] - x[:, 0] >= 6.4).all()

    def test_approach_and_recede_change_the_size(self):
        for name, sign in (("approach", 1), ("recede", -1)):
            radius = np.log(draws(name, self.COUNT, 0)[:, 2])
            assert (sign * np.diff(radius) >= 0).all()
            assert (sign * (radius[:, -1] - radius[:, 0]) >= np.log(1.29)).all()

    @pytest.mark.parametrize(
        ("name", "row", "sign"),
        [
            ("right_then_left", 0, 1),
            ("left_then_right", 0, -1),
            ("grow_then_shrink", 2, 1),
            ("shrink_then_grow", 2, -1),
        ],
    )
    def test_excursions_go_out_and_come_back(self, name, row, sign):
        path = sign * draws(name, self.COUNT, 0)[:, row]
        turn = path.argmax(1)
        assert all((np.diff(p[: t + 1]) >= -1e-9).all() for p, t in zip(path, turn, strict=True))
        assert all((np.diff(p[t:]) <= 1e-9).all() for p, t in zip(path, turn, strict=True))
        ends = np.maximum(path[:, 0], path[:, -1])
        assert (path.max(1) > ends).all()
        assert (path[:, 1::3].max(1) - path[:, 1::3].min(1) > 0).all()  # eight evenly spread frames show it

    @pytest.mark.parametrize(
        ("name", "first", "second"),
        [
            ("hop_then_pulse", (1, -1), (2, 1)),
            ("pulse_then_hop", (2, 1), (1, -1)),
            ("duck_then_dip", (2, -1), (1, 1)),
            ("dip_then_duck", (1, 1), (2, -1)),
        ],
    )
    def test_two_part_actions_come_in_their_order(self, name, first, second):
        trajectories = draws(name, self.COUNT, 0)
        rest = np.median(trajectories, axis=2)
        active = []
        for row, sign in (first, second):
            # At rest a row has its lowest value, taken with its sign.
            values = sign * trajectories[:, row]
            active.append(values - values.min(1, keepdims=True) > 1e-9)
        assert rest.shape == (self.COUNT, 3)
        assert not (active[0] & active[1]).any()
        for begins, follows in zip(*active, strict=True):
            assert np.flatnonzero(begins).max() < np.flatnonzero(follows).min()

    @pytest.mark.parametrize("name", MOTION_CLASSES)
    def test_shapes_stay_mostly_visible_and_in_range(self, name):
        x, y, radius = draws(name, self.COUNT, 0).transpose(1, 0, 2)
        assert radius.min() >= 3.5 - 1e-9
        assert radius.max() <= 22 + 1e-9
        for centre in (x, y):
            assert (centre >= 0.6 * radius - 1e-9).all()
            assert (centre <= SIZE_PX - 0.6 * radius + 1e-9).all()

    def test_nuisances_spread_widely(self):
        slides = draws("slide_right", 2000, 0)
        travel = slides[:, 0, -1] - slides[:, 0, 0]
        moving = (np.diff(slides[:, 0]) > 1e-9).sum(1)
        radius = draws("approach", 2000, 0)[:, 2]
        zoom = radius[:, -1] / radius[:, 0]
        for values, low, high in ((travel, 7.5, 42), (moving, 4, 23), (zoom, 1.35, 3.6), (slides[:, 2, 0], 3.8, 21)):
            assert values.min() <= low
            assert values.max() >= high
