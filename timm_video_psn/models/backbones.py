"""Where temporal modules belong in a timm backbone: the only file that knows one family of backbones from another.

For most families timm's `feature_info` says it all: the name of the module that each feature level follows, and its
channels. What is different in a family is an entry in one of the tables below.
"""

from collections.abc import Callable
from dataclasses import replace
from typing import Any

import torch
from torch import nn

from timm_video_psn.layers.temporal_module import Placement, Position
from timm_video_psn.layers.views import View
from timm_video_psn.models.injection_point import InjectionPoint
from timm_video_psn.models.residual_blocks import block_points
from timm_video_psn.surgery import resolve

_Backbone = Any  # a timm model: timm has no type for what they have in common


def feature_levels(backbone: nn.Module) -> list[InjectionPoint]:
    """The places after each feature level, in the order of the network.

    For a ResNet these are the paper's conv1 (after the stem's max-pool, our `stem`) to conv5 (after layer4);
    "the synthesizers are inserted after the conv1-4", which is all of them but the last.

    Args:
        backbone: A timm model.

    Raises:
        ValueError: The backbone names no feature levels, or levels that are none of its modules.
    """
    patch_drop = getattr(backbone, "patch_drop", None)
    if patch_drop is not None and not isinstance(patch_drop, nn.Identity):
        raise ValueError(
            f"{type(backbone).__name__} with patch_drop_rate > 0 drops tokens, and the rest form no map for temporal "
            "modules; leave patch_drop_rate at 0"
        )
    find: Callable[[_Backbone], list[InjectionPoint]] = _of_family(_LEVELS, backbone) or _by_feature_info
    return [_checked(backbone, point) for point in find(backbone)]


def gives_tokens(backbone: nn.Module) -> bool:
    """Whether `forward_features` of the backbone returns tokens (B, N, C) instead of maps.

    Args:
        backbone: A timm model.
    """
    known: bool | None = _of_family(_ENDS_IN_TOKENS, backbone)
    if known is not None:
        return known
    if hasattr(backbone, "output_fmt"):
        return backbone.output_fmt == "NLC"
    return _view(backbone).kind == "NLC"


def injection_points(backbone: nn.Module, placement: Placement) -> list[InjectionPoint]:
    """The injection points for a kind of temporal module, in the order of the network.

    Args:
        backbone: A timm model.
        placement: The class attribute of the temporal module.

    Raises:
        ValueError: The backbone has no such points.
    """
    if placement == "level":
        return feature_levels(backbone)
    return [_stem_point(backbone)] if placement == "replace_stem" else block_points(backbone, placement)


def _stem_point(backbone: _Backbone) -> InjectionPoint:
    """The first convolution."""
    name = (getattr(backbone, "pretrained_cfg", None) or {}).get("first_conv")
    if not isinstance(name, str) or not isinstance(backbone.get_submodule(name), nn.Conv2d):
        raise ValueError(
            f"{type(backbone).__name__} does not begin with one convolution (first_conv={name!r}); use a ResNet, or "
            "another temporal module"
        )
    channels = backbone.get_submodule(name).in_channels
    return InjectionPoint("stem", name, channels, mode="instead", position=Position(-1, 0, ()))


def _by_feature_info(backbone: _Backbone) -> list[InjectionPoint]:
    """The levels as timm names them, in the layout of the family."""
    info = getattr(backbone, "feature_info", None)
    if not info:
        raise ValueError(
            f"{type(backbone).__name__} has no feature_info, which names the levels that temporal modules follow; "
            "use a timm backbone that supports features_only=True, or attach modules with timm_video_psn.inject"
        )
    return [InjectionPoint(level["module"], level["module"], level["num_chs"], _view(backbone)) for level in info]


def _checked(backbone: nn.Module, point: InjectionPoint) -> InjectionPoint:
    """The place with the module that really carries the temporal one."""
    if not point.target or point.target not in dict(backbone.named_modules()):
        raise ValueError(
            f"the feature level {point.site!r} of {type(backbone).__name__} is none of its modules, so no temporal "
            "module can follow it; use temporal='tsn', or attach modules with timm_video_psn.inject"
        )
    return replace(point, target=resolve(backbone.get_submodule(point.target), point.target, "after")[0])


def _of_family(table: dict[str, Any], backbone: nn.Module) -> Any:
    """The entry of the backbone's class, or of a class that it comes from."""
    return next((table[cls.__name__] for cls in type(backbone).__mro__ if cls.__name__ in table), None)


