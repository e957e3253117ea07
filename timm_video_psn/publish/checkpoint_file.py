"""Weights of other people's checkpoints, read without running code that a file may hold."""

import argparse
import pickle
import re
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import safetensors.torch
import torch
from torch import Tensor

ENTRIES = ("state_dict", "model")  # where TSM, GST and timm, and where torchvision's training keeps the weights


@dataclass(frozen=True)
class Weights:
    """The weights of a file, and what else it holds, in words."""

    state_dict: dict[str, Tensor]
    rest: dict[str, str]


def read_weights(path: Path, entry: str | None = None) -> Weights:
    """The tensors of a checkpoint, read without running its code.

    Args:
        path: A .safetensors file, or one of `torch.save` in either of its formats.
        entry: Key of the file that holds the weights; None for the usual places.

    Raises:
        FileNotFoundError: There is no such file.
        ValueError: It is damaged, holds objects that are not weights, or holds no weights at that entry.
    """
    if not path.is_file():
        raise FileNotFoundError(f"checkpoint {path} not found")
    content = _content(path)
    if not isinstance(content, Mapping):
        raise ValueError(f"{path} holds a {type(content).__name__}, not a dict; save the model's state_dict()")
    found = [name for name in ENTRIES if isinstance(content.get(name), Mapping)]
    where = entry or (found[0] if found else None)
    if entry is not None and not isinstance(content.get(entry), Mapping):
        raise ValueError(f"--entry {entry} is not in {path}, or not a dict; it has {', '.join(map(str, content))}")
    state_dict = dict(content if where is None else content[where])
    odd = [str(name) for name, value in state_dict.items() if not isinstance(value, Tensor)]
    if odd or not state_dict:
        raise ValueError(
            f"{where or 'the top'} of {path} is not a state dict: {', '.join(odd[:5]) or 'it is empty'} is not a "
            f"tensor; name another entry with --entry; the file has {', '.join(map(str, list(content)[:10]))}"
        )
    rest = {} if where is None else {str(key): _described(value) for key, value in content.items() if key != where}
    return Weights(state_dict, rest)


def _content(path: Path) -> Any:
    try:
        if path.suffix == ".safetensors":
            return safetensors.torch.load_file(path)
        with torch.serialization.safe_globals(_harmless()):
            return torch.load(path, map_location="cpu", weights_only=True)
    except pickle.UnpicklingError as error:
        if found := re.search(r"GLOBAL (\w[\w.]*)", str(error)):
            raise ValueError(
                f"{path} holds {found[1]}, which is not a tensor; unpickling it would run code from the file, so it is "
                "not read. If you trust the file, save only its state_dict: torch.save(checkpoint['state_dict'], ...)"
            ) from error
        # torch's first line advises to read the file without this safety
        reason = str(error).rpartition("WeightsUnpickler error:")[2].strip().partition("\n")[0]
        raise ValueError(f"{path} is damaged or not a checkpoint: {reason}") from error
    except Exception as error:  # whatever torch meets in a file that is none of its own
        raise ValueError(
            f"{path} is damaged or not a checkpoint: {type(error).__name__}: {error}".splitlines()[0]
        ) from error


def _harmless() -> list[Any]:
    """What checkpoints hold besides tensors and runs nothing: options, and accuracies as numbers of numpy."""
    scalar = np.float64(0).__reduce__()[0]  # numpy 1 and 2 have it in different places
    types = [type(np.dtype(name)) for name in ("float64", "float32", "int64", "int32", "bool")]
    return [
        argparse.Namespace,
        (scalar, "numpy.core.multiarray.scalar"),
        (scalar, "numpy._core.multiarray.scalar"),
        np.dtype,
        *types,
    ]


def _described(value: Any) -> str:
    """A number or a short text as it is, of all else the type."""
    if isinstance(value, Tensor) and value.numel() == 1:
        value = value.item()
    if isinstance(value, np.generic):
        value = value.item()
    if value is None or isinstance(value, (bool, int, float)) or (isinstance(value, str) and len(value) < 80):
        return str(value)
    return f"a {type(value).__name__}"
