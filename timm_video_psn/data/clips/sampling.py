"""Which frames of a video a model sees.

A training mode is a function `(num_frames, num_segments, rng)`; without `rng` it gives the fixed frames of validation.
`SAMPLINGS` names them. The other functions are the clips of multi-clip tests, (num_clips, T); `clip_indices` finds
them by name.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import NamedTuple

import numpy as np
import numpy.typing as npt

Indices = npt.NDArray[np.int64]
Sampling = Callable[[int, int, np.random.Generator | None], Indices]

WINDOW = 64  # frames of a dense window, as in I3D and TSM


def segment_indices(num_frames: int, num_segments: int, rng: np.random.Generator | None = None) -> Indices:
    """One frame from each of `num_segments` equal parts of the video, in temporal order.

    Sparse sampling of "Temporal Segment Networks: Towards Good Practices for Deep Action Recognition" (Wang et al.,
    2016). With N = num_frames, T = num_segments and a part of N/T frames, frame i is

    - for training (with `rng`): floor(i * N/T + u_i), u_i uniform in [0, N/T), at most N - 1. The parts cover the video
      to its end; the original code draws from whole steps of floor(N/T) and never sees the last N mod T frames.
    - for testing (without): int(N/T / 2 + i * N/T), the middle of the part, as in the test mode of TSM (Lin et al.,
      2019).

    A video shorter than T repeats frames.

    Args:
        num_frames: Length N of the video, at least 1.
        num_segments: Frames T to choose, at least 1.
        rng: Source of the random positions; None for the fixed ones.

    Returns:
        Increasing (repeats possible) frame indices, (num_segments,).

    Raises:
        ValueError: `num_frames` or `num_segments` is below 1.

    Example:
        >>> segment_indices(20, 4)
        array([ 2,  7, 12, 17])
    """
    _check(num_frames, num_segments)
    tick = num_frames / num_segments
    starts = tick * np.arange(num_segments)  # (T,)
    offsets = tick / 2 if rng is None else rng.uniform(0, tick, num_segments)
    # The clip is for rounding: a start plus an offset just below a whole part may come out as N.
    return np.minimum((offsets + starts).astype(np.int64), num_frames - 1)


def tsm_indices(num_frames: int, num_segments: int, rng: np.random.Generator | None = None) -> Indices:
    """The frames of TSM's code for training and validation, to compare with weights that were trained on them.

    With N frames, T segments and d = floor(N/T), frame i is

    - for training: i * d + r_i, r_i a whole number from 0 to d - 1, so that the last N mod T frames are never seen;
    - for validation: int(N/T / 2 + i * N/T), as in `segment_indices`, where N > T.

    A video of no more than T frames gives T times its first frame in validation, and in training if N < T. TSM's test
    mode is `segment_indices` without `rng` for every N.

    Args:
        num_frames: Length N of the video, at least 1.
        num_segments: Frames T to choose, at least 1.
        rng: Source of the random positions; None for validation.
    """
    _check(num_frames, num_segments)
    if rng is None:
        short = num_frames <= num_segments
        return np.zeros(num_segments, dtype=np.int64) if short else segment_indices(num_frames, num_segments)
    step = num_frames // num_segments
    if step == 0:
        return np.zeros(num_segments, dtype=np.int64)
    return np.arange(num_segments) * step + rng.integers(step, size=num_segments)


def uniform_indices(num_frames: int, num_segments: int, rng: np.random.Generator | None = None) -> Indices:
    """The "uniform" frames of SlowFast's and PyTorchVideo's Something-Something.

    The bounds of segment i are round(i * (N-1)/T) and round((i+1) * (N-1)/T), both inclusive; training draws a frame
    between them (neighbours can repeat), validation takes the one in the middle, rounded down.

    Args:
        num_frames: Length N of the video, at least 1.
        num_segments: Frames T to choose, at least 1.
        rng: Source of the random positions; None for the fixed ones.
    """
    _check(num_frames, num_segments)
    bounds = np.round((num_frames - 1) / num_segments * np.arange(num_segments + 1)).astype(np.int64)  # (T + 1,)
    if rng is None:
        return (bounds[:-1] + bounds[1:]) // 2
    return rng.integers(bounds[:-1], bounds[1:], endpoint=True)


def dense_indices(num_frames: int, num_segments: int, rng: np.random.Generator | None = None) -> Indices:
    """T frames at equal steps in a window of 64, the sampling of I3D and of TSM's dense models.

    The step is max(1, 64 // T); frame i is (start + i * step) mod N, so that a short video begins again. Training draws
    the start as TSM does, from 0 to N - 65: the last window, at N - 64, is never drawn. TSM validates on windows drawn
    at random; here validation takes the middle one, so that its numbers can be compared.

    Args:
        num_frames: Length N of the video, at least 1.
        num_segments: Frames T to choose, at least 1.
        rng: Source of the random start; None for the middle window.
    """
    _check(num_frames, num_segments)
    last = max(0, num_frames - WINDOW)
    start = last // 2
    if rng is not None and last:
        start = int(rng.integers(last))
    return _window(start, num_frames, num_segments)


def twice_sample_indices(num_frames: int, num_segments: int) -> Indices:
    """Two clips for a test: the middles of the segments, and their starts int(i * N/T), in TSM's order.

    Args:
        num_frames: Length N of the video, at least 1.
        num_segments: Frames T of a clip, at least 1.

    Returns:
        (2, num_segments).
    """
    starts = (num_frames / num_segments * np.arange(num_segments)).astype(np.int64)
    return np.stack([segment_indices(num_frames, num_segments), starts])


def dense_clip_indices(num_frames: int, num_segments: int, num_clips: int = 10) -> Indices:
    """Dense windows for a test, their starts spread evenly from the first window to the last, as in TSM.

    Args:
        num_frames: Length N of the video, at least 1. Up to 64 frames, all clips are the same.
        num_segments: Frames T of a clip, at least 1.
        num_clips: Number of windows.

    Returns:
        (num_clips, num_segments).
    """
    _check(num_frames, num_segments)
    if num_clips < 1:
        raise ValueError(f"num_clips={num_clips} asks for no clip; use 1 or more")
    starts = np.linspace(0, max(0, num_frames - WINDOW), num=num_clips, dtype=int)
    return np.stack([_window(int(start), num_frames, num_segments) for start in starts])


def segment_clip_indices(num_frames: int, num_segments: int, num_clips: int = 1) -> Indices:
    """Clips for a test with a frame of each segment, at places spread evenly over the segment.

    Frame i of clip k is int(i * N/T + (k + 1/2) * N/T / num_clips): one clip has the middles of the segments, as
    `segment_indices`. More clips replace the random draws of TEA's "10 clips" by frames that are the same every time.

    Args:
        num_frames: Length N of the video, at least 1.
        num_segments: Frames T of a clip, at least 1.
        num_clips: clips.

    Returns:
        (num_clips, num_segments).
    """
    _check(num_frames, num_segments)
    tick = num_frames / num_segments
    offsets = tick / 2 if num_clips == 1 else tick * (np.arange(num_clips)[:, None] + 0.5) / num_clips
    indices = np.minimum((offsets + tick * np.arange(num_segments)).astype(np.int64), num_frames - 1)
    return indices.reshape(num_clips, num_segments)


def sampling_name(text: str) -> str:
    """The name of a sampling in `SAMPLINGS` and `TEST_SAMPLINGS`; `tsn` is an alias of `segments`.

    Args:
        text: Name as the user writes it.
    """
    return "segments" if text == "tsn" else text


def check_test_sampling(sampling: str, num_clips: int | None = None) -> int:
    """The number of clips of a test: the given number if the sampling supports it, or else its usual one.

    Args:
        sampling: A name in `TEST_SAMPLINGS`.
        num_clips: Number asked for, or None.

    Raises:
        ValueError: There is no such sampling, or it has no such number of clips.
    """
    if sampling not in TEST_SAMPLINGS:
        raise ValueError(f"sampling {sampling!r} is unknown; for a test there are {', '.join(TEST_SAMPLINGS)}")
    if num_clips is None:
        return TEST_SAMPLINGS[sampling].usual_clips
    only = TEST_SAMPLINGS[sampling].only_clips
    if num_clips < 1 or only not in (None, num_clips):
        raise ValueError(
            f"{num_clips} clips asked for, but sampling {sampling!r} has {only or '1 or more'}; "
            "segments and dense take any number"
        )
    return num_clips


def clip_indices(sampling: str, num_frames: int, num_segments: int, num_clips: int) -> Indices:
    """The clips of a test.

    Args:
        sampling: A name in `TEST_SAMPLINGS`.
        num_frames: Length N of the video, at least 1.
        num_segments: Frames T of a clip, at least 1.
        num_clips: clips.

    Returns:
        (num_clips, num_segments).
    """
    check_test_sampling(sampling, num_clips)
    return TEST_SAMPLINGS[sampling].indices(num_frames, num_segments, num_clips)


class ClipSampling(NamedTuple):
    """Clips of a test `(num_frames, num_segments, num_clips)`, how many are usual, and the only number, if any."""

    indices: Callable[[int, int, int], Indices]
    usual_clips: int
    only_clips: int | None


def _one_clip(sampling: Sampling) -> Callable[[int, int, int], Indices]:
    return lambda num_frames, num_segments, num_clips: sampling(num_frames, num_segments, None)[None]


def _dense_clips(num_frames: int, num_segments: int, num_clips: int) -> Indices:
    if num_clips == 1:  # the first of one "evenly spread" window would be the beginning; validation takes the middle
        return dense_indices(num_frames, num_segments)[None]
    return dense_clip_indices(num_frames, num_segments, num_clips)


SAMPLINGS: dict[str, Sampling] = {
    "segments": segment_indices,
    "tsm": tsm_indices,
    "dense": dense_indices,
    "uniform": uniform_indices,
}

TEST_SAMPLINGS: dict[str, ClipSampling] = {
    "segments": ClipSampling(segment_clip_indices, 1, None),
    "tsm": ClipSampling(_one_clip(tsm_indices), 1, 1),  # as TSM validates; TSM's own test is `segments`
    "twice": ClipSampling(lambda frames, segments, clips: twice_sample_indices(frames, segments), 2, 2),
    "dense": ClipSampling(_dense_clips, 10, None),
    "uniform": ClipSampling(_one_clip(uniform_indices), 1, 1),  # SlowFast gives every view the same frames
}


def _window(start: int, num_frames: int, num_segments: int) -> Indices:
    # TSM's step of 64 // T would be 0 from 65 frames on
    return (start + np.arange(num_segments) * max(1, WINDOW // num_segments)) % num_frames


def _check(num_frames: int, num_segments: int) -> None:
    if num_frames < 1:
        raise ValueError(f"num_frames={num_frames} leaves nothing to sample from; a video needs at least 1 frame")
    if num_segments < 1:
        raise ValueError(f"num_segments={num_segments} asks for no frame; use 1 or more")
