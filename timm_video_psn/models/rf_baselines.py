"""The paper's own baselines by name (Fig. 4, Table 1): RF-S, RF-L, RF-L-Inception and RF-L-Inception-T on ResNet-50.

They follow the same levels as PSN, conv1 to conv4, for a comparison at equal sites. Table 1 was evidently counted one
level later: `sites=("layer1", "layer2", "layer3", "layer4")` gives its parameters. Other backbones:
`create_model("video_net", backbone=..., temporal="rf_s")`.
"""

from typing import Any

from timm.models import generate_default_cfgs, register_model

from timm_video_psn.models.create import create_named, video_cfg
from timm_video_psn.models.video_net import VideoNet

default_cfgs = generate_default_cfgs(
    {
        "rf_s_resnet50": video_cfg("resnet50.tv_in1k"),
        "rf_l_resnet50": video_cfg("resnet50.tv_in1k"),
        "rf_l_inception_resnet50": video_cfg("resnet50.tv_in1k"),
        "rf_l_inception_t_resnet50": video_cfg("resnet50.tv_in1k"),
    }
)


@register_model
def rf_s_resnet50(pretrained: bool = False, **kwargs: Any) -> VideoNet:
    """RF-S: one kernel of 3x3x3."""
    return create_named("rf_s_resnet50", pretrained, "resnet50.tv_in1k", "rf_s", kwargs)


@register_model
def rf_l_resnet50(pretrained: bool = False, **kwargs: Any) -> VideoNet:
    """RF-L: one kernel shape of 5x5x5."""
    return create_named("rf_l_resnet50", pretrained, "resnet50.tv_in1k", "rf_l", kwargs)


@register_model
def rf_l_inception_resnet50(pretrained: bool = False, **kwargs: Any) -> VideoNet:
    """RF-L-Inception: cubes of 1, 3 and 5 and a pool, each on its own group of channels."""
    return create_named("rf_l_inception_resnet50", pretrained, "resnet50.tv_in1k", "rf_l_inception", kwargs)


@register_model
def rf_l_inception_t_resnet50(pretrained: bool = False, **kwargs: Any) -> VideoNet:
    """RF-L-Inception-T: the temporal kernels alone."""
    return create_named("rf_l_inception_t_resnet50", pretrained, "resnet50.tv_in1k", "rf_l_inception_t", kwargs)
