"""`--batch-size auto`: the largest batch that fits this machine, with as many steps an update as keep the recipe's.

On a GPU real training steps are tried: batches are doubled until memory runs out, then bisected. On a CPU the kernel
would end the process instead of refusing memory, so the peaks of small real steps are measured and extrapolated.
"""

import gc
import logging
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import torch
from timm.utils import ModelEmaV3

from timm_video_psn.engine.checkpoint import load_checkpoint
from timm_video_psn.engine.cpu_memory import available_bytes, keep_freed_memory, measure_peak
from timm_video_psn.engine.teacher import load_teacher
from timm_video_psn.engine.train.build import create_precision, create_task, read_indices
from timm_video_psn.engine.train.model import create_model
from timm_video_psn.engine.train.optim import create_optimizer
from timm_video_psn.engine.train.options import TrainOptions
from timm_video_psn.engine.train.run_folder import run_path

_logger = logging.getLogger(__name__)

_GPU_SHARE = 0.92  # the rest is for fragments, and for what else grows in a long run
_CPU_SHARE = 0.8  # the rest is for that, and for workers that decode

Step = Callable[[int], None]


def settle_batch_size(options: TrainOptions) -> TrainOptions:
    """Settles `batch_size` and `grad_accum_steps`; a run that resumes keeps the ones it began with.

    Args:
        options: Options of the run; `grad_accum_steps` is still the number of clips of an update.

    Raises:
        ValueError: Memory cannot be measured here, or not even one clip fits.
    """
    clips = options.grad_accum_steps
    if earlier := _begun_with(options):
        return replace(options, **earlier)
    step, device = create_trial(options), torch.device(options.device)
    fits = _gpu_check(step, device) if device.type == "cuda" else _cpu_check(step, clips)
    largest = largest_that_fits(fits, clips)
    del step, fits
    gc.collect()
    if device.type == "cuda":
        torch.cuda.empty_cache()
    if largest == 0:
        raise ValueError(
            f"--batch-size auto: not even one clip of {options.model} fits into the memory of {options.device}; try "
            "--grad-checkpointing, --amp, fewer --num-frames or a smaller --img-size"
        )
    batch = max(size for size in range(1, largest + 1) if clips % size == 0)
    _logger.info(
        "batch     auto: %s%d clips fit; %d clips a step and %d steps an update keep the recipe's %d",
        *("at least " if largest == clips else "", largest, batch, clips // batch, clips),
    )
    return replace(options, batch_size=batch, grad_accum_steps=clips // batch)


def largest_that_fits(fits: Callable[[int], bool], limit: int) -> int:
    """Finds the largest batch up to a limit, by doubling and then bisecting.

    Args:
        fits: Tells whether a batch of so many clips fits; if one does, so do smaller ones.
        limit: Largest batch to try.

    Returns:
        0 if none fits.
    """
    good, trial = 0, 1
    while trial <= limit and fits(trial):
        good, trial = trial, 2 * trial
    bad = min(trial, limit + 1)
    while bad - good > 1:
        middle = (good + bad) // 2
        good, bad = (middle, bad) if fits(middle) else (good, middle)
    return good


def create_trial(options: TrainOptions) -> Step:
    """Creates a real training step of the run on random clips of any number: forward, backward and update.

    Args:
        options: Options of the run.
    """
    train, _ = read_indices(options)
    precision = create_precision(options)
    if precision.device.type == "cpu":
        keep_freed_memory()
    layout = torch.channels_last if options.channels_last else torch.contiguous_format
    model = create_model(replace(options, pretrained=False), len(train.class_names))
    model = model.to(precision.device).to(memory_format=layout)
    teacher = None
    if options.kd_teacher is not None:
        teacher = load_teacher(options.kd_teacher, train.class_names, precision, options.num_frames)
    task = create_task(replace(options, torchcompile=False), model, train)
    optimizer = create_optimizer(options, model)
    ema = ModelEmaV3(model) if options.model_ema else None
    size = (options.num_frames, options.img_size, options.img_size, 3)

    def step(batch: int) -> None:
        clip = torch.randint(0, 256, (batch, *size), dtype=torch.uint8)
        label = torch.zeros(batch, dtype=torch.int64, device=precision.device)
        task.train()
        try:
            with precision.autocast():
                images = precision.clip(clip)
                terms, _ = task(images, label, None if teacher is None else teacher.logits(images))
            terms["loss"].backward()
            optimizer.step()  # without the scaler of float16, which would leave out the first updates and their memory
            if ema is not None:
                ema.update(model)
        finally:
            optimizer.zero_grad()

    return step


def _gpu_check(step: Step, device: torch.device) -> Callable[[int], bool]:
    """Whether a step goes through on a GPU of which a part is set aside."""

    def fits(batch: int) -> bool:
        torch.cuda.set_per_process_memory_fraction(_GPU_SHARE, device.index)  # takes no device without a number
        try:
            step(batch)
            torch.cuda.synchronize(device)
            fitted = True
        except torch.OutOfMemoryError:
            fitted = False
        torch.cuda.empty_cache()  # not before the error is gone, whose traceback holds the tensors of the failed step
        torch.cuda.set_per_process_memory_fraction(1.0, device.index)
        return fitted

    return fits


def _cpu_check(step: Step, limit: int) -> Callable[[int], bool]:
    """Whether the peak of a step, extrapolated from two small ones, stays within the memory that is free now."""
    budget = _CPU_SHARE * available_bytes()
    large = min(4, limit)
    step(1)  # gradients and the optimizer's state come with the first
    resting, peak = measure_peak(lambda: step(1))
    first = peak - resting
    resting, peak = measure_peak(lambda: step(large))
    further = (peak - resting - first) / (large - 1) if large > 1 else first

    def fits(batch: int) -> bool:
        return first + (batch - 1) * max(further, 0) <= budget

    return fits


def _begun_with(options: TrainOptions) -> dict[str, Any] | None:
    """Batch size and steps of the run that resumes; None for a new one."""
    if not options.resume:
        return None
    source = run_path(options) / "last.pt" if options.resume == "auto" else Path(options.resume)
    if not source.is_file():
        return None
    state = load_checkpoint(source)
    earlier = state["options"]
    together = earlier["batch_size"] * len(state.get("processes", (None,)))  # this is a single process
    return {"batch_size": together, "grad_accum_steps": earlier["grad_accum_steps"]}
