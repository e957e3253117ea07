"""The training loop: epochs of updates, each followed by a checkpoint, by validation and by a row of results."""

import argparse
import logging
import math
from collections.abc import Callable
from contextlib import nullcontext
from typing import Any

from timm_video_psn.console import Progress
from timm_video_psn.data import Batch
from timm_video_psn.engine import distributed
from timm_video_psn.engine.checkpoint import export_model, random_state, set_random_state
from timm_video_psn.engine.evaluate.evaluate import Evaluation, evaluate
from timm_video_psn.engine.precision import resolve_device
from timm_video_psn.engine.protocol import protocol_of_training
from timm_video_psn.engine.signals import Interrupted, StopRequest
from timm_video_psn.engine.train.auto_batch_size import settle_batch_size
from timm_video_psn.engine.train.build import Run, build_run, settle_options
from timm_video_psn.engine.train.meters import (
    DataTimer,
    LossMeter,
    best_epochs,
    data_wait_advice,
    describe_epoch,
    time_columns,
    train_columns,
    validation_columns,
)
from timm_video_psn.engine.train.model_config import describe_run
from timm_video_psn.engine.train.optim import base_learning_rate
from timm_video_psn.engine.train.progress import TimeLeft, conclude, describe_batch
from timm_video_psn.engine.train.run_folder import Row
from timm_video_psn.engine.train.startup import introduce
from timm_video_psn.files import first_names

_logger = logging.getLogger(__name__)


def train(asked: argparse.Namespace) -> list[Row]:
    """Trains as the command line asks; of several processes that torchrun has started, each calls it.

    Args:
        asked: What the command line and the recipe ask for; see `command_line.parse_options`.

    Returns:
        A row an epoch, as in `summary.csv`.

    Raises:
        OtherProcessFailed: Of several processes, another one has failed.
    """
    with distributed.process_group(resolve_device(asked.device)):
        return create_trainer(asked).fit()


def create_trainer(asked: argparse.Namespace) -> "Trainer":
    """Settles the options, builds the run, resumes it where that is asked for, and says what is about to happen.

    Args:
        asked: What the command line and the recipe ask for.
    """
    options = settle_options(asked)
    if asked.batch_size == "auto":
        options = settle_batch_size(options)
    trainer = Trainer(build_run(options))
    if trainer.run.folder.state is not None:
        trainer.load_state_dict(trainer.run.folder.state)
    introduce(trainer.run, trainer.epoch, trainer.step)
    return trainer


