"""What a run says while it trains and at its end: its numbers, the time left, the best epoch, the next commands."""

import logging
import shlex
import time

from timm_video_psn.console import command_name
from timm_video_psn.engine.evaluate.intervals import share_interval
from timm_video_psn.engine.train.meters import LossMeter, best_epochs
from timm_video_psn.engine.train.options import TrainOptions
from timm_video_psn.engine.train.run_folder import Row, RunFolder

_logger = logging.getLogger(__name__)


class TimeLeft:
    """Estimates when a run ends, from the pace of this epoch and the last validation.

    Args:
        options: Options of the run.
        history: Rows of the epochs before.
        epoch: Epochs that are done.
        step: Batches of this epoch that are done.
        steps: Batches of an epoch.
    """

    def __init__(self, options: TrainOptions, history: list[Row], epoch: int, step: int, steps: int):
        self.step, self.steps, self.start = step, steps, time.monotonic()
        self.epochs = options.epochs - epoch - 1
        validations = [row["seconds"] - row["train_seconds"] for row in history if "val_top1" in row]
        self.validation_sec = validations[-1] * (1 + self.epochs // options.val_interval) if validations else 0.0

    def after(self, done: int) -> str:
        """Time left when so many batches of the epoch are done, in words.

        Args:
            done: Batches.
        """
        pace = (time.monotonic() - self.start) / max(done - self.step, 1)
        return in_words(pace * (self.steps - done + self.steps * self.epochs) + self.validation_sec)


def in_words(seconds: float) -> str:
    """Returns a duration with as many units as matter: 45 s, 12 min, 3 h 05 min, 2 d 4 h.

    Args:
        seconds: Duration.
    """
    minutes, hours = round(seconds / 60), round(seconds / 3600)
    if seconds < 99.5:
        return f"{seconds:.0f} s"
    if minutes < 100:
        return f"{minutes} min"
    return f"{minutes // 60} h {minutes % 60:02d} min" if hours < 48 else f"{hours // 24} d {hours % 24} h"


def describe_batch(meter: LossMeter, lr: float, left: str) -> str:
    """Returns loss, accuracy and learning rate within an epoch, and when the run will be over.

    Args:
        meter: Meter of the epoch.
        lr: Learning rate.
        left: Time that the run will take.
    """
    seen = meter.so_far()
    numbers = f"loss {seen['loss']:.3f}, top-1 {seen['top1']:.1f}, " if seen else ""
    return f"{left} left, {numbers}lr {lr:.1e}"


def conclude(
    options: TrainOptions, folder: RunFolder, history: list[Row], seconds: float, is_unseen: bool = True
) -> None:
    """Says which epoch is the best, where it is, how long the run took, and what can be done next.

    Args:
        options: Options of the run.
        folder: Folder of the run.
        history: Rows of all epochs.
        seconds: Duration of all epochs.
        is_unseen: Whether the validation videos are others than the training videos.
    """
    best = next((row for row in history if row["epoch"] in best_epochs(history, 1)), None)
    if best is None:
        return
    videos = best["val_videos"]
    if "val_map" in best:
        number = f"mAP {best['val_map']:.1f} % ({videos} videos)"
    else:
        top1 = share_interval(round(best["val_top1"] * videos / 100), videos)
        number = f"top-1 {top1.value:.1f} % (95 % interval {top1.low:.1f} to {top1.high:.1f}, {videos} videos)"
    _logger.info(
        f"best      epoch {best['epoch']} of {options.epochs}: val {number}"
        + ("" if is_unseen else ", on the training videos")
    )
    _logger.info(f"folder    {folder.path}: best/ is the model, summary.csv and curves.png are the epochs")
    _logger.info(f"time      {in_words(seconds)}")
    where = shlex.quote(str(folder.path))
    data = f" --data-dir {shlex.quote(options.data_dir)}" if options.data_dir else ""
    _logger.info(f"next      {command_name('validate')} --model {where}{data}")
    _logger.info(f"          {command_name('predict')} VIDEO --model {where}")
