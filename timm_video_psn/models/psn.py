"""The Perceptron Synthesis Network by name: action perceptron synthesizers after conv1 to conv4 (Sec. "Experiments").

The backbones default to torchvision's ImageNet weights, which the paper started from.
"""

from typing import Any

from timm.models import generate_default_cfgs, register_model

from timm_video_psn.models.create import create_named, video_cfg
from timm_video_psn.models.published_weights import shipped_cfg, shipped_settings
from timm_video_psn.models.video_net import VideoNet

default_cfgs = generate_default_cfgs(
    {
        "psn_resnet18": video_cfg("resnet18.tv_in1k"),
        "psn_resnet34": video_cfg("resnet34.tv_in1k"),
        "psn_resnet50": video_cfg("resnet50.tv_in1k"),
        "psn_resnet101": video_cfg("resnet101.tv_in1k"),
        "psn_resnet152": video_cfg("resnet152.tv_in1k"),
        "psn_test_resnet.motion": shipped_cfg("psn_test_resnet.motion"),
        "psn_test_resnet.*": video_cfg("test_resnet.r160_in1k"),  # without a tag: image weights, as for the others
    }
)


@register_model
def psn_resnet18(pretrained: bool = False, **kwargs: Any) -> VideoNet:
    """PSN on ResNet-18."""
    return create_named("psn_resnet18", pretrained, "resnet18.tv_in1k", "psn", kwargs)


@register_model
def psn_resnet34(pretrained: bool = False, **kwargs: Any) -> VideoNet:
    """PSN on ResNet-34."""
    return create_named("psn_resnet34", pretrained, "resnet34.tv_in1k", "psn", kwargs)


@register_model
def psn_resnet50(pretrained: bool = False, **kwargs: Any) -> VideoNet:
    """PSN on ResNet-50, the paper's network."""
    return create_named("psn_resnet50", pretrained, "resnet50.tv_in1k", "psn", kwargs)


@register_model
def psn_resnet101(pretrained: bool = False, **kwargs: Any) -> VideoNet:
    """PSN on ResNet-101."""
    return create_named("psn_resnet101", pretrained, "resnet101.tv_in1k", "psn", kwargs)


@register_model
def psn_resnet152(pretrained: bool = False, **kwargs: Any) -> VideoNet:
    """PSN on ResNet-152."""
    return create_named("psn_resnet152", pretrained, "resnet152.tv_in1k", "psn", kwargs)


@register_model
def psn_test_resnet(pretrained: bool = False, **kwargs: Any) -> VideoNet:
    """PSN on timm's tiny test_resnet; the tag `motion` has weights that come with the package."""
    if kwargs.get("pretrained_cfg") == "motion":
        kwargs = shipped_settings("psn_test_resnet.motion", kwargs)
    return create_named("psn_test_resnet", pretrained, "test_resnet.r160_in1k", "psn", kwargs)
