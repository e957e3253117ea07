"""What a step of our training loop costs over a bare loop of PyTorch: same model, same batches in memory.

    python benchmarks/step_overhead.py
    python benchmarks/step_overhead.py --model psn_resnet50 --img-size 224 --batch-size 16 --device cuda --amp

"Ours" is the Trainer's own epoch: its method is called, over a loader that hands out batches from memory. "Bare" is
what nobody can leave out: copy and normalise, forward, the three losses, backward, the limit on the gradient, SGD,
the schedule. An epoch of each in turn, so that what else the machine does hits both; a line is the median of the ratios
of neighbours. "Bare again" is the same loop once more: how far its ratio is from 1 is the error of the measurement. On
a machine that others use, the ratio of processor seconds says more than that of seconds.
"""

import argparse
import statistics
import tempfile
import time
from collections.abc import Callable, Iterator

import torch
from torch.nn.utils import clip_grad_norm_

from timm_video_psn.command_line.train import parse_options
from timm_video_psn.data import Batch, normalize_clip
from timm_video_psn.data.datasets.motion import prepare_motion
from timm_video_psn.engine.signals import StopRequest
from timm_video_psn.engine.train.model import create_model
from timm_video_psn.engine.train.trainer import Trainer, create_trainer
from timm_video_psn.losses import VideoClassificationTask


class MemoryLoader:
    """The same batches, epoch after epoch, in the place of a loader."""

    def __init__(self, batches: list[Batch]):
        self.batches = batches
        self.order = self
        self.train = self

    def __len__(self) -> int:
        return len(self.batches)

    def __iter__(self) -> Iterator[Batch]:
        return iter(self.batches)

    def set_epoch(self, epoch: int, start: int = 0) -> None:
        """Nothing to choose."""


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--model", default="psn_test_resnet")
    parser.add_argument("--num-frames", type=int, default=8)
    parser.add_argument("--img-size", type=int, default=64)
    parser.add_argument("--batch-size", type=int, default=8)
    parser.add_argument("--steps", type=int, default=10, help="of an epoch")
    parser.add_argument("--repeats", type=int, default=15)
    parser.add_argument("--device", default="cpu")
    parser.add_argument("--amp", action="store_true")
    args = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        measure(args, folder)


def measure(args: argparse.Namespace, folder: str) -> None:
    trainer = our_trainer(args, folder)
    batches = random_batches(args)
    bare = BareLoop(trainer, batches)
    times: dict[str, list[tuple[float, float]]] = {"ours": [], "bare": [], "bare again": []}
    with StopRequest() as stop:
        for repeat in range(-2, args.repeats):
            loops = (lambda: our_epoch(trainer, batches, stop), bare, bare)
            for name, loop in zip(times, loops, strict=True):
                seconds = timed(loop, args.device)
                if repeat >= 0:
                    times[name].append(seconds)
    print(
        f"{args.model}, {args.batch_size} clips of {args.num_frames}x{args.img_size}x{args.img_size}, {args.device}, "
        f"{torch.get_num_threads()} threads, torch {torch.__version__}, {args.repeats} repeats of {args.steps} steps"
    )
    for kind, what in enumerate(("seconds", "processor seconds")):
        report(what, {name: [pair[kind] / args.steps for pair in pairs] for name, pairs in times.items()})


def report(what: str, times: dict[str, list[float]]) -> None:
    """Medians, and the ratios to the bare loop."""
    print(f"\n{what + ', ms a step':<30}{'median':>9}{'min':>9}{'/ bare':>9}   middle half of the ratios")
    for name, values in times.items():
        low, median, high = statistics.quantiles([a / b for a, b in zip(values, times["bare"], strict=True)], n=4)
        line = f"{name:<30}{statistics.median(values) * 1e3:>9.2f}{min(values) * 1e3:>9.2f}"
        print(f"{line}{median:>9.3f}   {low:.3f} to {high:.3f}")


def our_trainer(args: argparse.Namespace, folder: str) -> Trainer:
    """A Trainer with the paper's settings, on a few clips that it never reads."""
    data = prepare_motion(f"{folder}/motion", workers=1, progress=False, train_per_class=2, val_per_class=1)
    argv = ["--dataset", "motion", "--recipe", "sthv1", "--data-dir", str(data), "--output", folder, "--workers", "0"]
    argv += ["--no-pretrained", "--model", args.model, "--device", args.device, *(["--amp"] if args.amp else [])]
    if args.model == "psn_test_resnet":
        argv += ["--model-kwargs", "proportion=0.5"]
    argv += ["--num-frames", str(args.num_frames), "--img-size", str(args.img_size)]
    return create_trainer(parse_options([*argv, "--batch-size", str(args.batch_size)]))


def random_batches(args: argparse.Namespace) -> list[Batch]:
    shape = (args.batch_size, args.num_frames, args.img_size, args.img_size, 3)
    label = torch.arange(args.batch_size) % 12
    batch = Batch(torch.randint(0, 256, shape, dtype=torch.uint8), label, label, torch.full_like(label, 99), [])
    return [batch] * args.steps


def our_epoch(trainer: Trainer, batches: list[Batch], stop: StopRequest) -> None:
    """The Trainer's own epoch, over batches from memory."""
    loader = MemoryLoader(batches)
    trainer.run.loaders = loader  # type: ignore[assignment]  # loaders as far as an epoch needs them
    trainer.step = 0
    trainer.train_epoch(stop)
    trainer.meter.averages()


class BareLoop:
    """An epoch as one would write it by hand, on a model, an optimizer and a schedule of its own."""

    def __init__(self, trainer: Trainer, batches: list[Batch]):
        run, options = trainer.run, trainer.run.options
        self.options, self.precision, self.batches = options, run.precision, batches
        model = create_model(options, len(run.train_index.class_names)).to(run.precision.device)
        self.model = model.to(memory_format=torch.channels_last)
        self.task = VideoClassificationTask(self.model, options.alpha, options.beta)
        self.optimizer = torch.optim.SGD(self.model.parameters(), lr=options.lr, momentum=0.9, weight_decay=5e-4)
        self.scheduler = torch.optim.lr_scheduler.MultiStepLR(self.optimizer, [10**6])
        amp = self.precision.amp_dtype
        self.scaler = torch.amp.GradScaler(self.precision.device.type, enabled=amp == torch.float16)
        self.parameters = list(self.model.parameters())

    def __call__(self) -> None:
        """Train an epoch."""
        device, precision = self.precision.device, self.precision
        self.task.train()
        for batch in self.batches:
            clip = normalize_clip(batch.clip.to(device, non_blocking=True), precision.mean, precision.std)
            with precision.autocast():
                terms, _ = self.task(clip, batch.label.to(device, non_blocking=True))
            self.scaler.scale(terms["loss"]).backward()
            self.scaler.unscale_(self.optimizer)
            clip_grad_norm_(self.parameters, self.options.clip_grad)
            self.scaler.step(self.optimizer)
            self.scaler.update()
            self.optimizer.zero_grad()
            self.scheduler.step()


def timed(loop: Callable[[], None], device: str) -> tuple[float, float]:
    """Seconds of an epoch, and those of the processor."""
    start, processor_start = time.perf_counter(), time.process_time()
    loop()
    if device.startswith("cuda"):
        torch.cuda.synchronize()
    return time.perf_counter() - start, time.process_time() - processor_start


if __name__ == "__main__":
    main()
