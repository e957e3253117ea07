"""Which frames of a video a model sees."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt


def segment_indices(
    num_frames: int, num_segments: int, rng: np.random.Generator | None = None
) -> npt.NDArray[np.int64]:
    """One frame from each of `num_segments` equal parts of the video, in temporal order.

    Sparse sampling of "Temporal Segment Networks: Towards Good Practices for Deep Action Recognition" (Wang et al.,
    2016). With N = num_frames, T = num_segments and a part of N/T frames, frame i is

    - for training (with `rng`): floor(i * N/T + u_i), u_i uniform in [0, N/T), at most N - 1. The parts cover the video
      to its end; the original code draws from whole steps of floor(N/T) and never sees the last N mod T frames.
    - for testing (without): int(N/T / 2 + i * N/T), the middle of the part, as in the test mode of TSM (Lin et al.,
      2019).

    A video shorter than T repeats frames.

    Args:
        num_frames: length N of the video, at least 1.
        num_segments: frames T to choose, at least 1.
        rng: source of the random positions; None for the fixed ones.

    Returns:
        Increasing (repeats possible) frame indices, (num_segments,).

    Raises:
        ValueError: `num_frames` or `num_segments` is below 1.

    Example:
        >>> segment_indices(20, 4)
        array([ 2,  7, 12, 17])
    """
    if num_frames < 1:
        raise ValueError(f"num_frames={num_frames} leaves nothing to sample from; a video needs at least 1 frame")
    if num_segments < 1:
        raise ValueError(f"num_segments={num_segments} asks for no frame; use 1 or more")
    tick = num_frames / num_segments
    starts = tick * np.arange(num_segments)  # (T,)
    offsets = tick / 2 if rng is None else rng.uniform(0, tick, num_segments)
    # The clip is for rounding: a start plus an offset just below a whole part may come out as N.
    return np.minimum((offsets + starts).astype(np.int64), num_frames - 1)
