"""What a run says before it trains: folder, data, model, optimizer, processes, and where it resumes."""

import logging
from dataclasses import fields
from pathlib import Path
from typing import Any

import numpy as np

from timm_video_psn.data import VideoIndex, videos_of_both
from timm_video_psn.engine.distributed import backend_of, is_first, world_size
from timm_video_psn.engine.train.build import Run
from timm_video_psn.engine.train.optim import base_learning_rate, describe_groups
from timm_video_psn.engine.train.options import TrainOptions
from timm_video_psn.files import first_names
from timm_video_psn.surgery import count_parameters

_logger = logging.getLogger(__name__)
_FEW_VIDEOS, _FEW_UPDATES = 10, 5  # of a class; of an epoch
_MOST_LEFT = 0.1  # share of the initial weights in the EMA at the end of a run
_MEAN_LIFETIMES = 5  # of a weight in the EMA that a run should last, so that e^-5 of the initial weights is left


def introduce(run: Run, epoch: int, step: int) -> None:
    """Says what is about to happen.

    Args:
        run: The run, resumed where it resumes.
        epoch: Epochs that it has behind it.
        step: Batches of the next epoch that it has behind it.
    """
    say, options = _logger.info, run.options
    say(f"run       {run.folder.path}" + (f", recipe {options.config}" if options.config else ""))
    _introduce_data(run)
    kwargs = "".join(f", {key}={value}" for key, value in options.model_kwargs.items())
    file = options.initial_checkpoint or options.backbone_checkpoint
    weights = file or ("pretrained" if options.pretrained else "random")
    say(
        f"model     {options.model}: {count_parameters(run.model) / 1e6:.2f} M parameters, {weights} weights, "
        f"{options.num_frames} frames{kwargs}"
    )
    say(f"optimizer {options.opt}, lr {options.lr:g} for updates of {_clips(run)}, {options.sched}")
    for line in describe_groups(run.optimizer.param_groups, options.lr):
        say(f"          {line}")
    say(f"device    {run.precision}")
    if world_size() > 1:
        norms = "over all of them" if options.sync_bn else "in each of them; the first one's are kept"
        say(f"processes {world_size()}, {backend_of(options.device)}; statistics of batch norms: {norms}")
    if options.torchcompile:
        say("compiled  by --torchcompile: shares of the loss terms in the gradient (grad_share_*) are not measured")
    _warn_of_slow_ema(run)
    if is_first() and options.kd_teacher is None and _is_asked(options, "kd_alpha", "kd_temperature"):
        _logger.warning("--kd-alpha and --kd-temperature have no effect without a teacher; name one with --kd-teacher")
    if is_first() and run.precision.is_emulated():
        _logger.warning(
            "this CPU has no units for bfloat16: training is several times slower than in float32; leave --amp out"
        )
    _say_where(run, epoch, step)


def _is_asked(options: TrainOptions, *names: str) -> bool:
    """Whether one of these options is not at its default."""
    return any(
        getattr(options, each.name) != each.metadata["default"] for each in fields(options) if each.name in names
    )


def _introduce_data(run: Run) -> None:
    """Videos, what the user should know about them, and what an epoch leaves out."""
    options, train, val = run.options, run.train_index, run.val_index
    _logger.info(f"data      {options.dataset}: {_count(train)} to train, {_count(val)} to validate")
    for note in _notes(train, val):
        _logger.info(f"          {note}")
    if is_first() and not train.shared_split and (both := videos_of_both(train, val)):
        _logger.warning(
            "%d of %d validation videos are training videos, too (%s): the accuracy is not the one on unseen videos; "
            "check the annotations",
            *(len(both), len(val), first_names(both, 1)),
        )
    if is_first() and train.shared_split:
        _logger.warning(
            "no train/ and val/ folders in %s: the accuracy is measured on the training videos themselves and says "
            "nothing about others; give the folder that holds train/CLASS and val/CLASS",
            options.data_dir,
        )
    if is_first():
        _warn_of_small_data(run)
    left_out = len(train.labels) - len(run.loaders.order) * options.batch_size * world_size()
    if left_out > 0:
        _logger.info(f"          whole batches only: each epoch leaves out {left_out} training videos at random")


