"""The sampling of TSM's code and of SlowFast's, as plain loops, for every length from 1 to 2000.

The references are written from the formulas of `ops/dataset.py` of TSM and its like, one frame at a time.
"""

import numpy as np
import pytest

from timm_video_psn.data.clips.sampling import (
    TEST_SAMPLINGS,
    check_test_sampling,
    clip_indices,
    dense_indices,
    segment_clip_indices,
    segment_indices,
    tsm_indices,
)

LENGTHS = range(1, 2001)
pytestmark = pytest.mark.parametrize("segments", [4, 8, 16])


def middles(length, segments):
    """TSM `_get_test_indices`, one clip."""
    tick = length / float(segments)
    frames = []
    for segment in range(segments):
        frames.append(int(tick / 2.0 + tick * segment))
    return frames


def starts(length, segments):
    """The second clip of TSM's twice sampling."""
    tick = length / float(segments)
    frames = []
    for segment in range(segments):
        frames.append(int(tick * segment))
    return frames


def tsm_validation(length, segments):
    """TSM `_get_val_indices`: only videos longer than T are spread."""
    return middles(length, segments) if length > segments else [0] * segments


def tsm_training_bounds(length, segments):
    """TSM `_sample_indices`: the lowest and the highest frame that segment i can get."""
    step = length // segments
    bounds = []
    for segment in range(segments):
        if step > 0:
            bounds.append((segment * step, segment * step + step - 1))
        else:
            bounds.append((0, 0))
    return bounds


def spaced_starts(last, count):
    """Whole numbers at even distances from 0 to `last`, rounded down, as `np.linspace(..., dtype=int)` gives them."""
    return [int(number * (last / (count - 1))) if number < count - 1 else last for number in range(count)]


def window(start, length, segments):
    """A dense window of 64, which begins again in a short video."""
    step = 64 // segments
    frames = []
    for segment in range(segments):
        frames.append((start + segment * step) % length)
    return frames


class Lowest:
    """Draws the lowest of everything."""

    def integers(self, low, high=None, size=None):
        return np.zeros(size, dtype=np.int64) if size else 0

    def uniform(self, low, high, size):
        return np.zeros(size)


class Highest:
    """Draws the highest of everything."""

    def integers(self, low, high=None, size=None):
        assert high is None
        return np.full(size, low - 1) if size else low - 1

    def uniform(self, low, high, size):
        return np.full(size, high * (1 - 1e-12))


def test_one_clip_of_segments_is_tsms_test(segments):
    for length in LENGTHS:
        expected = middles(length, segments)
        assert segment_indices(length, segments).tolist() == expected
        assert clip_indices("segments", length, segments, 1).tolist() == [expected]


def test_tsm_validation(segments):
    for length in LENGTHS:
        expected = tsm_validation(length, segments)
        assert tsm_indices(length, segments).tolist() == expected
        assert clip_indices("tsm", length, segments, 1).tolist() == [expected]


def test_tsm_training_draws_from_its_bounds(segments):
    for length in LENGTHS:
        bounds = tsm_training_bounds(length, segments)
        assert tsm_indices(length, segments, Lowest()).tolist() == [low for low, _ in bounds]
        assert tsm_indices(length, segments, Highest()).tolist() == [high for _, high in bounds]


def test_our_training_reaches_the_tail_that_tsm_leaves_out(segments):
    for length in LENGTHS:
        assert segment_indices(length, segments, Lowest()).tolist() == starts(length, segments)
        assert segment_indices(length, segments, Highest())[-1] == length - 1
        lost = length - 1 - tsm_training_bounds(length, segments)[-1][1]
        assert lost == (length % segments if length >= segments else length - 1)


def test_twice(segments):
    for length in LENGTHS:
        expected = [middles(length, segments), starts(length, segments)]
        assert clip_indices("twice", length, segments, 2).tolist() == expected


def test_ten_dense_windows(segments):
    for length in LENGTHS:
        last = max(1, 1 + length - 64) - 1
        expected = [window(start, length, segments) for start in spaced_starts(last, 10)]
        clips = clip_indices("dense", length, segments, 10).tolist()
        assert clips == expected, length
        if length <= 64:
            assert len({tuple(clip) for clip in clips}) == 1
        else:
            assert (clips[0][0], clips[-1][0]) == (0, length - 64)


def test_dense_training_never_draws_the_last_window(segments):
    for length in LENGTHS:
        positions = max(1, 1 + length - 64)
        highest = 0 if positions == 1 else positions - 1 - 1  # np.random.randint(0, positions - 1)
        assert dense_indices(length, segments, Lowest()).tolist() == window(0, length, segments)
        assert dense_indices(length, segments, Highest()).tolist() == window(highest, length, segments)


def test_one_dense_window_is_the_middle_one(segments):
    for length in LENGTHS:
        expected = window(max(0, length - 64) // 2, length, segments)
        assert clip_indices("dense", length, segments, 1).tolist() == [expected]


def test_uniform_is_slowfasts(segments):
    for length in LENGTHS:
        size = float(length - 1) / segments
        expected = []
        for segment in range(segments):
            expected.append((round(size * segment) + round(size * (segment + 1))) // 2)
        assert clip_indices("uniform", length, segments, 1).tolist() == [expected]


def test_further_clips_of_segments_lie_evenly_in_each_segment(segments):
    for length in LENGTHS:
        tick = length / float(segments)
        expected = []
        for clip in range(3):
            offset = tick * (clip + 0.5) / 3
            expected.append([min(int(offset + tick * segment), length - 1) for segment in range(segments)])
        assert segment_clip_indices(length, segments, 3).tolist() == expected


def test_every_clip_of_every_sampling_lies_in_the_video(segments):
    for name, sampling in TEST_SAMPLINGS.items():
        clips = check_test_sampling(name)
        assert clips == sampling.usual_clips
        for length in [*range(1, 140), 500, 1999, 2000]:
            indices = clip_indices(name, length, segments, clips)
            assert (indices.dtype, indices.shape) == (np.int64, (clips, segments))
            assert 0 <= indices.min() <= indices.max() < length
