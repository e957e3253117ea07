"""Scores of videos over all views of all protocols: a few views at a time, and each different view once."""

import logging
from collections.abc import Sequence

import numpy as np
import numpy.typing as npt
import torch
from torch import nn

from timm_video_psn.data import VideoViews
from timm_video_psn.engine.precision import Precision

_logger = logging.getLogger(__name__)

AUTOMATIC_VIEWS = 16  # at once, until the GPU says that it is too many

Floats = npt.NDArray[np.float32]


class ViewScorer:
    """Runs a model over the views of videos.

    Args:
        model: A video model; it is left in evaluation mode.
        precision: Device, autocast and normalisation.
        views_per_step: Number of views per batch; None for 16, halved whenever the GPU runs out of memory.
    """

    def __init__(self, model: nn.Module, precision: Precision, views_per_step: int | None = None):
        self.model = model.eval()
        self.precision = precision
        self.automatic = views_per_step is None
        self.views_per_step = AUTOMATIC_VIEWS if views_per_step is None else views_per_step
        self.views_seen = 0

    def logits(self, videos: Sequence[VideoViews]) -> list[Floats]:
        """Logits of each different view of each video, (views, K).

        Args:
            videos: Videos with their views.
        """
        found: dict[tuple[int, int], Floats] = {}
        for places in _alike(videos):
            done = 0
            while done < len(places):
                step = places[done : done + self.views_per_step]
                try:
                    values = self._step(torch.stack([videos[video].clip(view) for video, view in step]))
                except torch.OutOfMemoryError:
                    self._take_less()
                    continue
                found.update(zip(step, values, strict=True))
                done += len(step)
        return [
            np.stack([found[number, view] for view in range(len(video.views))]) for number, video in enumerate(videos)
        ]

    @torch.inference_mode()
    def _step(self, clips: torch.Tensor) -> Floats:
        """Logits of some views, (B, T, S, S, 3) -> (B, K)."""
        with self.precision.autocast():
            output = self.model(self.precision.clip(clips))
        self.views_seen += len(clips)
        values: Floats = output.float().cpu().numpy()
        return values

    def _take_less(self) -> None:
        """Goes on with half as many views at once."""
        if not self.automatic or self.views_per_step == 1:
            raise ValueError(
                f"{self.views_per_step} views at once do not fit into the memory of {self.precision.device}; use a "
                "smaller --views-per-step, --amp, or a smaller --test-img-size"
            ) from None
        self.views_per_step //= 2
        torch.cuda.empty_cache()
        _logger.info("memory    too small for this many views at once: continuing with %d", self.views_per_step)


def fuse(logits: Floats, fusion: str, activation: str = "softmax") -> Floats:
    """The scores of a video from the logits of its views.

    Args:
        logits: Logits of the views of a protocol, (views, K).
        fusion: Quantity averaged over the views, `logits` or `probabilities`.
        activation: What makes probabilities of logits, `softmax` or `sigmoid`.
    """
    values = torch.from_numpy(logits).double()
    if fusion == "probabilities":
        values = to_probabilities(values, activation)
    return np.asarray(values.mean(0).numpy(), dtype=np.float32)


def to_probabilities(logits: torch.Tensor, activation: str) -> torch.Tensor:
    """Probabilities of the classes, which exclude one another (`softmax`) or do not (`sigmoid`).

    Args:
        logits: (B, K).
        activation: `softmax` or `sigmoid`.
    """
    return logits.sigmoid() if activation == "sigmoid" else logits.softmax(1)


def _alike(videos: Sequence[VideoViews]) -> list[list[tuple[int, int]]]:
    """(video, view) of all views, views of one shape together."""
    groups: dict[tuple[int, int], list[tuple[int, int]]] = {}
    for number, video in enumerate(videos):
        for place, view in enumerate(video.views):
            shape = (len(view.rows), video.frames[view.size].shape[2])
            groups.setdefault(shape, []).append((number, place))
    return list(groups.values())
