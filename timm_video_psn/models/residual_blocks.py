"""Where temporal modules belong inside the residual branches of timm's convolutional families.

A family says which blocks it has and which of their convolutions comes first, mixes space, and comes last. From these
three follow the injection points of every placement, so that a new family is one function and one line of a table.
"""

from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from typing import Any

from torch import nn

from timm_video_psn.layers.temporal_module import Placement, Position
from timm_video_psn.layers.views import MAPS, View
from timm_video_psn.models.injection_point import InjectionPoint

_Backbone = Any  # a timm model: timm has no type for what they have in common


@dataclass(frozen=True)
class _Block:
    """A residual branch, or a branch of an Inception block, by the dotted names of its convolutions.

    Attributes:
        site: Name of the stage.
        kind: Class name of the block, for messages.
        first: The first convolution.
        spatial: The convolutions that mix space, side by side; none where a family has no plain ones.
        last: The last convolution, or the module that ends with it.
        further: Norm and activation after the spatial convolution, if a module may take their place too.
        last_view: The layout of what `last` passes on.
        split: The norm after the first convolution, if the channels are then split into one more subset than there
            are spatial convolutions.
        whole: The whole block, with its shortcut.
        shortcut: The first of the shortcut's layers, if it has some.
    """

    site: str
    kind: str
    first: str
    spatial: tuple[str, ...]
    last: str
    further: tuple[str, ...] = ()
    last_view: View = MAPS
    split: str | None = None
    whole: str = ""
    shortcut: str | None = None


def block_points(backbone: nn.Module, placement: Placement) -> list[InjectionPoint]:
    """The injection points of one placement in every residual branch, in the order of the network.

    In MobileNets and EfficientNets, as in TSM's official MobileNetV2, only blocks with an expansion and a shortcut
    count.

    Args:
        backbone: A timm model of one of the families below.
        placement: The kind of place.

    Raises:
        ValueError: The backbone is of another family, or its blocks lack this place.
    """
    family = next((_FAMILIES[cls.__name__] for cls in type(backbone).__mro__ if cls.__name__ in _FAMILIES), None)
    if family is None:
        raise ValueError(
            f"{type(backbone).__name__} is not known to have residual branches for temporal modules; use a backbone of "
            f"timm's classes {', '.join(_FAMILIES)}, or a temporal module that follows feature levels, such as "
            "temporal='psn'"
        )
    by_site: dict[str, list[_Block]] = {}
    for block in family(backbone):
        by_site.setdefault(block.site, []).append(block)
    depths = tuple(map(len, by_site.values()))
    points = [
        replace(point, position=Position(stage, i, depths))
        for stage, members in enumerate(by_site.values())
        for i, block in enumerate(members)
        for point in _points(backbone, block, placement)
    ]
    if not points:
        raise ValueError(
            f"{type(backbone).__name__} has no block for placement={placement!r}; use another backbone, or a temporal "
            "module that follows feature levels, such as temporal='psn'"
        )
    return points


def _points(backbone: nn.Module, block: _Block, placement: Placement) -> list[InjectionPoint]:
    """The injection points of a block."""

    def conv(name: str) -> nn.Conv2d:
        return _convolution(backbone, block, name)

    site = block.site
    if placement == "residual_branch":
        return [InjectionPoint(site, block.first, conv(block.first).in_channels, mode="before")]
    if placement == "before_split" or (placement == "before_conv2" and block.split):
        channels = conv(block.first).out_channels
        return [InjectionPoint(site, block.split, channels, activated=True)] if block.split else []
    if placement in ("before_conv2", "before_each_subset"):
        wanted = placement == "before_conv2" or block.split
        return [InjectionPoint(site, name, conv(name).in_channels, mode="before") for name in block.spatial if wanted]
    if placement == "last_subset":
        width = conv(block.last).in_channels // (len(block.spatial) + 1)
        view = View(tail=width)
        return [InjectionPoint(site, block.last, width, view, mode="before")] if block.split else []
    if placement == "after_last_conv":
        return [InjectionPoint(site, block.last, _output_channels(backbone, block), block.last_view)]
    if placement == "after_block":
        return [InjectionPoint(site, block.whole, _output_channels(backbone, block))]
    if placement == "before_shortcut":
        channels = conv(block.first).in_channels
        return [InjectionPoint(site, block.shortcut, channels, mode="before")] if block.shortcut else []
    if placement == "replace_first":
        return [InjectionPoint(site, block.first, conv(block.first).in_channels, mode="instead")]
    if placement == "replace_spatial":
        names = dict.fromkeys(name for name in (block.first, *block.spatial) if conv(name).kernel_size != (1, 1))
        return [InjectionPoint(site, name, conv(name).in_channels, mode="instead") for name in names]
    if placement == "replace_conv2_norm_act" and not block.further:
        raise ValueError(
            f"{block.whole} is a {block.kind}, which has no norm and activation between a spatial and a last "
            "convolution; a module that replaces the middle of a block needs bottlenecks of three convolutions, as in "
            "resnet26, resnet50 and larger"
        )
    further = block.further if placement == "replace_conv2_norm_act" else ()
    return [
        InjectionPoint(site, name, conv(name).in_channels, mode="instead", further=further) for name in block.spatial
    ]


