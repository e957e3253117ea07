"""Where temporal modules belong in a timm backbone: the only file that knows one family of backbones from another."""

from dataclasses import dataclass

from timm.models import ResNet
from torch import nn

from timm_video_psn.layers.temporal_module import Placement
from timm_video_psn.surgery import resolve


@dataclass(frozen=True)
class Place:
    """A place for a temporal module: its site, the child of the backbone that it joins, and the channels there."""

    site: str
    target: str
    channels: int


def feature_levels(backbone: nn.Module) -> list[Place]:
    """The places after each feature level, in the order of the network.

    For a ResNet these are the paper's conv1 (after the stem's max-pool, our `stem`) to conv5 (after layer4);
    "the synthesizers are inserted after the conv1-4", which is all of them but the last.

    Args:
        backbone: a timm model.

    Raises:
        ValueError: the backbone names no feature levels.
    """
    info = getattr(backbone, "feature_info", None)
    if not info:
        raise ValueError(
            f"{type(backbone).__name__} has no feature_info, which names the levels that temporal modules follow; "
            "use a timm backbone that supports features_only=True, or timm_video_psn.inject on names of your choice"
        )
    _check_layout(backbone)
    levels = []
    for level in info:
        site, target = level["module"], level["module"]
        if isinstance(backbone, ResNet) and target == "act1":
            site, target = "stem", "maxpool"
        if not _has_child(backbone, target):
            raise ValueError(
                f"{type(backbone).__name__} names its level {site!r} after no child of its own, so that there is no "
                "place known for a temporal module; use temporal='tsn', or timm_video_psn.inject on other names"
            )
        levels.append(Place(site, resolve(backbone.get_submodule(target), target, "after")[0], level["num_chs"]))
    return levels


def residual_branches(backbone: nn.Module) -> list[Place]:
    """The places before the first convolution of residual branches, as TSM's official `make_temporal_shift` chooses.

    Every block of every stage, or every second one where the third stage has 23 blocks or more (ResNet-101, -152).

    Args:
        backbone: a timm ResNet.

    Raises:
        ValueError: the backbone is of another family.
    """
    if not isinstance(backbone, ResNet):
        raise ValueError(
            f"{type(backbone).__name__} is not known to have residual branches with a first convolution conv1; "
            "use a ResNet of timm (resnet*, resnext*, seresnet*, ...), or a temporal module that follows feature "
            "levels, as temporal='psn'"
        )
    every = 2 if len(backbone.layer3) >= 23 else 1
    stages = ("layer1", "layer2", "layer3", "layer4")
    return [
        Place(stage, f"{stage}.{i}.conv1", block.conv1.in_channels)
        for stage in stages
        for i, block in enumerate(getattr(backbone, stage))
        if i % every == 0
    ]


def places(backbone: nn.Module, placement: Placement, sites: tuple[str, ...] | None) -> list[Place]:
    """The places for a kind of temporal module, or those of them at the given sites.

    Args:
        backbone: a timm model.
        placement: `level` or `residual_branch`, the class attribute of the temporal module.
        sites: names of levels, as `stem`, `layer1`; None for the default: all levels but the last for `level`, all
            stages for `residual_branch`.

    Raises:
        ValueError: a site does not exist; those that do are listed.
    """
    known = feature_levels(backbone) if placement == "level" else residual_branches(backbone)
    if sites is None:
        return known[:-1] if placement == "level" else known
    names = list(dict.fromkeys(place.site for place in known))
    unknown = [site for site in sites if site not in names]
    if unknown or not sites:
        raise ValueError(
            f"sites={tuple(sites)} of {type(backbone).__name__}: {unknown or 'an empty list'} not found; "
            f"use some of {', '.join(names)}"
        )
    return [place for place in known if place.site in sites]


def _has_child(backbone: nn.Module, name: str) -> bool:
    """Whether the backbone has a child of this dotted name."""
    return any(known == name for known, _ in backbone.named_modules())


def _check_layout(backbone: nn.Module) -> None:
    """Refuse what does not give maps (B, C, H, W)."""
    layout = getattr(backbone, "output_fmt", "NCHW")
    found = "tokens (B, N, C)" if hasattr(backbone, "num_prefix_tokens") else f"maps in the order {layout}"
    if layout != "NCHW" or hasattr(backbone, "num_prefix_tokens"):
        raise ValueError(
            f"{type(backbone).__name__} gives {found} between its levels, and temporal modules take maps (B, C, H, W); "
            "use a convolutional backbone as resnet50 or convnext_tiny, or temporal='tsn', which needs no module"
        )
