"""Batches of clips out of tar shards, the same ones whatever the number of worker processes.

What a clip looks like is left to `VideoDataset`: a video that has come out of a shard is decoded, sampled and
transformed as one from a file is, with random choices that depend on the seed, the epoch and its number alone.
"""

from __future__ import annotations

import logging
from collections.abc import Iterator
from typing import Any, Protocol

import numpy as np
import torch
from torch.utils.data import DataLoader, Dataset, Sampler

from timm_video_psn.data.clips.epoch_sampler import EpochPosition
from timm_video_psn.data.clips.worker import init_worker
from timm_video_psn.data.datasets.index import VideoIndex
from timm_video_psn.data.shards.index import ShardedIndex
from timm_video_psn.data.shards.plan import ShardPlan
from timm_video_psn.data.shards.sample import PackedVideo
from timm_video_psn.data.shards.stream import read_videos

_logger = logging.getLogger(__name__)


class ClipSource(Protocol):
    """Makes items of videos, and batches of items: a `VideoDataset` makes clips, a `MultiViewDataset` views."""

    index: VideoIndex
    decoder: Any

    def __len__(self) -> int:
        """The number of videos."""

    def __getitem__(self, key: tuple[int, int], /) -> Any:
        """The item of the video of a number in an epoch."""

    def collate(self, items: list[Any], /) -> Any:
        """The batch of some items."""


class ShardBatches(Dataset[Any]):
    """The batches of a plan by (epoch, number).

    The lanes that batches come out of stay open between two calls. Batches of a lane are cheap in turn; any other order
    is right, too, but begins the lane anew.

    Args:
        dataset: Source of the clips; its index is a `ShardedIndex`.
        plan: Plan of which videos are in which batch.
    """

    def __init__(self, dataset: ClipSource, plan: ShardPlan) -> None:
        assert isinstance(dataset.index, ShardedIndex)
        self.dataset = dataset
        self.index = dataset.index
        self.plan = plan
        self._numbers = np.concatenate([shard.numbers for shard in self.index.shards])  # by position
        self._open: dict[int, tuple[tuple[int, int], Iterator[Any]]] = {}  # lane -> (key of its next batch, batches)

    def __len__(self) -> int:
        return len(self.plan)

    def __getitem__(self, key: tuple[int, int]) -> Any:
        epoch, number = key
        turn, lane = divmod(number, self.plan.lanes)
        expected, batches = self._open.pop(lane, (None, iter(())))
        if key != expected:
            batches = self._batches(epoch, lane, turn)
        batch = next(batches)
        following = number + self.plan.lanes
        if following < len(self):
            self._open[lane] = ((epoch, following), batches)
        return batch

    def _batches(self, epoch: int, lane: int, first: int) -> Iterator[Any]:
        """Batches of a lane from its `first` on; what comes before is read past, if at all, and not decoded."""
        arriving_order, order = self.plan.lane(epoch, lane)
        order = order[first * self.plan.batch_size :]
        arriving = read_videos(self.index, arriving_order[np.isin(arriving_order, order)])
        waiting: dict[int, PackedVideo] = {}
        for start in range(0, len(order), self.plan.batch_size):
            items = []
            for position in order[start : start + self.plan.batch_size].tolist():
                while position not in waiting:
                    arrived, video = next(arriving)
                    waiting[arrived] = video
                items.append(self._item(int(self._numbers[position]), waiting.pop(position), epoch))
            yield self.dataset.collate(items)

    def _item(self, number: int, video: PackedVideo, epoch: int) -> Any:
        """What is made of a video."""
        self.index.held[number] = video
        try:
            return self.dataset[number, epoch]
        finally:
            del self.index.held[number]


class ShardOrder(EpochPosition):
    """Where the next pass of a `ShardLoader` begins, as `EpochSampler` knows it for files.

    Args:
        plan: Plan of all epochs.
    """

    def __init__(self, plan: ShardPlan) -> None:
        self.plan = plan

    def __len__(self) -> int:
        return len(self.plan)


class _KeysOfWorker(Sampler[tuple[int, int]]):
    """The (epoch, number) of the batches whose lanes belong to a worker."""

    def __init__(self, order: ShardOrder, worker: int, workers: int) -> None:
        self.order = order
        self.worker = worker
        self.workers = workers

    def __iter__(self) -> Iterator[tuple[int, int]]:
        epoch, lanes = self.order.epoch, self.order.plan.lanes
        for number in range(self.order.start, len(self.order)):
            if number % lanes % self.workers == self.worker:
                yield epoch, number


class ShardLoader:
    """Yields the batches of an epoch in order. Call `loader.batch_sampler.set_epoch(epoch)` before each pass.

    Each worker has a `DataLoader` of its own, since a lane must stay with the worker that has it open: one loader would
    deal the batches to its workers in turn.

    Args:
        batches: Batches of all epochs.
        workers: Processes that read and decode; 0 does so in this one.
        pin_memory: Page-locked batches, for faster copies to a GPU.
    """

    def __init__(self, batches: ShardBatches, workers: int, pin_memory: bool = False) -> None:
        self.batch_sampler = ShardOrder(batches.plan)
        lanes = batches.plan.lanes
        if workers > lanes:
            shards = len(batches.index.shards)
            _logger.warning(
                "%d of %d workers are used, the most that can read %d shards in %s; write smaller shards to use more",
                *(lanes, workers, shards, batches.index.location),
            )
        busy = max(1, min(workers, lanes))
        self.loaders = [
            DataLoader(
                batches,
                batch_size=None,  # an item is a batch
                sampler=_KeysOfWorker(self.batch_sampler, worker, busy),
                num_workers=min(workers, 1),
                collate_fn=_unchanged,
                pin_memory=pin_memory,
                worker_init_fn=init_worker,
                persistent_workers=workers > 0,
                generator=torch.Generator().manual_seed(0),  # else passes would draw from torch's global generator
            )
            for worker in range(busy)
        ]

    def __len__(self) -> int:
        return len(self.batch_sampler)

    def __iter__(self) -> Iterator[Any]:
        lanes = self.batch_sampler.plan.lanes
        iterators = [iter(loader) for loader in self.loaders]
        for number in range(self.batch_sampler.start, len(self)):
            yield next(iterators[number % lanes % len(iterators)])


def _unchanged(batch: Any) -> Any:
    return batch