def _view(backbone: _Backbone) -> View:
    """The layout between the levels."""
    known = _of_family(_VIEWS, backbone)
    if known is not None:
        return known(backbone) if callable(known) else known
    if hasattr(backbone, "num_prefix_tokens"):
        return View("NLC", prefix=backbone.num_prefix_tokens)
    return View(getattr(backbone, "output_fmt", "NCHW"))


# Layouts that neither num_prefix_tokens nor output_fmt tells.
_VIEWS: dict[str, View | Callable[[_Backbone], View]] = {
    "Cait": View("NLC"),  # the class token comes in after the levels
    "Levit": lambda backbone: View("NCHW" if backbone.use_conv else "NLC"),
    "MlpMixer": View("NLC"),
    "Twins": View("NLC"),
    "VOLO": View("NHWC"),
    "VisionTransformerSAM": View("NHWC"),
    "Xcit": View("NLC"),  # the class token comes in after the levels
}

# What forward_features returns, where it is not what the levels pass on.
_ENDS_IN_TOKENS = {"EfficientFormer": True, "Hiera": True, "PoolingVisionTransformer": True, "VOLO": True}


def _renamed(names: dict[str, tuple[str, str]]) -> Callable[[_Backbone], list[InjectionPoint]]:
    """Levels by `feature_info`, some of them with another site and target."""

    def find(backbone: _Backbone) -> list[InjectionPoint]:
        levels = _by_feature_info(backbone)
        return [
            replace(level, site=names[level.site][0], target=names[level.site][1]) if level.site in names else level
            for level in levels
        ]

    return find


def _convit(backbone: _Backbone) -> list[InjectionPoint]:
    """The class token comes in before the first block that is not local."""
    first = backbone.local_up_to_layer
    return [
        replace(level, view=View("NLC", prefix=int(i >= first))) for i, level in enumerate(_by_feature_info(backbone))
    ]


def _coat(backbone: _Backbone) -> list[InjectionPoint]:
    """The serial blocks of each scale; `feature_info` names the lists that hold them, which are never called."""
    scales = [f"serial_blocks{i}" for i in range(1, 5)]
    return [
        InjectionPoint(name, f"{name}.{len(blocks) - 1}", blocks[-1].norm2.normalized_shape[0], View("NLC", prefix=1))
        for name in scales
        if (blocks := getattr(backbone, name))
    ]


def _crossvit(backbone: _Backbone) -> list[InjectionPoint]:
    """Each block passes on the tokens of two scales, each with its class token."""
    items = tuple(enumerate(backbone.embed_dim))
    names = [f"blocks.{i}" for i in range(len(backbone.blocks))]
    return [InjectionPoint(name, name, items[0][1], View("NLC", prefix=1, items=items)) for name in names]


def _densenet(backbone: _Backbone) -> list[InjectionPoint]:
    """After the pools: a dense block takes each of its children for a layer, and so must not get a further one."""
    transitions = [name for name, _ in backbone.features.named_children() if name.startswith("transition")]
    stem = "features.pool0" if hasattr(backbone.features, "pool0") else "features.norm0"
    levels = [InjectionPoint("stem", stem, backbone.feature_info[0]["num_chs"])]
    for name in transitions:
        channels = getattr(backbone.features, name).conv.out_channels
        levels.append(InjectionPoint(f"features.{name}", f"features.{name}", channels))
    return [*levels, InjectionPoint("features.norm5", "features.norm5", backbone.num_features)]


def _efficient_former(backbone: _Backbone) -> list[InjectionPoint]:
    """Maps, and tokens after the last stage."""
    *levels, last = _by_feature_info(backbone)
    return [*levels, replace(last, view=View("NLC"))]


def _efficient_vim(backbone: _Backbone) -> list[InjectionPoint]:
    """A stage passes on its map beside that for the next stage; its last block, the map and a state."""
    return [
        replace(level, target=f"{level.site}.blocks.{len(stage.blocks) - 1}", view=View(items=((0, level.channels),)))
        for level, stage in zip(_by_feature_info(backbone), backbone.stages, strict=True)
    ]


def _gemma4(backbone: _Backbone) -> list[InjectionPoint]:
    """The encoder's blocks, which `feature_info` names without the encoder."""
    levels = _by_feature_info(backbone)
    return [replace(level, target=f"encoder.{level.site}", view=View("NLC")) for level in levels]


def _hiera(backbone: _Backbone) -> list[InjectionPoint]:
    """Tokens in the order of Hiera's mask units."""
    levels = []
    for level in _by_feature_info(backbone):
        block = int(level.site.rpartition(".")[2])
        height, width = backbone.reroll.schedule[block][1]
        tokens = torch.arange(height * width, device="cpu").reshape(1, -1, 1)
        order = backbone.reroll(tokens, block)[0, ..., 0]  # (H, W)
        levels.append(replace(level, view=View("NLC", order=order)))
    return levels


