"""Video models on timm backbones; importing this package registers them with timm: `psn_*`, `tsm_*`, `tsn_*`, `rf_*`.

Example:
    >>> import timm, torch, timm_video_psn
    >>> model = timm.create_model("psn_resnet50", num_frames=8, num_classes=174)
    >>> model(torch.zeros(2, 3, 8, 224, 224)).shape
    torch.Size([2, 174])
"""

from timm_video_psn.freezing import freeze_synthesizers, unfreeze_synthesizers
from timm_video_psn.interactions import InteractionMap, Interactions, interaction_map, ir_interactions
from timm_video_psn.layers import TEMPORAL_MODULES
from timm_video_psn.losses import auxiliary_losses
from timm_video_psn.models import VideoNet
from timm_video_psn.surgery import Injection, NoTargetError, detach, inject
from timm_video_psn.version import __version__

__all__ = [
    "TEMPORAL_MODULES",
    "Injection",
    "InteractionMap",
    "Interactions",
    "NoTargetError",
    "VideoNet",
    "__version__",
    "auxiliary_losses",
    "detach",
    "freeze_synthesizers",
    "inject",
    "interaction_map",
    "ir_interactions",
    "unfreeze_synthesizers",
]
