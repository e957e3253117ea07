"""Segment sampling against plain loops."""

import math

import numpy as np
import pytest

from timm_video_psn.data.clips.sampling import (
    SAMPLINGS,
    dense_clip_indices,
    dense_indices,
    segment_indices,
    tsm_indices,
    twice_sample_indices,
    uniform_indices,
)

SEGMENTS = (1, 4, 8, 16)
LENGTHS = range(1, 301)
ALL_LENGTHS = range(1, 2001)


@pytest.mark.parametrize("num_segments", SEGMENTS)
def test_fixed_frames_are_those_of_tsm(num_segments):
    for num_frames in LENGTHS:
        tick = num_frames / float(num_segments)
        expected = [int(tick / 2.0 + tick * i) for i in range(num_segments)]
        indices = segment_indices(num_frames, num_segments)
        assert indices.dtype == np.int64
        assert indices.tolist() == expected


@pytest.mark.parametrize("num_segments", SEGMENTS)
def test_random_frames_are_one_of_each_segment(num_segments):
    rng = np.random.default_rng(0)
    for num_frames in LENGTHS:
        same_draw = np.random.default_rng(num_frames)
        indices = segment_indices(num_frames, num_segments, np.random.default_rng(num_frames))
        tick = num_frames / num_segments
        expected = [math.floor(i * num_frames / num_segments + same_draw.uniform(0, tick)) for i in range(num_segments)]
        assert indices.tolist() == [min(index, num_frames - 1) for index in expected]
        indices = segment_indices(num_frames, num_segments, rng)
        assert indices.tolist() == sorted(indices)
        for i, index in enumerate(indices):
            assert math.floor(i * tick - 1e-9) <= index <= min((i + 1) * tick, num_frames - 1)


@pytest.mark.parametrize(("num_frames", "num_segments"), [(49, 16), (23, 8), (5, 8)])
def test_random_frames_reach_every_frame_to_the_tail(num_frames, num_segments):
    rng = np.random.default_rng(0)
    seen = np.concatenate([segment_indices(num_frames, num_segments, rng) for _ in range(2000)])
    assert set(seen.tolist()) == set(range(num_frames))


def test_frames_of_a_long_video_are_equally_likely():
    rng = np.random.default_rng(0)
    seen = np.bincount(np.concatenate([segment_indices(20, 8, rng) for _ in range(20_000)]), minlength=20)
    np.testing.assert_allclose(seen / 20_000, 8 / 20, atol=0.02)


def test_a_draw_that_rounds_up_to_the_end_stays_inside():
    class Last:
        def uniform(self, low, high, size):
            return np.full(size, high)  # what floating point makes of the largest draws

    assert segment_indices(7, 3, Last()).max() == 6


@pytest.mark.parametrize("count", [0, -3])
def test_counts_below_one_are_errors(count):
    with pytest.raises(ValueError, match=f"num_frames={count} leaves nothing to sample from"):
        segment_indices(count, 8)
    with pytest.raises(ValueError, match=f"num_segments={count} asks for no frame"):
        segment_indices(8, count)


class Draws:
    """Hands out the whole numbers that it was given, and notes which bounds they were asked within."""

    def __init__(self, rng):
        self.rng, self.drawn = rng, []

    def integers(self, low, high=None, size=None, endpoint=False):
        numbers = self.rng.integers(low, high, size, endpoint=endpoint)
        self.drawn.append((low, high, size, np.array(numbers)))
        return numbers


