"""Accuracy of a model on the videos of a loader, each of them once, whatever the number of processes."""

import logging
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from timm_video_psn.data import UnreadableVideo
from timm_video_psn.engine.distributed import gather, is_first
from timm_video_psn.engine.evaluate.accuracy import pair_hits, ranks_of_labels
from timm_video_psn.engine.evaluate.ranking import mean_average_precision
from timm_video_psn.engine.precision import Precision
from timm_video_psn.losses import Classification, ClassificationLoss

_logger = logging.getLogger(__name__)


@dataclass(frozen=True)
class Evaluation:
    """Percentages over the videos that could be read, and how many those were of how many.

    `pair_top1` is the accuracy when only the two classes of a video's reversal pair compete, None where the data set
    declares no pairs: 50 for a model that sees no order. `top5` is None for five classes or fewer.
    """

    loss: float
    top1: float
    top5: float | None
    pair_top1: float | None
    num_videos: int
    num_expected: int
    mean_ap: float | None = None  # mAP, where each class has a probability of its own
    num_short: int = 0  # of those, fewer frames than a clip: some are repeated
    unreadable: tuple[UnreadableVideo, ...] = ()


@torch.inference_mode()
def evaluate(
    model: nn.Module,
    batches: Any,
    precision: Precision,
    num_expected: int,
    reversal_pairs: tuple[tuple[int, int], ...] = (),
    loss: Classification = "ce",
) -> Evaluation:
    """Evaluates a model; it is left in evaluation mode.

    Within a process group every process evaluates its share of the videos, and gets the result over all of them.

    Args:
        model: A video model, the same one in every process.
        batches: A loader over the videos, each once: in one process, and in one batch.
        precision: Device, autocast and normalisation.
        num_expected: Videos that there should be.
        reversal_pairs: Pairs of classes that differ only in the order of their frames.
        loss: Kind of the classification loss; `bce` has mAP, too.

    Raises:
        ValueError: Not one video could be read.
    """
    model.eval()
    logits, labels, num_short, unreadable = predict_all(model, batches, precision)
    if not len(labels):
        reasons = "; ".join(map(str, unreadable[:3]))
        raise ValueError(f"none of the {num_expected} videos to evaluate could be read: {reasons}")
    finite = logits.isfinite().all(1)
    if not finite.all() and is_first():
        _logger.warning(
            "the logits of %d of %d videos are not finite, which counts as wrong; use --amp-dtype bfloat16 or no --amp",
            *(int((~finite).sum()), len(finite)),
        )
    scores, targets = torch.where(finite[:, None], logits, -torch.inf).numpy(), None
    if labels.ndim == 2:
        targets = labels.numpy() > 0
        best = np.where(targets, scores, -np.inf).argmax(1)  # of several classes, the most likely one
    else:
        best = labels.numpy()
    ranks, in_pairs = ranks_of_labels(scores, best), pair_hits(scores, best, reversal_pairs)
    ranks[~finite.numpy()] = logits.shape[1]
    mean_ap = None
    if loss == "bce":
        one_hot = labels.numpy()[:, None] == np.arange(logits.shape[1]) if targets is None else targets
        mean_ap = mean_average_precision(np.maximum(scores, np.finfo(np.float32).min), one_hot)
    return Evaluation(
        loss=ClassificationLoss(loss)(logits, labels).item(),
        top1=100.0 * float((ranks < 1).mean()),
        top5=100.0 * float((ranks < 5).mean()) if logits.shape[1] > 5 else None,
        pair_top1=100.0 * float(in_pairs.mean()) if len(in_pairs) else None,
        num_videos=len(labels),
        num_expected=num_expected,
        mean_ap=mean_ap,
        num_short=num_short,
        unreadable=tuple(unreadable),
    )


def predict_all(
    model: nn.Module, batches: Any, precision: Precision
) -> tuple[Tensor, Tensor, int, list[UnreadableVideo]]:
    """Logits (N, K) and labels, (N,) or (N, K), of the videos that could be read; how many were short; the others.

    All processes get the same, over all videos in the order of the data set.
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
