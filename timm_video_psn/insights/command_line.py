"""The command line: `timm-video-psn insights COMMAND ...` writes files and says what each shows."""

import argparse
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import get_args

from timm_video_psn.console import positive_integer, run_command
from timm_video_psn.insights.activation_map import Method
from timm_video_psn.insights.commands import (
    Made,
    make_cam,
    make_embedding,
    make_evolution,
    make_gains,
    make_interactions,
    make_shapes,
)
from timm_video_psn.insights.report import REPORT_LIMIT, make_report

_NAME = "timm-video-psn insights"


def main(argv: Sequence[str] | None = None) -> int:
    """Run a command.

    Args:
        argv: arguments; None for those of the process.

    Returns:
        The exit code: 0, 2 for an error, 130 when it was interrupted.
    """
    options = build_parser().parse_args(argv)

    def run() -> None:
        for path, caption in options.make(options):
            print(f"{path}: {caption}")

    return run_command(_NAME, run, options.traceback)


def build_parser() -> argparse.ArgumentParser:
    """All commands."""
    parser = argparse.ArgumentParser(prog=_NAME, description="Look into trained models.")
    commands = parser.add_subparsers(dest="command", required=True)
    for add in (_interactions, _shapes, _cam, _evolution, _embedding, _gains, _report):
        add(commands)
    return parser


def _command(
    commands: argparse._SubParsersAction, name: str, text: str, make: Callable[..., list[Made]]
) -> argparse.ArgumentParser:
    """A command with the options that all have."""
    parser = commands.add_parser(
        name, help=text, description=text, formatter_class=argparse.ArgumentDefaultsHelpFormatter
    )
    parser.add_argument("--out", type=Path, default=Path("output/insights"), help="folder for the files")
    parser.add_argument("--traceback", action="store_true", help="show where an error came from")
    parser.set_defaults(make=make)
    return parser


def _model(parser: argparse.ArgumentParser, several: bool = False) -> None:
    text = "a run's folder, its best/, or hf-hub:user/name"
    parser.add_argument("models" if several else "model", nargs="+" if several else None, metavar="MODEL", help=text)
    parser.add_argument("--device", default="cpu", help="cpu, cuda, ...")


def _dataset(parser: argparse.ArgumentParser, limit: int | None) -> None:
    parser.add_argument(
        "--dataset", metavar="NAME", help="of the embedding: motion, folder, sthv2, ...; default: the run's own"
    )
    parser.add_argument("--data-dir", metavar="DIR", help="folder of the data set; default: where the run found it")
    text = "at most so many videos, spread evenly"
    parser.add_argument("--limit", type=positive_integer, default=limit, metavar="N", help=text)


def _interactions(commands: argparse._SubParsersAction) -> None:
    text = "strength of the paths from spatial to temporal kernels (Fig. 5), of several models in rows"
    parser = _command(
        commands, "interactions", text, lambda options: make_interactions(options.models, options.out, options.device)
    )
    _model(parser, several=True)


def _shapes(commands: argparse._SubParsersAction) -> None:
    text = "shapes of the synthesized kernels by weight, and effective receptive fields by gradients"
    parser = _command(
        commands, "shapes", text, lambda options: make_shapes(options.model, options.out, options.video, options.device)
    )
    _model(parser)
    parser.add_argument("--video", type=Path, help="at whose features the fields are measured; else at noise")


def _cam(commands: argparse._SubParsersAction) -> None:
    text = "class activation maps of a video, frame by frame"
    parser = _command(
        commands,
        "cam",
        text,
        lambda o: make_cam(o.model, o.video, o.out, o.label, o.layer, o.method, o.device),
    )
    _model(parser)
    parser.add_argument("video", type=Path, help="video file, or folder of frame images")
    parser.add_argument("--label", metavar="CLASS", help="name of the class; default: the most likely one")
    parser.add_argument("--layer", help="feature level (layer3, ...) or module; default: the last that the class reads")
    parser.add_argument("--method", choices=get_args(Method), default="gradcam", help="how channels are weighted")


def _evolution(commands: argparse._SubParsersAction) -> None:
    text = "class probabilities as the frames of a video arrive"
    parser = _command(
        commands,
        "evolution",
        text,
        lambda o: make_evolution(o.model, o.video, o.out, o.steps, o.window, o.device),
    )
    _model(parser)
    parser.add_argument("video", type=Path, help="video file, or folder of frame images")
    parser.add_argument("--steps", type=positive_integer, default=24, help="how often the model is asked")
    parser.add_argument(
        "--window", type=positive_integer, help="frames of the sliding window; default: a third of the video"
    )


def _embedding(commands: argparse._SubParsersAction) -> None:
    text = "videos of a data set as points by t-SNE, of several models side by side"
    parser = _command(
        commands,
        "embedding",
        text,
        lambda o: make_embedding(o.models, o.out, o.dataset, o.data_dir, o.split, o.limit, o.seed, o.device),
    )
    _model(parser, several=True)
    _dataset(parser, limit=None)
    parser.add_argument("--split", default="val", help="of the data set")
    parser.add_argument("--seed", type=int, default=0, help="of t-SNE")


def _gains(commands: argparse._SubParsersAction) -> None:
    text = "classes that gained and lost most between two files of scores"
    parser = _command(commands, "gains", text, lambda o: make_gains(o.before, o.after, o.out, o.count))
    parser.add_argument("before", type=Path, help="scores of the one model, .npz")
    parser.add_argument("after", type=Path, help="scores of the other on the same videos")
    parser.add_argument("--count", type=positive_integer, default=10, help="classes at either end")


def _report(commands: argparse._SubParsersAction) -> None:
    text = "all of it for one model as one HTML page; a run's folder is enough for all but the gains"
    parser = _command(
        commands,
        "report",
        text,
        lambda o: make_report(o.model, o.out, o.video, o.dataset, o.data_dir, o.limit, o.scores, o.device),
    )
    _model(parser)
    text = "may be given more than once; default: the first of the data set"
    parser.add_argument("--video", type=Path, action="append", default=[], help=text)
    _dataset(parser, limit=REPORT_LIMIT)
    parser.add_argument(
        "--scores", type=Path, nargs=2, metavar=("BEFORE", "AFTER"), help="two files of scores, for the gains"
    )
