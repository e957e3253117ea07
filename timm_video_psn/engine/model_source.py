"""Where a trained model is: a run's folder, its best/, another model folder, or a repository on the Hub."""

import difflib
from pathlib import Path
from typing import Any

from timm_video_psn.console import MODEL_SOURCES
from timm_video_psn.hub_files import CONFIG, hub_config
from timm_video_psn.models import VideoNet
from timm_video_psn.models.create import video_models
from timm_video_psn.models.published_weights import shipped_folder
from timm_video_psn.saved_config import read_saved_config

_HUB = ("hf-hub:", "hf_hub:")
_LOCAL = "local-dir:"


def is_on_hub(source: str) -> bool:
    """Whether a source names a repository on the Hub.

    Args:
        source: See `find_folder`.
    """
    return source.startswith(_HUB)


def find_folder(source: str) -> Path:
    """The model folder that a source names.

    Args:
        source: A folder with `config.json`, with or without `local-dir:` before it; a run's folder, which stands for
            its `best/`; or a name whose weights come with the package.

    Raises:
        FileNotFoundError: There is no model.
    """
    folder = shipped_folder(source) or Path(source.removeprefix(_LOCAL))
    for place in (folder, folder / "best"):
        if (place / CONFIG).is_file():
            return place
    found = "there is no such folder" if not folder.is_dir() else f"it has no {CONFIG}"
    known = [] if folder.is_dir() else [*video_models(), *map(str, folder.parent.glob("*/"))]
    near = difflib.get_close_matches(str(folder), known, n=2, cutoff=0.8)
    tip = f"; did you mean {' or '.join(near)}?" if near else ""
    raise FileNotFoundError(f"{folder} is not a model folder: {found}; use {MODEL_SOURCES}{tip}")


def read_config(source: str, model: VideoNet) -> dict[str, Any]:
    """The whole `config.json` of a model; timm itself passes over what is not its own.

    Args:
        source: See `find_folder`; or a repository on the Hub, or a name with published weights.
        model: Model that was loaded from it; its weights name the commit of the Hub that the config belongs to.

    Raises:
        ValueError: The config is damaged, or does not describe a model.
    """
    published = str(model.pretrained_cfg.get("hf_hub_id") or "")
    if is_on_hub(source) or (published and not Path(source.removeprefix(_LOCAL)).exists()):
        return hub_config(published)[1]  # in the cache already
    return read_saved_config(find_folder(source) / CONFIG)


def full_path(source: str) -> Path:
    """A model folder with all its parents; a repository on the Hub keeps its last part.

    Args:
        source: See `find_folder`; or a repository on the Hub.
    """
    return Path(source.removeprefix(_LOCAL)).resolve()


def short_name(source: str) -> str:
    """The name of the run that a model belongs to, or of its folder.

    Args:
        source: See `find_folder`; or a repository on the Hub.
    """
    path = full_path(source)
    return path.parent.name if path.name == "best" and path.parent.name else path.name


def file_of_run(source: str, name: str) -> Path | None:
    """A file of the run that a model belongs to, or None where there is no such file.

    Args:
        source: The run, its `best/` or one of its `best-epochs/`; or any other model, which has no run.
        name: Name of the file.
    """
    place = full_path(source)
    folders = (place, place.parent, *([place.parent.parent] if place.parent.name == "best-epochs" else []))
    return next((folder / name for folder in folders if (folder / name).is_file()), None)