class Trainer:
    """Trains a run: this process's part, if there are several.

    Args:
        run: What to train, and with what; see `build.build_run`.
    """

    def __init__(self, run: Run):
        self.run = run
        self.epoch, self.step = 0, 0  # what comes next
        self.history: list[Row] = []
        self.meter = LossMeter()
        self.advised = False

    def fit(self) -> list[Row]:
        """Trains to the last epoch.

        Returns:
            A row an epoch, as in `summary.csv`.

        Raises:
            Interrupted: SIGINT or SIGTERM came; everything is saved.
            FloatingPointError: The loss is not finite.
        """
        run = self.run
        if distributed.is_first():
            run.folder.open()
        with StopRequest(patient=distributed.world_size() > 1) as stop, run.loaders, run.log:
            while self.epoch < run.options.epochs and not self.stops_early():
                whole = self.step == 0
                timer = self.train_epoch(stop)
                self.save()  # validation may take long, and what comes before it must not be lost
                evaluation = self.validate() if self.is_validated() else None
                self.finish_epoch(timer, evaluation)
                if whole:  # the rest of an epoch after a resume goes by while workers start
                    self.warn_of_waiting()
                self.stop_if_asked(stop)
        if self.stops_early():
            best = best_epochs(self.history, 1)[0]
            _logger.info(
                f"stopped   after epoch {self.epoch} of {run.options.epochs}: none of the last "
                f"{self.epoch - best} was better than epoch {best} (--early-stopping {run.options.early_stopping})"
            )
        seconds = sum(row["seconds"] for row in self.history)
        conclude(run.options, run.folder, self.history, seconds, is_unseen=not run.train_index.shared_split)
        return self.history

    def train_epoch(self, stop: StopRequest) -> DataTimer:
        """Makes the updates of an epoch that are still to be made.

        Args:
            stop: Request to stop, which is answered between updates.
        """
        run, options, steps = self.run, self.run.options, len(self.run.loaders.train)
        run.loaders.order.set_epoch(self.epoch, start=self.step)
        run.task.train()
        timer = DataTimer(run.loaders.train)
        title, interval = f"epoch {self.epoch + 1}/{options.epochs}", options.log_interval * options.grad_accum_steps
        with Progress(timer, title, steps, self.step, interval, self.describer()) as batches:
            for batch in batches:
                # The last update of an epoch may have fewer steps.
                first = self.step - self.step % options.grad_accum_steps
                end = min(first + options.grad_accum_steps, steps)
                trained = self.train_step(batch, end - first, last=self.step + 1 == end)
                self.step += 1
                if self.step == end:
                    self.update(averaged=trained)
                    self.stop_if_asked(stop)
                    if self.is_saved():
                        self.save()
        timer.stop()
        return timer

    def describer(self) -> Callable[[int], str]:
        """What the progress of the epoch that begins says after each batch."""
        run, steps = self.run, len(self.run.loaders.train)
        left = TimeLeft(run.options, self.history, self.epoch, self.step, steps)
        return lambda done: describe_batch(self.meter, base_learning_rate(run.optimizer.param_groups), left.after(done))

    def train_step(self, batch: Batch, steps: int, last: bool) -> bool:
        """Adds the gradients of a batch; returns False where a process has no clip, so that all leave the step out.

        Args:
            batch: Clips of this process.
            steps: Steps of the update.
            last: Whether the update follows, so that the processes average the sum of its gradients.
        """
        run = self.run
        counts = distributed.sync_batch_counts(batch)
        run.report.note(batch._replace(unreadable=counts.unreadable), self.epoch + 1)
        if counts.skipped:
            return False
        clip, label = run.precision.clip(batch.clip), batch.label.to(run.precision.device, non_blocking=True)
        if run.mixup is not None:
            clip, label = run.mixup.mix(clip, label, self.epoch, int(batch.index[0]))
        with nullcontext() if last else distributed.no_sync(run.task):
            with run.precision.autocast():
                teacher = None if run.teacher is None else run.teacher.logits(clip)
                terms, logits = run.task(clip, label, teacher)
            if self.step == 0 and not run.options.torchcompile:  # a compiled graph runs backward only once
                self.meter.grad_shares = run.loss.gradient_shares(terms)
            run.scaler.scale(terms["loss"] * (counts.weight / steps)).backward()
        self.meter.update(self.step, terms, logits, label)
        return True

    def update(self, averaged: bool) -> None:
        """Makes one step of the optimizer, of the schedule and of the EMA.

        Args:
            averaged: Whether the gradients are averaged over the processes already.
        """
        run, parameters = self.run, list(self.run.model.parameters())
        if not averaged:
            distributed.average_gradients(parameters)
        if any(parameter.grad is not None for parameter in parameters):
            run.scaler.unscale_(run.optimizer)
            run.grad_clipper.clip(parameters)
            run.scaler.step(run.optimizer)
            run.scaler.update()
            run.optimizer.zero_grad()
        if run.scheduler is not None:
            run.scheduler.step_update(self.updates)
        if run.ema is not None:
            run.ema.update(run.model, step=self.updates)

    def validate(self) -> Evaluation:
        """Evaluates the EMA where there is one, else the model."""
        run = self.run
        distributed.broadcast_buffers(run.evaluated_model)
        with Progress(run.loaders.val, "validation", len(run.loaders.val)) as batches:
            evaluation = evaluate(
                run.evaluated_model,
                batches,
                run.precision,
                len(run.val_index.labels),
                run.val_index.reversal_pairs,
                run.options.loss,
            )
        run.report.note_evaluation(evaluation, self.epoch + 1)
        return evaluation

    def finish_epoch(self, timer: DataTimer, evaluation: Evaluation | None) -> None:
        """Reports an epoch, keeps its model if it is one of the best, and saves.

        Args:
            timer: Times of the epoch.
            evaluation: Result of the validation; None where the epoch is not validated.
        """
        run = self.run
        row: Row = {
            "epoch": self.epoch + 1,
            "lr": base_learning_rate(run.optimizer.param_groups),
            **train_columns(self.meter, self.epoch + 1),
            **validation_columns(evaluation, str(protocol_of_training(run.options))),
            "grad_norm": run.grad_clipper.average_norm(),
            "train_unreadable": run.report.unreadable,
            **time_columns(timer),
        }
        self.history.append(row)
        _logger.info(describe_epoch(row, run.options.epochs))
        if distributed.is_first():
            if evaluation is not None:
                self.export(row)
            run.folder.write_summary(self.history)
            run.log.epoch(row)
        self.epoch, self.step, self.meter = self.epoch + 1, 0, LossMeter()
        run.grad_clipper.reset()
        self.save()

    def warn_of_waiting(self) -> None:
        """Says once what helps when training waits for data."""
        advice = None if self.advised else data_wait_advice(self.history[-1]["data_wait"], self.run.options)
        if advice and distributed.is_first():
            self.advised = True
            _logger.warning(advice)

    def export(self, row: Row) -> None:
        """Writes best/ and best-epochs/, if the epoch that has just been validated belongs there.

        Args:
            row: Row of the epoch.
        """
        run = self.run
        ranking = best_epochs(self.history, run.options.best_hist)
        if row["epoch"] not in ranking:
            return
        config, arguments = describe_run(run.options, run.train_index, row, distributed.world_size())
        for folder in run.folder.best_folders(row["epoch"], ranking):
            export_model(run.evaluated_model, folder, config, arguments)
        run.folder.drop_epochs_but(ranking)

    def is_validated(self) -> bool:
        """Whether validation follows this epoch: every n-th one and the last."""
        interval, epochs = self.run.options.val_interval, self.run.options.epochs
        return (self.epoch + 1) % interval == 0 or self.epoch + 1 == epochs

    def stops_early(self) -> bool:
        """Whether the best epoch lies as far back as --early-stopping allows; resuming changes nothing about it."""
        patience, best = self.run.options.early_stopping, best_epochs(self.history, 1)
        return patience is not None and bool(best) and self.epoch - best[0] >= patience

    def is_saved(self) -> bool:
        """Whether --checkpoint-interval asks for a checkpoint after this update; the end of an epoch has one anyway."""
        interval = self.run.options.checkpoint_interval
        return bool(interval) and self.updates % interval == 0 and self.step < len(self.run.loaders.train)

    def stop_if_asked(self, stop: StopRequest) -> None:
        """Saves and leaves if a signal has asked any of the processes to.

        Args:
            stop: Request of this process.
        """
        number = distributed.all_reduce_max(stop.signal_number)
        if number is None or self.epoch == self.run.options.epochs:
            return
        self.save()
        distributed.barrier()  # a process that is gone would have torchrun end the one that is writing
        raise Interrupted(
            number,
            f"stopped in epoch {self.epoch + 1} after {self.step} of {len(self.run.loaders.train)} batches; saved "
            f"{self.run.folder.last}; the same command with --resume auto resumes",
        )

    @property
    def updates(self) -> int:
        """Updates made since the run began."""
        return self.epoch * self.run.updates_per_epoch + math.ceil(self.step / self.run.options.grad_accum_steps)

    def save(self) -> None:
        """Writes last.pt, unless a weight is not finite; all processes call it, between two updates.

        Raises:
            FloatingPointError: A weight is not finite.
            OSError: The checkpoint cannot be written.
        """
        run = self.run
        spoiled = [name for name, value in run.model.named_parameters() if not value.isfinite().all()]
        if spoiled:
            raise FloatingPointError(
                f"weights not finite in epoch {self.epoch + 1} after {self.step} batches: {first_names(spoiled, 3)}; "
                f"{run.folder.last}, if it exists, holds the last finite state; try a smaller --lr or --clip-grad"
            )
        state = {**run.identity(), **self.state_dict()}
        if distributed.is_first():
            run.folder.save(state, self.updates)

    def state_dict(self) -> dict[str, Any]:
        """Returns all that resuming needs; all processes call it, since each has random numbers and sums of its own.

        The schedule follows from the number of updates; the order of the videos and the random choices for each of
        them follow from the seed and the epoch.
        """
        run = self.run
        own = {"random": random_state(run.precision.device), "meter": self.meter.state_dict()}
        return {
            "epoch": self.epoch,
            "step": self.step,
            "history": self.history,
            "gradients": run.grad_clipper.state_dict(),
            "report": run.report.state_dict(),
            "model": run.model.state_dict(),
            "optimizer": run.optimizer.state_dict(),
            "scaler": run.scaler.state_dict(),
            "ema": None if run.ema is None else run.ema.module.state_dict(),
            "processes": distributed.gather(own),
        }

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Undoes `state_dict`.

        Args:
            state: What it returned, with any number of processes.
        """
        run = self.run
        self.epoch, self.step, self.history = state["epoch"], state["step"], state["history"]
        run.grad_clipper.load_state_dict(state["gradients"])
        run.report.load_state_dict(state["report"])
        run.model.load_state_dict(state["model"])
        run.optimizer.load_state_dict(state["optimizer"])
        run.scaler.load_state_dict(state["scaler"])
        if run.ema is not None:
            run.ema.module.load_state_dict(state["ema"])
        processes, rank = state["processes"], distributed.rank()
        if len(processes) == distributed.world_size():
            self.meter.load_state_dict(processes[rank]["meter"])
            set_random_state(processes[rank]["random"], run.precision.device)
        elif distributed.is_first():
            for process in processes:
                self.meter.add(process["meter"])
        if run.scheduler is not None and self.updates:
            run.scheduler.step_update(self.updates)  # as it was, unless --epochs has given it another end
