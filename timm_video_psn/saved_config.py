"""What `config.json` of a model folder may hold: anybody can publish one, and timm builds a network from it."""

import dataclasses
import inspect
import json
import math
import re
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any, NamedTuple

from timm.models import PretrainedCfg, create_model

from timm_video_psn.console import printable

MAX_BYTES = 16 * 2**20  # 22,000 class names with descriptions take 2 MB
MAX_DEPTH = 20
MAX_CLASSES = 1_000_000
MAX_FRAMES = 10_000
MAX_SIDE_PX = 8192
_LARGEST = 65_536  # number in the arguments of a model: widths, depths, sizes
_SHOWN = 5  # faults that an error lists
_FILTERS = ("nearest", "bilinear", "bicubic", "lanczos", "hamming", "box", "random")
_OF_TIMM = inspect.signature(create_model).parameters.keys() - {"kwargs"}  # where weights are, what is downloaded
_BACKBONE = re.compile(r"(?:hf-hub:timm/)?[\w.-]+")
_SOURCE = re.compile(r"torchvision:\w+|transformers:[\w.-]+(?:/[\w.-]+)?")


def read_saved_config(path: Path) -> dict[str, Any]:
    """Reads and checks the `config.json` of a model folder.

    Args:
        path: The file.

    Raises:
        ValueError: It is damaged, too large, or holds what no model can have; all of that is named.
        OSError: It is not there, or cannot be read.
    """
    if not path.is_file():
        raise FileNotFoundError(f"{path} not found; use a folder with {path.name} and model.safetensors")
    size = path.stat().st_size
    if size > MAX_BYTES:
        raise ValueError(f"{path} has {size:,} bytes; a config.json of at most {MAX_BYTES:,} bytes is accepted")
    try:
        config = json.loads(path.read_text(encoding="utf-8"))
    except RecursionError:
        raise ValueError(f"{path} is nested without end; at most {MAX_DEPTH} levels are accepted") from None
    except ValueError as error:
        raise ValueError(
            f"{path} is not valid JSON in UTF-8 ({error}); copy or download the model folder again"
        ) from error
    if faults := list(_faults(config)):
        more = f"; and {len(faults) - _SHOWN} more" if len(faults) > _SHOWN else ""
        raise ValueError(
            f"{path} does not describe a model of timm: {'; '.join(faults[:_SHOWN])}{more}. Correct it, or use another "
            "model folder"
        )
    checked: dict[str, Any] = config
    return checked


class _Rule(NamedTuple):
    """What an entry may be."""

    accepted: str
    is_met: Callable[[Any], bool]
    needed: bool = False


def _is_whole(value: Any, low: int, high: int) -> bool:
    return isinstance(value, int) and not isinstance(value, bool) and low <= value <= high


def _is_number(value: Any, low: float, high: float) -> bool:
    return isinstance(value, (int, float)) and not isinstance(value, bool) and low <= value <= high


def _is_text(value: Any, length: int = 1000) -> bool:
    return isinstance(value, str) and len(value) <= length


def _whole(low: int, high: int) -> _Rule:
    return _Rule(f"a whole number from {low:,} to {high:,}", lambda value: value is None or _is_whole(value, low, high))


def _texts(value: Any) -> bool:
    return isinstance(value, list) and all(map(_is_text, value))


def _numbers(low: float, high: float) -> _Rule:
    def is_met(value: Any) -> bool:
        return isinstance(value, list) and len(value) > 0 and all(_is_number(number, low, high) for number in value)

    return _Rule(f"a list of numbers from {low:g} to {high:g}", is_met)


def _is_size(value: Any) -> bool:
    if value is None:
        return True
    return isinstance(value, list) and len(value) == 3 and all(_is_whole(side, 1, MAX_SIDE_PX) for side in value)


_OBJECT = _Rule("an object", lambda value: isinstance(value, dict))
_MAYBE_OBJECT = _Rule("an object", lambda value: value is None or isinstance(value, dict))
_TEXT = _Rule("a text of at most 1,000 characters", lambda value: value is None or _is_text(value))
_LABELS = _Rule("a list of texts, one for each class", lambda value: value is None or _texts(value))
_SIZE = _Rule(f"[channels, height, width], each from 1 to {MAX_SIDE_PX:,}", _is_size)
_NAMES = _Rule("a name, or a list of names", lambda value: value is None or _is_text(value) or _texts(value))
_SHARE = _Rule("a number above 0, at most 1", lambda value: value is None or (_is_number(value, 0, 1) and value > 0))
_SHA256 = _Rule("64 hexadecimal digits", lambda value: value is None or bool(re.fullmatch("[0-9a-f]{64}", str(value))))