def _hrnet(backbone: _Backbone) -> list[InjectionPoint]:
    """Stages 2 to 4 pass on a list of maps, one for each resolution, and each of them gets a module."""
    levels = [
        InjectionPoint("stem", "act2", 64),
        InjectionPoint("stage1", "layer1", backbone.feature_info[1]["num_chs"]),
    ]
    for name in ("stage2", "stage3", "stage4"):
        last = getattr(backbone, name)[-1]
        items = tuple(enumerate(last.num_in_chs))
        target = f"{name}.{len(getattr(backbone, name)) - 1}"
        levels.append(InjectionPoint(name, target, items[0][1], View(items=items)))
    return levels


def _mvit(backbone: _Backbone) -> list[InjectionPoint]:
    """A stage passes on the tokens and the size of their map."""
    prefix = int(backbone.cls_token is not None)
    return [
        InjectionPoint(f"stages.{i}", f"stages.{i}", level.channels, View("NLC", prefix, items=((0, level.channels),)))
        for i, level in enumerate(_by_feature_info(backbone))
    ]


def _first_item(backbone: _Backbone) -> list[InjectionPoint]:
    """Each level passes on a tuple, whose first item is the map."""
    return [replace(level, view=View(items=((0, level.channels),))) for level in _by_feature_info(backbone)]


def _rdnet(backbone: _Backbone) -> list[InjectionPoint]:
    """After the transition that follows a dense stage, whose blocks are concatenated, or after the last norm."""
    *levels, last = _by_feature_info(backbone)
    found = []
    for level in levels:
        following = f"dense_stages.{int(level.site.rpartition('.')[2]) + 1}"
        names = [name for name, module in backbone.get_submodule(following).named_children() if _is_conv(module)]
        target = f"{following}.{names[-1]}"
        found.append(replace(level, target=target, channels=backbone.get_submodule(target).out_channels))
    return [*found, replace(last, target="norm_pre")]


def _is_conv(module: nn.Module) -> bool:
    return isinstance(module, nn.Conv2d)


def _regnet(backbone: _Backbone) -> list[InjectionPoint]:
    """The last block of each stage: a stage runs all of its children in a row, and so must not get a further one."""
    return [
        replace(level, target=f"{level.site}.{list(backbone.get_submodule(level.site)._modules)[-1]}")
        if level.site != "stem"
        else level
        for level in _by_feature_info(backbone)
    ]


def _selecsls(backbone: _Backbone) -> list[InjectionPoint]:
    """The blocks of `features` pass on a list, whose first item is the map."""
    return [
        replace(level, view=View(items=((0, level.channels),))) if level.site.startswith("features.") else level
        for level in _by_feature_info(backbone)
    ]


def _tnt(backbone: _Backbone) -> list[InjectionPoint]:
    """Each block passes on the pixels of every patch, and the patches with a class token."""
    prefix = backbone.num_prefix_tokens
    return [
        replace(level, view=View("NLC", prefix, items=((1, level.channels),))) for level in _by_feature_info(backbone)
    ]


def _twins(backbone: _Backbone) -> list[InjectionPoint]:
    """The last block of each stage; `feature_info` names no module."""
    return [
        InjectionPoint(f"blocks.{i}", f"blocks.{i}.{len(backbone.blocks[i]) - 1}", level.channels, View("NLC"))
        for i, level in enumerate(_by_feature_info(backbone))
    ]


# Levels that feature_info does not describe fully, by the class of the backbone.
_LEVELS: dict[str, Callable[[_Backbone], list[InjectionPoint]]] = {
    "CoaT": _coat,
    "ConVit": _convit,
    "CrossVit": _crossvit,
    "DenseNet": _densenet,
    "EfficientFormer": _efficient_former,
    "EfficientViM": _efficient_vim,
    "Gemma4VitClassifier": _gemma4,
    "Hiera": _hiera,
    "HighResolutionNet": _hrnet,
    "MobileNetV5": _renamed({"bn1": ("stem", "conv_stem")}),
    "MultiScaleVit": _mvit,
    "PoolingVisionTransformer": _first_item,
    "RDNet": _rdnet,
    "RegNet": _regnet,
    "ResNet": _renamed({"act1": ("stem", "maxpool")}),  # the paper's conv1 ends with the pool
    "SelecSls": _selecsls,
    "TNT": _tnt,
    "TResNet": _renamed({"": ("stem", "body.conv1")}),
    "Twins": _twins,
}
