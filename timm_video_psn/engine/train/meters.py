"""What is measured while an epoch trains: losses, accuracy, the wait for data; and what is said of the epoch."""

import os
import time
from collections import deque
from collections.abc import Iterable, Iterator
from typing import Any

import torch
from torch import Tensor

from timm_video_psn.engine import distributed
from timm_video_psn.engine.evaluate.evaluate import Evaluation
from timm_video_psn.engine.train.options import TrainOptions
from timm_video_psn.engine.train.run_folder import Row

LARGEST_WAIT = 0.3  # share of the time that waiting for data may take before anything is said


class LossMeter:
    """Averages of named losses and of top-1, gathered on the device and read one step late, so that nothing waits.

    Args:
        keep: Number of losses that an error message shows.

    Attributes:
        grad_shares: Shares of the terms of the loss in the gradient of T, in the first step of the epoch.
    """

    def __init__(self, keep: int = 5) -> None:
        self.sums: dict[str, float] = {}
        self.clips = 0
        self.grad_shares: dict[str, float] = {}
        self._pending: tuple[int, int, dict[str, Tensor]] | None = None
        self._recent: deque[str] = deque(maxlen=keep)

    def update(self, step: int, terms: dict[str, Tensor], logits: Tensor, label: Tensor) -> None:
        """Counts a step; the one before it is read and checked now.

        Args:
            step: Number of the step in its epoch.
            terms: Losses by name, each an average over the clips of the step.
            logits: Logits, (B, K).
            label: Classes, (B,); or of mixed clips the shares of the classes, (B, K): then a clip is as correct as the
                share of the class that is answered.

        Raises:
            FloatingPointError: A loss is not finite.
        """
        self.flush()
        answer = logits.detach().argmax(1)
        correct = (answer == label).sum() if label.ndim == 1 else label.gather(1, answer[:, None]).sum()
        values = {name: term.detach() for name, term in terms.items()}
        self._pending = (step, len(label), {**values, "top1": correct * 100.0 / len(label)})

    def flush(self) -> None:
        """Reads the step that was counted last."""
        if self._pending is None:
            return
        step, clips, terms = self._pending
        self._pending = None
        names = list(terms)
        values = torch.stack([terms[name].double() for name in names]).tolist()
        self._recent.append(f"{values[names.index('loss')]:.4g}")
        if not all(value - value == 0 for value in values):  # inf - inf and nan - nan are nan
            found = ", ".join(f"{name} {value:.4g}" for name, value in zip(names, values, strict=True))
            raise FloatingPointError(
                f"the loss of step {step} is not finite ({found}); the last losses were {', '.join(self._recent)}. "
                "Try a smaller --lr, --warmup-epochs, a smaller --clip-grad, or --amp-dtype bfloat16 instead of float16"
            )
        for name, value in zip(names, values, strict=True):
            self.sums[name] = self.sums.get(name, 0.0) + value * clips
        self.clips += clips

    def so_far(self) -> dict[str, float]:
        """Returns the averages without the last step, for which the device would have to be waited for."""
        return {name: total / self.clips for name, total in self.sums.items()}

    def averages(self) -> dict[str, float]:
        """Returns the average of each loss, and of top-1 in percent, over the clips seen."""
        self.flush()
        return {name: total / max(self.clips, 1) for name, total in self.sums.items()}

    def state_dict(self) -> dict[str, Any]:
        """Returns what resuming within an epoch needs."""
        self.flush()
        return {"sums": dict(self.sums), "clips": self.clips, "grad_shares": dict(self.grad_shares)}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Undoes `state_dict`.

        Args:
            state: What it returned.
        """
        self.sums, self.clips = dict(state["sums"]), state["clips"]
        self.grad_shares = dict(state.get("grad_shares", {}))

    def add(self, state: dict[str, Any]) -> None:
        """Adds what another meter has seen.

        Args:
            state: What its `state_dict` returned.
        """
        for name, total in state["sums"].items():
            self.sums[name] = self.sums.get(name, 0.0) + total
        self.clips += state["clips"]


class DataTimer:
    """Iterates over batches and measures the share of time spent waiting for them.

    Args:
        batches: Batches to iterate over.
    """

    def __init__(self, batches: Iterable[Any]):
        self.batches = batches
        self.waited_sec = 0.0
        self._start = time.perf_counter()
        self._end: float | None = None

    def stop(self) -> None:
        """Ends what is measured."""
        self._end = time.perf_counter()

    def __iter__(self) -> Iterator[Any]:
        iterator = iter(self.batches)
        while True:
            asked = time.perf_counter()
            try:
                batch = next(iterator)
            except StopIteration:
                return
            self.waited_sec += time.perf_counter() - asked
            yield batch

    @property
    def elapsed_sec(self) -> float:
        """Seconds until the stop, or until now."""
        return (self._end or time.perf_counter()) - self._start

    @property
    def total_sec(self) -> float:
        """Seconds until now, stopped or not."""
        return time.perf_counter() - self._start

    @property
    def share(self) -> float:
        """Seconds waited / seconds elapsed."""
        return self.waited_sec / max(self.elapsed_sec, 1e-9)


def train_columns(meter: LossMeter, epoch: int) -> Row:
    """Returns what the training of an epoch adds to its row, over the clips of all processes.

    Args:
        meter: Meter of this process.
        epoch: Number of the epoch, for the error.

    Raises:
        ValueError: No process has read a single video.
    """
    together = LossMeter()
    for state in distributed.gather(meter.state_dict()):
        together.add(state)
    if not together.clips:
        raise ValueError(f"not one training video could be read in epoch {epoch}; repair the data")
    shares = {f"grad_share_{name}": round(value, 6) for name, value in meter.grad_shares.items()}
    return {**{f"train_{name}": round(value, 6) for name, value in together.averages().items()}, **shares}


def validation_columns(evaluation: Evaluation | None, protocol: str) -> Row:
    """Returns what validation adds to the row of an epoch; nothing where there was none.

    Args:
        evaluation: Result for the epoch's weights.
        protocol: Clips and crops that validation takes of a video.
    """
    if evaluation is None:
        return {}
    some = {"val_top5": evaluation.top5, "val_pair_top1": evaluation.pair_top1, "val_map": evaluation.mean_ap}
    return {
        "val_loss": round(evaluation.loss, 6),
        "val_top1": round(evaluation.top1, 3),
        **{name: round(value, 3) for name, value in some.items() if value is not None},  # not of every data set
        "val_videos": evaluation.num_videos,
        "val_expected": evaluation.num_expected,
        "protocol": protocol,
    }


def time_columns(timer: DataTimer) -> Row:
    """Returns the times of an epoch; the wait for data is the longest of all processes, since all wait for it.

    Args:
        timer: Timer of this process.
    """
    return {
        "data_wait": round(max(distributed.gather(timer.share)), 3),
        "train_seconds": round(timer.elapsed_sec, 1),
        "seconds": round(timer.total_sec, 1),
    }


def describe_epoch(row: Row, epochs: int) -> str:
    """Returns the line that the log has of an epoch.

    Args:
        row: Row of the epoch.
        epochs: Epochs of the whole run.
    """
    terms = ", ".join(
        f"{name} {row['train_' + name]:.3f}"
        for name in ("ce", "bce", "kd", "interaction", "capacity")
        if f"train_{name}" in row
    )
    top5 = f", top-5 {row['val_top5']:.1f}" if "val_top5" in row else ""
    mean_ap = f"mAP {row['val_map']:.1f}, " if "val_map" in row else ""
    pairs = f", within pairs {row['val_pair_top1']:.1f}" if "val_pair_top1" in row else ""
    validation = (
        f"val {mean_ap}top-1 {row['val_top1']:.1f}{top5}{pairs} "
        f"({row['val_videos']} of {row['val_expected']} videos, {row['protocol']})"
        if "val_top1" in row
        else "not validated"
    )
    return (
        f"epoch {row['epoch']}/{epochs}  loss {row['train_loss']:.3f} ({terms})  train top-1 {row['train_top1']:.1f}  "
        f"{validation}  lr {row['lr']:.2e}  data wait {row['data_wait']:.0%}  {row['seconds']:.0f} s"
    )


def best_epochs(history: list[Row], count: int) -> list[int]:
    """Returns the numbers of the best epochs, best first: by mAP or top-1, then the loss; of equals the earlier one.

    Args:
        history: Rows, one an epoch; epochs without validation are left out.
        count: Most numbers to return.
    """
    validated = [row for row in history if "val_top1" in row]
    metric = "val_map" if any("val_map" in row for row in validated) else "val_top1"
    return [row["epoch"] for row in sorted(validated, key=lambda row: (-row[metric], row["val_loss"]))[:count]]


def data_wait_advice(wait: float, options: TrainOptions) -> str | None:
    """Returns a warning with remedies for a long wait for data, those that fit the run first; None for a short one.

    Args:
        wait: Share of the epoch's time spent waiting for batches.
        options: Options of the run.
    """
    if wait <= LARGEST_WAIT:
        return None
    cores = os.cpu_count() or 1
    remedies = []
    if options.workers < cores:
        more = min(cores, max(2 * options.workers, 1))
        remedies.append(f"--workers {more} (now {options.workers}, and this machine has {cores} cores)")
    if options.dataset not in ("motion", "shards"):
        remedies.append(
            "smaller videos, made once with `timm-video-psn prepare resize --data-dir "
            f"{options.data_dir or 'DIR'} --output SMALLER --short-side {round(options.img_size / options.crop_pct)}`"
        )
    if options.decoder != "torchcodec" and options.dataset != "shards":
        remedies.append("--decoder torchcodec, if benchmarks/loading.py finds it faster here")
    remedies.append("a local disk for the videos, if they come over a network")
    return f"{wait:.0%} of the epoch was spent waiting for data; what may help: {'; '.join(remedies)}"
