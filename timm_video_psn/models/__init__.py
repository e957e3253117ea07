"""Video models as timm sees them; importing this registers every name with timm."""

from timm_video_psn.models import psn, psn_datasets, video_baselines
from timm_video_psn.models.create import create_video_net, video_cfg, video_net
from timm_video_psn.models.external.external_video_net import ExternalVideoNet, create_model, is_external
from timm_video_psn.models.official_keys import ConvertedKeys, convert_keys
from timm_video_psn.models.video_net import VideoNet

__all__ = [
    "ConvertedKeys",
    "ExternalVideoNet",
    "VideoNet",
    "convert_keys",
    "create_model",
    "create_video_net",
    "is_external",
    "psn",
    "psn_datasets",
    "video_baselines",
    "video_cfg",
    "video_net",
]
