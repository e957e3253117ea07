"""What every temporal module is to the rest of the package."""

from typing import ClassVar, Literal

from torch import nn

Placement = Literal["level", "residual_branch"]


class TemporalModule(nn.Module):
    """A module on folded clips, (B*T, C, H, W) in, the same shape out; built as `(channels, num_frames, **settings)`.

    Its class says where in a backbone it belongs: `level`, after each feature level but the last, or
    `residual_branch`, before the first convolution of each residual branch.

    Args:
        num_frames: frames T of a clip; any later value may be assigned to the attribute.
    """

    placement: ClassVar[Placement] = "level"
    num_frames: int

    def __init__(self, num_frames: int):
        super().__init__()
        self.num_frames = num_frames

    def no_weight_decay(self) -> set[str]:
        """Names of its parameters that want no weight decay."""
        return set()
