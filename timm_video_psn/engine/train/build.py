"""From options to a run: data, model, loss, optimizer, schedule and logs, built and ready for the `Trainer`."""

import argparse
import math
from dataclasses import dataclass, replace
from typing import Any

import torch
from timm.utils import ModelEmaV3, random_seed
from torch import nn

from timm_video_psn.data import (
    SAMPLINGS,
    AutoAugment,
    ColorJitter,
    EpochSampler,
    EvalTransform,
    RandomErasing,
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
from timm_video_psn.data.clips.class_weights import class_weights
from timm_video_psn.data.clips.mixup import ClipMixup
from timm_video_psn.data.loaders import Loader
from timm_video_psn.engine import distributed
from timm_video_psn.engine.cpu_memory import keep_freed_memory
from timm_video_psn.engine.precision import Precision, find_device, resolve_device
from timm_video_psn.engine.protocol import protocol_of_training
from timm_video_psn.engine.teacher import Teacher, load_teacher
from timm_video_psn.engine.train.loggers import EpochLog
from timm_video_psn.engine.train.model import create_model, model_defaults
from timm_video_psn.engine.train.optim import GradClipper, create_optimizer, create_scheduler
from timm_video_psn.engine.train.options import TrainOptions, resolve_options
from timm_video_psn.engine.train.run_folder import RunFolder, data_identity
from timm_video_psn.engine.train.unreadable_videos import DataReport, SkippedList
from timm_video_psn.losses import VideoClassificationTask
from timm_video_psn.models import VideoNet


@dataclass(frozen=True)
class Loaders:
    """The loaders of training and validation videos; leaving the context ends their workers."""

    train: Loader
    val: Loader

    def __enter__(self) -> "Loaders":
        return self

    def __exit__(self, *error: object) -> None:
        for loader in (self.train, self.val):
            end_workers(loader)

    @property
    def order(self) -> EpochSampler | ShardOrder:
        """The order of the training videos."""
        assert isinstance(self.train.batch_sampler, (EpochSampler, ShardOrder))
        return self.train.batch_sampler


@dataclass
class Run:
    """The parts of a run, as this process has them.

    Attributes:
        options: All options, settled.
        folder: What the run leaves on disk, and the checkpoint that it resumes from, if any.
        train_index: Training videos.
        val_index: Validation videos.
        loaders: Batches of both.
        precision: Device, autocast and normalisation.
        mixup: Mixup and cutmix of training batches; None without.
        teacher: Model whose answers are learned, too; None without.
        model: The model, on the device.
        ema: Moving average of its weights; None without.
        task: Model and loss; compiled and data-parallel where that is asked for.
        optimizer: Optimizer with its parameter groups.
        updates_per_epoch: Updates of an epoch; the last one may have fewer steps.
        scheduler: timm's schedule, stepped at every update; None where the learning rate stays.
        scaler: Scaler of the loss for float16; idle for other numbers.
        grad_clipper: Limit on the gradient.
        report: What is wrong with the videos.
        log: Where the numbers of an epoch go.
    """

    options: TrainOptions
    folder: RunFolder
    train_index: VideoIndex
    val_index: VideoIndex
    loaders: Loaders
    precision: Precision
    mixup: ClipMixup | None
    teacher: Teacher | None
    model: VideoNet
    ema: ModelEmaV3 | None
    task: nn.Module
    optimizer: torch.optim.Optimizer
    updates_per_epoch: int
    scheduler: Any
    scaler: torch.amp.GradScaler
    grad_clipper: GradClipper
    report: DataReport
    log: EpochLog

    @property
    def loss(self) -> VideoClassificationTask:
        """The task without what makes it data-parallel."""
        task = getattr(self.task, "module", self.task)
        assert isinstance(task, VideoClassificationTask)
        return task

    @property
    def evaluated_model(self) -> nn.Module:
        """The model that is validated and exported: the EMA where there is one."""
        return self.model if self.ema is None else self.ema.module

    def identity(self) -> dict[str, Any]:
        """What tells this run from others; a part of its checkpoint."""
        return {"options": self.options.as_asked(), **data_identity(self.train_index, self.val_index)}


def settle_options(asked: argparse.Namespace) -> TrainOptions:
    """Settles the options with the defaults of the model, the device of this machine and the number of processes.

    Args:
        asked: What the command line and the recipe ask for; see `command_line.parse_options`.
    """
    return resolve_options(asked, model_defaults(asked), resolve_device(asked.device), distributed.world_size())


def build_run(options: TrainOptions) -> Run:
    """Builds everything that a run needs; nothing is written yet.

    Args:
        options: Options of the run.

    Raises:
        ValueError: Options, data, model and the checkpoint to resume from do not fit together.
        FileExistsError: The folder holds another run.
    """
    folder = distributed.broadcast_from_rank0(lambda: RunFolder(options, distributed.world_size()))
    train_index, val_index = distributed.local_rank0_first(lambda: read_indices(options))
    folder.check_data(train_index, val_index)
    loaders = _create_loaders(options, train_index, val_index)
    precision = create_precision(options)
    device = precision.device
    if device.type == "cpu":
        keep_freed_memory()
    teacher = None
    if options.kd_teacher is not None:
        teacher = load_teacher(options.kd_teacher, train_index.class_names, precision, options.num_frames)
    random_seed(options.seed)
    model = create_model(options, len(train_index.class_names))
    if distributed.rank():
        random_seed(options.seed, distributed.rank())  # every process drops out other units
    memory_format = torch.channels_last if options.channels_last else torch.contiguous_format
    model = model.to(device).to(memory_format=memory_format)
    optimizer = create_optimizer(options, model)
    updates_per_epoch = math.ceil(len(loaders.train) / options.grad_accum_steps)
    ema = ModelEmaV3(model, decay=options.model_ema_decay) if options.model_ema else None
    return Run(
        options=options,
        folder=folder,
        train_index=train_index,
        val_index=val_index,
        loaders=loaders,
        precision=precision,
        mixup=_create_mixup(options, len(train_index.class_names)),
        teacher=teacher,
        model=model,
        ema=ema,
        task=distributed.data_parallel(create_task(options, model, train_index), device),
        optimizer=optimizer,
        updates_per_epoch=updates_per_epoch,
        scheduler=create_scheduler(options, optimizer, updates_per_epoch),
        scaler=torch.amp.GradScaler(device.type, enabled=precision.amp_dtype == torch.float16),
        grad_clipper=GradClipper(options.clip_grad, options.clip_mode),
        report=DataReport(
            train_index, options.num_frames, options.max_unreadable, SkippedList(folder.path / "skipped.csv")
        ),
        log=EpochLog(
            options.log,
            folder.path,
            {**options.as_dict(), "protocol": str(protocol_of_training(options))},
            model if ema is None else ema.module,
            folder.finished_epochs,
        ),
    )


def read_indices(options: TrainOptions) -> tuple[VideoIndex, VideoIndex]:
    """Reads which training and validation videos the data set has.

    Args:
        options: Options of the run.

    Raises:
        ValueError: The data set is unknown or malformed, or has other classes than asked for.
    """
    files = {"train": options.train_list, "val": options.val_list}
    given = {split: path for split, path in files.items() if path is not None}
    found = (read_index(options.dataset, options.data_dir, split, given) for split in ("train", "val"))
    train, val = (replace(index, max_pixels=options.max_pixels) for index in found)
    check_class_names(train.class_names, val.class_names, "the training videos", "the validation videos")
    if train.version != val.version:
        raise ValueError(
            f"the training annotations are {train.version}, the validation annotations {val.version}; use one version, "
            "with --train-list and --val-list if need be"
        )
    if options.loss == "ce" and (train.label_sets is not None or val.label_sets is not None):
        raise ValueError(
            f"data set {options.dataset!r} has videos of several classes, but --loss ce trains one class a video; use "
            "--loss bce"
        )
    if train.label_sets is not None or val.label_sets is not None:  # in one list, each video may have one label
        train, val = train.with_label_sets(), val.with_label_sets()
    num_classes = len(train.class_names)
    if options.num_classes not in (None, num_classes):
        raise ValueError(
            f"--num-classes {options.num_classes} asked for, but data set {options.dataset!r} has {num_classes}; "
            "leave the option out"
        )
    return train, val


def _create_loaders(options: TrainOptions, train: VideoIndex, val: VideoIndex) -> Loaders:
    """Loaders with the sampling and the transforms that were asked for."""
    check_decoder(options.decoder)
    rank, world_size = distributed.rank(), distributed.world_size()
    if len(train.labels) < world_size:
        raise ValueError(f"{len(train.labels)} training videos for {world_size} processes; use fewer processes")
    frames, sampling, decoder = options.num_frames, SAMPLINGS[options.sampling], options.decoder
    train_transform = _create_train_transform(options)
    val_transform = EvalTransform(options.img_size, options.crop_pct, options.interpolation)
    common: dict[str, Any] = {
        "batch_size": options.batch_size,
        "workers": options.workers,
        "seed": options.seed,
        "pin_memory": options.device.startswith("cuda"),
        "rank": rank,
        "world_size": world_size,
    }
    return Loaders(
        create_loader(
            VideoDataset(train, frames, train_transform, True, options.seed, sampling, decoder),
            shuffle=True,
            balanced=options.sampler == "balanced",
            drop_last=len(train.labels) > options.batch_size * world_size,
            **common,
        ),
        create_loader(
            VideoDataset(val, frames, val_transform, False, 0, sampling, decoder),
            shuffle=False,
            **common,
        ),
    )


def _create_train_transform(options: TrainOptions) -> TrainTransform:
    """Crop, mirroring, policy and colours of training clips."""
    augment: list[Any] = []
    if options.aa:
        augment.append(AutoAugment(options.aa, options.img_size, options.mean, options.interpolation))
    if options.color_jitter:
        augment.append(ColorJitter(options.color_jitter))
    if options.reprob:
        augment.append(RandomErasing(options.reprob, options.mean))
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


def _create_mixup(options: TrainOptions, num_classes: int) -> ClipMixup | None:
    """Mixup and cutmix of training batches; None where neither was asked for."""
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


def create_precision(options: TrainOptions) -> Precision:
    """Settles this process's device, autocast and normalisation.

    Args:
        options: Options of the run.

    Raises:
        ValueError: This machine has no such device, or float16 was asked for on a CPU.
    """
    device = find_device(distributed.local_device(options.device))
    return Precision(device, options.mean, options.std, getattr(torch, options.amp_dtype) if options.amp else None)


def create_task(options: TrainOptions, model: nn.Module, train: VideoIndex) -> VideoClassificationTask:
    """Creates the module that computes logits and loss.

    Args:
        options: Options of the run.
        model: Model of the run.
        train: Training videos, whose numbers balance the classes.
    """
    compiled: Any = torch.compile(model) if options.torchcompile else model
    weights = None
    if options.class_weights is not None:
        weights = torch.from_numpy(class_weights(options.class_weights, train, options.loss == "bce"))
        weights = weights.to(next(model.parameters()).device)
    return VideoClassificationTask(
        compiled,
        options.alpha,
        options.beta,
        options.interaction_norm,
        options.smoothing,
        options.loss,
        weights,
        options.kd_alpha,
        options.kd_temperature,
    )
