"""Layer groups of a backbone with temporal modules: what layer decay and freezing by stages go by.

timm sorts the backbone's own parameters, by its patterns, its function, or from the order of its layers. A temporal
module goes with what it is attached to.
"""

from collections.abc import Callable
from types import SimpleNamespace
from typing import Any

from timm.models._manipulate import group_with_matcher
from torch import nn

from timm_video_psn.surgery import CHILD, injected


def group_by_layers(backbone: nn.Module, prefix: str, coarse: bool = False) -> Callable[[str], float]:
    """The layer group of every parameter, as timm's `group_parameters` takes it.

    Args:
        backbone: A timm model, with temporal modules attached or not.
        prefix: Prefix of all names, as `backbone.`.
        coarse: Stages instead of blocks, where the backbone knows both.

    Returns:
        Name with prefix -> number of its group, from the input on; infinity, timm's last group, for other names.
    """
    starts = tuple(f"{item.name}.{CHILD}." for item in injected(backbone))
    groups = _own_groups(backbone, starts, coarse)
    order = [name for name, _ in backbone.named_parameters()]
    own = [name for name in order if name in groups]
    for item, start in zip(injected(backbone), starts, strict=True):
        members = [name for name in order if name.startswith(start)]
        if not members:
            continue
        inside = [name for name in own if name.startswith(f"{item.name}.")]
        # What has no parameters of its own, as an activation, belongs to the layer before it.
        before = [name for name in order[: order.index(members[0])] if name in groups]
        companion = inside[-1] if inside else (before[-1] if before else own[0])
        groups.update(dict.fromkeys(members, groups[companion]))
    return lambda name: float(groups.get(name.removeprefix(prefix), "inf"))


def _own_groups(backbone: Any, attached: tuple[str, ...], coarse: bool) -> dict[str, int]:
    """The groups of the backbone's own parameters, as timm sorts them where nothing is attached under those names."""
    own = [(name, value) for name, value in backbone.named_parameters() if not name.startswith(attached)]
    if hasattr(backbone, "group_matcher"):
        return dict(group_with_matcher(iter(own), backbone.group_matcher(coarse=coarse), reverse=True))
    from timm.optim._param_groups import auto_group_layers  # not at the top: all of timm's optimizers come with it

    stock = SimpleNamespace(named_parameters=lambda: own, pretrained_cfg=backbone.pretrained_cfg)
    return dict(auto_group_layers(stock))
