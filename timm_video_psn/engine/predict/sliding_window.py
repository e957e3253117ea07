"""What a long video shows, and when: windows slide over its frames, and each is predicted like a separate video."""

from __future__ import annotations

import logging
import math
from collections import deque
from collections.abc import Iterable, Iterator, Sequence
from typing import NamedTuple, TypeVar

import numpy as np
import torch

from timm_video_psn.data import DecodeError, TimedFrame
from timm_video_psn.engine.trained_model import Prediction, TrainedModel

_logger = logging.getLogger(__name__)
Item = TypeVar("Item")
_MOST_FRAMES = 256  # of a window that are held in memory; the model looks at 8 or 16 of them


class Span(NamedTuple):
    """A stretch of a video and its most likely classes."""

    start_sec: float
    end_sec: float
    top: Sequence[Prediction]


class _Window(NamedTuple):
    start_sec: float
    end_sec: float
    frames: list[TimedFrame]


def predict_windows(
    model: TrainedModel,
    frames: Iterable[TimedFrame],
    fps: float,
    window_sec: float,
    stride_sec: float,
    topk: int = 5,
    batch_size: int = 1,
) -> Iterator[Span]:
    """Predicts every window of a video while its frames come in.

    Window k covers the frames from k * stride_sec on and before k * stride_sec + window_sec. The last one ends with the
    video: it is a whole window that overlaps the one before it more than others do. A video shorter than a window is
    one window.

    Args:
        model: The model.
        frames: Frames of the video, in the order of their times.
        fps: Approximate frame rate.
        window_sec: Length of a window.
        stride_sec: Time from the start of one window to the start of the next.
        topk: Number of classes.
        batch_size: Windows that go through the model together; 1 for a live source.

    Yields:
        The windows in the order of time.

    Raises:
        ValueError: A length that is not positive.
        DecodeError: The video breaks off; what came before has been given.
    """
    if not (window_sec > 0 and stride_sec > 0):
        raise ValueError(f"window_sec={window_sec} and stride_sec={stride_sec}: both must be above 0")
    keep_every = max(1, math.ceil(window_sec * fps / _MOST_FRAMES))
    if keep_every > 1:
        _logger.warning(
            "windows of %g s at %.3g frames per second: one frame of %d is looked at", window_sec, fps, keep_every
        )
    windows = slide(frames, 1 / fps, window_sec, stride_sec, keep_every)
    clips = ((window, model.prepare(_chosen(model, window.frames))) for window in windows)
    for batch in _batches(clips, batch_size):
        yield from _predict(model, batch, topk)


def _batches(items: Iterable[Item], size: int) -> Iterator[list[Item]]:
    """Lists of so many items; those from before a video breaks off are given, too."""
    batch: list[Item] = []
    try:
        for item in items:
            batch.append(item)
            if len(batch) == size:
                yield batch
                batch = []
    except DecodeError:
        if batch:
            yield batch
        raise
    if batch:
        yield batch


def slide(
    frames: Iterable[TimedFrame], frame_sec: float, window_sec: float, stride_sec: float, keep_every: int = 1
) -> Iterator[_Window]:
    """Cuts frames into windows; see `predict_windows`.

    Args:
        frames: Frames in the order of their times.
        frame_sec: Time that the last frame of the video is shown.
        window_sec: Length of a window.
        stride_sec: Time from the start of one window to the start of the next.
        keep_every: Number of frames of which one is held.
    """
    held: deque[TimedFrame] = deque()
    number, end_sec, covered_sec = 0, 0.0, 0.0
    for count, frame in enumerate(frames):
        while frame.time_sec >= number * stride_sec + window_sec - 1e-9:
            start = number * stride_sec
            if window := _cut(held, start, start + window_sec):
                yield window
                covered_sec = start + window_sec
            number += 1
        if count % keep_every == 0:
            held.append(frame)
        end_sec = frame.time_sec + frame_sec
        # the next window needs what is no older than its start, and a last one what is no older than its length
        while held and held[0].time_sec < min(number * stride_sec, end_sec - window_sec) - 1e-9:
            held.popleft()
    if covered_sec < end_sec - 1e-9 and (window := _cut(held, max(0.0, end_sec - window_sec), end_sec)):
        yield window


def _cut(held: Iterable[TimedFrame], start_sec: float, end_sec: float) -> _Window | None:
    """The held frames of a stretch; None where it has none, as in a gap of a stream."""
    frames = [frame for frame in held if start_sec - 1e-9 <= frame.time_sec < end_sec - 1e-9]
    return _Window(start_sec, end_sec, frames) if frames else None


def _chosen(model: TrainedModel, frames: list[TimedFrame]) -> np.ndarray:
    """The frames of a window that the model looks at, (T, H, W, 3); only these are converted to RGB."""
    indices = model.frame_indices(len(frames))
    pixels = {index: frames[index].rgb() for index in set(indices)}
    return np.stack([pixels[index] for index in indices])


def _predict(model: TrainedModel, batch: list[tuple[_Window, torch.Tensor]], topk: int) -> Iterator[Span]:
    clips = torch.stack([clip for _, clip in batch])
    for (window, _), top in zip(batch, model.predict_clips(clips, topk), strict=True):
        yield Span(window.start_sec, window.end_sec, top)