@pytest.mark.parametrize("num_segments", [4, 8, 16])
class TestTsm:
    def test_training_frames_are_those_of_its_formula(self, num_segments):
        rng = np.random.default_rng(0)
        for num_frames in ALL_LENGTHS:
            draws = Draws(rng)
            indices = tsm_indices(num_frames, num_segments, draws)
            duration = num_frames // num_segments
            if duration > 0:
                ((high, none, size, drawn),) = draws.drawn
                assert (high, none, size) == (duration, None, num_segments)
                expected = [i * duration + int(drawn[i]) for i in range(num_segments)]
            else:  # "elif num_frames > num_segments" cannot hold here
                expected = [0] * num_segments
            assert indices.tolist() == expected
            assert max(expected) <= duration * num_segments - 1 if duration else True

    def test_validation_frames_are_those_of_its_formula(self, num_segments):
        for num_frames in ALL_LENGTHS:
            if num_frames > num_segments:
                tick = num_frames / float(num_segments)
                expected = [int(tick / 2.0 + tick * x) for x in range(num_segments)]
            else:
                expected = [0] * num_segments
            assert tsm_indices(num_frames, num_segments).tolist() == expected

    def test_test_frames_are_those_of_its_formula(self, num_segments):
        for num_frames in ALL_LENGTHS:
            tick = num_frames / float(num_segments)
            expected = [int(tick / 2.0 + tick * x) for x in range(num_segments)]
            assert segment_indices(num_frames, num_segments).tolist() == expected

    def test_twice_sample(self, num_segments):
        for num_frames in ALL_LENGTHS:
            tick = num_frames / float(num_segments)
            expected = [int(tick / 2.0 + tick * x) for x in range(num_segments)] + [
                int(tick * x) for x in range(num_segments)
            ]
            assert twice_sample_indices(num_frames, num_segments).ravel().tolist() == expected

    def test_dense_training(self, num_segments):
        rng = np.random.default_rng(0)
        for num_frames in ALL_LENGTHS:
            draws = Draws(rng)
            indices = dense_indices(num_frames, num_segments, draws)
            positions = max(1, 1 + num_frames - 64)
            start = 0
            if positions != 1:
                ((high, none, size, drawn),) = draws.drawn
                assert (high, none, size) == (positions - 1, None, None)
                start = int(drawn)
            stride = 64 // num_segments
            assert indices.tolist() == [(i * stride + start) % num_frames for i in range(num_segments)]

    def test_dense_test(self, num_segments):
        for num_frames in ALL_LENGTHS:
            positions = max(1, 1 + num_frames - 64)
            stride = 64 // num_segments
            expected = []
            for start in np.linspace(0, positions - 1, num=10, dtype=int).tolist():
                expected += [(i * stride + start) % num_frames for i in range(num_segments)]
            assert dense_clip_indices(num_frames, num_segments).ravel().tolist() == expected

    def test_dense_validation_takes_the_middle_window(self, num_segments):
        for num_frames in (1, 63, 64, 65, 66, 301):
            start = max(0, num_frames - 64) // 2
            expected = [(start + i * (64 // num_segments)) % num_frames for i in range(num_segments)]
            assert dense_indices(num_frames, num_segments).tolist() == expected

    def test_uniform(self, num_segments):
        rng = np.random.default_rng(0)
        for num_frames in ALL_LENGTHS:
            size = float(num_frames - 1) / num_segments
            bounds = [(int(np.round(size * i)), int(np.round(size * (i + 1)))) for i in range(num_segments)]
            assert uniform_indices(num_frames, num_segments).tolist() == [(a + b) // 2 for a, b in bounds]
            drawn = uniform_indices(num_frames, num_segments, rng)
            assert all(a <= index <= b for (a, b), index in zip(bounds, drawn, strict=True))

    def test_every_frame_lies_in_the_video_and_has_one_type(self, num_segments):
        rng = np.random.default_rng(0)
        for sampling in SAMPLINGS.values():
            for num_frames in range(1, 2001, 37):
                for source in (rng, None):
                    indices = sampling(num_frames, num_segments, source)
                    assert (indices.dtype, indices.shape) == (np.int64, (num_segments,))
                    assert 0 <= indices.min() <= indices.max() < num_frames


def test_the_tail_that_tsm_never_sees_is_seen_by_default():
    rng = np.random.default_rng(0)
    default, tsm = (
        np.unique([sampling(49, 16, rng) for _ in range(3000)]) for sampling in (segment_indices, tsm_indices)
    )
    assert (default.max(), tsm.max()) == (48, 47)
    default, tsm = (
        np.unique([sampling(31, 16, rng) for _ in range(3000)]) for sampling in (segment_indices, tsm_indices)
    )
    assert (len(default), tsm.max()) == (31, 15)


def test_uniform_draws_reach_both_bounds():
    rng = np.random.default_rng(0)
    assert np.unique([uniform_indices(9, 2, rng)[0] for _ in range(300)]).tolist() == [0, 1, 2, 3, 4]


@pytest.mark.parametrize("sampling", [tsm_indices, dense_indices, uniform_indices, twice_sample_indices])
def test_no_frames_are_an_error_in_every_mode(sampling):
    with pytest.raises(ValueError, match="leaves nothing to sample from"):
        sampling(0, 8)


def test_no_clips_are_an_error():
    with pytest.raises(ValueError, match="num_clips=0 asks for no clip"):
        dense_clip_indices(100, 8, 0)
