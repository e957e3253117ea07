"""Accuracy of a model on the videos of a loader, each of them once, whatever the number of processes."""

import logging
from dataclasses import dataclass
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from timm_video_psn.data import UnreadableVideo
from timm_video_psn.engine.distributed import gather, is_first
from timm_video_psn.engine.precision import Precision

_logger = logging.getLogger(__name__)


@dataclass(frozen=True)
class Evaluation:
    """Percentages over the videos that could be read, and how many those were of how many.

    `pair_top1` is the accuracy when only the two classes of a video's reversal pair compete, None where the data set
    declares no pairs: 50 for a model that sees no order.
    """

    loss: float
    top1: float
    top5: float
    pair_top1: float | None
    num_videos: int
    num_expected: int
    num_short: int = 0  # of those, fewer frames than a clip: some are repeated
    unreadable: tuple[UnreadableVideo, ...] = ()


@torch.inference_mode()
def evaluate(
    model: nn.Module,
    batches: Any,
    precision: Precision,
    num_expected: int,
    reversal_pairs: tuple[tuple[int, int], ...] = (),
) -> Evaluation:
    """Evaluate a model; it is left in evaluation mode.

    Within a process group every process evaluates its share of the videos, and gets the result over all of them.

    Args:
        model: a video model, the same one in every process.
        batches: a loader over the videos, each once: in one process, and in one batch.
        precision: how clips enter the model.
        num_expected: videos that there should be.
        reversal_pairs: pairs of classes that differ only in the order of their frames.

    Raises:
        ValueError: not one video could be read.
    """
    model.eval()
    logits, labels, num_short, unreadable = predict_all(model, batches, precision)
    if not len(labels):
        reasons = "; ".join(f"{item.path}: {item.reason}" for item in unreadable[:3])
        raise ValueError(f"none of the {num_expected} videos to evaluate could be read: {reasons}")
    finite = logits.isfinite().all(1)
    if not finite.all() and is_first():
        _logger.warning(
            "the logits of %d of %d videos are not finite, which counts as wrong; use --amp-dtype bfloat16 or no --amp",
            *(int((~finite).sum()), len(finite)),
        )
    top = (logits.topk(min(5, logits.shape[1]), dim=1).indices == labels[:, None]) & finite[:, None]
    return Evaluation(
        loss=F.cross_entropy(logits, labels).item(),
        top1=_percent(top[:, 0]),
        top5=_percent(top.any(1)),
        pair_top1=pair_accuracy(logits, labels, reversal_pairs),
        num_videos=len(labels),
        num_expected=num_expected,
        num_short=num_short,
        unreadable=tuple(unreadable),
    )


def predict_all(
    model: nn.Module, batches: Any, precision: Precision
) -> tuple[Tensor, Tensor, int, list[UnreadableVideo]]:
    """Logits (N, K) and labels (N,) of the videos that could be read, on the CPU; how many were short; the others.

    All are those of every process, in the order of the data set.
    """
    logits: list[Tensor] = []
    labels: list[Tensor] = []
    index: list[Tensor] = []
    unreadable: list[UnreadableVideo] = []
    num_short = 0
    for batch in batches:
        unreadable += batch.unreadable
        if len(batch.label):
            num_short += int((batch.num_frames < batch.clip.shape[1]).sum())
            with precision.autocast():
                output = model(precision.clip(batch.clip))
            logits.append(output.float().cpu())
            labels.append(batch.label)
            index.append(batch.index)
    mine = [(torch.cat(logits), torch.cat(labels), torch.cat(index))] if labels else []
    return _merge(gather((mine, num_short, unreadable)))


def _merge(parts: list[Any]) -> tuple[Tensor, Tensor, int, list[UnreadableVideo]]:
    """What the processes have predicted, as one of them would have."""
    predicted = [tensors for mine, _, _ in parts for tensors in mine]
    num_short = sum(short for _, short, _ in parts)
    unreadable = sorted((item for _, _, items in parts for item in items), key=lambda item: item.index)
    if not predicted:
        return torch.empty(0, 0), torch.empty(0, dtype=torch.int64), num_short, unreadable
    logits, labels, index = (torch.cat(column) for column in zip(*predicted, strict=True))
    order = index.argsort(stable=True)
    if len(parts) > 1 and len(index.unique()) < len(index):
        raise ValueError(
            f"{len(index) - len(index.unique())} videos were evaluated by more than one process; give the loader of "
            "each process its rank and world_size"
        )
    return logits[order], labels[order], num_short, unreadable


def pair_accuracy(logits: Tensor, labels: Tensor, pairs: tuple[tuple[int, int], ...]) -> float | None:
    """Percentage of videos whose own class beats the other class of its pair.

    Args:
        logits: (N, K).
        labels: (N,).
        pairs: classes that belong together; videos of other classes do not count.

    Returns:
        None without pairs, or without a video of any of them.
    """
    if not pairs:
        return None
    partner = torch.full((logits.shape[1],), -1)
    for a, b in pairs:
        partner[a], partner[b] = b, a
    paired = partner[labels] >= 0
    if not paired.any():
        return None
    own = logits[paired].gather(1, labels[paired, None])
    other = logits[paired].gather(1, partner[labels[paired], None])
    # A tie counts half: a model that cannot tell the two apart has 50 %, however its classes are numbered.
    return 100.0 * ((own > other).double() + 0.5 * (own == other).double()).mean().item()


def _percent(hits: Tensor) -> float:
    return 100.0 * hits.double().mean().item()
