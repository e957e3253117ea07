"""The command line of training: a flag for every option of the table, a recipe for their defaults.

Order of precedence: the command line, then the recipe (`--recipe NAME` or FILE.yaml, else the data set's), then the
defaults of the table.
"""

import argparse
from collections.abc import Sequence

from timm_video_psn.command_line.flags import FLAGS, add_flags, check_ranges, flag_of
from timm_video_psn.command_line.parser import Parser
from timm_video_psn.command_line.recipes import find_recipe, recipe_words, temporal_arguments
from timm_video_psn.console import add_old_name, launched_processes
from timm_video_psn.engine.train.options import OLD_NAMES, PAPERS_BATCH

_OTHER_LIBRARIES = ("torchvision:", "transformers:")
_TITLES = ("recipe", "data", "model", "loss", "optimizer", "schedule", "run")
_FIRST = (
    *("data_dir", "dataset", "model", "pretrained", "num_frames"),
    *("epochs", "batch_size", "lr", "amp", "experiment"),
)
_EXAMPLES = (
    ("--data-dir videos --pretrained", "your videos, in the folders videos/train/CLASS and videos/val/CLASS"),
    ("--dataset motion", "a demonstration on generated videos"),
    ("--dataset sthv2 --data-dir sthv2 --pretrained --amp", "the paper's recipe on Something-Something V2"),
)


def parse_options(argv: Sequence[str] | None = None, prog: str = "train_video.py") -> argparse.Namespace:
    """Reads the command line and the recipe that it names.

    Args:
        argv: Arguments; None takes the arguments of the process.
        prog: Command as the user has typed it.

    Returns:
        What is asked for, by option; None and `auto` stand where `resolve_options` decides. `config` is the recipe
        that was read, or None.
    """
    parser = build_parser(prog)
    first = _first_look(argv)
    name, settings = find_recipe(parser, first.config, first.dataset)
    by_module = settings.pop("temporal_kwargs", {})
    recipe = build_parser(name or parser.prog).parse_args(recipe_words(parser, name, settings))
    asked = parser.parse_args(argv, argparse.Namespace(**vars(recipe)))
    asked.config, asked.temporal_kwargs = name, by_module
    if asked.freeze_bn and asked.partial_bn:
        parser.error(
            "--freeze-bn and --partial-bn exclude each other: the first freezes all norms, the second all but one"
        )
    if asked.sched == "step" and not asked.decay_epochs:
        parser.error("--sched step needs --decay-epochs N, the epochs from one decay to the next")
    check_ranges(parser, asked)
    if asked.batch_size == "auto":
        _leave_batch_open(parser, asked, recipe)
    if asked.model.startswith(_OTHER_LIBRARIES):  # the recipe's arguments are for its own backbone
        asked.model_kwargs = {
            key: value for key, value in asked.model_kwargs.items() if (key, value) not in recipe.model_kwargs.items()
        }
    # Settings of one temporal module do not disturb a run of the same recipe with another.
    asked.model_kwargs = {**temporal_arguments(parser, name, by_module, asked), **asked.model_kwargs}
    return asked


def build_parser(prog: str = "train_video.py") -> Parser:
    """Makes a parser with a flag for each option.

    Args:
        prog: Name that errors begin with.
    """
    parser = Parser(prog, "Train a video classifier on a timm backbone.", _EXAMPLES, _FIRST)
    groups = {title: parser.add_argument_group(title) for title in _TITLES}
    for name, option in FLAGS.items():
        add_flags(groups[option.metadata["group"]], name)
    parser.set_defaults(temporal_kwargs={})
    for old, new in OLD_NAMES.items():
        add_old_name(parser, flag_of(old), flag_of(new))
    return parser


def _first_look(argv: Sequence[str] | None) -> argparse.Namespace:
    """What names the recipe, before all else is read."""
    parser = argparse.ArgumentParser(add_help=False)
    parser.add_argument("--recipe", "--config", dest="config")
    parser.add_argument("--dataset")
    return parser.parse_known_args(argv)[0]


def _leave_batch_open(parser: argparse.ArgumentParser, asked: argparse.Namespace, recipe: argparse.Namespace) -> None:
    """`--batch-size auto`: until it is settled, an update has one step for each of the recipe's clips an update."""
    if asked.grad_accum_steps != recipe.grad_accum_steps:
        parser.error("--batch-size auto chooses --grad-accum-steps, too; leave that option out, or give both numbers")
    if launched_processes() > 1:
        parser.error(
            "--batch-size auto measures a single process; run it once without torchrun, then give the number that it "
            "prints to all"
        )
    asked.grad_accum_steps *= PAPERS_BATCH if recipe.batch_size == "auto" else recipe.batch_size
