"""From options to what training works on: data, model, optimizer, schedule."""

import argparse
import difflib
from dataclasses import dataclass
from typing import Any

import timm
import torch
from timm.optim import create_optimizer_v2, list_optimizers
from timm.scheduler import create_scheduler_v2
from torch import nn
from torch.utils.data import DataLoader

from timm_video_psn.data import (
    SAMPLINGS,
    AutoAugment,
    ColorJitter,
    EpochSampler,
    EvalTransform,
    ShardLoader,
    ShardOrder,
    TrainTransform,
    VideoDataset,
    VideoIndex,
    check_class_names,
    check_decoder,
    create_loader,
    end_workers,
    read_index,
)
from timm_video_psn.data.clips.mixup import ClipMixup
from timm_video_psn.engine.distributed import rank, world_size
from timm_video_psn.engine.precision import Precision, find_device
from timm_video_psn.engine.train.optim import (
    LearningRateMultipliers,
    check_coverage,
    create_parameter_groups,
    orthogonalize_in_float32,
)
from timm_video_psn.models import VideoNet


@dataclass(frozen=True)
class Loaders:
    """The loaders over the training and the validation videos, and what chooses the epoch of the first."""

    train: DataLoader | ShardLoader
    val: DataLoader | ShardLoader

    def __enter__(self) -> "Loaders":
        return self

    def __exit__(self, *error: object) -> None:
        """End the workers."""
        for loader in (self.train, self.val):
            end_workers(loader)

    @property
    def sampler(self) -> EpochSampler | ShardOrder:
        """The order of the training videos."""
        assert isinstance(self.train.batch_sampler, (EpochSampler, ShardOrder))
        return self.train.batch_sampler


def read_indices(options: argparse.Namespace) -> tuple[VideoIndex, VideoIndex]:
    """The training and the validation videos of the data set.

    Args:
        options: see `engine.train.options`.

    Raises:
        ValueError: the data set is unknown or malformed, or has other classes than asked for.
    """
    files = {"train": options.train_list, "val": options.val_list}
    given = {split: path for split, path in files.items() if path is not None}
    train, val = (read_index(options.dataset, options.data_dir, split, given) for split in ("train", "val"))
    check_class_names(train.class_names, val.class_names, "the training videos", "the validation videos")
    if train.version != val.version:
        raise ValueError(
            f"the training annotations are {train.version}, the validation annotations {val.version}; use one version, "
            "with --train-list and --val-list if need be"
        )
    num_classes = len(train.class_names)
    if options.num_classes not in (None, num_classes):
        raise ValueError(
            f"--num-classes {options.num_classes} asked for, but data set {options.dataset!r} has {num_classes}; "
            "leave the option out"
        )
    return train, val


def fill_from_model(options: argparse.Namespace, model: VideoNet) -> argparse.Namespace:
    """The options with frames, crop size and normalisation settled: those of the model where none were given.

    Args:
        options: see `engine.train.options`.
        model: a model made by timm.
    """
    cfg = model.pretrained_cfg
    defaults = {
        "num_frames": model.num_frames,
        "img_size": cfg["input_size"][-1],
        "mean": list(cfg["mean"]),
        "std": list(cfg["std"]),
    }
    missing = {key: value for key, value in defaults.items() if getattr(options, key) is None}
    return argparse.Namespace(**{**vars(options), **missing})


def create_loaders(options: argparse.Namespace, train: VideoIndex, val: VideoIndex) -> Loaders:
    """Loaders with the options' sampling and transforms.

    Args:
        options: see `engine.train.options`; `img_size` is set.
        train: the training videos.
        val: the validation videos.

    Raises:
        ImportError: the decoder is not installed.
    """
    check_decoder(options.decoder)
    train_transform = create_train_transform(options)
    eval_transform = EvalTransform(options.img_size, options.crop_pct, options.interpolation)
    common: dict[str, Any] = {
        "batch_size": options.batch_size,
        "workers": options.workers,
        "seed": options.seed,
        "pin_memory": options.device.startswith("cuda"),
        "rank": rank(),
        "world_size": world_size(),
    }
    if len(train.labels) < world_size():
        raise ValueError(f"{len(train.labels)} training videos for {world_size()} processes; use fewer processes")
    sampling = SAMPLINGS[options.sampling]
    return Loaders(
        create_loader(
            VideoDataset(train, options.num_frames, train_transform, True, options.seed, sampling, options.decoder),
            shuffle=True,
            drop_last=len(train.labels) > options.batch_size * world_size(),
            **common,
        ),
        create_loader(
            VideoDataset(val, options.num_frames, eval_transform, False, 0, sampling, options.decoder),
            shuffle=False,
            **common,
        ),
    )


