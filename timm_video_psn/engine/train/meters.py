"""Running averages of a training epoch, and the watch over its losses and its waits for data."""

import time
from collections import deque
from collections.abc import Iterable, Iterator
from typing import Any

import torch
from torch import Tensor


class LossMeter:
    """Averages of named losses and of top-1, gathered on the device and read one step late, so that nothing waits.

    Args:
        keep: how many of the last losses an error message shows.
    """

    def __init__(self, keep: int = 5) -> None:
        self.sums: dict[str, float] = {}
        self.clips = 0
        self._pending: tuple[int, int, dict[str, Tensor]] | None = None
        self._recent: deque[str] = deque(maxlen=keep)

    def update(self, step: int, terms: dict[str, Tensor], logits: Tensor, label: Tensor) -> None:
        """Note a step; the one before it is read and checked now.

        Args:
            step: its number in the epoch.
            terms: losses by name, each an average over the clips of the step.
            logits: (B, K).
            label: (B,), or of mixed clips the shares of the classes, (B, K): then a clip counts as correct to the share
                of the class that is answered.

        Raises:
            FloatingPointError: a loss is not finite.
        """
        self.flush()
        answer = logits.detach().argmax(1)
        correct = (answer == label).sum() if label.ndim == 1 else label.gather(1, answer[:, None]).sum()
        values = {name: term.detach() for name, term in terms.items()}
        self._pending = (step, len(label), {**values, "top1": correct * 100.0 / len(label)})

    def flush(self) -> None:
        """Read the step that was noted last."""
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

    def averages(self) -> dict[str, float]:
        """Average of each loss, and of top-1 in percent, over the clips seen."""
        self.flush()
        return {name: total / max(self.clips, 1) for name, total in self.sums.items()}

    def state_dict(self) -> dict[str, Any]:
        """What resuming in the middle of an epoch needs."""
        self.flush()
        return {"sums": dict(self.sums), "clips": self.clips}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Undo `state_dict`.

        Args:
            state: what it returned.
        """
        self.sums, self.clips = dict(state["sums"]), state["clips"]

    def add(self, state: dict[str, Any]) -> None:
        """Count what another meter has seen, too.

        Args:
            state: what its `state_dict` returned.
        """
        for name, total in state["sums"].items():
            self.sums[name] = self.sums.get(name, 0.0) + total
        self.clips += state["clips"]


class Waiting:
    """Iterates over batches and measures the share of time spent waiting for them.

    Args:
        batches: what to iterate over.
    """

    def __init__(self, batches: Iterable[Any]):
        self.batches = batches
        self.waited_sec = 0.0
        self._start = time.perf_counter()
        self._end: float | None = None

    def stop(self) -> None:
        """What is measured ends here."""
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
        """Seconds from the making of this object to its stop, or to now."""
        return (self._end or time.perf_counter()) - self._start

    @property
    def total_sec(self) -> float:
        """Seconds since this object was made, stopped or not."""
        return time.perf_counter() - self._start

    @property
    def share(self) -> float:
        """Seconds waited / seconds elapsed."""
        return self.waited_sec / max(self.elapsed_sec, 1e-9)
