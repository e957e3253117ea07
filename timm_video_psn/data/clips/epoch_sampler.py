"""Which videos of an epoch are in which batch, the same ones whatever the number of processes."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
import numpy.typing as npt
from torch.utils.data import Sampler

Key = tuple[int, int] | tuple[int, int, int]


class EpochPosition:
    """Where the next pass through the batches begins: `len(self)` batches make an epoch."""

    epoch = 0
    start = 0

    def __len__(self) -> int:
        raise NotImplementedError

    def set_epoch(self, epoch: int, start: int = 0) -> None:
        """Chooses what the next passes go through.

        Args:
            epoch: Epoch that determines the order and the random choices.
            start: Number of batches to skip at the beginning of the epoch, for a run that resumes within it. The length
                stays the length of the whole epoch.
        """
        if not 0 <= start <= len(self):
            raise ValueError(f"start={start} lies outside the epoch of {len(self)} batches; use 0 to {len(self)}")
        self.epoch = epoch
        self.start = start


class EpochSampler(EpochPosition, Sampler[list[Key]]):
    """Batches of (number, epoch) keys for `VideoDataset`; a video's further turns in an epoch have a third number.

    Every key carries the epoch, so workers that outlive an epoch need no message about the next one.

    Several processes share the order: of each `batch_size * world_size` keys in a row, a process takes those at its
    rank and every `world_size`-th after it. Together they see the batches of one process with a batch size as large,
    and every video once: nothing is repeated to fill up a last batch, which may be smaller, or empty, for some ranks.

    Args:
        num_videos: Length of the data set.
        batch_size: Keys in a batch of one process.
        shuffle: A new order in each epoch, drawn from (seed, epoch); else the order of the data set.
        seed: Seed of the order.
        drop_last: Leave out a last batch that is not full.
        rank: Number of this process.
        world_size: Number of processes.
        balanced_labels: Class of each video, for epochs with equally many turns of each class (`balanced_order`); None
            for epochs with every video once.
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
        balanced_labels: npt.NDArray[np.int64] | None = None,
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
        self.balanced_labels = balanced_labels

    def __len__(self) -> int:
        full, rest = divmod(self.num_videos, self.batch_size * self.world_size)
        return full + bool(rest and not self.drop_last)

    def __iter__(self) -> Iterator[list[Key]]:
        rng = np.random.default_rng((self.seed, self.epoch))
        if self.balanced_labels is not None:
            order = balanced_order(self.balanced_labels, rng)
        else:
            order = np.arange(self.num_videos)
            if self.shuffle:
                rng.shuffle(order)
        turns, epoch, together = _turns(order), self.epoch, self.batch_size * self.world_size
        for batch in range(self.start, len(self)):
            mine = slice(batch * together + self.rank, (batch + 1) * together, self.world_size)
            pairs = zip(order[mine].tolist(), turns[mine].tolist(), strict=True)
            yield [(number, epoch, turn) if turn else (number, epoch) for number, turn in pairs]


def balanced_order(labels: npt.NDArray[np.int64], rng: np.random.Generator) -> npt.NDArray[np.int64]:
    """Draws as many videos as there are, so that the numbers of turns of any two classes differ by at most one.

    The videos of a class, too, have equally many turns, but for one: not all videos of a large class get one.

    Args:
        labels: Class of each video, (n,).
        rng: Random generator.

    Returns:
        Numbers of videos, (n,).
    """
    chosen = []
    classes = rng.permutation(np.unique(labels))  # chance decides which classes have the turns that are left over
    for place, label in enumerate(classes):
        videos = np.flatnonzero(labels == label)
        count = len(labels) // len(classes) + (place < len(labels) % len(classes))
        rounds = [rng.permutation(videos) for _ in range(-(-count // len(videos)))]
        chosen.append(np.concatenate([*rounds, videos[:0]])[:count])
    return rng.permutation(np.concatenate(chosen))


def _turns(order: npt.NDArray[np.int64]) -> npt.NDArray[np.int64]:
    """How often each entry has come before, (n,)."""
    by_video = np.argsort(order, kind="stable")
    _, first, counts = np.unique(order[by_video], return_index=True, return_counts=True)
    turns = np.empty_like(order)
    turns[by_video] = np.arange(len(order)) - np.repeat(first, counts)
    return turns
