"""Where temporal modules belong inside the residual blocks of a timm ResNet, by kind of place."""

from collections.abc import Callable
from typing import Any, Literal

from timm.models import ResNet
from torch import nn

from timm_video_psn.layers.temporal_module import Placement
from timm_video_psn.models.injection_point import InjectionPoint

STAGES = ("layer1", "layer2", "layer3", "layer4")


def injection_mode(placement: Placement) -> Literal["before", "after", "instead"]:
    """How a module of this placement joins its target."""
    if placement in ("replace_conv2", "replace_conv2_norm_act"):
        return "instead"
    return "after" if placement in ("level", "after_last_conv") else "before"


def block_points(backbone: nn.Module, placement: Placement) -> list[InjectionPoint]:
    """The places of one kind in every residual block, in the order of the network.

    Before the first convolution (`residual_branch`) they are as TSM's official `make_temporal_shift` chooses: every
    block of every stage, or every second one where the third stage has 23 blocks or more (ResNet-101, -152). The
    official codes of the other modules have no such rule.

    Args:
        backbone: a timm ResNet.
        placement: the kind.

    Raises:
        ValueError: the backbone is of another family, or its blocks lack this place.
    """
    if not isinstance(backbone, ResNet):
        raise ValueError(
            f"{type(backbone).__name__} is not known to have residual branches with a first convolution conv1; "
            "use a ResNet of timm (resnet*, resnext*, seresnet*, ...), or a temporal module that follows feature "
            "levels, as temporal='psn'"
        )
    every = 2 if placement == "residual_branch" and len(backbone.layer3) >= 23 else 1
    find = _FINDERS[placement]
    return [
        InjectionPoint(stage, **find(block, f"{stage}.{i}"), opens_stage=i == 0)
        for stage in STAGES
        for i, block in enumerate(getattr(backbone, stage))
        if i % every == 0
    ]


def _before_conv1(block: nn.Module, name: str) -> dict[str, Any]:
    return {"target": f"{name}.conv1", "channels": _convolution(block, name, "conv1").in_channels}


def _conv2(block: nn.Module, name: str) -> dict[str, Any]:
    return {"target": f"{name}.conv2", "channels": _convolution(block, name, "conv2").in_channels}


def _conv2_norm_act(block: nn.Module, name: str) -> dict[str, Any]:
    if not hasattr(block, "conv3"):  # the activation after conv2 follows the sum with the shortcut
        raise ValueError(
            f"{name} is a {type(block).__name__}, whose second convolution is its last; a module that replaces the "
            "middle of a block needs bottlenecks of three, as in resnet26, resnet50 and larger"
        )
    return {**_conv2(block, name), "further": (f"{name}.bn2", f"{name}.act2")}


def _after_last_conv(block: nn.Module, name: str) -> dict[str, Any]:
    last = "conv3" if hasattr(block, "conv3") else "conv2"
    return {"target": f"{name}.{last}", "channels": _convolution(block, name, last).out_channels}


_FINDERS: dict[Placement, Callable[[nn.Module, str], dict[str, Any]]] = {
    "residual_branch": _before_conv1,
    "before_conv2": _conv2,
    "replace_conv2": _conv2,
    "replace_conv2_norm_act": _conv2_norm_act,
    "after_last_conv": _after_last_conv,
}


def _convolution(block: nn.Module, block_name: str, name: str) -> nn.Conv2d:
    """A block's convolution of this name."""
    conv = getattr(block, name, None)
    if not isinstance(conv, nn.Conv2d):
        raise ValueError(
            f"{block_name} is a {type(block).__name__}, which has no plain convolution {name}; use a ResNet with plain "
            "blocks, as resnet50, or a temporal module that follows feature levels, as temporal='psn'"
        )
    return conv
