"""The work of `timm-video-psn benchmark`: models side by side, in one run on one machine."""

from __future__ import annotations

import argparse
import logging
import math
import statistics
from collections.abc import Sequence
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from timm_video_psn.engine.benchmark.variants import Setting

_logger = logging.getLogger(__name__)
# timm's names of columns, and ours for what its benchmark does not have
COLUMNS = (
    "model",
    "mode",
    "dtype",
    "num_frames",
    "infer_samples_per_sec",
    "infer_step_time",
    "infer_batch_size",
    "infer_img_size",
    "infer_latency",
    "infer_peak_mb",
    "infer_ratio",
    "train_samples_per_sec",
    "train_step_time",
    "train_batch_size",
    "train_img_size",
    "train_peak_mb",
    "train_ratio",
    "param_count",
    "baseline",
    "device",
    "threads",
    "torch",
    "timm",
)


def run_benchmark(options: argparse.Namespace) -> None:
    """Measures all models in all modes, and reports a row for each.

    Args:
        options: See `command_line.benchmark`.

    Raises:
        ValueError: A model has no such mode.
    """
    import torch

    from timm_video_psn.engine.benchmark.variants import Setting
    from timm_video_psn.engine.cpu_memory import keep_freed_memory
    from timm_video_psn.engine.precision import find_device

    device = find_device(options.device)
    if options.threads:
        torch.set_num_threads(options.threads)
    name = f" ({torch.cuda.get_device_name(device)})" if device.type == "cuda" else ""
    ratio = f"xN is the time beside {options.baseline}, the median of the repeats' ratios: above 1 is slower"
    _logger.info(f"device {device}{name}; {ratio}")
    keep_freed_memory()
    rows: list[dict[str, Any]] = []
    for dtype in options.dtypes:
        setting = Setting(
            num_frames=options.num_frames,
            img_size=options.img_size,
            batch_size=options.batch_size,
            device=device,
            dtype=getattr(torch, dtype),
        )
        for mode in options.modes:
            rows += measure_mode(mode, setting, options)
            torch.compiler.reset()
    if options.csv:
        add_rows(options.csv, rows)


def measure_mode(mode: str, setting: Setting, options: argparse.Namespace) -> list[dict[str, Any]]:
    """The rows of one mode.

    Args:
        mode: See `variants.MODES`.
        setting: See `variants.Setting`.
        options: Models, baseline, repeats.
    """
    import timm
    import torch

    from timm_video_psn.engine.benchmark.measure import measure_memory, measure_seconds
    from timm_video_psn.engine.benchmark.variants import TRAINING_MODES, create, evaluation, training

    device, clip, one = setting.device, setting.clip(), setting.clip(1)
    rows = {
        name: {
            "model": name,
            "mode": mode,
            "dtype": str(setting.dtype).removeprefix("torch."),
            "num_frames": 1 if mode == "stream" else setting.num_frames,
            "param_count": round(sum(p.numel() for p in create(name, setting).parameters()) / 1e6, 2),
            "baseline": options.baseline,
            "device": torch.cuda.get_device_name(device) if device.type == "cuda" else "cpu",
            "threads": torch.get_num_threads(),
            "torch": torch.__version__,
            "timm": timm.__version__,
        }
        for name in options.models
    }
    runs = {name: evaluation(name, mode, setting) for name in options.models}
    steps = {("step", name): partial(run, clip) for name, run in runs.items()}
    if setting.batch_size > 1:  # of one clip, in the same repeats
        steps |= {("one", name): partial(run, one) for name, run in runs.items()}
    seconds = measure_seconds(steps, device, options.repeats, options.warmup)
    for name, run in runs.items():
        peak = measure_memory(partial(run, clip), device)
        latency = seconds.get(("one", name), seconds["step", name])
        rows[name] |= _columns("infer", seconds["step", name], seconds["step", options.baseline], peak, setting)
        rows[name]["infer_latency"] = round(statistics.median(latency) * 1e3, 3)
    del runs, steps
    if options.train and mode in TRAINING_MODES:
        trainers = {name: training(name, mode, setting) for name in options.models}
        repeats = max(3, options.repeats // 3)
        times = measure_seconds(
            {name: partial(step, clip) for name, step in trainers.items()}, device, repeats, options.warmup
        )
        for name, step in trainers.items():
            peak = measure_memory(partial(step, clip), device)
            rows[name] |= _columns("train", times[name], times[options.baseline], peak, setting)
    for row in rows.values():
        _logger.info(_line(row))
    return list(rows.values())


def _columns(
    phase: str, seconds: Sequence[float], baseline: Sequence[float], peak: int, setting: Setting
) -> dict[str, Any]:
    """Speed, memory, and the median of the repeats' own ratios."""
    step = statistics.median(seconds)
    return {
        f"{phase}_samples_per_sec": round(setting.batch_size / step, 2),
        f"{phase}_step_time": round(step * 1e3, 3),
        f"{phase}_batch_size": setting.batch_size,
        f"{phase}_img_size": setting.img_size,
        f"{phase}_peak_mb": round(peak / 1e6, 1),
        f"{phase}_ratio": round(statistics.median(a / b for a, b in zip(seconds, baseline, strict=True)), 3),
    }


def _line(row: dict[str, Any]) -> str:
    """A row for people."""
    text = (
        f"{row['model']:<22}{row['mode']:<18}{row['dtype']:<10}{row['infer_samples_per_sec']:>9.2f} clips/s"
        f"{row['infer_latency']:>10.1f} ms/clip  x{row['infer_ratio']:.3f}{row['infer_peak_mb']:>9.0f} MB"
    )
    if "train_ratio" in row:
        text += (
            f"   training {row['train_samples_per_sec']:>8.2f} clips/s  x{row['train_ratio']:.3f}"
            f"{row['train_peak_mb']:>9.0f} MB"
        )
    return text


def add_rows(path: Path, rows: Sequence[dict[str, Any]]) -> None:
    """Adds rows to a csv file, which keeps those that it has of other models, modes, numbers and sizes.

    Args:
        path: The file; it is made, with its folder.
        rows: By the names of `COLUMNS`.
    """
    import csv

    from timm_video_psn.files import write_csv

    keys = ("model", "mode", "dtype", "num_frames", "infer_batch_size", "infer_img_size", "device", "threads")
    kept: list[dict[str, Any]] = []
    if path.exists():
        with path.open(newline="", encoding="utf-8") as file:
            kept = list(csv.DictReader(file))
    new = {tuple(str(row[key]) for key in keys) for row in rows}
    kept = [row for row in kept if tuple(row[key] for key in keys) not in new]
    path.parent.mkdir(parents=True, exist_ok=True)
    write_csv(path, COLUMNS, [[row.get(column, "") for column in COLUMNS] for row in [*kept, *rows]])


def read_rows(path: Path) -> list[dict[str, Any]]:
    """The rows of a csv file, with numbers as numbers.

    Args:
        path: The file.
    """
    import csv

    with path.open(newline="", encoding="utf-8") as file:
        return [{key: _number(value) for key, value in row.items()} for row in csv.DictReader(file)]


def _number(text: str) -> Any:
    try:
        value = float(text)
    except ValueError:
        return text
    return int(value) if math.isfinite(value) and value == int(value) and "." not in text else value
