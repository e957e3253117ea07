"""What the paper compares PSN with, by name: TSN (Wang et al., 2016) and TSM (Lin, Gan, Han, 2019)."""

from typing import Any

from timm.models import generate_default_cfgs, register_model

from timm_video_psn.models.create import create_named, video_cfg
from timm_video_psn.models.video_net import VideoNet

default_cfgs = generate_default_cfgs(
    {
        "tsn_resnet18": video_cfg("resnet18.tv_in1k"),
        "tsn_resnet34": video_cfg("resnet34.tv_in1k"),
        "tsn_resnet50": video_cfg("resnet50.tv_in1k"),
        "tsn_resnet101": video_cfg("resnet101.tv_in1k"),
        "tsn_resnet152": video_cfg("resnet152.tv_in1k"),
        "tsn_test_resnet": video_cfg("test_resnet.r160_in1k"),
        "tsm_resnet18": video_cfg("resnet18.tv_in1k"),
        "tsm_resnet34": video_cfg("resnet34.tv_in1k"),
        "tsm_resnet50": video_cfg("resnet50.tv_in1k"),
        "tsm_resnet101": video_cfg("resnet101.tv_in1k"),
        "tsm_resnet152": video_cfg("resnet152.tv_in1k"),
        "tsm_test_resnet": video_cfg("test_resnet.r160_in1k"),
    }
)


@register_model
def tsn_resnet18(pretrained: bool = False, **kwargs: Any) -> VideoNet:
    """TSN on ResNet-18."""
    return create_named("tsn_resnet18", pretrained, "resnet18.tv_in1k", "tsn", kwargs)


@register_model
def tsn_resnet34(pretrained: bool = False, **kwargs: Any) -> VideoNet:
    """TSN on ResNet-34."""
    return create_named("tsn_resnet34", pretrained, "resnet34.tv_in1k", "tsn", kwargs)


@register_model
def tsn_resnet50(pretrained: bool = False, **kwargs: Any) -> VideoNet:
    """TSN on ResNet-50."""
    return create_named("tsn_resnet50", pretrained, "resnet50.tv_in1k", "tsn", kwargs)


@register_model
def tsn_resnet101(pretrained: bool = False, **kwargs: Any) -> VideoNet:
    """TSN on ResNet-101."""
    return create_named("tsn_resnet101", pretrained, "resnet101.tv_in1k", "tsn", kwargs)


@register_model
def tsn_resnet152(pretrained: bool = False, **kwargs: Any) -> VideoNet:
    """TSN on ResNet-152."""
    return create_named("tsn_resnet152", pretrained, "resnet152.tv_in1k", "tsn", kwargs)


@register_model
def tsn_test_resnet(pretrained: bool = False, **kwargs: Any) -> VideoNet:
    """TSN on timm's tiny test_resnet, for tests and the demo."""
    return create_named("tsn_test_resnet", pretrained, "test_resnet.r160_in1k", "tsn", kwargs)


@register_model
def tsm_resnet18(pretrained: bool = False, **kwargs: Any) -> VideoNet:
    """TSM on ResNet-18."""
    return create_named("tsm_resnet18", pretrained, "resnet18.tv_in1k", "tsm", kwargs)


@register_model
def tsm_resnet34(pretrained: bool = False, **kwargs: Any) -> VideoNet:
    """TSM on ResNet-34."""
    return create_named("tsm_resnet34", pretrained, "resnet34.tv_in1k", "tsm", kwargs)


@register_model
def tsm_resnet50(pretrained: bool = False, **kwargs: Any) -> VideoNet:
    """TSM on ResNet-50."""
    return create_named("tsm_resnet50", pretrained, "resnet50.tv_in1k", "tsm", kwargs)


@register_model
def tsm_resnet101(pretrained: bool = False, **kwargs: Any) -> VideoNet:
    """TSM on ResNet-101."""
    return create_named("tsm_resnet101", pretrained, "resnet101.tv_in1k", "tsm", kwargs)


@register_model
def tsm_resnet152(pretrained: bool = False, **kwargs: Any) -> VideoNet:
    """TSM on ResNet-152."""
    return create_named("tsm_resnet152", pretrained, "resnet152.tv_in1k", "tsm", kwargs)


@register_model
def tsm_test_resnet(pretrained: bool = False, **kwargs: Any) -> VideoNet:
    """TSM on timm's tiny test_resnet, for tests and the demo."""
    return create_named("tsm_test_resnet", pretrained, "test_resnet.r160_in1k", "tsm", kwargs)
