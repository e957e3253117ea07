"""Training: everything built once, then epochs of updates, validation and a checkpoint."""

import argparse
import logging
import math
from contextlib import nullcontext
from typing import Any

import torch
from timm.layers import convert_sync_batchnorm
from timm.utils import ModelEmaV3, random_seed
from tqdm import tqdm

from timm_video_psn.data import Batch
from timm_video_psn.engine import distributed
from timm_video_psn.engine.checkpoint import export_model
from timm_video_psn.engine.cpu_memory import keep_freed_memory
from timm_video_psn.engine.evaluate.evaluate import Evaluation, evaluate
from timm_video_psn.engine.protocol import protocol_of_training
from timm_video_psn.engine.signals import Interrupted, StopRequest
from timm_video_psn.engine.train import build
from timm_video_psn.engine.train.auto_batch_size import settle_batch_size
from timm_video_psn.engine.train.loggers import EpochLog
from timm_video_psn.engine.train.meters import (
    DataTimer,
    LossMeter,
    advise,
    best_epochs,
    describe_epoch,
    validation_columns,
)
from timm_video_psn.engine.train.model import create_model, freeze_norms
from timm_video_psn.engine.train.model_config import describe_run
from timm_video_psn.engine.train.optim import GradClipper, base_learning_rate
from timm_video_psn.engine.train.run_folder import Row, RunFolder
from timm_video_psn.engine.train.run_state import resume_run, save_run
from timm_video_psn.engine.train.startup import introduce
from timm_video_psn.engine.train.unreadable_videos import DataReport, SkippedList
from timm_video_psn.losses import VideoClassificationTask

_logger = logging.getLogger(__name__)


