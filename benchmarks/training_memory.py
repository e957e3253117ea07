"""Memory of a real training step, by batch size: what docs/reproduce.md estimates from.

    python benchmarks/training_memory.py --dataset motion --recipe sthv1 --no-pretrained --img-size 224 --device cpu

Takes the options of train_video.py; the videos are not read. Forward, backward and update, on random clips.
"""

from collections.abc import Callable

import torch

from timm_video_psn.command_line.train import parse_options
from timm_video_psn.engine.cpu_memory import measure_peak
from timm_video_psn.engine.train.auto_batch_size import create_trial
from timm_video_psn.engine.train.build import settle_options

BATCHES = (1, 2, 3)


def main() -> None:
    options = settle_options(parse_options())
    step = create_trial(options)
    step(1)  # gradients and the optimizer's state come with the first
    peaks = [gigabytes(step, batch, options.device) for batch in BATCHES]
    for batch, peak in zip(BATCHES, peaks, strict=True):
        print(f"{batch} clips: {peak:.2f} GB at the peak beyond the model, its gradients and the optimizer's state")
    print(f"each further clip: {(peaks[-1] - peaks[0]) / (BATCHES[-1] - BATCHES[0]):.2f} GB")


def gigabytes(step: Callable[[int], None], batch: int, device: str) -> float:
    """The most that a step takes beyond what lies there before it."""
    if device == "cpu":
        resting, peak = measure_peak(lambda: step(batch))
    else:
        resting = torch.cuda.memory_allocated(device)
        torch.cuda.reset_peak_memory_stats(device)
        step(batch)
        peak = torch.cuda.max_memory_allocated(device)
    return (peak - resting) / 1e9


if __name__ == "__main__":
    main()
