"""From an index entry to a clip and its label."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
from torch.utils.data import Dataset

from timm_video_psn.data.clips.batch import Sample, UnreadableVideo, collate
from timm_video_psn.data.clips.epoch_sampler import Key
from timm_video_psn.data.clips.sampling import Sampling, segment_indices
from timm_video_psn.data.datasets.index import VideoIndex
from timm_video_psn.data.datasets.labels import flip_label_map
from timm_video_psn.data.video.errors import DecodeError
from timm_video_psn.data.video.reader import Decoder


class VideoDataset(Dataset[Sample | UnreadableVideo]):
    """Clips of the videos in an index.

    The key of an item is its number, (number, epoch), or (number, epoch, turn) for a video that comes again within an
    epoch. The random choices of a training clip depend only on the seed and the key, not on the worker.

    Args:
        index: The videos.
        num_frames: Frames T of a clip.
        transform: Function from (T, H, W, 3) to (T, S, S, 3) uint8. Training calls `transform(clip, rng)`, which
            returns (clip, mirrored); testing calls `transform(clip)`.
        training: Whether frames and transform are random, as in training, or fixed, as in testing.
        seed: Seed of the random choices.
        sampling: Function that chooses the frames; by default one from each of T equal parts of the video.
        decoder: Decoder of video files, as `VideoReader` takes it.
    """

    collate = staticmethod(collate)

    def __init__(
        self,
        index: VideoIndex,
        num_frames: int,
        transform: Callable[..., Any],
        training: bool,
        seed: int = 0,
        sampling: Sampling = segment_indices,
        decoder: Decoder = "auto",
    ) -> None:
        if num_frames < 1:
            raise ValueError(f"num_frames={num_frames} leaves no clip; use 1 or more")
        self.index = index
        self.num_frames = num_frames
        self.transform = transform
        self.training = training
        self.seed = seed
        self.sampling = sampling
        self.decoder = decoder
        if training and len(index) and index.labels.min() < 0:
            raise ValueError(f"{int((index.labels < 0).sum())} of {len(index)} videos to train on have no label")
        # Where classes are numbers, nothing tells left from right, and no clip may be mirrored.
        self._mirrored_label = flip_label_map(index.class_names) if index.named else np.full(len(index.class_names), -1)

    def __len__(self) -> int:
        return len(self.index)

    def __getitem__(self, key: int | Key) -> Sample | UnreadableVideo:
        number, epoch, *turn = key if isinstance(key, tuple) else (key, 0)
        if not 0 <= number < len(self):
            raise IndexError(f"video {number} asked for, but the data set has {len(self)}")
        rng = np.random.default_rng((self.seed, epoch, number, *turn)) if self.training else None
        length = 0

        def choose(num_frames: int) -> list[int]:
            nonlocal length
            length = num_frames
            return self.sampling(num_frames, self.num_frames, rng).tolist()

        try:
            clip = torch.from_numpy(self.index.decode(number, choose, self.decoder))  # (T, H, W, 3)
        except DecodeError as error:
            return UnreadableVideo(number, str(self.index.root / self.index.paths[number]), error.reason)
        labels = self.index.labels_of(number)
        if rng is None:
            clip = self.transform(clip)
        else:
            clip, labels = self._transform_for_training(clip, labels, rng)
        return Sample(clip, self._label(labels), number, length)

    def _label(self, labels: npt.NDArray[np.int64]) -> int | torch.Tensor:
        """The label as batches have it: a number; where videos may have several classes, 1 for each of them, (K,)."""
        if self.index.label_sets is None:
            return int(labels[0]) if len(labels) else -1
        target = torch.zeros(len(self.index.class_names))
        target[torch.from_numpy(labels)] = 1.0
        return target

    def _transform_for_training(
        self, clip: torch.Tensor, labels: npt.NDArray[np.int64], rng: np.random.Generator
    ) -> tuple[torch.Tensor, npt.NDArray[np.int64]]:
        clip, mirrored = self.transform(clip, rng)  # (T, S, S, 3)
        if not mirrored:
            return clip, labels
        if (self._mirrored_label[labels] < 0).any():
            return clip.flip(2), labels  # no class for the mirrored video, so it is turned back
        return clip, self._mirrored_label[labels]
