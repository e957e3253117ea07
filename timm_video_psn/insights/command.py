"""The work of `timm-video-psn insights`: loads the models, makes what was asked for, says what each file shows."""

import argparse
import sys
from collections.abc import Callable

from timm_video_psn.console import printable
from timm_video_psn.engine.load_model import load
from timm_video_psn.engine.trained_model import TrainedModel
from timm_video_psn.insights.commands import (
    Artifact,
    make_cam,
    make_embedding,
    make_evolution,
    make_gains,
    make_interactions,
    make_shapes,
)
from timm_video_psn.insights.report import Report, make_report
from timm_video_psn.plotting import add_font

_COMMANDS: dict[str, Callable[[list[TrainedModel], argparse.Namespace], list[Artifact] | Report]] = {
    "interactions": lambda models, o: make_interactions(models, o.output),
    "shapes": lambda models, o: make_shapes(models[0], o.output, o.video),
    "cam": lambda models, o: make_cam(models[0], o.video, o.output, o.label, o.layer, o.method),
    "evolution": lambda models, o: make_evolution(models[0], o.video, o.output, o.steps, o.window),
    "embedding": lambda models, o: make_embedding(models, o.output, o.dataset, o.data_dir, o.split, o.limit, o.seed),
    "gains": lambda models, o: make_gains(o.before, o.after, o.output, o.count),
    "report": lambda models, o: make_report(models[0], o.output, o.video, o.dataset, o.data_dir, o.limit, o.scores),
}


def run_insights(options: argparse.Namespace, prog: str) -> int:
    """Makes an insight.

    Args:
        options: See `command_line.insights`.
        prog: Name of the command, for the line that names failed sections.

    Returns:
        The exit code: 0, or 1 where sections of a report failed.
    """
    if options.font:
        add_font(options.font)
    made = _COMMANDS[options.command](_load(options), options)
    artifacts, failed = ([made.page], made.failed) if isinstance(made, Report) else (made, ())
    for path, caption in artifacts:
        print(printable(f"{path}: {caption}"))
    if failed:
        print(f"{prog}: {len(failed)} sections failed: {', '.join(failed)}", file=sys.stderr)
    return 1 if failed else 0


def _load(options: argparse.Namespace) -> list[TrainedModel]:
    """The models that a command looks into."""
    models = [load(source, options.device) for source in getattr(options, "models", [])]
    for trained in models:
        trained.check_can_name()
    if models:
        print(f"device {models[0].precision}", flush=True)
    return models
