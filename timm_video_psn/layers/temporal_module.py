"""What every temporal module is to the rest of the package."""

from dataclasses import dataclass
from typing import Any, ClassVar, Literal

from torch import nn

Placement = Literal[
    "level",
    "residual_branch",
    "before_conv2",
    "before_split",
    "before_each_subset",
    "last_subset",
    "after_block",
    "before_shortcut",
    "replace_stem",
    "replace_first",
    "replace_spatial",
    "replace_conv2",
    "replace_conv2_norm_act",
    "after_last_conv",
]


@dataclass(frozen=True)
class Position:
    """Which block of a backbone a place is in.

    Attributes:
        stage: Number of the stage, from 0 on.
        block: Number of the block in its stage, from 0 on.
        depths: Blocks in each stage.
    """

    stage: int
    block: int
    depths: tuple[int, ...]

    @property
    def opens_stage(self) -> bool:
        """Whether it is the first block of its stage."""
        return self.block == 0


class TemporalModule(nn.Module):
    """A module on folded clips, (B*T, C, H, W) in, the same shape out; built as `(channels, num_frames, **settings)`.

    A module with a `time_stride` gives fewer frames, (B*ceil(T / time_stride), C, H, W). The modules that follow have
    its product with the strides before it as their `time_divisor`.

    Its class says where in a backbone it belongs:

    - `level`: after each feature level but the last.
    - `residual_branch`: before the first convolution of each residual branch.
    - `before_conv2`: before the convolution of each residual branch that mixes space, a ResNet's second.
    - `before_split`, `before_each_subset`, `last_subset`: in the middle of a Res2Net's branch. Before the channels are
      split into subsets, before the convolution of each subset, and on the subset that has none.
    - `after_block`: after a residual block, its sum with the shortcut included.
    - `before_shortcut`: before the layers of a shortcut that has some.
    - `replace_conv2`: in place of the convolution that mixes space; the class then has a `replacing` of its own.
    - `replace_conv2_norm_act`: in place of this convolution and of the norm and the activation after it.
    - `replace_stem`, `replace_first`, `replace_spatial`: in place of the network's first convolution, of each residual
      branch's first one, of all its convolutions beyond 1x1.
    - `after_last_conv`: after the last convolution of each residual branch, before its norm.

    Args:
        num_frames: Frames T of a clip; any later value may be assigned to the attribute, unless the class refuses.
    """

    placement: ClassVar[Placement] = "level"
    causal: bool = False  # whether no frame sees a later one
    num_frames: int
    time_stride = 1
    time_divisor = 1  # of the frames of a clip, where the module is
    scriptable = True  # by TorchScript

    def __init__(self, num_frames: int):
        super().__init__()
        self.num_frames = num_frames
        self.time_stride = type(self).time_stride  # TorchScript sees no attributes of a class

    @classmethod
    def wants(cls, position: Position) -> bool:
        """Whether a system has this module in a block; it is asked for all blocks with the place.

        Args:
            position: The block.
        """
        return True

    @classmethod
    def replacing(cls, old: tuple[Any, ...], num_frames: int, position: Position, **settings: Any) -> "TemporalModule":
        """The module that takes the place of others, with what it can use of their weights.

        Args:
            old: The convolution, and for `replace_conv2_norm_act` the norm and the activation after it.
            num_frames: Frames T of a clip.
            position: Position of their block.
            **settings: Settings of the class.

        Raises:
            ValueError: The module cannot do what the old ones do.
        """
        raise NotImplementedError(f"{cls.__name__} has placement={cls.placement!r} and must implement replacing()")

    def no_weight_decay(self) -> set[str]:
        """Names of its parameters that want no weight decay."""
        return set()
