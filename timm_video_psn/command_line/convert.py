"""The command line of conversion."""

import argparse
from collections.abc import Sequence
from pathlib import Path

from timm_video_psn.command_line.flags import KeyValue, add_flags
from timm_video_psn.command_line.names import SAMPLINGS, WEIGHT_SOURCES
from timm_video_psn.command_line.parser import Parser
from timm_video_psn.console import add_old_name
from timm_video_psn.engine.train.options import sampling_name

_EXAMPLES = (
    (
        "TSM_somethingv2_RGB_resnet50_shift8_blockres_avg_segment8_e45.pth --source tsm --model tsm_resnet50 "
        "--num-frames 8 --dataset sthv2 --output tsm_sthv2",
        "TSM's own weights",
    ),
    (
        "resnet50.pth --source torchvision --model psn_resnet50 --num-frames 8 --dataset imagenet --output start",
        "image weights of torchvision, to start training from",
    ),
    (
        "gst.pth --source gst --model gst_resnet50 --num-frames 8 --dataset sthv1 --class-names labels.txt --output g",
        "with the names of the classes, so that the model can predict",
    ),
)


def parse_convert_options(argv: Sequence[str] | None = None, prog: str = "convert.py") -> argparse.Namespace:
    """Options from the command line.

    Args:
        argv: Arguments; None for the arguments of the process.
        prog: Command as the user has typed it.
    """
    about = "Bring weights of TSM, GST, TEA, TAM, torchvision or timm into the form of a model folder."
    parser = Parser(prog, about, _EXAMPLES)
    add = parser.add_argument
    add("checkpoint", type=Path, metavar="FILE", help="File of the weights")
    add("--source", required=True, choices=WEIGHT_SOURCES, help="Code that trained the weights")
    add("--model", required=True, metavar="NAME", help="Name of the same network here, as tsm_resnet50")
    add("--model-kwargs", nargs="*", default={}, action=KeyValue, metavar="KEY=VALUE", help="Arguments of the model")
    frames = "Frames of a clip (num_segments of the codes)"
    add("--num-frames", type=int, required=True, metavar="T", help=frames)
    trained = "Data set of the training: sthv1, sthv2, k400, diving48, ..."
    add("--dataset", required=True, metavar="NAME", help=trained)
    names = "Class names in label order, a name a line or JSON"
    add("--class-names", type=Path, metavar="FILE", help=names)
    add("--output", type=Path, required=True, metavar="DIR", help="Folder to write")
    entry = "Entry that holds the weights (default: state_dict, model, or the whole file)"
    add("--entry", metavar="KEY", help=entry)
    frames = "Choice of the frames (default: segments)"
    add("--sampling", type=sampling_name, choices=SAMPLINGS, default="segments", help=frames)
    seen = "Share of the short side that is seen (default: as the source tests)"
    add("--crop-pct", type=float, metavar="X", help=seen)
    resize = "Filter of the resize (default: as the source tests)"
    add("--interpolation", choices=["bilinear", "bicubic"], help=resize)
    colours = ("R", "G", "B")
    add("--mean", type=float, nargs=3, metavar=colours, help="Mean of each channel (default: as the source tests)")
    add("--std", type=float, nargs=3, metavar=colours, help="Deviation of each channel (default: as the source tests)")
    add_flags(parser, "debug")
    add_old_name(parser, "--out", "--output")
    return parser.parse_args(argv)
