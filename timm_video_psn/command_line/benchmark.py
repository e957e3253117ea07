"""The command line of the benchmark."""

import argparse
from collections.abc import Sequence
from pathlib import Path

from timm_video_psn.command_line.flags import add_flags
from timm_video_psn.command_line.names import BENCHMARK_DTYPES, BENCHMARK_MODES
from timm_video_psn.command_line.parser import Parser
from timm_video_psn.console import positive_integer

_ABOUT = """Measure models side by side on random clips: clips per second, latency of one clip, memory, and the
ratio to a baseline. Each repeat runs every model once, so that a change of the machine's speed hits all."""
_EXAMPLES = (
    ("tsn_resnet50 psn_resnet50", "two models, one clip at a time"),
    ("psn_resnet50 --modes eager folded onnx --threads 2", "a model as it is, folded, and in ONNX Runtime"),
    (
        "tsn_resnet50 psn_resnet50 --dtypes bfloat16 --batch-size 32 --modes compiled --train",
        "evaluation and training on a GPU",
    ),
)
_FIRST = (
    *("models", "baseline", "modes", "dtypes", "train", "num_frames", "img_size", "batch_size"),
    *("device", "csv"),
)


def parse_benchmark_options(
    argv: Sequence[str] | None = None, prog: str = "timm-video-psn benchmark"
) -> argparse.Namespace:
    """Options from the command line.

    Args:
        argv: Arguments; None for the arguments of the process.
        prog: Command as the user has typed it.
    """
    parser = Parser(prog, _ABOUT, _EXAMPLES, _FIRST)
    add = parser.add_argument
    names = (
        "Names of timm, of video or image models, torchvision:NAME, transformers:REPO, or saved video models as "
        "local-dir:FOLDER (default: tsn_resnet50 tsm_resnet50 psn_resnet50)"
    )
    models = ["tsn_resnet50", "tsm_resnet50", "psn_resnet50"]
    add("models", nargs="*", default=models, metavar="MODEL", help=names)
    add("--baseline", metavar="MODEL", help="Model of the ratios (default: the first)")
    modes = f"Ways to run a model: {', '.join(BENCHMARK_MODES)} (default: eager)"
    add("--modes", nargs="+", choices=BENCHMARK_MODES, default=["eager"], metavar="MODE", help=modes)
    numbers = "Numbers to compute with: float32, bfloat16 (default: float32)"
    add("--dtypes", nargs="+", choices=BENCHMARK_DTYPES, default=["float32"], metavar="DTYPE", help=numbers)
    add("--train", action="store_true", help="Measure steps of training, too (modes eager and compiled)")
    frames = "Frames of a clip (default: %(default)s)"
    add("--num-frames", type=positive_integer, default=8, metavar="T", help=frames)
    side = "Side of the frames in pixels (default: %(default)s)"
    add("--img-size", type=positive_integer, default=224, metavar="PX", help=side)
    batch = "Clips at once (default: %(default)s)"
    add("--batch-size", "-b", type=positive_integer, default=1, metavar="N", help=batch)
    repeats = "Calls of each model that count (default: %(default)s)"
    add("--repeats", type=positive_integer, default=15, metavar="N", help=repeats)
    add("--warmup", type=int, default=3, metavar="N", help="Calls before those (default: %(default)s)")
    add("--threads", type=positive_integer, metavar="N", help="Threads on the CPU (default: torch's own number)")
    add_flags(parser, "device")
    add("--csv", type=Path, metavar="FILE", help="Add the rows to a file; rows of the same setting are replaced")
    add_flags(parser, "debug")
    options = parser.parse_args(argv)
    if options.baseline is None:
        options.baseline = options.models[0]
    elif options.baseline not in options.models:
        options.models.insert(0, options.baseline)
    return options