def _warn_of_small_data(run: Run) -> None:
    """Says what makes a small data set learn badly, and what a wrong folder looks like."""
    options, train = run.options, run.train_index
    videos, counts = len(train.labels), np.bincount(train.labels, minlength=len(train.class_names))
    if len(counts) == 1:
        _logger.warning(
            "there is one class, %r: nothing can be learned. --data-dir %s may be one level too high; it should hold "
            "train/CLASS/ and val/CLASS/, or CLASS/, with videos in each",
            *(train.class_names[0], options.data_dir),
        )
        return
    few = [name for name, count in zip(train.class_names, counts, strict=True) if 0 < count < _FEW_VIDEOS]
    if few:
        recipe = "record more" if Path(options.config or "").stem == "small" else "--recipe small suits tens of videos"
        _logger.warning(
            "%d of %d classes have fewer than %d training videos: %s; %s",
            *(len(few), len(counts), _FEW_VIDEOS, first_names(few), recipe),
        )
    if run.updates_per_epoch >= _FEW_UPDATES:
        return
    others = world_size() * options.grad_accum_steps
    fitting = max(videos // (_FEW_UPDATES * others), 1)
    clips = options.batch_size * others
    larger = f", and a batch of {clips} clips is larger than the data set" if clips > videos else ""
    remedy = f"--batch-size {fitting} makes {videos // (fitting * others)}" if fitting < options.batch_size else ""
    _logger.warning(
        "an epoch has %d %s of the weights for %d training videos%s; %s",
        *(run.updates_per_epoch, "update" if run.updates_per_epoch == 1 else "updates", videos, larger),
        remedy or "train for more --epochs",
    )


def _notes(train: VideoIndex, val: VideoIndex) -> list[str]:
    """What the user should know about the data."""
    notes = []
    if without := train.classes_without_videos():
        notes.append(f"{len(without)} classes have no video to train: {first_names(without)}")
    return [*notes, *dict.fromkeys((*train.notes, *val.notes))]


def _count(index: VideoIndex) -> str:
    """How much there is."""
    return f"{len(index.labels)} videos of {len(index.class_names)} classes"


def _clips(run: Run) -> str:
    """Clips of an update, and how they come about."""
    options = run.options
    factors = {"a batch": options.batch_size, "processes": world_size(), "steps": options.grad_accum_steps}
    total = options.batch_size * world_size() * options.grad_accum_steps
    product = " x ".join(f"{number} {name}" for name, number in factors.items() if number > 1 or name == "a batch")
    return f"{total} clips" + (f" ({product})" if total > options.batch_size else "")


def _warn_of_slow_ema(run: Run) -> None:
    """Says that a run is too short for its EMA, which is what is evaluated."""
    decay, updates = run.options.model_ema_decay, run.options.epochs * run.updates_per_epoch
    left = decay**updates
    if is_first() and run.ema is not None and left > _MOST_LEFT:
        fitting = max(1 - _MEAN_LIFETIMES / updates, 0.5)
        _logger.warning(
            "the EMA weights, which are evaluated and saved, are still %.0f %% initial weights after the %d updates of "
            "this run; --model-ema-decay %.2g fits its length",
            *(100 * left, updates, fitting),
        )


def _say_where(run: Run, epoch: int, step: int) -> None:
    """Where the run resumes, and what becomes of its schedule and its random numbers."""
    state: dict[str, Any] | None = run.folder.state
    epochs = run.options.epochs
    if epoch == epochs:
        _logger.info(f"finished  all {epochs} epochs are trained already: there is nothing left to do")
        return
    if state is None:
        return
    within = f", after {step} of {len(run.loaders.train)} batches" if step else ""
    _logger.info(f"resuming  at epoch {epoch + 1} of {epochs}{within}")
    before = state["options"]["epochs"]
    if before != epochs:
        old, new = map(base_learning_rate, (state["optimizer"]["param_groups"], run.optimizer.param_groups))
        _logger.info(
            f"{epochs} epochs instead of {before}: the {run.options.sched} schedule now spans {epochs} epochs, "
            f"and the learning rate resumes at {new:.2e} (it was {old:.2e})"
        )
    if is_first() and len(state["processes"]) != world_size():
        _logger.warning(
            "the run resumes with %d processes instead of %d: the same batches, but dropout draws other numbers",
            *(world_size(), len(state["processes"])),
        )