_RULES: dict[str, _Rule] = {
    "architecture": _Rule("the name of a model", lambda value: _is_text(value, 200), needed=True),
    "num_classes": _whole(0, MAX_CLASSES),
    "num_features": _whole(1, MAX_CLASSES),
    "label_names": _LABELS,
    "label_fingerprint": _TEXT,
    "model_args": _MAYBE_OBJECT,
    "pretrained_cfg": _OBJECT._replace(needed=True),
    "pretrained_cfg.num_classes": _whole(0, MAX_CLASSES),
    "pretrained_cfg.label_names": _LABELS,
    "pretrained_cfg.input_size": _SIZE,
    "pretrained_cfg.test_input_size": _SIZE,
    "pretrained_cfg.min_input_size": _SIZE,
    "pretrained_cfg.mean": _numbers(-1e3, 1e3),
    "pretrained_cfg.std": _numbers(1e-6, 1e3),
    "pretrained_cfg.crop_pct": _SHARE,
    "pretrained_cfg.test_crop_pct": _SHARE,
    "pretrained_cfg.interpolation": _Rule(f"one of {', '.join(_FILTERS)}", lambda value: value in _FILTERS),
    "pretrained_cfg.custom_load": _Rule("false", lambda value: value is False),
    "pretrained_cfg.fixed_input_size": _Rule("true or false", lambda value: isinstance(value, bool)),
    "pretrained_cfg.state_dict": _Rule("nothing: weights are a file", lambda value: value is None),
    "pretrained_cfg.first_conv": _NAMES,
    "pretrained_cfg.classifier": _NAMES,
    "pretrained_cfg.license": _TEXT,
    "pretrained_cfg.architecture": _TEXT,
    "pretrained_cfg.hf_hub_id": _TEXT,
    "pretrained_cfg.hf_hub_filename": _TEXT,
    "video": _MAYBE_OBJECT,
    "video.num_frames": _whole(1, MAX_FRAMES),
    "video.num_clips": _whole(1, 1000),
    "video.num_crops": _Rule("1 or 3", lambda value: value is None or (_is_whole(value, 1, 3) and value != 2)),
    "video.img_size": _whole(1, MAX_SIDE_PX),
    "video.short_side": _whole(1, 2 * MAX_SIDE_PX),
    "video.sampling": _TEXT,
    "video.fusion": _TEXT,
    "activation": _Rule("'softmax' or 'sigmoid'", lambda value: value in ("softmax", "sigmoid")),
    "video.protocol": _TEXT,
    "dataset": _TEXT,
    "dataset_version": _TEXT,
    "metrics": _MAYBE_OBJECT,
    "recipe": _MAYBE_OBJECT,
    "versions": _MAYBE_OBJECT,
    "converted_from": _MAYBE_OBJECT,
    "weights": _MAYBE_OBJECT,
    "weights.sha256": _SHA256,
    "results": _Rule("a list of tests", lambda value: value is None or _are_tests(value)),
}


def _are_tests(value: Any) -> bool:
    """Whether a list holds tests as `validate` writes them into results.json."""
    texts = ("dataset", "split", "protocol")
    return isinstance(value, list) and all(
        isinstance(test, dict)
        and all(test.get(key) is None or _is_text(test[key]) for key in texts)
        and {"protocol", "split", "num_videos", "num_expected"} <= test.keys()
        and isinstance(test.get("metrics"), dict)
        and all(
            isinstance(found, dict)
            and _is_number(found.get("value"), -1e9, 1e9)
            and all(
                key in found and (found[key] is None or _is_number(found[key], -1e9, 1e9)) for key in ("low", "high")
            )
            for found in test["metrics"].values()
        )
        for test in value
    )


