"""Training: everything built once, then epochs of updates, validation and a checkpoint."""

import argparse
import logging
import math
from typing import Any

import torch
from timm.utils import ModelEmaV3
from tqdm import tqdm

from timm_video_psn.data import Batch, VideoIndex
from timm_video_psn.engine import build
from timm_video_psn.engine.batch_fit import settle_batch_size
from timm_video_psn.engine.checkpoint import export_model, random_state, save_checkpoint, set_random_state
from timm_video_psn.engine.cpu_memory import keep_freed_memory
from timm_video_psn.engine.data_report import DataReport
from timm_video_psn.engine.data_wait import advise
from timm_video_psn.engine.evaluate import Evaluation, evaluate
from timm_video_psn.engine.export_config import describe_run
from timm_video_psn.engine.gradients import GradientLimit
from timm_video_psn.engine.interrupt import Interrupted, StopRequest
from timm_video_psn.engine.loggers import EpochLog
from timm_video_psn.engine.meters import LossMeter, Waiting
from timm_video_psn.engine.options import clips_per_update
from timm_video_psn.engine.parameter_groups import base_learning_rate, describe_groups
from timm_video_psn.engine.run_folder import Row, RunFolder
from timm_video_psn.engine.skipped import SkippedList
from timm_video_psn.engine.task import VideoClassificationTask

_logger = logging.getLogger(__name__)


