"""What a model makes of the videos of a split: accuracy, and the videos that it gets most wrong."""

from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import torch

from timm_video_psn.data import Batch, ShardedIndex, VideoDataset, VideoIndex, collate, create_loader
from timm_video_psn.data.clips.batch import Sample
from timm_video_psn.engine.evaluate.scores import Scores
from timm_video_psn.engine.trained_model import TrainedModel
from timm_video_psn.engine.view_scores import to_probabilities

_BATCH = 16
_STRIP, _GAP = 4, 2  # frames of a strip, pixels between them


@dataclass(frozen=True)
class Features:
    """What a model makes of videos.

    Attributes:
        values: Pooled features, (N, D).
        logits: Scores of the classes, (N, K).
        labels: Classes of the videos, (N,).
        index: Numbers of the videos in their data set, (N,).
        num_unreadable: Number of the videos that could not be read.
        activation: What makes probabilities of the scores, `softmax` or `sigmoid`.
    """

    values: np.ndarray
    logits: np.ndarray
    labels: np.ndarray
    index: np.ndarray
    num_unreadable: int = 0
    activation: str = "softmax"

    @property
    def predicted(self) -> np.ndarray:
        """The most likely class of each video, (N,)."""
        return np.asarray(self.logits.argmax(1))

    @property
    def probabilities(self) -> np.ndarray:
        """(N, K); with softmax, rows add up to 1."""
        return to_probabilities(torch.from_numpy(self.logits), self.activation).numpy()


@dataclass(frozen=True)
class HardVideo:
    """A video that a model names wrongly, and how sure it is.

    Attributes:
        path: Path of the video in its data set.
        label: Class of the video.
        predicted: Class that the model says.
        probability: Probability of what the model says.
        own_probability: Probability of the video's class.
        strip: Frames side by side, uint8 (S, W, 3).
    """

    path: str
    label: str
    predicted: str
    probability: float
    own_probability: float
    strip: np.ndarray


def create_feature_loader(
    trained: TrainedModel, index: VideoIndex, limit: int | None = None, workers: int = 1
) -> Iterable[Batch]:
    """A loader of the clips that validation sees.

    Args:
        trained: The model.
        index: The videos.
        limit: Largest number of videos, spread evenly over the data set; None for all.
        workers: Processes that decode.
    """
    dataset = _dataset(trained, index)
    part = None
    if limit is not None and limit < len(index):
        part = np.linspace(0, len(index) - 1, limit).round().astype(int).tolist()
    if isinstance(index, ShardedIndex):
        batches = create_loader(dataset, _BATCH, False, workers)
        return batches if part is None else map(partial(_only, torch.tensor(part)), batches)
    return create_loader(dataset, _BATCH, False, workers) if part is None else _Part(dataset, part)


def _dataset(trained: TrainedModel, index: VideoIndex) -> Any:
    return VideoDataset(index, trained.model.num_frames, trained.transform, False, 0, trained.sampling)


