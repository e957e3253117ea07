"""A clip, a video that cannot be read, and a batch of both."""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import torch
from torch.utils.data import default_collate


class Sample(NamedTuple):
    """A clip as the model's input is made of, (T, S, S, 3) uint8, with what is to be known about it."""

    clip: torch.Tensor
    label: int | torch.Tensor  # where videos may have several classes, 1.0 for each of them, (K,)
    index: int  # type: ignore[assignment]  # of the video in its data set; hides tuple.index, which nobody needs
    num_frames: int  # of the video the clip was taken from


class UnreadableVideo(NamedTuple):
    """A video that could not be decoded; it takes the place of its sample, so that nothing else is passed off as it."""

    index: int  # type: ignore[assignment]
    path: str
    reason: str

    def __str__(self) -> str:
        return f"{self.path}: {self.reason}"


class Batch(NamedTuple):
    """Clips that could be decoded, and word of those that could not.

    Shape:
        clip: (B, T, S, S, 3) uint8; `normalize_clip` makes the model's input of it, best on the device.
        label, index, num_frames: (B,) int64: class, number of the video in its data set, frames of the video. Where
            videos may have several classes, label is (B, K) float32, 1 for each of them.
        unreadable: one entry for each video that is missing from the batch; B + len(unreadable) videos were asked for.
    """

    clip: torch.Tensor
    label: torch.Tensor
    index: torch.Tensor  # type: ignore[assignment]  # hides tuple.index, which nobody needs
    num_frames: torch.Tensor
    unreadable: list[UnreadableVideo]


def collate(items: Sequence[Sample | UnreadableVideo]) -> Batch:
    """Stacks samples and sets the unreadable ones apart; with no sample left, all tensors have length 0."""
    samples = [item for item in items if isinstance(item, Sample)]
    unreadable = [item for item in items if isinstance(item, UnreadableVideo)]
    clips, labels = [sample.clip for sample in samples], [sample.label for sample in samples]
    return Batch(
        # in a worker, default_collate stacks right into the memory that the main process shares
        clip=default_collate(clips) if clips else torch.empty((0, 0, 0, 0, 3), dtype=torch.uint8),  # (B, T, S, S, 3)
        label=default_collate(labels) if labels else torch.empty(0, dtype=torch.int64),
        index=torch.tensor([sample.index for sample in samples], dtype=torch.int64),
        num_frames=torch.tensor([sample.num_frames for sample in samples], dtype=torch.int64),
        unreadable=unreadable,
    )
