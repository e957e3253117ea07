"""Batches of clips, the same ones whatever the number of worker processes."""

from __future__ import annotations

import gc
import os
import signal
import threading
from collections.abc import Iterator, Sequence
from multiprocessing import parent_process
from typing import NamedTuple

import numpy as np
import torch
from torch.utils.data import DataLoader, Sampler, default_collate

from timm_video_psn.data.clips.dataset import Sample, UnreadableVideo, VideoDataset


class Batch(NamedTuple):
    """Clips that could be decoded, and word of those that could not.

    Shape:
        clip: (B, T, S, S, 3) uint8; `normalize_clip` makes the model's input of it, best on the device.
        label, index, num_frames: (B,) int64: class, number of the video in its data set, frames of the video.
        unreadable: one entry for each video that is missing from the batch; B + len(unreadable) videos were asked for.
    """

    clip: torch.Tensor
    label: torch.Tensor
    index: torch.Tensor  # type: ignore[assignment]  # hides tuple.index, which nobody needs
    num_frames: torch.Tensor
    unreadable: list[UnreadableVideo]


class EpochSampler(Sampler[list[tuple[int, int]]]):
    """Batches of (number, epoch) keys for `VideoDataset`.

    The epoch travels with every key, so that workers that outlive an epoch need not be told about the next one.

    Several processes share the order: of each `batch_size * world_size` keys in a row, a process takes those at its
    rank and every `world_size`-th after it. Together they see the batches of one process with a batch size as large,
    and every video once: nothing is repeated to fill up a last batch, which may be smaller, or empty, for some ranks.

    Args:
        num_videos: length of the data set.
        batch_size: keys in a batch of one process.
        shuffle: a new order in each epoch, drawn from (seed, epoch); else the order of the data set.
        seed: of the order.
        drop_last: leave out a last batch that is not full.
        rank: number of this process.
        world_size: how many processes there are.
    """

    def __init__(
        self,
        num_videos: int,
        batch_size: int,
        shuffle: bool,
        seed: int = 0,
        drop_last: bool = False,
        rank: int = 0,
        world_size: int = 1,
    ) -> None:
        if batch_size < 1:
            raise ValueError(f"batch_size={batch_size} makes no batches; use 1 or more")
        if not 0 <= rank < world_size:
            raise ValueError(
                f"rank={rank} does not number one of world_size={world_size} processes; ranks count from 0"
            )
        if num_videos < (batch_size * world_size if drop_last else 1):
            processes = f" for each of {world_size} processes" if world_size > 1 else ""
            raise ValueError(
                f"{num_videos} videos make no batch of {batch_size}{processes} with drop_last={drop_last}; use more "
                "videos or a smaller batch_size"
            )
        self.num_videos = num_videos
        self.batch_size = batch_size
        self.rank = rank
        self.world_size = world_size
        self.shuffle = shuffle
        self.seed = seed
        self.drop_last = drop_last
        self.epoch = 0
        self.start = 0

    def set_epoch(self, epoch: int, start: int = 0) -> None:
        """Chooses what the next passes go through.

        Args:
            epoch: whose order and random choices it has.
            start: batches of the epoch to leave out at its beginning, for a run that goes on within an epoch. The
                length stays that of the whole epoch.
        """
        if not 0 <= start <= len(self):
            raise ValueError(f"start={start} lies outside the epoch of {len(self)} batches; use 0 to {len(self)}")
        self.epoch = epoch
        self.start = start

    def __len__(self) -> int:
        full, rest = divmod(self.num_videos, self.batch_size * self.world_size)
        return full + bool(rest and not self.drop_last)

    def __iter__(self) -> Iterator[list[tuple[int, int]]]:
        order = np.arange(self.num_videos)
        if self.shuffle:
            np.random.default_rng((self.seed, self.epoch)).shuffle(order)
        epoch, together = self.epoch, self.batch_size * self.world_size
        for batch in range(self.start, len(self)):
            chosen = order[batch * together : (batch + 1) * together]
            yield [(int(number), epoch) for number in chosen[self.rank :: self.world_size]]


def collate(items: Sequence[Sample | UnreadableVideo]) -> Batch:
    """Stacks samples and sets the unreadable ones apart; with no sample left, all tensors have length 0."""
    samples = [item for item in items if isinstance(item, Sample)]
    unreadable = [item for item in items if isinstance(item, UnreadableVideo)]
    clips = [sample.clip for sample in samples]
    return Batch(
        # in a worker, default_collate stacks right into the memory that the main process shares
        clip=default_collate(clips) if clips else torch.empty((0, 0, 0, 0, 3), dtype=torch.uint8),  # (B, T, S, S, 3)
        label=torch.tensor([sample.label for sample in samples], dtype=torch.int64),
        index=torch.tensor([sample.index for sample in samples], dtype=torch.int64),
        num_frames=torch.tensor([sample.num_frames for sample in samples], dtype=torch.int64),
        unreadable=unreadable,
    )


def create_video_loader(
    dataset: VideoDataset,
    batch_size: int,
    shuffle: bool,
    workers: int,
    seed: int = 0,
    drop_last: bool = False,
    pin_memory: bool = False,
    rank: int = 0,
    world_size: int = 1,
) -> DataLoader[Sample | UnreadableVideo]:
    """A loader that yields `Batch`es. Call `loader.batch_sampler.set_epoch(epoch)` before each pass.

    Args:
        dataset: the clips.
        batch_size: clips asked for in a batch of one process; unreadable videos make it smaller.
        shuffle: a new order in each epoch.
        workers: processes that decode; 0 decodes in this one.
        seed: of the order.
        drop_last: leave out a last batch that is not full.
        pin_memory: page-locked batches, for faster copies to a GPU.
        rank: number of this process.
        world_size: how many processes share the videos; see `EpochSampler`.
    """
    return DataLoader(
        dataset,
        batch_sampler=EpochSampler(len(dataset), batch_size, shuffle, seed, drop_last, rank, world_size),
        num_workers=workers,
        collate_fn=collate,
        pin_memory=pin_memory,
        worker_init_fn=_init_worker,
        persistent_workers=workers > 0,
        generator=torch.Generator().manual_seed(seed),  # else every pass would draw from torch's global generator
    )


def _init_worker(worker: int) -> None:
    """One thread, since workers are the parallelism; and no signals but the main process's, which answers for all.

    What a forked worker inherits is never collected: to free a frame whose scaler has threads waits for ever, since the
    threads have stayed in the process that it was forked from.
    """
    gc.freeze()
    torch.set_num_threads(1)
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # it may be sent to the whole process group, and so may SIGTERM
    if hasattr(signal, "sigwaitinfo"):
        # One thread takes it and looks whose it is; a forked worker has no other one that could get it. Where the
        # system does not tell, torch's own handler stays: a worker that is sent one ends, whoever has sent it.
        signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGTERM})
        threading.Thread(target=_end_if_told_by, args=(_main_process(),), daemon=True).start()


def _main_process() -> int:
    """Of a worker; its parent may be a server that forks workers."""
    main = parent_process()
    return os.getppid() if main is None or main.pid is None else main.pid


def _end_if_told_by(parent: int) -> None:
    """Ends this worker when its main process does, which first stops every process of its own with a SIGTERM."""
    while signal.sigwaitinfo({signal.SIGTERM}).si_pid != parent:
        pass
    os._exit(0)
