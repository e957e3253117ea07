"""The command line of insights: a command for each, with the options that it needs."""

import argparse
from collections.abc import Sequence
from pathlib import Path

from timm_video_psn.command_line.flags import add_flags
from timm_video_psn.command_line.names import CAM_METHODS, REPORT_VIDEOS
from timm_video_psn.command_line.parser import Parser
from timm_video_psn.console import MODEL_SOURCES, add_old_name, positive_integer

_EXAMPLES = (
    ("report output/RUN", "one HTML page: results, confusion, hardest videos, and what the model has learned"),
    ("cam output/RUN clip.mp4", "where the model looks in a video"),
    ("interactions output/RUN", "which spatial kernels meet which temporal ones (Fig. 5)"),
)


def parse_insights_options(
    argv: Sequence[str] | None = None, prog: str = "timm-video-psn insights"
) -> argparse.Namespace:
    """Options from the command line; `command` is the name of the insight.

    Args:
        argv: Arguments; None for the arguments of the process.
        prog: Command as the user has typed it.
    """
    parser = Parser(prog, "Look into trained models.", _EXAMPLES)
    commands = parser.add_subparsers(dest="command", required=True, metavar="COMMAND", title="commands")
    for add in (_interactions, _shapes, _cam, _evolution, _embedding, _gains, _report):
        add(commands)
    return parser.parse_args(argv)


def _command(commands: argparse._SubParsersAction, name: str, text: str, *examples: tuple[str, str]) -> Parser:
    """A command with the options that all have."""
    parser: Parser = commands.add_parser(name, help=text, about=text, examples=examples)
    output = "Folder for the files (default: %(default)s)"
    parser.add_argument("--output", type=Path, default=Path("output/insights"), metavar="DIR", help=output)
    font = "Font file for scripts that the default font lacks (default: an installed one is looked for)"
    parser.add_argument("--font", type=Path, metavar="FILE", help=font)
    add_flags(parser, "debug")
    add_old_name(parser, "--out", "--output")
    add_old_name(parser, "--traceback", "--debug")
    return parser


def _model(parser: Parser, several: bool = False) -> None:
    help = f"Trained model: {MODEL_SOURCES}"
    parser.add_argument("models", nargs="+" if several else 1, metavar="MODEL", help=help)
    add_flags(parser, "device")


def _video(parser: Parser) -> None:
    parser.add_argument("video", type=Path, metavar="VIDEO", help="Video file, or folder of frame images")


def _dataset(parser: Parser, limit: int | None) -> None:
    named = "Data set: motion, folder, sthv2, ... (default: the data set of the run)"
    parser.add_argument("--dataset", metavar="NAME", help=named)
    parser.add_argument("--data-dir", metavar="DIR", help="Folder of the data set (default: where the run found it)")
    text = f"Largest number of videos, spread evenly (default: {limit or 'all'})"
    parser.add_argument("--limit", type=positive_integer, default=limit, metavar="N", help=text)


def _interactions(commands: argparse._SubParsersAction) -> None:
    text = "Draw the strength of the paths from spatial to temporal kernels (Fig. 5); several models make several rows"
    _model(_command(commands, "interactions", text, ("output/A output/B", "two models, one above the other")), True)


def _shapes(commands: argparse._SubParsersAction) -> None:
    text = "Draw the shapes of the synthesized kernels by weight, and their effective receptive fields by gradients"
    parser = _command(commands, "shapes", text, ("output/RUN --video clip.mp4", "fields measured on a video"))
    _model(parser)
    where = "Video at whose features the fields are measured (default: noise)"
    parser.add_argument("--video", type=Path, metavar="VIDEO", help=where)


def _cam(commands: argparse._SubParsersAction) -> None:
    text = "Draw the class activation maps of a video, frame by frame"
    parser = _command(commands, "cam", text, ("output/RUN clip.mp4 --label waving", "what speaks for one class"))
    _model(parser)
    _video(parser)
    parser.add_argument("--label", metavar="CLASS", help="Name of the class (default: the most likely one)")
    layer = "Feature level (layer3, ...) or module (default: the last level that the class depends on)"
    parser.add_argument("--layer", metavar="NAME", help=layer)
    method = "Weighting of the channels (default: %(default)s)"
    parser.add_argument("--method", choices=CAM_METHODS, default="gradcam", help=method)


def _evolution(commands: argparse._SubParsersAction) -> None:
    text = "Draw class probabilities as the frames of a video arrive"
    parser = _command(commands, "evolution", text, ("output/RUN clip.mp4", "when the model becomes sure"))
    _model(parser)
    _video(parser)
    steps = "Number of times that the model is asked (default: %(default)s)"
    parser.add_argument("--steps", type=positive_integer, default=24, metavar="N", help=steps)
    window = "Frames of the sliding window (default: a third of the video)"
    parser.add_argument("--window", type=positive_integer, metavar="FRAMES", help=window)


def _embedding(commands: argparse._SubParsersAction) -> None:
    text = "Lay out the videos of a data set as points by t-SNE; several models stand side by side"
    parser = _command(commands, "embedding", text, ("output/RUN --limit 500", "the validation videos of the run"))
    _model(parser, several=True)
    _dataset(parser, limit=None)
    parser.add_argument("--split", default="val", metavar="NAME", help="Split of the data set (default: %(default)s)")
    parser.add_argument("--seed", type=int, default=0, metavar="N", help="Seed of t-SNE (default: %(default)s)")


def _gains(commands: argparse._SubParsersAction) -> None:
    text = "Draw the classes that gained and lost most between two score files"
    parser = _command(commands, "gains", text, ("tsn/scores.npz psn/scores.npz", "what the second model gained"))
    parser.add_argument("before", type=Path, metavar="BEFORE", help="scores.npz of one model")
    parser.add_argument("after", type=Path, metavar="AFTER", help="scores.npz of another model on the same videos")
    count = "Number of classes at either end (default: %(default)s)"
    parser.add_argument("--count", type=positive_integer, default=10, metavar="N", help=count)


def _report(commands: argparse._SubParsersAction) -> None:
    text = "Write one HTML page: results, confusion, hardest videos, and all insights; the folder of a run is enough"
    parser = _command(commands, "report", text, ("output/RUN", "the page of a run"))
    _model(parser)
    video = "Video to look at, may be given several times (default: the one that the model is surest of)"
    parser.add_argument("--video", type=Path, action="append", default=[], metavar="VIDEO", help=video)
    _dataset(parser, limit=REPORT_VIDEOS)
    scores = "Two score files, for the gains"
    parser.add_argument("--scores", type=Path, nargs=2, metavar=("BEFORE", "AFTER"), help=scores)
