"""Where temporal modules belong in a timm backbone: the only file that knows one family of backbones from another."""

from timm.models import ResNet
from torch import nn

from timm_video_psn.layers.temporal_module import Placement
from timm_video_psn.models.residual_blocks import Place, block_places
from timm_video_psn.surgery import resolve


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


def places(backbone: nn.Module, placement: Placement, sites: tuple[str, ...] | None) -> list[Place]:
    """The places for a kind of temporal module, or those of them at the given sites.

    Args:
        backbone: a timm model.
        placement: the class attribute of the temporal module.
        sites: names of levels, as `stem`, `layer1`; None for the default: all levels but the last for `level`, all
            stages for a place in residual blocks.

    Raises:
        ValueError: a site does not exist; those that do are listed.
    """
    known = feature_levels(backbone) if placement == "level" else block_places(backbone, placement)
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
