"""The command line: `timm-video-psn insights COMMAND ...` writes files and says what each shows."""

import argparse
import sys
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import get_args

from timm_video_psn.console import add_old_name, positive_integer, run_command
from timm_video_psn.engine.load_model import load
from timm_video_psn.engine.model_source import WAYS
from timm_video_psn.engine.trained_model import TrainedModel
from timm_video_psn.insights.activation_map import Method
from timm_video_psn.insights.commands import (
    Artifact,
    make_cam,
    make_embedding,
    make_evolution,
    make_gains,
    make_interactions,
    make_shapes,
)
from timm_video_psn.insights.report import REPORT_LIMIT, Report, make_report
from timm_video_psn.plotting import add_font

_NAME = "timm-video-psn insights"


def main(argv: Sequence[str] | None = None) -> int:
    """Runs a command.

    Args:
        argv: arguments; None for the arguments of the process.

    Returns:
        The exit code: 0, 1 where sections of a report failed, 2 for an error, 130 when it was interrupted.
    """
    options = build_parser().parse_args(argv)

    def run() -> int:
        if options.font:
            add_font(options.font)
        made = options.make(_load(options), options)
        artifacts, failed = ([made.page], made.failed) if isinstance(made, Report) else (made, ())
        for path, caption in artifacts:
            print(f"{path}: {caption}")
        if failed:
            print(f"{_NAME}: {len(failed)} sections failed: {', '.join(failed)}", file=sys.stderr)
        return 1 if failed else 0

    return run_command(_NAME, run, options.debug)


def _load(options: argparse.Namespace) -> list[TrainedModel]:
    """The models that a command looks into."""
    models = [load(source, options.device) for source in getattr(options, "models", [])]
    for trained in models:
        trained.check_can_name()
    if models:
        print(f"device {models[0].precision}", flush=True)
    return models


def build_parser() -> argparse.ArgumentParser:
    """All commands."""
    parser = argparse.ArgumentParser(prog=_NAME, description="Look into trained models.")
    commands = parser.add_subparsers(dest="command", required=True)
    for add in (_interactions, _shapes, _cam, _evolution, _embedding, _gains, _report):
        add(commands)
    return parser


def _command(
    commands: argparse._SubParsersAction,
    name: str,
    text: str,
    make: Callable[[list[TrainedModel], argparse.Namespace], list[Artifact] | Report],
) -> argparse.ArgumentParser:
    """A command with the options that all have."""
    parser = commands.add_parser(name, help=text, description=text)
    output = "folder for the files (default: %(default)s)"
    parser.add_argument("--output", type=Path, default=Path("output/insights"), metavar="DIR", help=output)
    font = "font file for scripts that the default font lacks (default: an installed one is looked for)"
    parser.add_argument("--font", type=Path, metavar="FILE", help=font)
    parser.add_argument("--debug", action="store_true", help="show the traceback of an error")
    add_old_name(parser, "--out", "--output")
    add_old_name(parser, "--traceback", "--debug")
    parser.set_defaults(make=make)
    return parser


def _model(parser: argparse.ArgumentParser, several: bool = False) -> None:
    parser.add_argument("models", nargs="+" if several else 1, metavar="MODEL", help=WAYS)
    device = "cpu, cuda, ...; auto is the GPU if there is one (default: %(default)s)"
    parser.add_argument("--device", default="auto", help=device)