class Trainer:
    """One run of train_video.py.

    Args:
        options: all options; see `engine.options`.

    Raises:
        ValueError: the options, the data or the checkpoint to resume do not fit together.
        FileExistsError: the output folder holds another run.
    """

    def __init__(self, options: argparse.Namespace):
        device = options.device or ("cuda" if torch.cuda.is_available() else "cpu")
        options = settle_batch_size(argparse.Namespace(**{**vars(options), "device": device}))
        self.run = RunFolder(vars(options))
        self.train_index, self.val_index = build.read_indices(options)
        if device == "cpu":
            keep_freed_memory()
        torch.manual_seed(options.seed)
        model = build.create_model(options, len(self.train_index.class_names))
        self.options = options = build.fill_from_model(options, model)
        self.precision = build.create_precision(options)
        self.loaders = build.create_loaders(options, self.train_index, self.val_index)
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
            self.train_index, options.num_frames, options.max_broken, SkippedList(self.run.path / "skipped.csv")
        )
        self.history: list[Row] = []
        self.epoch, self.step = 0, 0  # what comes next
        self.meter = LossMeter()
        self._advised = False
        self.gradients = GradientLimit(options.clip_grad, options.clip_mode)
        self._resume()
        averaged = self.model if self.ema is None else self.ema.module
        self.log = EpochLog(options.log, self.run.path, self.run.options, averaged, self.epoch)
        self._introduce()

    def fit(self) -> list[Row]:
        """Train to the last epoch.

        Returns:
            A row an epoch, as in `summary.csv`.

        Raises:
            Interrupted: SIGINT or SIGTERM came; everything is saved.
            FloatingPointError: the loss is not finite.
        """
        self.run.open()
        with StopRequest() as stop, self.loaders, self.log:
            while self.epoch < self.options.epochs:
                timing = self._train_epoch(stop)
                self._save()  # validation may take long, and what comes before it shall not be lost
                self._finish_epoch(self._evaluate() if self._is_validated() else None, timing)
                self._advise(timing.share)
                self._answer(stop)
        return self.history

    def _train_epoch(self, stop: StopRequest) -> Waiting:
        """The updates of an epoch that are still to be made."""
        loader = self.loaders.train
        self.loaders.sampler.set_epoch(self.epoch, start=self.step)
        timing = Waiting(loader)
        self.task.train()
        name = f"epoch {self.epoch + 1}/{self.options.epochs}"
        with tqdm(timing, total=len(loader), initial=self.step, desc=name, unit="batch", disable=None) as bar:
            for batch in bar:
                self._train_step(batch)
                self.step += 1
                if self._ends_update():
                    self._update()
                    bar.set_postfix_str(f"data wait {timing.share:.0%}", refresh=False)
                    self._answer(stop)
        timing.stop()
        return timing

    def _train_step(self, batch: Batch) -> None:
        """Forward and backward of one batch."""
        self.report.note(batch, self.epoch + 1)
        clips = len(batch.label)
        if not clips:
            return
        clip, label = self.precision.clip(batch.clip), batch.label.to(self.precision.device, non_blocking=True)
        with self.precision.autocast():
            terms, logits = self.task(clip, label)
        self.scaler.scale(terms["loss"] / self._steps_of_update()).backward()
        self.meter.update(self.step, terms, logits, label)

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
        if any(parameter.grad is not None for parameter in self.model.parameters()):
            self.scaler.unscale_(self.optimizer)
            self.gradients.apply(self.model.parameters())
            self.scaler.step(self.optimizer)
            self.scaler.update()
            self.optimizer.zero_grad()
        updates = self.epoch * self.updates_per_epoch + math.ceil(self.step / self.options.grad_accum_steps)
        if self.scheduler is not None:
            self.scheduler.step_update(updates)
        if self.ema is not None:
            self.ema.update(self.model, step=updates)

    def _is_validated(self) -> bool:
        """Whether validation follows this epoch: every n-th and the last."""
        return (self.epoch + 1) % self.options.val_interval == 0 or self.epoch + 1 == self.options.epochs

    def _evaluate(self) -> Evaluation:
        """Validate the averaged weights if there are any, else the model."""
        model = self.model if self.ema is None else self.ema.module
        batches = tqdm(self.loaders.val, desc="validation", unit="batch", leave=False, disable=None)
        evaluation = evaluate(model, batches, self.precision, len(self.val_index.labels), self.val_index.reversal_pairs)
        self.report.note_evaluation(evaluation, self.epoch + 1)
        return evaluation

    def _finish_epoch(self, evaluation: Evaluation | None, timing: Waiting) -> None:
        """Report the epoch, keep the model if it is the best, and save."""
        row = self._row(evaluation, timing)
        self.history.append(row)
        _logger.info(_line(row, self.options.epochs))
        validated = [row for row in self.history if "val_top1" in row]
        if evaluation and row is max(validated, key=lambda row: (row["val_top1"], -row["val_loss"])):
            self._export(row)
        self.run.write_summary(self.history)
        self.log.epoch(row)
        self.epoch, self.step, self.meter = self.epoch + 1, 0, LossMeter()
        self.gradients.reset()
        self._save()

    def _row(self, evaluation: Evaluation | None, timing: Waiting) -> Row:
        """The epoch's row of summary.csv."""
        train = {f"train_{name}": round(value, 6) for name, value in self.meter.averages().items()}
        if not train:
            raise ValueError(f"not one training video could be read in epoch {self.epoch + 1}; mend the data")
        return {
            "epoch": self.epoch + 1,
            "lr": base_learning_rate(self.optimizer),
            **train,
            **({} if evaluation is None else _validation_columns(evaluation)),
            "grad_norm": self.gradients.average(),
            "train_broken": self.report.broken,
            "data_wait": round(timing.share, 3),
            "train_seconds": round(timing.elapsed_sec, 1),
            "seconds": round(timing.total_sec, 1),
        }

    def _advise(self, wait: float) -> None:
        """Say once what may help when training waits for data."""
        advice = None if self._advised else advise(wait, self.options)
        if advice:
            self._advised = True
            _logger.warning(advice)

    def _export(self, row: Row) -> None:
        """Write best/."""
        model = self.model if self.ema is None else self.ema.module
        model_config, model_args = describe_run(self.options, self.train_index, row)
        export_model(model, self.run.best, model_config, model_args)

    def _answer(self, stop: StopRequest) -> None:
        """Save and leave if a signal asked for it."""
        if stop.signal_number is None or self.epoch == self.options.epochs:
            return
        self._save()
        where = f"after {self.step} of {len(self.loaders.train)} batches of epoch {self.epoch + 1}"
        raise Interrupted(
            stop.signal_number, f"stopped {where}; saved {self.run.last}; the same command with --resume auto goes on"
        )

    def _save(self) -> None:
        """Write last.pt, unless the weights are past saving."""
        spoiled = [name for name, value in self.model.named_parameters() if not value.isfinite().all()]
        if spoiled:
            raise FloatingPointError(
                f"weights not finite after {self.step} batches of epoch {self.epoch + 1}: {', '.join(spoiled[:3])}; "
                f"{self.run.last}, if it is there, holds the last state that was. Try a smaller --lr or --clip-grad"
            )
        state = {
            "options": self.run.options,
            "class_names": list(self.train_index.class_names),
            "videos": self._fingerprints(),
            "epoch": self.epoch,
            "step": self.step,
            "history": self.history,
            "meter": self.meter.state_dict(),
            "gradients": self.gradients.state_dict(),
            "report": self.report.state_dict(),
            "model": self.model.state_dict(),
            "optimizer": self.optimizer.state_dict(),
            "scaler": self.scaler.state_dict(),
            "ema": None if self.ema is None else self.ema.module.state_dict(),
            "random": random_state(),
        }
        save_checkpoint(self.run.last, state)

    def _resume(self) -> None:
        """Take over the state of the checkpoint, if this run continues one."""
        state = self.run.state
        if state is None:
            return
        if state["class_names"] != list(self.train_index.class_names):
            differing = sorted(set(state["class_names"]) ^ set(self.train_index.class_names))
            raise ValueError(
                f"cannot continue {self.run.last}: its {len(state['class_names'])} classes are not the "
                f"{len(self.train_index.class_names)} of the data; not in both: {', '.join(differing[:10]) or 'none'} "
                "(their order counts too); use the data that the run was begun with"
            )
        if state["videos"] != self._fingerprints():
            raise ValueError(
                f"cannot continue {self.run.last}: the data set has other videos than when the run was begun, so that "
                "it would go on with another order; restore the videos, or start a new run with --experiment NAME"
            )
        self.model.load_state_dict(state["model"])
        self.optimizer.load_state_dict(state["optimizer"])
        self.scaler.load_state_dict(state["scaler"])
        if self.ema is not None:
            self.ema.module.load_state_dict(state["ema"])
        self.meter.load_state_dict(state["meter"])
        self.gradients.load_state_dict(state["gradients"])
        self.report.load_state_dict(state["report"])
        self.history, self.epoch, self.step = state["history"], state["epoch"], state["step"]
        set_random_state(state["random"])

    def _fingerprints(self) -> list[str]:
        """What tells the videos of this run from others."""
        return [self.train_index.fingerprint(), self.val_index.fingerprint()]

    def _introduce(self) -> None:
        """Say what is about to happen."""
        say = _logger.info
        options, model = self.options, self.model
        parameters = sum(parameter.numel() for parameter in model.parameters())
        say(f"run       {self.run.path}" + (f", recipe {options.config}" if options.config else ""))
        say(f"data      {options.dataset}: {_count(self.train_index)} to train, {_count(self.val_index)} to validate")
        for note in _notes(self.train_index, self.val_index):
            say(f"          {note}")
        left_out = len(self.train_index.labels) - len(self.loaders.sampler) * options.batch_size
        if left_out > 0:
            say(f"          whole batches only: each epoch leaves out {left_out} training videos, drawn anew")
        kwargs = "".join(f", {key}={value}" for key, value in options.model_kwargs.items())
        weights = "pretrained" if options.pretrained else "random"
        say(
            f"model     {options.model}: {parameters / 1e6:.2f} M parameters, {weights} weights, "
            f"{options.num_frames} frames{kwargs}"
        )
        clips = f"{clips_per_update(options)} clips an update"
        say(f"optimizer {options.opt}, lr {options.lr:g} for {clips}, {options.sched}, {options.device}")
        for line in describe_groups(self.optimizer.param_groups, options.lr):
            say(f"          {line}")
        if self.epoch == options.epochs:
            say(f"finished  all {self.epoch} epochs are trained already: there is nothing left to do")
        elif self.run.state is not None:
            say(f"continues after {self.epoch} epochs and {self.step} batches")


