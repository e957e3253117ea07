"""Recipes: command lines written as YAML. A setting is read, checked and refused as its flag would be."""

import argparse
import difflib
from importlib import resources
from pathlib import Path
from typing import Any

import yaml

from timm_video_psn.engine.train.options import OLD_NAMES

_SHIPPED = resources.files("timm_video_psn") / "recipes"


def shipped_recipes() -> list[str]:
    """Returns the names of the recipes that come with the package."""
    return sorted(path.name.removesuffix(".yaml") for path in _SHIPPED.iterdir() if path.name.endswith(".yaml"))


def find_recipe(
    parser: argparse.ArgumentParser, asked: str | None, dataset: str | None
) -> tuple[str | None, dict[str, Any]]:
    """Reads the recipe that was asked for, else the one of the data set.

    Args:
        parser: Parser that reports errors.
        asked: Name of a shipped recipe, or path of a file; None asks for none.
        dataset: Name of the data set, or None.

    Returns:
        The recipe's path, or None without a recipe; and its settings.
    """
    shipped = shipped_recipes()
    name = asked or dataset
    if name in shipped:
        path, text = f"timm_video_psn/recipes/{name}.yaml", (_SHIPPED / f"{name}.yaml").read_text(encoding="utf-8")
    elif asked is None:
        return None, {}
    elif Path(asked).is_file():
        path, text = str(Path(asked)), Path(asked).read_text(encoding="utf-8")
    else:
        parser.error(
            f"--recipe {asked}: no such file, and none of the shipped recipes ({', '.join(shipped)}); recipes are YAML "
            "files of options, for example epochs: 80"
        )
    try:
        settings = yaml.safe_load(text) or {}
    except yaml.YAMLError as error:
        parser.error(f"{path} is not valid YAML: {error}")
    if not isinstance(settings, dict):
        parser.error(f"{path}: expected lines of `option: value`, found a {type(settings).__name__}")
    settings = {str(key).replace("-", "_"): value for key, value in settings.items()}
    settings.pop("config", None)  # a run's args.yaml is a recipe, too, and says which one the run began with
    return path, {OLD_NAMES.get(key, key): value for key, value in settings.items()}


def recipe_words(parser: argparse.ArgumentParser, name: str | None, settings: dict[str, Any]) -> list[str]:
    """Writes the settings of a recipe as the words of a command line.

    Args:
        parser: Parser of the command line, which also reports errors.
        name: Path of the recipe, for errors.
        settings: Values by option.
    """
    actions = {action.dest: action for action in parser._actions if action.option_strings}
    words = []
    for key, value in settings.items():
        if key not in actions:
            near = difflib.get_close_matches(key, actions, n=3)
            parser.error(f"{name}: option {key!r} is unknown; nearest: {', '.join(near) or 'none'}")
        try:
            words += _words(actions[key], value)
        except TypeError as error:
            parser.error(f"{name}: {key}={value!r}: expected {error}")
    return words


def _words(action: argparse.Action, value: Any) -> list[str]:
    """A setting as words; a TypeError says what else was expected."""
    flag = action.option_strings[0]
    if value is None and action.default is None:
        return []
    if isinstance(action, argparse.BooleanOptionalAction):
        if not isinstance(value, bool):
            raise TypeError("true or false")
        return [action.option_strings[0 if value else 1]]
    if action.nargs == "*":
        if not isinstance(value, dict):
            raise TypeError("a mapping of keys to values")
        return [flag, *(f"{key}={each!r}" for key, each in value.items())]
    if action.nargs is not None:
        if not isinstance(value, list):
            raise TypeError("a list")
        return [flag, *map(str, value)] if value or action.default else []
    if isinstance(value, (bool, list, dict, type(None))):
        raise TypeError("a single value")
    return [f"{flag}={value}"]


def temporal_arguments(
    parser: argparse.ArgumentParser, recipe: str | None, by_module: Any, asked: argparse.Namespace
) -> dict[str, Any]:
    """Returns the recipe's arguments for the temporal module of the model.

    Args:
        parser: Parser that reports errors.
        recipe: Path of the recipe, for errors.
        by_module: Its `temporal_kwargs`: arguments by the name of a temporal module.
        asked: Options, with `model` and `model_kwargs`.
    """
    if not by_module:
        return {}
    from timm_video_psn.layers import TEMPORAL_MODULES, temporal_settings  # not at the top: --help needs no torch

    if not isinstance(by_module, dict) or not all(isinstance(settings, dict) for settings in by_module.values()):
        parser.error(f"{recipe}: temporal_kwargs={by_module!r}: expected settings by module, for example psn: {{...}}")
    for temporal, settings in by_module.items():
        known = temporal_settings(temporal) if temporal in TEMPORAL_MODULES else ()
        unknown = [key for key in settings if key not in known]
        if temporal not in TEMPORAL_MODULES or unknown:
            parser.error(f"{recipe}: temporal_kwargs of {temporal!r} has unknown entries {unknown}")
    chosen = asked.model_kwargs.get("temporal") or max(
        (name for name in by_module if asked.model.startswith(f"{name}_")), key=len, default=None
    )
    return dict(by_module.get(chosen, {}))