def _convolution(backbone: nn.Module, block: _Block, name: str) -> nn.Conv2d:
    """A block's convolution of this name."""
    parent, _, leaf = name.rpartition(".")
    conv = getattr(backbone.get_submodule(parent), leaf, None)
    if not isinstance(conv, nn.Conv2d):
        raise ValueError(
            f"{parent} is a {block.kind}, which has no plain convolution {leaf}; use a ResNet with plain "
            "blocks, such as resnet50, or a temporal module that follows feature levels, such as temporal='psn'"
        )
    return conv


def _output_channels(backbone: nn.Module, block: _Block) -> int:
    """Channels of what the last convolution passes on."""
    last = backbone.get_submodule(block.last)
    if isinstance(last, nn.Conv2d):
        return last.out_channels
    end = getattr(last, "fc2", None)  # of an MLP
    if end is None:
        return _convolution(backbone, block, block.last).out_channels
    return int(getattr(end, "out_features", 0) or end.out_channels)


def _resnet(backbone: _Backbone) -> Iterator[_Block]:
    for stage in ("layer1", "layer2", "layer3", "layer4"):
        for i, block in enumerate(getattr(backbone, stage)):
            name, kind = f"{stage}.{i}", type(block).__name__
            shortcut = None if block.downsample is None else f"{name}.downsample.0"
            split = None
            further: tuple[str, ...] = ()
            middle: tuple[str, ...] = (f"{name}.conv2",)
            last = f"{name}.conv3" if hasattr(block, "conv3") else f"{name}.conv2"
            if kind == "Bottle2neck":  # of Res2Net: the middle is split among several convolutions
                middle = tuple(f"{name}.convs.{k}" for k in range(len(block.convs)))
                split = f"{name}.bn1"
            elif hasattr(block, "conv3"):
                further = (f"{name}.bn2", f"{name}.act2")
            yield _Block(
                stage, kind, f"{name}.conv1", middle, last, further, split=split, whole=name, shortcut=shortcut
            )


# The convolutions of EfficientNet's blocks with an expansion: first, spatial, last.
_EXPANDED = {
    "InvertedResidual": ("conv_pw", "conv_dw", "conv_pwl"),
    "EdgeResidual": ("conv_exp", "conv_exp", "conv_pwl"),
    "UniversalInvertedResidual": ("pw_exp.conv", "dw_mid.conv", "pw_proj.conv"),
}


def _efficientnet(backbone: _Backbone) -> Iterator[_Block]:
    for s, stage in enumerate(backbone.blocks):
        for i, block in enumerate(stage):
            kind = type(block).__name__
            if kind not in _EXPANDED or not block.has_skip:
                continue
            name = f"blocks.{s}.{i}"
            first, spatial, last = (f"{name}.{conv}" for conv in _EXPANDED[kind])
            if kind == "UniversalInvertedResidual" and isinstance(block.dw_mid, nn.Identity):
                spatial = ""  # MobileNetV4 leaves it out where another one comes first
            yield _Block(f"blocks.{s}", kind, first, (spatial,) if spatial else (), last, whole=name)


def _regnet(backbone: _Backbone) -> Iterator[_Block]:
    for stage in ("s1", "s2", "s3", "s4"):
        for key, block in getattr(backbone, stage).named_children():
            name = f"{stage}.{key}"
            first, spatial, last = (f"{name}.conv{k}.conv" for k in (1, 2, 3))
            if not hasattr(block.conv1, "conv"):  # with the activations first, the convolutions are bare
                first, spatial, last = (f"{name}.conv{k}" for k in (1, 2, 3))
            yield _Block(stage, type(block).__name__, first, (spatial,), last, whole=name)


def _convnext(backbone: _Backbone) -> Iterator[_Block]:
    """The first convolution is the one that mixes space; the branch ends with an MLP, mostly with channels last."""
    for s, stage in enumerate(backbone.stages):
        for i, block in enumerate(stage.blocks):
            name = f"stages.{s}.blocks.{i}"
            view = MAPS if block.use_conv_mlp else View("NHWC")
            conv = f"{name}.conv_dw"
            yield _Block(f"stages.{s}", "ConvNeXtBlock", conv, (conv,), f"{name}.mlp", last_view=view, whole=name)


# The convolution after which the official GSM gates, in the branch of each block that its configuration names.
_GATED = {
    "Mixed_5b": "branch1x1",
    "Mixed_5c": "branch1x1",
    "Mixed_5d": "branch1x1",
    "Mixed_6a": "branch3x3dbl_1",
    "Mixed_6b": "branch1x1",
    "Mixed_6c": "branch1x1",
    "Mixed_6e": "branch1x1",
    "Mixed_7a": "branch3x3_1",
    "Mixed_7b": "branch1x1",
    "Mixed_7c": "branch1x1",
}


def _inception(backbone: _Backbone) -> Iterator[_Block]:
    """Inception blocks have no shortcut: the branches that GSM gates stand for a residual branch."""
    for name, branch in _GATED.items():
        conv = f"{name}.{branch}.conv"
        square = (f"{name}.branch3x3dbl_3.conv",) if name in ("Mixed_5b", "Mixed_5c", "Mixed_5d") else ()
        yield _Block(name, type(getattr(backbone, name)).__name__, conv, square, conv, whole=name)


# Families by the class of the backbone.
_FAMILIES: dict[str, Callable[[_Backbone], Iterator[_Block]]] = {
    "ConvNeXt": _convnext,
    "EfficientNet": _efficientnet,
    "InceptionV3": _inception,
    "MobileNetV3": _efficientnet,
    "RegNet": _regnet,
    "ResNet": _resnet,
}