def train(options: argparse.Namespace) -> list[Row]:
    """Train as the options say.

    Args:
        options: see `engine.options`.

    Returns:
        A row an epoch, as in `summary.csv`.
    """
    return Trainer(options).fit()


def _count(index: VideoIndex) -> str:
    """How much there is."""
    return f"{len(index.labels)} videos of {len(index.class_names)} classes"


def _notes(train: VideoIndex, val: VideoIndex) -> list[str]:
    """What the user should know about the data."""
    notes = []
    if train.shared_split:
        notes.append("no train/ and val/ folders: the accuracy is measured on the training videos themselves")
    if train.ignored or val.ignored:
        notes.append(f"files that are no videos: {train.ignored} of train, {val.ignored} of val, not used")
    return [*notes, *dict.fromkeys((*train.notes, *val.notes))]


def _validation_columns(evaluation: Evaluation) -> Row:
    """What validation adds to the row of an epoch."""
    pairs = {} if evaluation.pair_top1 is None else {"val_pair_top1": round(evaluation.pair_top1, 3)}
    return {
        "val_loss": round(evaluation.loss, 6),
        "val_top1": round(evaluation.top1, 3),
        "val_top5": round(evaluation.top5, 3),
        **pairs,
        "val_videos": evaluation.num_videos,
        "val_expected": evaluation.num_expected,
    }


def _line(row: dict[str, Any], epochs: int) -> str:
    """The report of an epoch."""
    terms = ", ".join(
        f"{name} {row['train_' + name]:.3f}" for name in ("ce", "interaction", "capacity") if f"train_{name}" in row
    )
    pairs = f", within pairs {row['val_pair_top1']:.1f}" if "val_pair_top1" in row else ""
    validation = (
        f"val top-1 {row['val_top1']:.1f}, top-5 {row['val_top5']:.1f}{pairs} "
        f"({row['val_videos']} of {row['val_expected']} videos)"
        if "val_top1" in row
        else "not validated"
    )
    return (
        f"epoch {row['epoch']}/{epochs}  loss {row['train_loss']:.3f} ({terms})  train top-1 {row['train_top1']:.1f}  "
        f"{validation}  lr {row['lr']:.2e}  data wait {row['data_wait']:.0%}  {row['seconds']:.0f} s"
    )
