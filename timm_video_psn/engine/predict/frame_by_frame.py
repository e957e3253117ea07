"""What a video shows, frame by frame: a causal model remembers what came before, and looks at each frame once."""

from __future__ import annotations

from collections.abc import Iterable, Iterator

import torch

from timm_video_psn.data import TimedFrame
from timm_video_psn.deploy.fold import fold
from timm_video_psn.deploy.stream import Stream
from timm_video_psn.engine.predict.sliding_window import Span
from timm_video_psn.engine.trained_model import TrainedModel
from timm_video_psn.engine.view_scores import to_probabilities


def predict_frames(
    model: TrainedModel,
    frames: Iterable[TimedFrame],
    window_sec: float,
    stride_sec: float | None = None,
    topk: int = 5,
) -> Iterator[Span]:
    """Predicts a video while its frames come in.

    The model takes T frames in each window of time, as it does of a clip, T the length of its clips. Its answer weighs
    a frame by exp(-age / window), so that it follows what happens.

    Args:
        model: A trained model, causal.
        frames: Frames of the video, in the order of their times.
        window_sec: Time in which the model takes T frames.
        stride_sec: Time from answer to answer; None for an answer to each frame that it takes.
        topk: Number of classes.

    Yields:
        An answer for what has been seen at the end of each stretch of time.

    Raises:
        ValueError: The model is not causal, or a length is not positive.
    """
    if not (window_sec > 0 and (stride_sec is None or stride_sec > 0)):
        raise ValueError(f"window_sec={window_sec} and stride_sec={stride_sec}: both must be above 0")
    count = model.protocol.num_frames
    interval_sec = window_sec / count
    stream = Stream(fold(model.model), decay=float(torch.tensor(-1 / count).exp()))
    next_frame_sec = next_answer_sec = 0.0
    for frame in frames:
        if frame.time_sec < next_frame_sec - 1e-9:
            continue
        in_time = frame.time_sec < next_frame_sec + interval_sec  # else the stream had a gap
        next_frame_sec = (next_frame_sec if in_time else frame.time_sec) + interval_sec
        with torch.inference_mode(), model.precision.autocast():
            clip = model.precision.clip(model.prepare(frame.rgb()[None])[None])  # (1, C, 1, S, S)
            logits = stream.step(clip[:, :, 0])
        if frame.time_sec >= next_answer_sec - 1e-9:
            next_answer_sec = frame.time_sec + (stride_sec or 0)
            top = model.most_likely(to_probabilities(logits.float(), model.activation)[0].cpu(), topk)
            yield Span(max(0.0, frame.time_sec - window_sec), frame.time_sec, top)