def _video(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("video", type=Path, metavar="VIDEO", help="video file, or folder of frame images")


def _dataset(parser: argparse.ArgumentParser, limit: int | None) -> None:
    named = "data set: motion, folder, sthv2, ... (default: the data set of the run)"
    parser.add_argument("--dataset", metavar="NAME", help=named)
    parser.add_argument("--data-dir", metavar="DIR", help="folder of the data set (default: where the run found it)")
    text = f"largest number of videos, spread evenly (default: {limit or 'all'})"
    parser.add_argument("--limit", type=positive_integer, default=limit, metavar="N", help=text)


def _interactions(commands: argparse._SubParsersAction) -> None:
    text = "Draw the strength of the paths from spatial to temporal kernels (Fig. 5); several models make several rows."
    parser = _command(commands, "interactions", text, lambda models, o: make_interactions(models, o.output))
    _model(parser, several=True)


def _shapes(commands: argparse._SubParsersAction) -> None:
    text = "Draw the shapes of the synthesized kernels by weight, and their effective receptive fields by gradients."
    parser = _command(commands, "shapes", text, lambda models, o: make_shapes(models[0], o.output, o.video))
    _model(parser)
    where = "video at whose features the fields are measured (default: noise)"
    parser.add_argument("--video", type=Path, metavar="VIDEO", help=where)


def _cam(commands: argparse._SubParsersAction) -> None:
    text = "Draw the class activation maps of a video, frame by frame."
    parser = _command(
        commands, "cam", text, lambda models, o: make_cam(models[0], o.video, o.output, o.label, o.layer, o.method)
    )
    _model(parser)
    _video(parser)
    parser.add_argument("--label", metavar="CLASS", help="name of the class (default: the most likely one)")
    layer = "feature level (layer3, ...) or module (default: the last level that the class depends on)"
    parser.add_argument("--layer", metavar="NAME", help=layer)
    method = "weighting of the channels (default: %(default)s)"
    parser.add_argument("--method", choices=get_args(Method), default="gradcam", help=method)


def _evolution(commands: argparse._SubParsersAction) -> None:
    text = "Draw class probabilities as the frames of a video arrive."
    parser = _command(
        commands, "evolution", text, lambda models, o: make_evolution(models[0], o.video, o.output, o.steps, o.window)
    )
    _model(parser)
    _video(parser)
    steps = "number of times that the model is asked (default: %(default)s)"
    parser.add_argument("--steps", type=positive_integer, default=24, metavar="N", help=steps)
    window = "frames of the sliding window (default: a third of the video)"
    parser.add_argument("--window", type=positive_integer, metavar="FRAMES", help=window)


def _embedding(commands: argparse._SubParsersAction) -> None:
    text = "Lay out the videos of a data set as points by t-SNE; several models stand side by side."
    parser = _command(
        commands,
        "embedding",
        text,
        lambda models, o: make_embedding(models, o.output, o.dataset, o.data_dir, o.split, o.limit, o.seed),
    )
    _model(parser, several=True)
    _dataset(parser, limit=None)
    parser.add_argument("--split", default="val", help="split of the data set (default: %(default)s)")
    parser.add_argument("--seed", type=int, default=0, help="seed of t-SNE (default: %(default)s)")


def _gains(commands: argparse._SubParsersAction) -> None:
    text = "Draw the classes that gained and lost most between two score files."
    parser = _command(commands, "gains", text, lambda models, o: make_gains(o.before, o.after, o.output, o.count))
    parser.add_argument("before", type=Path, metavar="BEFORE", help="scores.npz of one model")
    parser.add_argument("after", type=Path, metavar="AFTER", help="scores.npz of another model on the same videos")
    count = "number of classes at either end (default: %(default)s)"
    parser.add_argument("--count", type=positive_integer, default=10, metavar="N", help=count)


def _report(commands: argparse._SubParsersAction) -> None:
    text = "Write one HTML page: results, confusion, hardest videos, and all insights; the folder of a run is enough."
    parser = _command(
        commands,
        "report",
        text,
        lambda models, o: make_report(models[0], o.output, o.video, o.dataset, o.data_dir, o.limit, o.scores),
    )
    _model(parser)
    video = "video to look at, may be given several times (default: the one that the model is surest of)"
    parser.add_argument("--video", type=Path, action="append", default=[], metavar="VIDEO", help=video)
    _dataset(parser, limit=REPORT_LIMIT)
    scores = "two score files, for the gains"
    parser.add_argument("--scores", type=Path, nargs=2, metavar=("BEFORE", "AFTER"), help=scores)