def create_train_transform(options: argparse.Namespace) -> TrainTransform:
    """Crop, mirroring, policy and colours of training clips.

    Args:
        options: see `engine.train.options`; `img_size` and `mean` are set.

    Raises:
        ValueError: an option makes no sense.
    """
    augment: list[Any] = []
    if options.aa:
        augment.append(AutoAugment(options.aa, options.img_size, options.mean, options.interpolation))
    if options.color_jitter:
        augment.append(ColorJitter(options.color_jitter))
    return TrainTransform(
        options.img_size,
        options.crop_pct,
        options.crop,
        options.hflip,
        options.interpolation,
        scale=options.scale,
        ratio=options.ratio,
        augment=augment,
    )


def create_precision(options: argparse.Namespace) -> Precision:
    """Device, autocast and normalisation.

    Args:
        options: see `engine.train.options`; `device`, `mean` and `std` are set.

    Raises:
        ValueError: float16 on a CPU.
    """
    device = find_device(options.device)
    amp_dtype = getattr(torch, options.amp_dtype) if options.amp else None
    if device.type == "cpu" and amp_dtype == torch.float16:
        raise ValueError("--amp with float16 is not supported on a CPU; use --amp-dtype bfloat16, or leave --amp out")
    return Precision(device, tuple(options.mean), tuple(options.std), amp_dtype)


def create_optimizer(options: argparse.Namespace, model: nn.Module) -> torch.optim.Optimizer:
    """Timm's optimizer of that name, on the groups of `engine.train.optim`.

    Args:
        options: see `engine.train.options`.
        model: the model.

    Raises:
        ValueError: there is no optimizer of that name, or it takes no such arguments; nothing is trainable.
    """
    if "muon" in options.opt and torch.device(options.device).type == "cpu":
        orthogonalize_in_float32()
    known, name = list_optimizers(), options.opt.lower().removeprefix("lookahead_")
    if name not in known:
        near = difflib.get_close_matches(name, known, n=3, cutoff=0.0)
        raise ValueError(f"--opt {options.opt} is no optimizer of timm {timm.__version__}; nearest: {', '.join(near)}")
    multipliers = LearningRateMultipliers(options.temporal_lr_mult, options.head_lr_mult, options.bias_lr_mult)
    groups = create_parameter_groups(
        model, options.weight_decay, multipliers, options.layer_decay, options.decay_fusion
    )
    try:
        optimizer = create_optimizer_v2(
            groups, opt=options.opt, lr=options.lr, momentum=options.momentum, **_optimizer_settings(options)
        )
    except TypeError as error:
        settings = _optimizer_settings(options)
        raise ValueError(f"--opt-kwargs {settings} do not fit --opt {options.opt}: {error}") from error
    check_coverage(model, optimizer.param_groups)
    if options.sched == "none":  # else timm's scheduler multiplies
        for group in optimizer.param_groups:
            group["lr"] *= group["lr_scale"]
    return optimizer


def _optimizer_settings(options: argparse.Namespace) -> dict[str, Any]:
    """Arguments of the optimizer that not every one takes."""
    given = {"eps": options.opt_eps, "betas": None if options.opt_betas is None else tuple(options.opt_betas)}
    return {**{name: value for name, value in given.items() if value is not None}, **options.opt_kwargs}


def create_scheduler(options: argparse.Namespace, optimizer: torch.optim.Optimizer, updates_per_epoch: int) -> Any:
    """Timm's scheduler of that name, stepped at every update; None for `none`.

    Args:
        options: see `engine.train.options`.
        optimizer: whose learning rate it sets.
        updates_per_epoch: updates of an epoch.
    """
    scheduler, _ = create_scheduler_v2(
        optimizer,
        sched=options.sched,
        num_epochs=options.epochs,
        decay_epochs=options.decay_epochs,
        decay_milestones=options.decay_milestones,
        decay_rate=options.decay_rate,
        min_lr=options.min_lr,
        warmup_lr=options.warmup_lr,
        warmup_epochs=options.warmup_epochs,
        step_on_epochs=False,
        updates_per_epoch=updates_per_epoch,
    )
    return scheduler


def create_mixup(options: argparse.Namespace, num_classes: int) -> ClipMixup | None:
    """Mixup and cutmix of training batches; None where neither was asked for.

    Args:
        options: see `engine.train.options`; `img_size` is set.
        num_classes: classes of the data set.

    Raises:
        ValueError: an option makes no sense.
    """
    if not (options.mixup or options.cutmix or options.cutmix_minmax):
        return None
    return ClipMixup(
        num_classes,
        options.img_size,
        options.mixup,
        options.cutmix,
        options.cutmix_minmax,
        options.mixup_prob,
        options.mixup_switch_prob,
        options.seed,
    )