def _faults(config: Any) -> Iterator[str]:
    """Yields what is wrong with a config: key, what was found, what is accepted."""
    if not isinstance(config, dict):
        yield f"it is {_shown(config)}; accepted is an object"
        return
    if _depth(config) > MAX_DEPTH:
        yield f"it is nested {_depth(config)} levels deep; accepted are {MAX_DEPTH}"
        return
    for key, rule in _RULES.items():
        group, _, name = key.rpartition(".")
        entries = config.get(group) if group else config
        if not isinstance(entries, dict):
            continue  # said of the group itself
        if name not in entries:
            if rule.needed:
                yield f"{key} is missing; accepted is {rule.accepted}"
        elif not rule.is_met(entries[name]):
            yield f"{key} is {_shown(entries[name])}; accepted is {rule.accepted}"
    cfg, args = config.get("pretrained_cfg"), config.get("model_args")
    known = {field.name for field in dataclasses.fields(PretrainedCfg)}
    for key in sorted(cfg.keys() - known) if isinstance(cfg, dict) else ():
        yield f"pretrained_cfg.{printable(key[:60])} is not among timm's entries; leave it out, or update timm"
    if isinstance(args, dict):
        yield from value_faults(args)
    yield from _count_faults(config)


def _count_faults(config: Mapping[str, Any]) -> Iterator[str]:
    """Yields where the class names are not as many as the classes."""
    names = config.get("label_names")
    groups = {"": config, "pretrained_cfg.": config.get("pretrained_cfg"), "model_args.": config.get("model_args")}
    for prefix, group in groups.items():
        count = group.get("num_classes") if isinstance(group, Mapping) else None
        if names and isinstance(names, list) and isinstance(count, int) and count != len(names):
            yield f"label_names has {len(names):,} names, {prefix}num_classes is {count:,}; accepted are equal counts"


def value_faults(arguments: Mapping[str, Any], prefix: str = "model_args.") -> Iterator[str]:
    """Yields what is wrong with saved arguments of a model: which of them it takes is known only where it is built.

    Args:
        arguments: Arguments by name.
        prefix: Group of the arguments, for the message.
    """
    special: dict[str, _Rule] = {
        "num_classes": _whole(0, MAX_CLASSES),
        "num_frames": _whole(1, MAX_FRAMES),
        "backbone": _Rule(
            "a model name of timm", lambda value: isinstance(value, str) and bool(_BACKBONE.fullmatch(value))
        ),
        "source": _Rule(
            "torchvision:NAME or transformers:REPO",
            lambda value: isinstance(value, str) and bool(_SOURCE.fullmatch(value)),
        ),
        "backbone_checkpoint": _TEXT,  # which is not read again
    }
    plain = _Rule(
        f"a number of at most {_LARGEST:,}, true, false, a word, or a list of these (no path)",
        lambda value: _is_plain(value),
    )
    for key, value in arguments.items():
        rule = special.get(key, plain)
        if key in _OF_TIMM:
            yield f"{prefix}{key} is not an argument of a network, but one that timm acts upon; leave it out"
        elif not rule.is_met(value):
            yield f"{prefix}{printable(key[:60])} is {_shown(value)}; accepted is {rule.accepted}"


def _is_plain(value: Any, levels: int = 4) -> bool:
    if isinstance(value, (list, tuple)):
        return levels > 0 and len(value) <= 1000 and all(_is_plain(item, levels - 1) for item in value)
    if isinstance(value, dict):
        return levels > 0 and len(value) <= 100 and all(_is_plain(item, levels - 1) for item in value.values())
    if isinstance(value, str):
        return len(value) <= 200 and not set(value) & set("/\\:")
    return value is None or (isinstance(value, (int, float)) and math.isfinite(value) and abs(value) <= _LARGEST)


def _depth(value: Any) -> int:
    """How deep objects and lists are nested; the value itself counts."""
    depth, level = 0, [value]
    while level:
        depth += 1
        groups = [item.values() if isinstance(item, dict) else item for item in level if isinstance(item, (dict, list))]
        level = [item for group in groups for item in group]
    return depth


def _shown(value: Any) -> str:
    """A value as an error shows it."""
    if isinstance(value, (dict, list)):
        return f"{'an object' if isinstance(value, dict) else 'a list'} with {len(value):,} entries"
    text = json.dumps(value, ensure_ascii=False)
    return printable(text if len(text) <= 60 else f"{text[:57]}...")
