"""Flags from the table of training options; commands that have the same option take it from there."""

import argparse
import ast
from dataclasses import Field, fields
from types import UnionType
from typing import Annotated, Any, Literal, Union, get_args, get_origin

from timm_video_psn.engine.train.options import Range, TrainOptions

FLAGS: dict[str, Field[Any]] = {each.name: each for each in fields(TrainOptions) if each.metadata.get("help")}
_PLACES = {"_dir": "DIR", "_list": "FILE", "_checkpoint": "FILE"}


def add_flags(group: Any, *names: str) -> None:
    """Adds options of the table to a parser, with the defaults of the table.

    Args:
        group: Parser, or one of its groups.
        *names: Names of the options.
    """
    for name in names:
        option = FLAGS[name]
        _add_flag(group, option)
        group.set_defaults(**{name: option.metadata["default"]})


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
    names = about.get("flags", (flag_of(option.name),))
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


def flag_of(name: str) -> str:
    """The flag of an option.

    Args:
        name: Name of the option, as `batch_size`.
    """
    return "--" + name.replace("_", "-")


def check_ranges(parser: argparse.ArgumentParser, asked: argparse.Namespace) -> None:
    """Refuses numbers with which the work would run and go wrong.

    Args:
        parser: Parser that reports the error.
        asked: Values by option; those that are not in the table are passed over.
    """
    for name, option in FLAGS.items():
        value, (_, (least, most)) = getattr(asked, name, None), _kind(option)
        if isinstance(value, (int, float)) and not least <= value <= most:
            accepted = f"{least} or more" if most == float("inf") else f"{least} to {most}"
            parser.error(f"{flag_of(name)} {value} is out of range; use {accepted}")


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
