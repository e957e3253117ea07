"""Video models on timm backbones; importing this package registers `psn_*` and its competitors with timm.

Example:
    >>> import timm, torch, timm_video_psn
    >>> model = timm.create_model("psn_resnet50", num_frames=8, num_classes=174)
    >>> model(torch.zeros(2, 3, 8, 224, 224)).shape
    torch.Size([2, 174])
"""

import importlib
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any

from timm_video_psn.version import __version__

if TYPE_CHECKING:
    from timm_video_psn.data import VideoDataset, create_transform, normalize_clip, read_index
    from timm_video_psn.data import create_loader as create_loader
    from timm_video_psn.data import create_loader as create_video_loader
    from timm_video_psn.deploy.fold import fold
    from timm_video_psn.deploy.stream import Stream
    from timm_video_psn.engine.load_model import load
    from timm_video_psn.engine.trained_model import TrainedModel
    from timm_video_psn.freezing import freeze_synthesizers, unfreeze_synthesizers
    from timm_video_psn.interactions import (
        InteractionMap,
        Interactions,
        drop_rate,
        flow_map,
        interaction_map,
        ir_interactions,
    )
    from timm_video_psn.layers import TEMPORAL_MODULES
    from timm_video_psn.losses import auxiliary_losses
    from timm_video_psn.models import VideoNet
    from timm_video_psn.models.create import create_model
    from timm_video_psn.surgery import Injection, NoTargetError, detach, inject

_LAZY = {  # public name -> where it is, imported when somebody asks for it
    "Injection": "surgery",
    "InteractionMap": "interactions",
    "Interactions": "interactions",
    "NoTargetError": "surgery",
    "Stream": "deploy.stream",
    "TEMPORAL_MODULES": "layers",
    "TrainedModel": "engine.trained_model",
    "VideoDataset": "data",
    "VideoNet": "models",
    "auxiliary_losses": "losses",
    "create_loader": "data",
    "create_model": "models.create",
    "create_transform": "data",
    "create_video_loader": "data",
    "detach": "surgery",
    "drop_rate": "interactions",
    "flow_map": "interactions",
    "fold": "deploy.fold",
    "freeze_synthesizers": "freezing",
    "inject": "surgery",
    "interaction_map": "interactions",
    "ir_interactions": "interactions",
    "load": "engine.load_model",
    "normalize_clip": "data",
    "read_index": "data",
    "unfreeze_synthesizers": "freezing",
}

__all__ = [
    "TEMPORAL_MODULES",
    "Injection",
    "InteractionMap",
    "Interactions",
    "NoTargetError",
    "Stream",
    "TrainedModel",
    "VideoDataset",
    "VideoNet",
    "__version__",
    "auxiliary_losses",
    "create_loader",
    "create_model",
    "create_transform",
    "create_video_loader",
    "detach",
    "drop_rate",
    "flow_map",
    "fold",
    "freeze_synthesizers",
    "inject",
    "interaction_map",
    "ir_interactions",
    "load",
    "normalize_clip",
    "read_index",
    "unfreeze_synthesizers",
]


_SCRIPTS = ("train_video.py", "validate_video.py", "predict_video.py", "hub/publish.py", "hub/convert.py")


def _is_command() -> bool:
    """Whether this process runs the command; then modules import what they need, and `--help` comes without torch."""
    program = Path(sys.argv[0] if sys.argv else "")
    if program.name == "-m":  # Python looks for the module that it is to run
        return f" -m {__name__} " in f"{' '.join(sys.orig_argv)} "
    root = Path(__file__).resolve().parents[1]
    return program.stem == "timm-video-psn" or program.resolve() in [root / script for script in _SCRIPTS]


def __getattr__(name: str) -> Any:
    """A public name that is imported on demand."""
    if name not in _LAZY:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    module = importlib.import_module(f"{__name__}.{_LAZY[name]}")
    value = globals()[name] = getattr(module, {"create_video_loader": "create_loader"}.get(name, name))
    return value


def __dir__() -> list[str]:
    return sorted({*globals(), *_LAZY})


if not _is_command():
    for _module in ("models", "losses", "interactions", "freezing"):  # the first registers every model with timm
        importlib.import_module(f"{__name__}.{_module}")
