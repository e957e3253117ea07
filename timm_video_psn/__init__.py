"""Video models on timm backbones; importing this package registers `psn_*` and its competitors with timm.

Example:
    >>> import timm, torch, timm_video_psn
    >>> model = timm.create_model("psn_resnet50", num_frames=8, num_classes=174)
    >>> model(torch.zeros(2, 3, 8, 224, 224)).shape
    torch.Size([2, 174])
"""

import importlib
from typing import TYPE_CHECKING, Any

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
from timm_video_psn.surgery import Injection, NoTargetError, detach, inject
from timm_video_psn.version import __version__

if TYPE_CHECKING:
    from timm_video_psn.data import VideoDataset, create_loader, create_transform, normalize_clip, read_index
    from timm_video_psn.deploy.fold import fold
    from timm_video_psn.deploy.stream import Stream
    from timm_video_psn.engine.load_model import load
    from timm_video_psn.engine.trained_model import TrainedModel

_LAZY = {  # imported when somebody asks for them: they load decoders and more
    "Stream": "deploy.stream",
    "TrainedModel": "engine.trained_model",
    "VideoDataset": "data",
    "create_loader": "data",
    "create_transform": "data",
    "fold": "deploy.fold",
    "load": "engine.load_model",
    "normalize_clip": "data",
    "read_index": "data",
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
    "create_transform",
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


def __getattr__(name: str) -> Any:
    """A public name that is imported on demand."""
    if name not in _LAZY:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    value = globals()[name] = getattr(importlib.import_module(f"{__name__}.{_LAZY[name]}"), name)
    return value


def __dir__() -> list[str]:
    return sorted({*globals(), *_LAZY})