class Trainer:
    """One run of train_video.py: this process's part, if torchrun has started several.

    Args:
        options: all options; see `engine.train.options`.

    Raises:
        ValueError: the options, the data or the checkpoint to resume do not fit together.
        FileExistsError: the output folder holds another run.
    """

    def __init__(self, options: argparse.Namespace):
        device = options.device or default_device()
        options = settle_batch_size(argparse.Namespace(**{**vars(options), "device": device}))
        self.run = distributed.broadcast_from_rank0(
            lambda: RunFolder({**vars(options), "device": device}, distributed.world_size())
        )
        options = argparse.Namespace(**{**vars(options), "device": distributed.local_device(device)})
        self.train_index, self.val_index = distributed.local_rank0_first(lambda: build.read_indices(options))
        if device == "cpu":
            keep_freed_memory()
        random_seed(options.seed)
        model = create_model(options, len(self.train_index.class_names))
        self.options = options = build.fill_from_model(options, model)
        self.precision = build.create_precision(options)
        self.loaders = build.create_loaders(options, self.train_index, self.val_index)
        if options.sync_bn:
            model = _with_synchronised_norms(model, self.precision.device)
            freeze_norms(options, model)  # the norms are new modules
        self.mixup = build.create_mixup(options, len(self.train_index.class_names))
        memory_format = torch.channels_last if options.channels_last else torch.contiguous_format
        self.model = model.to(self.precision.device).to(memory_format=memory_format)
        self.ema = ModelEmaV3(self.model, decay=options.model_ema_decay) if options.model_ema else None
        compiled: Any = torch.compile(self.model) if options.torchcompile else self.model
        self.task = VideoClassificationTask(
            compiled,
            options.alpha,
            options.beta,
            options.interaction_norm,
            options.smoothing,
        )
        self.updates_per_epoch = math.ceil(len(self.loaders.train) / options.grad_accum_steps)
        self.optimizer = build.create_optimizer(options, self.model)
        self.scheduler = build.create_scheduler(options, self.optimizer, self.updates_per_epoch)
        self.scaler = torch.amp.GradScaler(
            self.precision.device.type, enabled=self.precision.amp_dtype == torch.float16
        )
        self.report = DataReport(
            self.train_index, options.num_frames, options.max_unreadable, SkippedList(self.run.path / "skipped.csv")
        )
        self.history: list[Row] = []
        self.epoch, self.step = 0, 0  # what comes next
        self.meter = LossMeter()
        self.gradients = GradClipper(options.clip_grad, options.clip_mode)
        self._gradients_are_shared = True
        self._advised = False
        if distributed.rank():
            random_seed(options.seed, distributed.rank())  # every process drops out other units
        resume_run(self)
        self.parallel_task = distributed.parallel(self.task, self.precision.device)
        finished = None if self.run.state is None else self.epoch
        logged = {**self.run.options, "protocol": str(protocol_of_training(options))}
        self.log = EpochLog(options.log, self.run.path, logged, self._evaluated_model, finished)
        introduce(self)

    @property
    def updates(self) -> int:
        """Updates made since the run was begun."""
        return self.epoch * self.updates_per_epoch + math.ceil(self.step / self.options.grad_accum_steps)

    def fit(self) -> list[Row]:
        """Train to the last epoch.

        Returns:
            A row an epoch, as in `summary.csv`.

        Raises:
            Interrupted: SIGINT or SIGTERM came; everything is saved.
            FloatingPointError: the loss is not finite.
        """
        if distributed.is_first():
            self.run.open()
        with StopRequest(patient=distributed.world_size() > 1) as stop, self.loaders, self.log:
            while self.epoch < self.options.epochs:
                whole = self.step == 0
                timing = self._train_epoch(stop)
                save_run(self)  # validation may take long, and what comes before it shall not be lost
                self._finish_epoch(self._evaluate() if self._is_validated() else None, timing, whole)
                self._answer(stop)
        return self.history

    def _train_epoch(self, stop: StopRequest) -> DataTimer:
        """The updates of an epoch that are still to be made."""
        loader = self.loaders.train
        self.loaders.sampler.set_epoch(self.epoch, start=self.step)
        timing = DataTimer(loader)
        self.parallel_task.train()
        name = f"epoch {self.epoch + 1}/{self.options.epochs}"
        with tqdm(timing, total=len(loader), initial=self.step, desc=name, unit="batch", disable=_silent()) as bar:
            for batch in bar:
                self._train_step(batch)
                self.step += 1
                if self._ends_update():
                    self._update()
                    bar.set_postfix_str(f"data wait {timing.share:.0%}", refresh=False)
                    self._answer(stop)
                    self._save_in_time()
        timing.stop()
        return timing

    def _train_step(self, batch: Batch) -> None:
        """Forward and backward of one batch."""
        shared = distributed.sync_batch_counts(batch)
        self.report.note(batch._replace(unreadable=shared.unreadable), self.epoch + 1)
        if shared.skipped:
            self._gradients_are_shared = False
            return
        clip, label = self.precision.clip(batch.clip), batch.label.to(self.precision.device, non_blocking=True)
        if self.mixup is not None:
            clip, label = self.mixup.mix(clip, label, self.epoch, int(batch.index[0]))
        with self._sharing_gradients():
            with self.precision.autocast():
                terms, logits = self.parallel_task(clip, label)
            self.scaler.scale(terms["loss"] * (shared.weight / self._steps_of_update())).backward()
        self.meter.update(self.step, terms, logits, label)

    def _sharing_gradients(self) -> Any:
        """The processes share the gradients of the last step of an update, which holds the sum of all its steps."""
        last = (self.step + 1) % self.options.grad_accum_steps == 0 or self.step + 1 == len(self.loaders.train)
        self._gradients_are_shared = last
        return distributed.no_sync(self.parallel_task) if not last else nullcontext()

    def _steps_of_update(self) -> int:
        """Steps that share the update of the present step; the last update of an epoch may have fewer."""
        accumulate = self.options.grad_accum_steps
        first = self.step // accumulate * accumulate
        return min(accumulate, len(self.loaders.train) - first)

    def _ends_update(self) -> bool:
        """Whether the step just made was the last of its update."""
        return self.step % self.options.grad_accum_steps == 0 or self.step == len(self.loaders.train)

    def _update(self) -> None:
        """One step of the optimizer, the schedule and the average of the weights."""
        if not self._gradients_are_shared:  # the last step was skipped
            distributed.average_gradients(self.model.parameters())
        if any(parameter.grad is not None for parameter in self.model.parameters()):
            self.scaler.unscale_(self.optimizer)
            self.gradients.apply(self.model.parameters())
            self.scaler.step(self.optimizer)
            self.scaler.update()
            self.optimizer.zero_grad()
        if self.scheduler is not None:
            self.scheduler.step_update(self.updates)
        if self.ema is not None:
            self.ema.update(self.model, step=self.updates)

    def _is_validated(self) -> bool:
        """Whether validation follows this epoch: every n-th and the last."""
        return (self.epoch + 1) % self.options.val_interval == 0 or self.epoch + 1 == self.options.epochs

    def _evaluate(self) -> Evaluation:
        """Validate the averaged weights if there are any, else the model."""
        model = self._evaluated_model
        distributed.broadcast_buffers(model)
        batches = tqdm(self.loaders.val, desc="validation", unit="batch", leave=False, disable=_silent())
        evaluation = evaluate(model, batches, self.precision, len(self.val_index.labels), self.val_index.reversal_pairs)
        self.report.note_evaluation(evaluation, self.epoch + 1)
        return evaluation

    @property
    def _evaluated_model(self) -> torch.nn.Module:
        """What is validated and exported."""
        return self.model if self.ema is None else self.ema.module

    def _finish_epoch(self, evaluation: Evaluation | None, timing: DataTimer, whole: bool) -> None:
        """Report the epoch, keep the model if it is one of the best, and save."""
        row = self._row(evaluation, timing)
        self.history.append(row)
        _logger.info(describe_epoch(row, self.options.epochs))
        if distributed.is_first():
            if evaluation:
                self._export(row)
            self.run.write_summary(self.history)
            self.log.epoch(row)
        self.epoch, self.step, self.meter = self.epoch + 1, 0, LossMeter()
        self.gradients.reset()
        save_run(self)
        if whole:  # the little that is left after a resume goes by with the start of the workers
            self._advise(row["data_wait"])

    def _row(self, evaluation: Evaluation | None, timing: DataTimer) -> Row:
        """The epoch's row of summary.csv."""
        together = LossMeter()
        for meter in distributed.gather(self.meter.state_dict()):
            together.add(meter)
        train = {f"train_{name}": round(value, 6) for name, value in together.averages().items()}
        if not train:
            raise ValueError(f"not one training video could be read in epoch {self.epoch + 1}; mend the data")
        return {
            "epoch": self.epoch + 1,
            "lr": base_learning_rate(self.optimizer.param_groups),
            **train,
            **({} if evaluation is None else validation_columns(evaluation, str(protocol_of_training(self.options)))),
            "grad_norm": self.gradients.average(),
            "train_broken": self.report.unreadable,
            "data_wait": round(max(distributed.gather(timing.share)), 3),  # all wait for the one that does
            "train_seconds": round(timing.elapsed_sec, 1),
            "seconds": round(timing.total_sec, 1),
        }

    def _advise(self, wait: float) -> None:
        """Say once what may help when training waits for data."""
        advice = None if self._advised else advise(wait, self.options)
        if advice and distributed.is_first():
            self._advised = True
            _logger.warning(advice)

    def _export(self, row: Row) -> None:
        """Write best/ and best-epochs/, if the epoch that has just been validated belongs there."""
        ranking = best_epochs(self.history, self.options.best_hist)
        if row["epoch"] not in ranking:
            return
        model_config, model_args = describe_run(self.options, self.train_index, row)
        model_config["recipe"]["processes"] = distributed.world_size()
        for folder in self.run.best_folders(row["epoch"], ranking):
            export_model(self._evaluated_model, folder, model_config, model_args)
        self.run.drop_epochs_but(ranking)

    def _answer(self, stop: StopRequest) -> None:
        """Save and leave if a signal asked any of the processes for it."""
        number = distributed.all_reduce_max(stop.signal_number)
        if number is None or self.epoch == self.options.epochs:
            return
        save_run(self)
        distributed.barrier()  # a process that is gone would have torchrun end the one that is writing
        where = f"after {self.step} of {len(self.loaders.train)} batches of epoch {self.epoch + 1}"
        raise Interrupted(
            number, f"stopped {where}; saved {self.run.last}; the same command with --resume auto goes on"
        )

    def _save_in_time(self) -> None:
        """Save if --checkpoint-interval says so; at the end of an epoch it is done anyway."""
        interval = self.options.checkpoint_interval
        if interval and self.updates % interval == 0 and self.step < len(self.loaders.train):
            save_run(self)


def default_device() -> str:
    """The GPU, where there is one."""
    return "cuda" if torch.cuda.is_available() else "cpu"


def _with_synchronised_norms(model: Any, device: torch.device) -> Any:
    """The model with batch norms whose statistics are those of the clips of all processes."""
    if device.type == "cpu":
        raise ValueError(
            "--sync-bn is asked for, but torch's SyncBatchNorm works on GPUs only, and this run is on a CPU; leave it "
            "out: each process then normalises by its own clips"
        )
    return convert_sync_batchnorm(model)


def _silent() -> bool | None:
    """Of a progress bar: None shows it on a terminal only."""
    return None if distributed.is_first() else True


def train(options: argparse.Namespace) -> list[Row]:
    """Train as the options say.

    Args:
        options: see `engine.train.options`.

    Returns:
        A row an epoch, as in `summary.csv`.

    Raises:
        OtherProcessFailed: of several processes, another one has failed.
    """
    with distributed.process_group(options.device or default_device()):
        return Trainer(options).fit()
