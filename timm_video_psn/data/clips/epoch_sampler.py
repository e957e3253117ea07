"""Which videos of an epoch are in which batch, the same ones whatever the number of processes."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
from torch.utils.data import Sampler


class EpochPosition:
    """Where the next pass through the batches begins: `len(self)` batches make an epoch."""

    epoch = 0
    start = 0

    def __len__(self) -> int:
        raise NotImplementedError

    def set_epoch(self, epoch: int, start: int = 0) -> None:
        """Chooses what the next passes go through.

        Args:
            epoch: epoch that determines the order and the random choices.
            start: number of batches to skip at the beginning of the epoch, for a run that resumes within it. The length
                stays the length of the whole epoch.
        """
        if not 0 <= start <= len(self):
            raise ValueError(f"start={start} lies outside the epoch of {len(self)} batches; use 0 to {len(self)}")
        self.epoch = epoch
        self.start = start


class EpochSampler(EpochPosition, Sampler[list[tuple[int, int]]]):
    """Batches of (number, epoch) keys for `VideoDataset`.

    Every key carries the epoch, so workers that outlive an epoch need no message about the next one.

    Several processes share the order: of each `batch_size * world_size` keys in a row, a process takes those at its
    rank and every `world_size`-th after it. Together they see the batches of one process with a batch size as large,
    and every video once: nothing is repeated to fill up a last batch, which may be smaller, or empty, for some ranks.

    Args:
        num_videos: length of the data set.
        batch_size: keys in a batch of one process.
        shuffle: a new order in each epoch, drawn from (seed, epoch); else the order of the data set.
        seed: seed of the order.
        drop_last: leave out a last batch that is not full.
        rank: number of this process.
        world_size: number of processes.
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