class _Part:
    """Some videos of a data set, in batches."""

    def __init__(self, dataset: VideoDataset, numbers: list[int]):
        self.dataset, self.numbers = dataset, numbers

    def __len__(self) -> int:
        return -(-len(self.numbers) // _BATCH)

    def __iter__(self) -> Iterator[Batch]:
        for start in range(0, len(self.numbers), _BATCH):
            yield collate([self.dataset[number] for number in self.numbers[start : start + _BATCH]])


def _only(numbers: torch.Tensor, batch: Batch) -> Batch:
    """What a batch has of some videos; shards are read from start to end, whatever is wanted of them."""
    kept = torch.isin(batch.index, numbers)
    unreadable = [one for one in batch.unreadable if one.index in numbers]
    return Batch(batch.clip[kept], batch.label[kept], batch.index[kept], batch.num_frames[kept], unreadable)


@torch.inference_mode()
def extract_features(trained: TrainedModel, batches: Iterable[Batch]) -> Features:
    """The pooled features of videos, what the classifier sees, averaged over the frames; and what it makes of them.

    Args:
        trained: The model.
        batches: Batches of clips.

    Raises:
        ValueError: Not one video could be read, or the split does not tell the labels.
    """
    model, parts, unreadable = trained.model, [], 0
    for batch in batches:
        unreadable += len(batch.unreadable)
        if not len(batch.label):
            continue
        label = batch.label.argmax(1) if batch.label.ndim == 2 else batch.label  # of several classes the first
        if (label < 0).any():
            raise ValueError("this split has videos without labels; use a split with labels, such as val")
        with trained.precision.autocast():
            maps = model.forward_features(trained.precision.clip(batch.clip))
            features = model.forward_head(maps, pre_logits=True).float().cpu()  # (B, D)
            logits = model.forward_head(maps).float().cpu()
        parts.append((features.numpy(), logits.numpy(), label.numpy(), batch.index.numpy()))
    if not parts:
        raise ValueError(f"none of the {unreadable} videos could be read")
    values, scores, labels, index = (np.concatenate(column) for column in zip(*parts, strict=True))
    return Features(values, scores, labels, index, unreadable, trained.activation)


def scores_of(trained: TrainedModel, index: VideoIndex, features: Features) -> Scores:
    """The scores of the videos, as a test with the model's own protocol gives them.

    Args:
        trained: The model.
        index: The videos.
        features: See `extract_features`.
    """
    return Scores(
        features.logits,
        features.labels.astype(np.int64),
        tuple(index.paths[int(number)] for number in features.index),
        index.class_names,
        str(trained.protocol),
        "logits",
        len(features.labels) + features.num_unreadable,
        index.version,
        None if index.label_sets is None else index.targets(features.index.tolist()),
        features.activation,
    )


def hardest_videos(trained: TrainedModel, index: VideoIndex, features: Features, count: int = 12) -> list[HardVideo]:
    """The videos whose own class is least likely to the model, the least likely first.

    Args:
        trained: The model.
        index: The videos; videos in shards cannot be read again, and none is shown.
        features: See `extract_features`.
        count: Largest number of videos.
    """
    if isinstance(index, ShardedIndex):
        return []
    probabilities, dataset = features.probabilities, _dataset(trained, index)
    targets = index.targets(features.index.tolist())
    own = np.where(targets, probabilities, np.inf).min(1)  # of several classes, the least likely one
    found: list[HardVideo] = []
    for row in np.argsort(own, kind="stable"):
        number, said = int(features.index[row]), int(features.predicted[row])
        sample = dataset[number] if not targets[row, said] and len(found) < count else None
        if isinstance(sample, Sample):
            label = ", ".join(index.class_names[k] for k in np.flatnonzero(targets[row]).tolist())
            share = float(probabilities[row, said])
            strip = film_strip(sample.clip.numpy())
            found.append(HardVideo(index.paths[number], label, index.class_names[said], share, float(own[row]), strip))
    return found


def surest_video(index: VideoIndex, features: Features) -> Path | None:
    """The video that the model names rightly with the highest probability, or the first one where all are wrong.

    Args:
        index: The videos.
        features: See `extract_features`.

    Returns:
        None where the videos lie in shards, or are later parts of files.
    """
    if isinstance(index, ShardedIndex):
        return None
    own = features.probabilities[np.arange(len(features.labels)), features.predicted]
    right = own * index.targets(features.index.tolist())[np.arange(len(own)), features.predicted]
    rows = [row for row in np.argsort(-right, kind="stable") if index.part(int(features.index[row]))[0] == 0]
    return index.root / index.paths[int(features.index[rows[0]])] if rows else None


def film_strip(frames: np.ndarray) -> np.ndarray:
    """A few frames of a clip side by side.

    Args:
        frames: uint8.

    Shape:
        frames: (T, S, S, 3) -> (S, W, 3)
    """
    chosen = frames[np.unique(np.linspace(0, len(frames) - 1, _STRIP).round().astype(int))]
    gap = np.full((frames.shape[1], _GAP, 3), 255, np.uint8)
    parts = [part for frame in chosen for part in (frame, gap)]
    return np.concatenate(parts[:-1], axis=1)
