"""A place for a temporal module in a backbone."""

from dataclasses import dataclass

from timm_video_psn.layers.views import MAPS, View


@dataclass(frozen=True)
class InjectionPoint:
    """A place for a temporal module.

    Attributes:
        site: the name that users know it by.
        target: the child of the backbone that the module joins or replaces.
        channels: channels of the map there.
        view: the layout of what the target passes on.
        further: children right after the target that a replacing module takes the place of too.
        opens_stage: whether it is in the first block of a stage.
    """

    site: str
    target: str
    channels: int
    view: View = MAPS
    further: tuple[str, ...] = ()
    opens_stage: bool = False
