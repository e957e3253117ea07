"""Clip latency of TSN, TSM and PSN on this machine, interleaved in one run, with the ratios.

    python benchmarks/latency.py
    python benchmarks/latency.py --dtypes float32 --repeats 30 --device cuda

Medians over the repeats; every repeat runs each model once, so that what else the machine does hits all of them. On a
CPU malloc keeps freed memory, as in training; `--default-malloc` measures without that.
"""

import argparse
import statistics
import time

import timm
import torch
from tqdm import tqdm

from timm_video_psn.engine.cpu_memory import keep_freed_memory
from timm_video_psn.models import create_model


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--models", nargs="+", default=["tsn_resnet50", "tsm_resnet50", "psn_resnet50"])
    parser.add_argument("--num-frames", type=int, default=8)
    parser.add_argument("--img-size", type=int, default=224)
    parser.add_argument("--batch-size", type=int, default=1)
    parser.add_argument("--dtypes", nargs="+", default=["float32", "bfloat16"], choices=["float32", "bfloat16"])
    parser.add_argument("--repeats", type=int, default=15)
    parser.add_argument("--warmup", type=int, default=3)
    parser.add_argument("--device", default="cpu")
    parser.add_argument("--default-malloc", action="store_true", help="let malloc return freed memory to the system")
    args = parser.parse_args()
    if not args.default_malloc:
        keep_freed_memory()

    device = torch.device(args.device)
    models = {name: create(name, args, device) for name in args.models}
    clip = random_clip(args, device)
    print(
        f"clips of {args.num_frames}x{args.img_size}x{args.img_size}, batch {args.batch_size}, channels_last, "
        f"{device}, {torch.get_num_threads()} threads, torch {torch.__version__}, timm {timm.__version__}"
    )
    for dtype in args.dtypes:
        report(measure(models, clip, getattr(torch, dtype), args), dtype)


def create(name: str, args: argparse.Namespace, device: torch.device) -> torch.nn.Module:
    model = create_model(name, num_frames=args.num_frames, num_classes=174)
    return model.to(device, memory_format=torch.channels_last).eval()


def random_clip(args: argparse.Namespace, device: torch.device) -> torch.Tensor:
    """A batch as the loader lays it out: (B, C, T, H, W) whose memory runs B, T, H, W, C."""
    shape = (args.batch_size, args.num_frames, args.img_size, args.img_size, 3)
    return torch.randn(shape, device=device).permute(0, 4, 1, 2, 3)


@torch.inference_mode()
def measure(models: dict, clip: torch.Tensor, dtype: torch.dtype, args: argparse.Namespace) -> dict[str, list[float]]:
    """Milliseconds of every repeat, by model."""
    times: dict[str, list[float]] = {name: [] for name in models}
    autocast = torch.autocast(clip.device.type, dtype, enabled=dtype is not torch.float32)
    with autocast:
        for repeat in tqdm(range(-args.warmup, args.repeats), desc=str(dtype), leave=False):
            for name, model in models.items():
                start = time.perf_counter()
                model(clip)
                if clip.is_cuda:
                    torch.cuda.synchronize()
                if repeat >= 0:
                    times[name].append((time.perf_counter() - start) * 1e3)
    return times


def report(times: dict[str, list[float]], dtype: str) -> None:
    """A line a model, and the ratio to each other model, as medians of the repeats' own ratios."""
    print(f"\n{dtype:<20}{'median ms':>10}{'min ms':>9}" + "".join(f"{'/ ' + name:>18}" for name in times))
    for name, values in times.items():
        ratios = (statistics.median(a / b for a, b in zip(values, times[other], strict=True)) for other in times)
        line = f"{name:<20}{statistics.median(values):>10.1f}{min(values):>9.1f}"
        print(line + "".join(f"{ratio:>18.3f}" for ratio in ratios))


if __name__ == "__main__":
    main()
