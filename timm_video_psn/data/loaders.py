"""Batches of a data set, whether its videos lie in files or in shards."""

from __future__ import annotations

from typing import Any

import torch
from torch.utils.data import DataLoader

from timm_video_psn.data.clips.epoch_sampler import EpochSampler
from timm_video_psn.data.clips.worker import init_worker
from timm_video_psn.data.shards.index import ShardedIndex
from timm_video_psn.data.shards.loader import ClipSource, ShardBatches, ShardLoader
from timm_video_psn.data.shards.plan import ShardPlan

Loader = DataLoader[Any] | ShardLoader


def create_loader(
    dataset: ClipSource,
    batch_size: int,
    shuffle: bool,
    workers: int,
    seed: int = 0,
    drop_last: bool = False,
    pin_memory: bool = False,
    rank: int = 0,
    world_size: int = 1,
    balanced: bool = False,
) -> Loader:
    """Creates a loader of batches. Call `loader.batch_sampler.set_epoch(epoch)` before each pass.

    Without `shuffle`, all ranks together give each video once. With it, each video comes at most once an epoch. Over
    files the ranks share every batch, and over shards all ranks have the same number of batches.

    Args:
        dataset: `VideoDataset`, which gives `Batch`es, or `MultiViewDataset`, which gives `ViewBatch`es.
        batch_size: Videos of a batch of one process; those that cannot be read are in its `unreadable`.
        shuffle: Whether each epoch has a new order.
        workers: Processes that decode; 0 decodes in this one.
        seed: Seed of the order.
        drop_last: Whether a last batch that is not full is left out.
        pin_memory: Whether batches are page-locked, for faster copies to a GPU.
        rank: Number of this process.
        world_size: Number of processes that share the videos; see `EpochSampler` and `ShardPlan`.
        balanced: Whether an epoch has equally many clips of each class; videos of rare classes then come several times,
            and not all videos of common ones come. Shards are read from start to end, so they cannot be balanced.

    Raises:
        ValueError: The settings make no batches, the decoder cannot decode from memory, or shards cannot be balanced.
    """
    if isinstance(dataset.index, ShardedIndex):
        if balanced:
            raise ValueError(
                "balanced batches were asked for of shards, which are read from start to end; use class weights "
                "(--class-weights balanced), or the data set's files"
            )
        if dataset.decoder == "torchcodec":
            raise ValueError("decoder 'torchcodec' cannot decode videos of shards; use 'pyav' or 'auto'")
        sizes = [len(shard.numbers) for shard in dataset.index.shards]
        plan = ShardPlan(sizes, batch_size, shuffle, seed, drop_last, rank, world_size)
        return ShardLoader(ShardBatches(dataset, plan), workers, pin_memory)
    if balanced and dataset.index.label_sets is not None:
        raise ValueError(
            "balanced batches were asked for of videos with several labels, which belong to no one class; use class "
            "weights (--class-weights balanced)"
        )
    labels = dataset.index.labels if balanced else None
    sampler = EpochSampler(len(dataset), batch_size, shuffle, seed, drop_last, rank, world_size, labels)
    workers = min(workers, len(sampler))
    return DataLoader(
        dataset,  # type: ignore[arg-type]  # torch wants a Dataset, of which it uses what a ClipSource has
        batch_sampler=sampler,
        num_workers=workers,
        collate_fn=dataset.collate,
        pin_memory=pin_memory,
        worker_init_fn=init_worker,
        persistent_workers=workers > 0,
        generator=torch.Generator().manual_seed(seed),  # else every pass would draw from torch's global generator
    )


def end_workers(loader: Loader) -> None:
    """Ends the worker processes of a loader, which ignore signals, and which nobody else ends before Python does.

    Args:
        loader: Loader that `create_loader` made.
    """
    for part in loader.loaders if isinstance(loader, ShardLoader) else (loader,):
        shut_down = getattr(part._iterator, "_shutdown_workers", None)  # none where nothing was read, or by no workers
        if shut_down is not None:
            shut_down()
