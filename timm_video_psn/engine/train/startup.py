"""What a run says before it begins: folder, data, model, optimizer, processes, and where it continues."""

import logging
from typing import TYPE_CHECKING

from timm_video_psn.data import VideoIndex, videos_of_both
from timm_video_psn.engine.distributed import backend_of, is_first, world_size
from timm_video_psn.engine.train.optim import base_learning_rate, describe_groups
from timm_video_psn.files import first_names

if TYPE_CHECKING:
    from timm_video_psn.engine.train.trainer import Trainer

_logger = logging.getLogger(__name__)
_MOST_LEFT = 0.1  # of the first weights, in the average at the end of a run
_MEAN_LIFETIMES = 5  # of a weight in the average that a run should last, so that e^-5 of the first ones is left


def introduce(trainer: "Trainer") -> None:
    """Say what is about to happen.

    Args:
        trainer: the run, ready to train.
    """
    say = _logger.info
    options, model, loaders = trainer.options, trainer.model, trainer.loaders
    train, val = trainer.train_index, trainer.val_index
    say(f"run       {trainer.run.path}" + (f", recipe {options.config}" if options.config else ""))
    say(f"data      {options.dataset}: {_count(train)} to train, {_count(val)} to validate")
    for note in _notes(train, val):
        say(f"          {note}")
    _warn_of_shared_videos(train, val)
    left_out = len(train.labels) - len(loaders.sampler) * options.batch_size * world_size()
    if left_out > 0:
        say(f"          whole batches only: each epoch leaves out {left_out} training videos, drawn anew")
    kwargs = "".join(f", {key}={value}" for key, value in options.model_kwargs.items())
    file = options.initial_checkpoint or options.backbone_checkpoint
    weights = file or ("pretrained" if options.pretrained else "random")
    parameters = sum(parameter.numel() for parameter in model.parameters())
    say(
        f"model     {options.model}: {parameters / 1e6:.2f} M parameters, {weights} weights, "
        f"{options.num_frames} frames{kwargs}"
    )
    say(
        f"optimizer {options.opt}, lr {options.lr:g} for {_clips(trainer)} an update, {options.sched}, "
        f"{options.device}, {trainer.precision.numbers}"
    )
    for line in describe_groups(trainer.optimizer.param_groups, options.lr):
        say(f"          {line}")
    if world_size() > 1:
        norms = "over all of them" if options.sync_bn else "each its own, the first one's kept"
        say(
            f"processes {world_size()}, {backend_of(trainer.run.options['device'])}; statistics of batch norms: {norms}"
        )
    _warn_of_slow_average(trainer)
    _say_where(trainer)


def _warn_of_shared_videos(train: VideoIndex, val: VideoIndex) -> None:
    """Say that accuracy is in part that on training videos, unless the data set is one that does not part them."""
    if is_first() and not train.shared_split and (both := videos_of_both(train, val)):
        _logger.warning(
            "%d of %d validation videos are training videos, too (%s ...): the accuracy is not that on unseen "
            "videos; check the annotations",
            *(len(both), len(val), both[0]),
        )


def _warn_of_slow_average(trainer: "Trainer") -> None:
    """Say that a run is too short for its averaged weights, which are those that are evaluated."""
    decay, updates = trainer.options.model_ema_decay, trainer.options.epochs * trainer.updates_per_epoch
    left = decay**updates
    if is_first() and trainer.ema is not None and left > _MOST_LEFT:
        fitting = max(1 - _MEAN_LIFETIMES / updates, 0.5)
        _logger.warning(
            "the averaged weights, which --model-ema evaluates and saves, still consist to %.0f %% of the first ones "
            "after the %d updates of this run; --model-ema-decay %.2g would suit it",
            *(100 * left, updates, fitting),
        )


def _say_where(trainer: "Trainer") -> None:
    """Where the run continues, and what became of its schedule."""
    state, epochs = trainer.run.state, trainer.options.epochs
    if trainer.epoch == epochs:
        _logger.info(f"finished  all {epochs} epochs are trained already: there is nothing left to do")
        return
    if state is None:
        return
    _logger.info(f"continues after {trainer.epoch} epochs and {trainer.step} batches")
    before = state["options"]["epochs"]
    if before != epochs:
        old, new = map(base_learning_rate, (state["optimizer"]["param_groups"], trainer.optimizer.param_groups))
        _logger.info(
            f"          to epoch {epochs} instead of {before}: the {trainer.options.sched} schedule is now that of "
            f"a run of {epochs} epochs, and the learning rate goes on at {new:.2e} (it was {old:.2e})"
        )


def _clips(trainer: "Trainer") -> str:
    """Clips of an update, and how they come about."""
    options = trainer.options
    factors = {
        "a batch": options.batch_size,
        "processes": world_size(),
        "steps": options.grad_accum_steps,
    }
    total = options.batch_size * world_size() * options.grad_accum_steps
    product = " x ".join(f"{number} {name}" for name, number in factors.items() if number > 1 or name == "a batch")
    return f"{total} clips" + (f" ({product})" if total > options.batch_size else "")


def _count(index: VideoIndex) -> str:
    """How much there is."""
    return f"{len(index.labels)} videos of {len(index.class_names)} classes"


def _notes(train: VideoIndex, val: VideoIndex) -> list[str]:
    """What the user should know about the data."""
    notes = []
    if train.shared_split:
        notes.append("no train/ and val/ folders: the accuracy is measured on the training videos themselves")
    if without := train.classes_without_videos():
        notes.append(f"{len(without)} classes have no video to train: {first_names(without)}")
    return [*notes, *dict.fromkeys((*train.notes, *val.notes))]
