"""3D convolutions in place of an image network's: I3D, Slow, C3D and the 3D head of ECO, from the image's weights.

A k x k convolution becomes a K x k x k one whose K taps along time each have 1/K of the weights (Carreira, Zisserman:
"Quo Vadis, Action Recognition?", CVPR 2017). On a still video, away from its ends, it gives what it gave for the image.

A map stays in the folded layout: the 3D convolution is one 2D convolution with K times the outputs, which then meet
along time, or, with a stride in time, one 2D convolution for each tap.
"""

from typing import Any, ClassVar

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from timm_video_psn.layers.clip import split_frames
from timm_video_psn.layers.taps import add_taps
from timm_video_psn.layers.temporal_module import Placement, Position, TemporalModule


class InflatedConv(TemporalModule):
    """A convolution with K taps along time, zeros at the ends of the clip.

    `conv.weight` is (K * C_out, C_in, k, k), first the kernels of the earliest frame.

    Args:
        channels: Channels, in and out, of a 3x3 convolution.
        num_frames: Frames T of a clip; any later value may be assigned to the attribute.

    Shape:
        x: (B*T, C, H, W) -> (B*ceil(T / time_stride), C', H', W')
    """

    placement: ClassVar[Placement] = "replace_spatial"
    taps: ClassVar[int] = 3
    scriptable = False

    def __init__(self, channels: int, num_frames: int = 8):
        super().__init__(num_frames)
        self._inflate(nn.Conv2d(channels, channels, kernel_size=3, padding=1, bias=False))

    @classmethod
    def strides_in_time(cls, position: Position) -> bool:
        """Whether the convolution of a block that halves the map halves the frames, too."""
        return False

    @classmethod
    def replacing(cls, old: tuple[Any, ...], num_frames: int, position: Position, **settings: Any) -> "InflatedConv":
        """The module in place of a convolution, with its weights.

        Args:
            old: The convolution alone.
            num_frames: Frames T of a clip.
            position: Its block.
            **settings: Settings of the class.

        Raises:
            ValueError: The convolution pads with something else than zeros.
        """
        (conv,) = old
        if conv.padding_mode != "zeros" or isinstance(conv.padding, str):
            raise ValueError(f"only convolutions padded with zeros can be inflated, found {conv}; use resnet50")
        module = cls.__new__(cls)
        TemporalModule.__init__(module, num_frames)
        module._inflate(conv)
        if cls.strides_in_time(position) and conv.stride != (1, 1):
            module.time_stride = 2
        return module

    def _inflate(self, conv: nn.Conv2d) -> None:
        """K times the outputs, each with 1/K of the weights."""
        form = {name: getattr(conv, name) for name in ("kernel_size", "stride", "padding", "dilation")}
        outputs = self.taps * conv.out_channels
        self.conv = nn.Conv2d(conv.in_channels, outputs, groups=conv.groups, bias=False, device="meta", **form)
        weight = conv.weight.detach().unflatten(0, (conv.groups, -1))  # (groups, n, I, k, k)
        weight = (weight / self.taps).repeat(1, self.taps, 1, 1, 1)
        self.conv.weight = nn.Parameter(weight.flatten(0, 1).contiguous(), conv.weight.requires_grad)
        self.bias = nn.Parameter(conv.bias.detach().clone()) if conv.bias is not None else None

    def forward(self, x: Tensor) -> Tensor:
        """Convolves along time and over space."""
        y = self._all_frames(x) if self.time_stride == 1 else self._every_second_frame(x)
        return y if self.bias is None else y + self.bias[:, None, None]

    def _all_frames(self, x: Tensor) -> Tensor:
        """One convolution for all taps."""
        products = self.conv(x)  # (B*T, K*C', H', W')
        taps = [split_frames(tap, self.num_frames) for tap in self._by_tap(products.flatten(2), dim=1)]
        return add_taps(taps).flatten(0, 1).unflatten(2, products.shape[2:])

    def _every_second_frame(self, x: Tensor) -> Tensor:
        """A convolution for each tap, on the frames that it meets."""
        reach, stride, conv = self.taps // 2, self.time_stride, self.conv
        frames = F.pad(split_frames(x.flatten(1), self.num_frames), (0, 0, reach, reach))  # (B, T + K - 1, C*H*W)
        last = stride * (-(-self.num_frames // stride) - 1)
        outputs = []
        for k, weight in enumerate(self._by_tap(conv.weight, dim=0)):
            met = frames[:, k : k + last + 1 : stride].flatten(0, 1).unflatten(1, x.shape[1:])
            outputs.append(F.conv2d(met, weight, None, conv.stride, conv.padding, conv.dilation, conv.groups))
        return torch.stack(outputs).sum(0)

    def _by_tap(self, x: Tensor, dim: int) -> list[Tensor]:
        """Outputs or weights of each tap; a grouped convolution sorts them by its groups first."""
        groups, channels = self.conv.groups, x.shape[dim]
        if groups == 1:
            return list(x.chunk(self.taps, dim))
        index = torch.arange(channels, device=x.device).view(groups, self.taps, channels // (groups * self.taps))
        return [x.index_select(dim, index[:, k].flatten()) for k in range(self.taps)]

    def extra_repr(self) -> str:
        """Taps and stride, for print(model)."""
        return f"taps={self.taps}, time_stride={self.time_stride}"


class InflatedStem(InflatedConv):
    """I3D's first convolution, 5x7x7."""

    placement = "replace_stem"
    taps = 5


class InflatedFirst(InflatedConv):
    """I3D's 3x1x1 convolutions, in place of the first one of each second residual block.

    Which blocks is as in Non-local Networks and PySlowFast: all of stage one, the first and each second one after it
    of stages two and three, the second of stage four.
    """

    placement = "replace_first"

    @classmethod
    def wants(cls, position: Position) -> bool:
        """Whether the block has one."""
        first = position.block % 2 == 0
        return position.stage == 0 or (first if position.stage < 3 else not first)


class SlowFirst(InflatedConv):
    """The 3x1x1 convolutions of Slow, SlowFast's pathway for few frames: all blocks of the last two stages."""

    placement = "replace_first"

    @classmethod
    def wants(cls, position: Position) -> bool:
        """Whether the block has one."""
        return position.stage >= 2


class HeadConv(InflatedConv):
    """ECO's 3D head: 3x3x3 convolutions from stage two on, with strides in time where the last two stages begin.

    The official trunk is a BN-Inception up to maps of 28x28, the head a 3D ResNet-18 on them (Zolfaghari, Singh, Brox:
    "ECO: Efficient Convolutional Network for Online Video Understanding", ECCV 2018). Here both are one ResNet.
    """

    @classmethod
    def wants(cls, position: Position) -> bool:
        """Whether the block is one of the head."""
        return position.stage >= 1

    @classmethod
    def strides_in_time(cls, position: Position) -> bool:
        """Where the last two stages begin."""
        return position.stage >= 2 and position.opens_stage


class EveryOtherFrame(TemporalModule):
    """A shortcut beside a branch with a stride of 2 in time.

    Args:
        channels: Channels of the map.
        num_frames: Frames T of a clip; any later value may be assigned to the attribute.

    Shape:
        x: (B*T, C, H, W) -> (B*ceil(T / 2), C, H, W)
    """

    placement: ClassVar[Placement] = "before_shortcut"
    time_stride = 2

    def __init__(self, channels: int, num_frames: int = 8):
        super().__init__(num_frames)

    def forward(self, x: Tensor) -> Tensor:
        """The first frame, the third, ..."""
        return split_frames(x.flatten(1), self.num_frames)[:, ::2].flatten(0, 1).unflatten(1, x.shape[1:])


class HeadShortcut(EveryOtherFrame):
    """The shortcuts of ECO's 3D head."""

    @classmethod
    def wants(cls, position: Position) -> bool:
        """Where `HeadConv` has a stride in time."""
        return HeadConv.strides_in_time(position)


class TemporalMaxPool(TemporalModule):
    """I3D's pool after stage one: the maximum of each two frames.

    Args:
        channels: Channels of the map.
        num_frames: Frames T of a clip; any later value may be assigned to the attribute. The last of an odd number
            stays alone.

    Shape:
        x: (B*T, C, H, W) -> (B*ceil(T / 2), C, H, W)
    """

    placement = "after_block"
    time_stride = 2

    def __init__(self, channels: int, num_frames: int = 8):
        super().__init__(num_frames)

    @classmethod
    def wants(cls, position: Position) -> bool:
        """After the last block of the first stage."""
        return position.stage == 0 and position.block == position.depths[0] - 1

    def forward(self, x: Tensor) -> Tensor:
        """The larger of both."""
        frames = split_frames(x.flatten(1), self.num_frames)  # (B, T, C*H*W)
        first, second = frames[:, ::2], frames[:, 1::2]
        if self.num_frames % 2:
            second = torch.cat([second, frames[:, -1:]], dim=1)
        return torch.maximum(first, second).flatten(0, 1).unflatten(1, x.shape[1:])
