"""TEA on plain bottlenecks: the middle of each becomes the middle of a Res2Net block of the same width.

The official TEA is a Res2Net-50 26w x 4s, of 24.5 M parameters (see `tea.py`). Here a bottleneck's width C is parted
into subsets of C/4, "16w x 4s" for ResNet-50 with 14.8 M parameters and 174 classes: a smaller network than the
published one, for backbones without subsets.
"""

from typing import Any

import torch
from torch import Tensor, nn

from timm_video_psn.layers.baselines.tea import ChannelwiseTemporal, MotionExcitation, ShiftedTemporal
from timm_video_psn.layers.temporal_module import Position, TemporalModule


class ConvolvedSubset(nn.Module):
    """A subset of MTA: temporal and spatial convolution, norm, activation.

    Args:
        channels: Channels, in and out.
        stride: Stride of the spatial convolution.

    Shape:
        x: (B*T, C, H, W) and num_frames T -> (B*T, C, H / stride, W / stride)
    """

    def __init__(self, channels: int, stride: int = 1):
        super().__init__()
        self.temporal = ChannelwiseTemporal(channels)
        self.conv = nn.Conv2d(channels, channels, kernel_size=3, stride=stride, padding=1, bias=False)
        self.norm = nn.BatchNorm2d(channels)
        self.act: nn.Module = nn.ReLU(inplace=True)
        nn.init.kaiming_normal_(self.conv.weight, mode="fan_out", nonlinearity="relu")

    def forward(self, x: Tensor, num_frames: int) -> Tensor:
        """Along time, over space."""
        return self.act(self.norm(self.conv(self.temporal.convolve(x, num_frames))))


class TemporalAggregation(nn.Module):
    """MTA: subsets of the channels pass one another's temporal and spatial convolutions in a row (Sec. 3.2).

    The formula is in `tea.py`. In a block that opens a stage, Y_s is averaged over 3x3 with the block's stride.

    Args:
        channels: Channels C, in and out.
        scale: Subsets s; the official 4.
        stride: Stride of the 3x3 convolutions.
        opens_stage: The form for the first block of a stage.

    Shape:
        x: (B*T, C, H, W) and num_frames T -> (B*T, C, H / stride, W / stride)
    """

    def __init__(self, channels: int, scale: int = 4, stride: int = 1, opens_stage: bool = False):
        super().__init__()
        if scale < 2 or channels % (2 * scale):
            raise ValueError(
                f"scale={scale} does not split channels={channels} into two or more subsets of even width; "
                "use a scale of at least 2 whose double divides the channels, such as 4 for 64"
            )
        self.width = channels // scale
        self.opens_stage = opens_stage
        self.convolved = nn.ModuleList(ConvolvedSubset(self.width, stride) for _ in range(scale - 1))
        self.last = ShiftedTemporal(self.width)
        self.pool = nn.AvgPool2d(3, stride=stride, padding=1) if opens_stage else nn.Identity()

    def inherit(self, conv: nn.Conv2d, norm: nn.BatchNorm2d, act: nn.Module) -> None:
        """Takes over what applies of a convolution of all channels, its norm and its activation.

        Args:
            conv: Convolution whose weights within each subset of channels are copied.
            norm: Norm whose numbers for each subset of channels are copied.
            act: The activation, used as it is.
        """
        subset: Any
        with torch.no_grad():
            for i, subset in enumerate(self.convolved):
                part = slice(i * self.width, (i + 1) * self.width)
                subset.conv.weight.copy_(conv.weight[part, part])
                subset.norm.eps, subset.norm.momentum = norm.eps, norm.momentum
                for name, value in subset.norm.state_dict().items():
                    old = norm.state_dict()[name]
                    value.copy_(old[part] if old.ndim else old)
                subset.act = act

    def forward(self, x: Tensor, num_frames: int) -> Tensor:
        """Each subset through its convolutions."""
        parts = x.split(self.width, dim=1)
        outputs: list[Tensor] = []
        for i, subset in enumerate(self.convolved):
            part = parts[i] if i == 0 or self.opens_stage else parts[i] + outputs[-1]
            outputs.append(subset(part, num_frames))
        outputs.append(self.pool(self.last.convolve(parts[-1], num_frames)))
        return torch.cat(outputs, dim=1)


class BottleneckExcitationAggregation(TemporalModule):
    """Motion excitation, then multiple temporal aggregation, in place of the middle of a plain bottleneck.

    Args:
        channels: Channels C, in and out.
        num_frames: Frames T of a clip; any later value may be assigned to the attribute.
        reduction: Divisor of the channels inside ME; the official 16.
        scale: Subsets of MTA; the official 4.

    Shape:
        x: (B*T, C, H, W) -> same, or (B*T, C, H', W') with the stride of a convolution that it replaces

    Raises:
        ValueError: The channels cannot be parted so.
    """

    placement = "replace_conv2_norm_act"

    def __init__(self, channels: int, num_frames: int = 8, reduction: int = 16, scale: int = 4):
        super().__init__(num_frames)
        self.excitation = MotionExcitation(channels, num_frames, reduction)
        self.aggregation = TemporalAggregation(channels, scale)

    @classmethod
    def replacing(
        cls, old: tuple[Any, ...], num_frames: int, position: Position, **settings: Any
    ) -> "BottleneckExcitationAggregation":
        """The module in place of a 3x3 convolution, its norm and its activation.

        Paper silent on a plain ResNet: its weights come from a Res2Net. Subset i starts with the block of the old
        weight that leads from its channels to its channels, and with its part of the norm.

        Args:
            old: Convolution, norm and activation.
            num_frames: Frames T of a clip.
            position: Position of their block.
            **settings: Settings of the class.

        Raises:
            ValueError: The convolution is not a plain 3x3 one that keeps the number of channels, or the norm no
                batch norm.
        """
        conv, norm, act = old
        plain = conv.kernel_size == (3, 3) and conv.groups == 1 and conv.bias is None and conv.padding == (1, 1)
        if not plain or conv.in_channels != conv.out_channels or type(norm) is not nn.BatchNorm2d:
            raise ValueError(
                "TEA replaces a batch norm and a 3x3 convolution with as many output as input channels and without "
                f"groups, bias or dilation, found {conv} and {norm}; use a backbone with plain blocks, such as resnet50"
            )
        module = cls(conv.in_channels, num_frames, **settings)
        module.aggregation = TemporalAggregation(
            conv.in_channels,
            len(module.aggregation.convolved) + 1,
            conv.stride[0],
            position.opens_stage or conv.stride != (1, 1),
        )
        module.aggregation.inherit(conv, norm, act)
        return module.to(conv.weight)

    def forward(self, x: Tensor) -> Tensor:
        """Excite, then aggregate."""
        return self.aggregation(self.excitation.excite(x, self.num_frames), self.num_frames)
