"""The state of a run: all that continuing it needs, collected from and given back to the processes that train.

What is not in it follows from what is: the schedule from the number of updates, the order of the videos and the random
choices for each of them from the seed and the epoch.
"""

import logging
from typing import TYPE_CHECKING, Any

from timm_video_psn.data import ShardedIndex
from timm_video_psn.engine.checkpoint import random_state, set_random_state
from timm_video_psn.engine.distributed import gather, is_first, rank, world_size

if TYPE_CHECKING:
    from timm_video_psn.engine.train.trainer import Trainer

_logger = logging.getLogger(__name__)


def save_run(trainer: "Trainer") -> None:
    """Write last.pt, unless the weights are past saving; all processes call it, between two updates.

    Args:
        trainer: the run.

    Raises:
        FloatingPointError: a weight is not finite.
        OSError: the checkpoint cannot be written.
    """
    spoiled = [name for name, value in trainer.model.named_parameters() if not value.isfinite().all()]
    if spoiled:
        raise FloatingPointError(
            f"weights not finite after {trainer.step} batches of epoch {trainer.epoch + 1}: {', '.join(spoiled[:3])}; "
            f"{trainer.run.last}, if it is there, holds the last state that was. Try a smaller --lr or --clip-grad"
        )
    processes = gather({"random": random_state(trainer.precision.device), "meter": trainer.meter.state_dict()})
    if not is_first():
        return
    state = {
        "options": trainer.run.options,
        "class_names": list(trainer.train_index.class_names),
        "dataset_version": trainer.train_index.version,
        "videos": _fingerprints(trainer),
        "epoch": trainer.epoch,
        "step": trainer.step,
        "history": trainer.history,
        "gradients": trainer.gradients.state_dict(),
        "report": trainer.report.state_dict(),
        "model": trainer.model.state_dict(),
        "optimizer": trainer.optimizer.state_dict(),
        "scaler": trainer.scaler.state_dict(),
        "ema": None if trainer.ema is None else trainer.ema.module.state_dict(),
        "processes": processes,
    }
    trainer.run.save(state, trainer.updates, trainer.options.checkpoint_hist)


def resume_run(trainer: "Trainer") -> None:
    """Take over the state of the checkpoint, if the run continues one.

    Args:
        trainer: the run, built as if it were new.

    Raises:
        ValueError: the checkpoint does not fit the data, the epochs or the batches asked for.
    """
    state = trainer.run.state
    if state is None:
        return
    _check(trainer, state)
    trainer.model.load_state_dict(state["model"])
    trainer.optimizer.load_state_dict(state["optimizer"])
    trainer.scaler.load_state_dict(state["scaler"])
    if trainer.ema is not None:
        trainer.ema.module.load_state_dict(state["ema"])
    trainer.gradients.load_state_dict(state["gradients"])
    trainer.report.load_state_dict(state["report"])
    trainer.history, trainer.epoch, trainer.step = state["history"], state["epoch"], state["step"]
    _resume_process(trainer, state["processes"])
    if trainer.scheduler is not None and trainer.updates:
        trainer.scheduler.step_update(trainer.updates)  # as it was, unless --epochs has given it another end


def _resume_process(trainer: "Trainer", processes: list[dict[str, Any]]) -> None:
    """What each process has of its own: random numbers, and the sums over the clips that it has seen."""
    if len(processes) == world_size():
        trainer.meter.load_state_dict(processes[rank()]["meter"])
        set_random_state(processes[rank()]["random"], trainer.precision.device)
        return
    if is_first():
        for process in processes:
            trainer.meter.add(process["meter"])
        _logger.warning(
            "the run goes on with %d processes instead of %d: the same batches, but dropout draws other numbers",
            *(world_size(), len(processes)),
        )


def _check(trainer: "Trainer", state: dict[str, Any]) -> None:
    """Raise if the checkpoint is of other classes, other videos, other batches or more epochs."""
    last, index = trainer.run.last, trainer.train_index
    if state["class_names"] != list(index.class_names):
        differing = sorted(set(state["class_names"]) ^ set(index.class_names))
        raise ValueError(
            f"cannot continue {last}: its {len(state['class_names'])} classes are not the "
            f"{len(index.class_names)} of the data; not in both: {', '.join(differing[:10]) or 'none'} "
            "(their order counts too); use the data that the run was begun with"
        )
    if state["videos"] != _fingerprints(trainer):
        raise ValueError(
            f"cannot continue {last}: the data set has other videos than when the run was begun, so that "
            "it would go on with another order; restore the videos, or start a new run with --experiment NAME"
        )
    before = len(state["processes"])
    if before != world_size() and isinstance(index, ShardedIndex):
        raise ValueError(
            f"cannot continue {last} with {world_size()} processes: it was begun with {before}, and shards are dealt "
            f"out to processes, so that the batches would be others; use {before} processes"
        )
    begun = state["epoch"] + (state["step"] > 0)
    if trainer.options.epochs < begun:
        raise ValueError(
            f"cannot continue {last} to the end of epoch {trainer.options.epochs}: it is in epoch {begun} already; "
            f"use --epochs {begun} or more"
        )


def _fingerprints(trainer: "Trainer") -> list[str]:
    """What tells the videos of this run from others."""
    return [trainer.train_index.fingerprint(), trainer.val_index.fingerprint()]
