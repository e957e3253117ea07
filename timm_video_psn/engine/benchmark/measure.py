"""Time and memory of several functions, in turn, so that what else the machine does hits all of them."""

from __future__ import annotations

import time
from collections.abc import Callable, Hashable, Mapping
from typing import TypeVar

import torch

from timm_video_psn.engine.cpu_memory import measure_peak

Key = TypeVar("Key", bound=Hashable)
Run = Callable[[], object]


def measure_seconds(runs: Mapping[Key, Run], device: torch.device, repeats: int, warmup: int) -> dict[Key, list[float]]:
    """The seconds of each call of each function; a repeat calls all of them, one after the other.

    Args:
        runs: Functions by name.
        device: Where they run.
        repeats: Calls that count.
        warmup: Calls before those.
    """
    seconds: dict[Key, list[float]] = {key: [] for key in runs}
    for repeat in range(-warmup, repeats):
        for key, run in runs.items():
            _wait(device)
            start = time.perf_counter()
            run()
            _wait(device)
            if repeat >= 0:
                seconds[key].append(time.perf_counter() - start)
    return seconds


def measure_memory(run: Run, device: torch.device) -> int:
    """The bytes that a function takes at its peak, beyond what is there before it.

    Args:
        run: Called once to warm up, and once more.
        device: Where it runs.
    """
    run()
    _wait(device)
    if device.type == "cuda":
        resting = torch.cuda.memory_allocated(device)
        torch.cuda.reset_peak_memory_stats(device)
        run()
        _wait(device)
        return torch.cuda.max_memory_allocated(device) - resting

    def call() -> None:
        run()

    resting, peak = measure_peak(call)
    return peak - resting


def _wait(device: torch.device) -> None:
    if device.type == "cuda":
        torch.cuda.synchronize(device)
