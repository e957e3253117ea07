"""Video models as timm sees them; importing this registers every name with timm."""

from timm_video_psn.models import psn, psn_datasets, rf_baselines, video_baselines
from timm_video_psn.models.create import create_video_net, video_cfg, video_net
from timm_video_psn.models.official_keys import ConvertedKeys, convert_keys, from_official_gst, from_official_tsm
from timm_video_psn.models.video_net import VideoNet

__all__ = [
    "ConvertedKeys",
    "VideoNet",
    "convert_keys",
    "create_video_net",
    "from_official_gst",
    "from_official_tsm",
    "psn",
    "psn_datasets",
    "rf_baselines",
    "video_baselines",
    "video_cfg",
    "video_net",
]
