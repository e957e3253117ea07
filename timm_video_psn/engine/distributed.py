"""The processes of one run, as torchrun starts them: who is who, what they tell one another, and how they end."""

import os
import re
from collections.abc import Callable, Iterable, Iterator
from contextlib import AbstractContextManager, contextmanager, nullcontext
from typing import Any, NamedTuple, TypeVar

import torch
import torch.distributed as dist
from torch import nn
from torch.nn.parallel import DistributedDataParallel

from timm_video_psn.console import CommandEnded, launched_processes
from timm_video_psn.data import Batch, UnreadableVideo
from timm_video_psn.engine.signals import Interrupted

T = TypeVar("T")
_FAILED = "timm_video_psn/failed"  # in the store: how many processes have failed so far
_LOST = re.compile(r"gloo|nccl|connection (closed|reset)|broken pipe", re.IGNORECASE)


class OtherProcessFailed(CommandEnded):
    """This process ends because another one has; without a message where the other one has said why."""


def rank() -> int:
    """Returns the number of this process within `process_group`, 0 outside of it."""
    return dist.get_rank() if dist.is_initialized() else 0


def world_size() -> int:
    """Returns the number of processes that `process_group` has joined, 1 outside of it."""
    return dist.get_world_size() if dist.is_initialized() else 1


def is_first() -> bool:
    """Returns whether this process writes files and reports."""
    return rank() == 0


def is_first_of_node() -> bool:
    """Returns whether this process prepares what the others on its machine read."""
    return world_size() == 1 or int(os.environ.get("LOCAL_RANK", rank())) == 0


def backend_of(device: str) -> str:
    """Returns the backend of the process group: NCCL between GPUs, one for each process, else gloo.

    Args:
        device: Device that was asked for; `cuda:0` puts all processes on one GPU, which NCCL refuses.
    """
    return "cpu:gloo,cuda:nccl" if device == "cuda" else "gloo"


def local_device(device: str) -> str:
    """Returns the device of this process: for `cuda`, the GPU with its number on the machine.

    Args:
        device: Device that was asked for.

    Raises:
        ValueError: The machine has fewer GPUs than processes.
    """
    if world_size() == 1 or device != "cuda":
        return device
    number, found = int(os.environ["LOCAL_RANK"]), torch.cuda.device_count()
    if number >= found:
        raise ValueError(
            f"process {number} of this machine has no GPU: there are {found}; use torchrun --nproc_per_node={found}"
        )
    torch.cuda.set_device(number)
    return f"cuda:{number}"


@contextmanager
def process_group(device: str) -> Iterator[None]:
    """Joins the processes that torchrun has started; does nothing where there is one.

    Where several processes fail, the first one reports its error, and the others leave quietly.

    Args:
        device: Device that was asked for.

    Raises:
        OtherProcessFailed: Another process has failed, or is gone.
    """
    if launched_processes() == 1:
        yield
        return
    store, number, size = next(dist.rendezvous("env://"))
    dist.init_process_group(backend_of(device), store=store, rank=number, world_size=size)
    try:
        yield
    except Interrupted:
        dist.destroy_process_group()
        raise
    except BaseException as error:
        # No orderly farewell: the others wait for this process, and learn from closed connections that it fails.
        lost = isinstance(error, RuntimeError) and _LOST.search(f"{type(error).__name__} {error}")
        first = _fails_first(store)
        if first and not lost:
            raise
        reason = str(error).splitlines()[0] if str(error) else type(error).__name__
        text = f"another process of this run disappeared: killed, or out of memory? ({reason})"
        raise OtherProcessFailed(text if first else "") from error
    dist.destroy_process_group()


def _fails_first(store: dist.Store) -> bool:
    """Whether no other process has failed before this one."""
    try:
        return store.add(_FAILED, 1) == 1
    except RuntimeError:  # the store went with the process that held it
        return True


