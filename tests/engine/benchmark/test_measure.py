"""Time and memory of functions."""

import time

import torch

from timm_video_psn.engine.benchmark.measure import measure_memory, measure_seconds

CPU = torch.device("cpu")


def test_functions_are_called_in_turn_and_warm_up_does_not_count():
    calls = []
    runs = {"a": lambda: calls.append("a"), "b": lambda: (calls.append("b"), time.sleep(0.02))}
    seconds = measure_seconds(runs, CPU, repeats=3, warmup=2)
    assert calls == ["a", "b"] * 5
    assert {name: len(times) for name, times in seconds.items()} == {"a": 3, "b": 3}
    assert min(seconds["b"]) >= 0.02


def test_memory_is_what_a_function_takes_at_its_peak():
    size = 64 * 2**20
    peak = measure_memory(lambda: torch.ones(size // 4).sum(), CPU)
    assert 0.8 * size < peak < 1.5 * size
