"""The command line of train_video.py: a flag for every option of the table, a recipe for their defaults.

Order of precedence: the command line, then the recipe (`--recipe NAME` or FILE.yaml, else the data set's), then the
defaults of the table.
"""

import argparse
import ast
from collections.abc import Sequence
from dataclasses import Field, fields
from types import UnionType
from typing import Annotated, Any, Literal, Union, get_args, get_origin

from timm_video_psn.console import add_old_name, launched_processes
from timm_video_psn.engine.train.options import OLD_NAMES, PAPERS_BATCH, Range, TrainOptions
from timm_video_psn.engine.train.recipes import find_recipe, recipe_words, temporal_arguments

FLAGS: dict[str, Field[Any]] = {each.name: each for each in fields(TrainOptions) if each.metadata.get("help")}
_PLACES = {"_dir": "DIR", "_list": "FILE", "_checkpoint": "FILE"}
_OTHER_LIBRARIES = ("torchvision:", "transformers:")
_TITLES = ("recipe", "data", "model", "loss", "optimizer", "schedule", "run")


def parse_options(argv: Sequence[str] | None = None) -> argparse.Namespace:
    """Reads the command line and the recipe that it names.

    Args:
        argv: Arguments; None takes the arguments of the process.

    Returns:
        What is asked for, by option; None and `auto` stand where `resolve_options` decides. `config` is the recipe
        that was read, or None.
    """
    parser = build_parser()
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
    _check_ranges(parser, asked)
    if asked.batch_size == "auto":
        _leave_batch_open(parser, asked, recipe)
    if asked.model.startswith(_OTHER_LIBRARIES):  # the recipe's arguments are for its own backbone
        asked.model_kwargs = {
            key: value for key, value in asked.model_kwargs.items() if (key, value) not in recipe.model_kwargs.items()
        }
    # Settings of one temporal module do not disturb a run of the same recipe with another.
    asked.model_kwargs = {**temporal_arguments(parser, name, by_module, asked), **asked.model_kwargs}
    return asked


def build_parser(prog: str = "train_video.py") -> argparse.ArgumentParser:
    """Makes a parser with a flag for each option.

    Args:
        prog: Name that errors begin with.
    """
    parser = argparse.ArgumentParser(prog=prog, description="Train a video classifier on a timm backbone.")
    groups = {title: parser.add_argument_group(title) for title in _TITLES}
    for option in FLAGS.values():
        _add_flag(groups[option.metadata["group"]], option)
    parser.set_defaults(temporal_kwargs={}, **{name: option.metadata["default"] for name, option in FLAGS.items()})
    for old, new in OLD_NAMES.items():
        add_old_name(parser, _flag(old), _flag(new))
    return parser


def _add_flag(group: Any, option: Field[Any]) -> None:
    """A flag, as the type and the entries of an option say."""
    about, (kind, _) = option.metadata, _kind(option)
    more: dict[str, Any] = {}
    if get_origin(kind) is tuple:
        kind, *rest = get_args(kind)
        more["nargs"] = "+" if rest == [...] else 1 + len(rest)
    if kind is bool:
        more["action"] = argparse.BooleanOptionalAction
    elif get_origin(kind) is dict:
        more |= {"nargs": "*", "action": KeyValue, "metavar": "KEY=VALUE"}
    elif get_origin(kind) is Literal:
        more |= {"choices": get_args(kind), "type": about.get("parse")}
    else:
        place = next((word for end, word in _PLACES.items() if option.name.endswith(end)), "NAME")
        words = {int: "N", float: "X", str: place}
        more |= {"type": about.get("parse", kind), "metavar": about.get("metavar", words[kind])}
    names = about.get("flags", (_flag(option.name),))
    group.add_argument(*names, dest=option.name, help=_help(about["help"], about["default"]), **more)


def _kind(option: Field[Any]) -> tuple[Any, Range]:
    """The type of an option, without the None that it may allow, and the numbers that it accepts."""
    kind: Any = option.type
    if get_origin(kind) in (Union, UnionType):
        (kind,) = (each for each in get_args(kind) if each is not type(None))
    return get_args(kind) if get_origin(kind) is Annotated else (kind, Range(float("-inf")))


def _help(text: str, default: Any) -> str:
    """A help text, with the default where there is something to say of it."""
    if "(default:" in text or default is None or default is False or default in ((), {}):
        return text
    shown = " ".join(map(str, default)) if isinstance(default, tuple) else "on" if default is True else default
    return f"{text} (default: {shown})"


def _flag(name: str) -> str:
    return "--" + name.replace("_", "-")


def _first_look(argv: Sequence[str] | None) -> argparse.Namespace:
    """What names the recipe, before all else is read."""
    parser = argparse.ArgumentParser(add_help=False)
    parser.add_argument("--recipe", "--config", dest="config")
    parser.add_argument("--dataset")
    return parser.parse_known_args(argv)[0]


def _check_ranges(parser: argparse.ArgumentParser, asked: argparse.Namespace) -> None:
    """Refuses numbers with which training would run and go wrong."""
    for name, option in FLAGS.items():
        value, (_, (least, most)) = getattr(asked, name), _kind(option)
        if isinstance(value, (int, float)) and not least <= value <= most:
            accepted = f"{least} or more" if most == float("inf") else f"{least} to {most}"
            parser.error(f"{_flag(name)} {value} is out of range; use {accepted}")


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


class KeyValue(argparse.Action):
    """Reads KEY=VALUE ... into a dict, beside what the recipe has put there; values are Python literals where they can.

    timm's ParseKwargs replaces the recipe's entries, and fails on `branches=5x5` and on a value with an equals sign.
    """

    def __call__(self, parser: Any, namespace: Any, values: Any, option_string: str | None = None) -> None:
        """Adds the entries."""
        settings = dict(getattr(namespace, self.dest) or {})
        for item in values:
            key, equals, value = item.partition("=")
            if not equals or not key:
                parser.error(f"{option_string}: {item!r} is not key=value, for example proportion=0.125")
            settings[key.replace("-", "_")] = _literal(value)
        setattr(namespace, self.dest, settings)


def _literal(value: str) -> Any:
    lowered = {"true": True, "false": False, "none": None}.get(value.lower(), value)
    if not isinstance(lowered, str):
        return lowered
    try:
        return ast.literal_eval(value)
    except (ValueError, SyntaxError):
        return value