def broadcast_from_rank0(compute: Callable[[], T]) -> T:
    """Returns in every process what `compute` returns in the first.

    Args:
        compute: Function to call in the first process alone; its errors end the others, too.
    """
    if world_size() == 1:
        return compute()
    box = [compute() if is_first() else None]
    dist.broadcast_object_list(box, src=0)
    return box[0]  # type: ignore[return-value]


def local_rank0_first(compute: Callable[[], T]) -> T:
    """Returns what `compute` returns, after the first process of each machine has gone ahead to prepare files.

    Args:
        compute: Function to call in every process.
    """
    prepared = compute() if is_first_of_node() else None
    barrier()
    return compute() if prepared is None else prepared


def gather(item: T) -> list[T]:
    """Returns the items of all processes, in every process, by rank.

    Args:
        item: Item of this process.
    """
    if world_size() == 1:
        return [item]
    items: list[Any] = [None] * world_size()
    dist.all_gather_object(items, item)
    return items


def barrier() -> None:
    """Waits for all processes."""
    gather(None)


def all_reduce_max(number: int | None) -> int | None:
    """Returns the highest number that a process has; None where none has any.

    Args:
        number: Number of this process, from 0 on, or None.
    """
    if world_size() == 1:
        return number
    box = torch.tensor(-1 if number is None else number)
    dist.all_reduce(box, op=dist.ReduceOp.MAX)
    return None if box.item() < 0 else int(box)


class BatchCounts(NamedTuple):
    """What the processes know of one another's batches: clips by rank, and the unreadable videos of all."""

    clips: tuple[int, ...]
    unreadable: list[UnreadableVideo]

    @property
    def skipped(self) -> bool:
        """Whether a process has nothing to train on, so that all leave the step out."""
        return min(self.clips) == 0

    @property
    def weight(self) -> float:
        """Weight of this process's loss that makes the mean over processes the mean over all clips."""
        return self.clips[rank()] * len(self.clips) / sum(self.clips)


def sync_batch_counts(batch: Batch) -> BatchCounts:
    """Tells the other processes of a batch, and hears of theirs.

    Args:
        batch: Batch of this process.
    """
    if world_size() == 1:
        return BatchCounts((len(batch.label),), batch.unreadable)
    mine = torch.tensor([len(batch.label), len(batch.unreadable)])
    counts = [torch.empty_like(mine) for _ in range(world_size())]
    dist.all_gather(counts, mine)
    unreadable = batch.unreadable
    if any(int(count[1]) for count in counts):
        unreadable = sorted((item for items in gather(unreadable) for item in items), key=lambda item: item.index)
    return BatchCounts(tuple(int(count[0]) for count in counts), unreadable)


def data_parallel(module: nn.Module, device: torch.device) -> nn.Module:
    """Returns the module with gradients averaged over the processes, and with the first process's weights and buffers.

    Args:
        module: Module that computes the loss.
        device: Device of the module.
    """
    if world_size() == 1:
        return module
    return DistributedDataParallel(
        module, device_ids=[device.index] if device.type == "cuda" else None, gradient_as_bucket_view=True
    )


def no_sync(module: nn.Module) -> AbstractContextManager[None]:
    """Returns a context in which backward adds up gradients in this process alone.

    Args:
        module: What `data_parallel` returned.
    """
    return module.no_sync() if isinstance(module, DistributedDataParallel) else nullcontext()


def average_gradients(parameters: Iterable[nn.Parameter]) -> None:
    """Averages over all processes what backward has left in each.

    Args:
        parameters: The same parameters in every process.
    """
    for parameter in parameters:
        if world_size() > 1 and parameter.grad is not None:
            dist.all_reduce(parameter.grad)
            parameter.grad /= world_size()


def broadcast_buffers(module: nn.Module) -> None:
    """Gives every process the first one's buffers: the statistics of the norms.

    Args:
        module: The same module in every process.
    """
    if world_size() > 1:
        for buffer in module.buffers():
            contiguous = buffer.contiguous()
            dist.broadcast(contiguous, src=0)
            buffer.copy_(contiguous)
