"""A place for a temporal module in a backbone."""

from dataclasses import dataclass
from typing import Literal

from timm_video_psn.layers.temporal_module import Position
from timm_video_psn.layers.views import MAPS, View

Mode = Literal["before", "after", "instead"]


@dataclass(frozen=True)
class InjectionPoint:
    """A place for a temporal module.

    Attributes:
        site: The name that users know it by, as `stem` or `layer1`.
        target: The child of the backbone that the module joins or replaces.
        channels: Channels of the map there.
        view: The layout of what the target passes on.
        mode: Whether the module comes before, after or instead of its target.
        further: Children right after the target that a replacing module takes the place of too.
        position: The block that it is in; None between blocks.
        activated: Whether the module sees the map after a ReLU that the backbone applies later. It must then give no
            negative values, so that the backbone's own ReLU changes nothing.
    """

    site: str
    target: str
    channels: int
    view: View = MAPS
    mode: Mode = "after"
    further: tuple[str, ...] = ()
    position: Position | None = None
    activated: bool = False
