"""Segment sampling against plain loops."""

import math

import numpy as np
import pytest

from timm_video_psn.data.sampling import segment_indices

SEGMENTS = (1, 4, 8, 16)
LENGTHS = range(1, 301)


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
