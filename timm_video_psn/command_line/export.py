"""The command line of export."""

import argparse
from collections.abc import Sequence
from pathlib import Path

from timm_video_psn.command_line.flags import add_flags
from timm_video_psn.command_line.names import EXPORT_FORMATS, EXPORT_LAYOUTS
from timm_video_psn.command_line.parser import Parser
from timm_video_psn.console import MODEL_SOURCES

_EXAMPLES = (
    ("output/RUN --format onnx", "a file for ONNX Runtime, compared with the model before it is kept"),
    ("output/RUN --format executorch --layout frames", "a file for phones, without tensors of five dimensions"),
    ("output/RUN --format onnx --normalize --int8", "bytes in, probabilities out, with eight-bit integers inside"),
)


def parse_export_options(argv: Sequence[str] | None = None, prog: str = "timm-video-psn export") -> argparse.Namespace:
    """Options from the command line.

    Args:
        argv: Arguments; None for the arguments of the process.
        prog: Command as the user has typed it.
    """
    about = (
        "Write a trained model as a file for another runtime, with config.json and an example.\n"
        "The file is kept only if that runtime gives the model's outputs."
    )
    parser = Parser(prog, about, _EXAMPLES)
    add = parser.add_argument
    add("model", metavar="RUN", help=f"Trained model: {MODEL_SOURCES}")
    formats = "torch.export, ONNX, ExecuTorch or AOTInductor (default: torch)"
    add("--format", choices=EXPORT_FORMATS, default="torch", help=formats)
    add("--output", type=Path, metavar="DIR", help="New folder (default: export-FORMAT in the folder of the run)")
    layout = (
        "Input (B, C, T, H, W); (T, C, H, W), for runtimes without tensors of five dimensions; or one frame and a "
        "state, for a causal model (default: clip)"
    )
    add("--layout", choices=EXPORT_LAYOUTS, default="clip", help=layout)
    batch = "Clips at once: a number, a range as 1-8, or dynamic (default: dynamic; executorch: 1)"
    add("--batch", metavar="N", help=batch)
    add("--normalize", action="store_true", help="Include normalisation and softmax: bytes in, probabilities out")
    add("--int8", action="store_true", help="Eight-bit integers (onnx, executorch), calibrated on training clips")
    add("--data-dir", type=Path, metavar="DIR", help="Data set for --int8 (default: the folder of the training)")
    clips = "Training clips for --int8 (default: 96)"
    add("--calibration-clips", type=int, default=96, metavar="N", help=clips)
    add_flags(parser, "debug")
    return parser.parse_args(argv)
