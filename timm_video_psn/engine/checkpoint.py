"""What a run leaves on disk: `last.pt`, all that resuming needs, and `best/`, the model as timm loads it.

Every file is written under a temporary name and renamed, so a write that dies leaves the older file whole.
"""

import copy
import os
import random
import shutil
import tempfile
from pathlib import Path
from typing import Any

import numpy as np
import torch
from safetensors import SafetensorError
from timm.models import save_for_hf
from torch import nn

from timm_video_psn.files import atomic_path


def save_checkpoint(path: Path, state: dict[str, Any]) -> None:
    """Writes a checkpoint, all or nothing.

    Args:
        path: Path of the file.
        state: Tensors, numbers, strings, and lists and dicts of them: what `weights_only` can read.

    Raises:
        OSError: The file cannot be written.
    """
    with atomic_path(path) as temporary:
        try:
            with temporary.open("wb") as file:
                torch.save(state, file)
        except RuntimeError as error:  # torch's writer fails a second time, and hides what the disk said
            raise error.__context__ if isinstance(error.__context__, OSError) else OSError(str(error)) from error


def load_checkpoint(path: Path) -> dict[str, Any]:
    """Reads a checkpoint without executing code that it may hold.

    Args:
        path: Path of the file.

    Raises:
        FileNotFoundError: There is no such file.
        ValueError: The file is no checkpoint of a training run, or damaged.
    """
    if not path.is_file():
        raise FileNotFoundError(f"checkpoint {path} not found; --resume takes the last.pt of a run, or auto")
    try:
        state = torch.load(path, map_location="cpu", weights_only=True)
    except Exception as error:
        raise ValueError(f"{path} is damaged or no checkpoint: {error}".splitlines()[0]) from error
    if not isinstance(state, dict) or "options" not in state:
        raise ValueError(f"{path} is no checkpoint of a training run: it holds no options; use a last.pt of a run")
    return state


def export_model(model: nn.Module, folder: Path, model_config: dict[str, Any], model_args: dict[str, Any]) -> None:
    """Writes `model.safetensors` and `config.json`: `timm.create_model("local-dir:FOLDER")` rebuilds the model.

    Args:
        model: Model made by timm.
        folder: Folder of the files; files of the same names are replaced.
        model_config: Further entries of config.json (class names, preprocessing, recipe, metrics).
        model_args: Arguments that rebuild the architecture.

    Raises:
        OSError: The files cannot be written.
    """
    folder.mkdir(parents=True, exist_ok=True)
    temporary = Path(tempfile.mkdtemp(prefix=".export-", dir=folder.parent))
    readable = folder.stat().st_mode & 0o666  # as the user's umask lets others read
    # safetensors wants plain layout; the copy leaves the model that is being trained in its own.
    arguments = {**getattr(model, "rebuild_args", {}), **model_args}  # of another library's network, its config
    plain = copy.deepcopy(model).cpu().to(memory_format=torch.contiguous_format)
    try:
        save_for_hf(plain, str(temporary), model_config, arguments, safe_serialization=True)
        for name in ("model.safetensors", "config.json"):  # the weights first: they fit either config.json
            with (temporary / name).open("rb+") as file:
                os.fsync(file.fileno())
            (temporary / name).chmod(readable)  # safetensors writes for the owner alone
            (temporary / name).replace(folder / name)
    except (OSError, RuntimeError, SafetensorError) as error:
        if not any(folder.iterdir()):
            folder.rmdir()
        raise OSError(f"could not write {folder}: {error}") from error
    finally:
        shutil.rmtree(temporary, ignore_errors=True)


def random_state(device: torch.device | None = None) -> dict[str, Any]:
    """Returns the state of this process's random generators: torch's (also on its device), Python's and numpy's.

    Args:
        device: Device that the process trains on.
    """
    generator = np.random.get_state(legacy=False)  # noqa: NPY002 - what draws from it must draw the same
    generator["state"]["key"] = torch.from_numpy(generator["state"]["key"].astype(np.int64))
    state: dict[str, Any] = {
        "cpu": torch.get_rng_state(),
        "python": random.getstate(),
        "numpy": generator,
    }
    if device is not None and device.type == "cuda":
        state["cuda"] = torch.cuda.get_rng_state(device)
    return state


def set_random_state(state: dict[str, Any], device: torch.device | None = None) -> None:
    """Undoes `random_state`.

    Args:
        state: What it returned.
        device: Device that the process trains on.
    """
    torch.set_rng_state(state["cpu"])
    version, numbers, gauss = state["python"]
    random.setstate((version, tuple(numbers), gauss))
    twister = {**state["numpy"]["state"], "key": state["numpy"]["state"]["key"].numpy().astype(np.uint32)}
    np.random.set_state({**state["numpy"], "state": twister})  # noqa: NPY002 - as above
    if device is not None and device.type == "cuda" and "cuda" in state:
        torch.cuda.set_rng_state(state["cuda"], device)
