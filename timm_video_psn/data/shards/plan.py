"""Which videos an epoch takes out of shards, in which batches, on which rank: all planned before a shard is opened.

The shards of an epoch, put one after the other, are one long row of videos. It is cut into equal pieces, one for each
rank, and each piece into lanes. A lane is read from start to end by one worker, who needs to open only the shards that
the lane lies in; a shard across the cut between two lanes is opened by both, and each takes its part. Batch `k` of a
rank comes out of lane `k % lanes`. How many lanes there are does not depend on the number of workers, and so neither do
the batches.

In training, the order of the shards and the place where the row begins are drawn for each epoch, and each lane mixes
its videos in a buffer. Within a shard the videos lie in a random order from the beginning (`writer`).
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

Positions = npt.NDArray[np.int64]

MOST_LANES = 16
LANES_PER_SHARD = 2  # few shards are read by several workers, who skip what is not theirs


@dataclass(frozen=True)
class ShardPlan:
    """The plan of all epochs of one rank. A position counts the videos of all shards, in the order of the index.

    Args:
        sizes: Videos of each shard.
        batch_size: Videos of a batch.
        shuffle: A new order in each epoch; every rank then has the same number of videos, and up to `world_size - 1`
            are left out. Else the order of the shards, and every video once.
        seed: Seed of the order.
        drop_last: Leave out a last batch of a rank that is not full.
        rank: Rank of this process.
        world_size: Number of ranks.
        buffer: Videos that a rank mixes, over all its lanes.

    Raises:
        ValueError: The settings make no batches.
    """

    sizes: Sequence[int]
    batch_size: int
    shuffle: bool
    seed: int = 0
    drop_last: bool = False
    rank: int = 0
    world_size: int = 1
    buffer: int = 1024

    def __post_init__(self) -> None:
        if self.batch_size < 1:
            raise ValueError(f"batch_size={self.batch_size} makes no batches; use 1 or more")
        if not 0 <= self.rank < self.world_size:
            raise ValueError(f"rank={self.rank} of world_size={self.world_size} asked for; ranks count from 0")
        if self.shuffle and not len(self):
            raise ValueError(
                f"{self.num_videos} videos in shards make no batch of {self.batch_size} on each of {self.world_size} "
                f"ranks with drop_last={self.drop_last}; use more videos, a smaller batch_size or fewer ranks"
            )

    @property
    def num_videos(self) -> int:
        """Of all ranks."""
        return int(sum(self.sizes))

    @property
    def lanes(self) -> int:
        """Lanes of a rank: at most so many workers can be busy."""
        return min(MOST_LANES, max(1, LANES_PER_SHARD * len(self.sizes) // self.world_size))

    def __len__(self) -> int:
        """Batches of this rank."""
        start, stop = self._piece()
        return -(-(stop - start) // self.batch_size)

    def lane(self, epoch: int, lane: int) -> tuple[Positions, Positions]:
        """The videos of one lane in an epoch.

        Args:
            epoch: Epoch that determines the order.
            lane: Number of the lane, from 0 to `lanes - 1`.

        Returns:
            Positions in the order in which they are read, and in the order in which they fill batches.
        """
        start, stop = self._piece()
        batches = [len(range(other, len(self), self.lanes)) for other in range(lane + 1)]
        first = start + self.batch_size * sum(batches[:-1])
        # Only the last batch of all may be short; what it lacks, the lanes after its own begin earlier by.
        short = len(self) * self.batch_size - (stop - start)
        owner = (len(self) - 1) % self.lanes
        first -= short if lane > owner else 0
        count = self.batch_size * batches[-1] - (short if lane == owner else 0)
        read = self._row(epoch)[first : first + count]
        if not self.shuffle:
            return read, read
        rng = np.random.default_rng((self.seed, epoch, self.rank, lane))
        return read, read[mixed_order(len(read), max(1, self.buffer // self.lanes), rng)]

    def _piece(self) -> tuple[int, int]:
        """Where the videos of this rank begin and end in the row."""
        if not self.shuffle:
            return self.num_videos * self.rank // self.world_size, self.num_videos * (self.rank + 1) // self.world_size
        share = self.num_videos // self.world_size
        if self.drop_last:
            share -= share % self.batch_size
        return self.rank * share, (self.rank + 1) * share

    def _row(self, epoch: int) -> Positions:
        """All positions in the order of the epoch."""
        if not self.shuffle:
            return np.arange(self.num_videos)
        rng = np.random.default_rng((self.seed, epoch))
        starts = np.cumsum([0, *self.sizes])
        order = rng.permutation(len(self.sizes))
        row = np.concatenate([np.arange(starts[shard], starts[shard + 1]) for shard in order])
        # Else what is left out at the end of the row would always be the end of a shard.
        return np.roll(row, rng.integers(self.num_videos))


def mixed_order(count: int, buffer: int, rng: np.random.Generator) -> Positions:
    """A random order that a buffer of some videos can give to videos that arrive in order.

    Args:
        count: Number of videos.
        buffer: Number of items held at any time; the next one to leave is drawn from these.
        rng: Random generator.

    Returns:
        The order; entry `i` is less than `i + buffer`.
    """
    held = list(range(min(buffer, count)))
    order = np.empty(count, dtype=np.int64)
    for place, draw in enumerate(rng.random(count)):
        chosen = min(int(draw * len(held)), len(held) - 1)  # the product may round up
        order[place] = held[chosen]
        arriving = place + buffer
        if arriving < count:
            held[chosen] = arriving
        else:
            held[chosen] = held[-1]
            held.pop()
    return order
