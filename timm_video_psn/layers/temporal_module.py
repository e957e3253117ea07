"""What every temporal module is to the rest of the package."""

from typing import Any, ClassVar, Literal

from torch import nn

Placement = Literal[
    "level", "residual_branch", "before_conv2", "replace_conv2", "replace_conv2_norm_act", "after_last_conv"
]


class TemporalModule(nn.Module):
    """A module on folded clips, (B*T, C, H, W) in, the same shape out; built as `(channels, num_frames, **settings)`.

    Its class says where in a backbone it belongs:

    - `level`: after each feature level but the last.
    - `residual_branch`: before the first convolution of each residual branch.
    - `before_conv2`: before the convolution of each residual branch that mixes space, a ResNet's second.
    - `replace_conv2`: in place of this convolution; the class then has a `replacing` of its own.
    - `replace_conv2_norm_act`: in place of this convolution and of the norm and the activation after it.
    - `after_last_conv`: after the last convolution of each residual branch, before its norm.

    Args:
        num_frames: frames T of a clip; any later value may be assigned to the attribute, unless the class refuses.
    """

    placement: ClassVar[Placement] = "level"
    num_frames: int

    def __init__(self, num_frames: int):
        super().__init__()
        self.num_frames = num_frames

    @classmethod
    def replacing(cls, old: tuple[Any, ...], num_frames: int, opens_stage: bool, **settings: Any) -> "TemporalModule":
        """The module that takes the place of others, with what it can use of their weights.

        Args:
            old: the convolution, and for `replace_conv2_norm_act` the norm and the activation after it.
            num_frames: frames T of a clip.
            opens_stage: whether their block is the first of its stage.
            **settings: as for the class.

        Raises:
            ValueError: the module cannot do what the old ones do.
        """
        raise NotImplementedError(f"{cls.__name__} has placement={cls.placement!r} and no way to replace a module")

    def no_weight_decay(self) -> set[str]:
        """Names of its parameters that want no weight decay."""
        return set()
