"""Temporal excitation and aggregation (Li, Ji, Shi, Zhang, Kang, Wang: "TEA ... for Action Recognition", CVPR 2020)."""

from typing import Any

import torch
from torch import Tensor, nn

from timm_video_psn.layers.clip import split_frames
from timm_video_psn.layers.pooled_norm import PooledNorm
from timm_video_psn.layers.taps import weigh_taps
from timm_video_psn.layers.temporal_module import TemporalModule


class MotionExcitation(nn.Module):
    """ME: channels in which neighbouring frames differ are amplified, those in which they agree damped (Sec. 3.1).

    As in the official `MEModule`, with F = norm(conv1x1(X)) of C/reduction channels:

        M(t) = conv3x3(F(t + 1)) - F(t), zero for the last frame;  out = X + X * (sigmoid(norm(W . pool(M))) - 1/2)

    Args:
        channels: channels C, in and out.
        reduction: the official 16.

    Shape:
        x: (B*T, C, H, W) and num_frames T -> (B*T, C, H, W)
    """

    def __init__(self, channels: int, reduction: int = 16):
        super().__init__()
        if not 1 <= reduction <= channels:
            raise ValueError(f"reduction={reduction} leaves none of channels={channels}; use 1 to {channels}")
        reduced = channels // reduction
        self.reduce = nn.Conv2d(channels, reduced, kernel_size=1, bias=False)
        self.reduce_norm = nn.BatchNorm2d(reduced)
        self.transform = nn.Conv2d(reduced, reduced, kernel_size=3, padding=1, groups=reduced, bias=False)
        self.expand = nn.Linear(reduced, channels, bias=False)
        self.expand_norm = PooledNorm(channels)
        for layer in (self.reduce, self.transform, self.expand):
            nn.init.kaiming_normal_(layer.weight, mode="fan_out", nonlinearity="relu")  # as the official network

    def forward(self, x: Tensor, num_frames: int) -> Tensor:
        """Weigh the channels of each frame."""
        features = self.reduce_norm(self.reduce(x))
        # The pool is linear, so the difference may follow it.
        ahead = split_frames(self.transform(features).mean((2, 3)), num_frames)  # (B, T, C/reduction)
        here = split_frames(features.mean((2, 3)), num_frames)
        motion = torch.cat([ahead[:, 1:] - here[:, :-1], torch.zeros_like(here[:, :1])], dim=1)
        weights = torch.sigmoid(self.expand_norm(self.expand(motion.flatten(0, 1)))) - 0.5  # (B*T, C)
        return x + x * weights[:, :, None, None]


class ChannelwiseTemporal(nn.Module):
    """A temporal convolution of each channel alone, three taps, no bias (the official `ShiftModule`).

    Args:
        channels: channels, in and out.
        shift: start as the shift of TSM, half of the channels one frame back in time and half forward; else as the
            identity.

    Shape:
        x: (B*T, C, H, W) and num_frames T -> (B*T, C, H, W)
    """

    def __init__(self, channels: int, shift: bool):
        super().__init__()
        self.weight = nn.Parameter(torch.zeros(channels, 3))
        with torch.no_grad():
            if shift:
                self.weight[: channels // 2, 2] = 1
                self.weight[channels // 2 :, 0] = 1
            else:
                self.weight[:, 1] = 1

    def forward(self, x: Tensor, num_frames: int) -> Tensor:
        """Convolve along time."""
        frames = split_frames(x.flatten(2), num_frames)  # (B, T, C, H*W)
        return weigh_taps(frames, self.weight[None]).flatten(0, 1).unflatten(2, x.shape[2:])


class ConvolvedSubset(nn.Module):
    """A subset of MTA: temporal and spatial convolution, norm, activation.

    Args:
        channels: channels, in and out.
        stride: stride of the spatial convolution.

    Shape:
        x: (B*T, C, H, W) and num_frames T -> (B*T, C, H / stride, W / stride)
    """

    def __init__(self, channels: int, stride: int = 1):
        super().__init__()
        self.temporal = ChannelwiseTemporal(channels, shift=False)
        self.conv = nn.Conv2d(channels, channels, kernel_size=3, stride=stride, padding=1, bias=False)
        self.norm = nn.BatchNorm2d(channels)
        self.act: nn.Module = nn.ReLU(inplace=True)
        nn.init.kaiming_normal_(self.conv.weight, mode="fan_out", nonlinearity="relu")

    def forward(self, x: Tensor, num_frames: int) -> Tensor:
        """Along time, over space."""
        return self.act(self.norm(self.conv(self.temporal(x, num_frames))))


class TemporalAggregation(nn.Module):
    """MTA: subsets of the channels pass one another's temporal and spatial convolutions in a row (Sec. 3.2).

    As in the official `Bottle2neckShift`, with X_1 ... X_s the subsets:

        Y_i = relu(norm(conv3x3(temporal(X_i + Y_{i-1})))) for i < s, with Y_0 = 0;  Y_s = temporal(X_s)

    In a block that opens a stage no Y_{i-1} is added, and Y_s is averaged over 3x3 with the block's stride. All
    temporal convolutions start as the identity but the last, which starts as a shift.

    Args:
        channels: channels C, in and out.
        scale: subsets s; the official 4.
        stride: stride of the 3x3 convolutions.
        opens_stage: the form for the first block of a stage.

    Shape:
        x: (B*T, C, H, W) and num_frames T -> (B*T, C, H / stride, W / stride)
    """

    def __init__(self, channels: int, scale: int = 4, stride: int = 1, opens_stage: bool = False):
        super().__init__()
        if scale < 2 or channels % (2 * scale):
            raise ValueError(
                f"scale={scale} does not part channels={channels} into two or more subsets of an even width; "
                "use a scale from 2 on whose double divides them, as 4 for 64"
            )
        self.width = channels // scale
        self.opens_stage = opens_stage
        self.convolved = nn.ModuleList(ConvolvedSubset(self.width, stride) for _ in range(scale - 1))
        self.last = ChannelwiseTemporal(self.width, shift=True)
        self.pool = nn.AvgPool2d(3, stride=stride, padding=1) if opens_stage else nn.Identity()

    def inherit(self, conv: nn.Conv2d, norm: nn.BatchNorm2d, act: nn.Module) -> None:
        """Take over what applies of a convolution of all channels, its norm and its activation.

        Args:
            conv: its weights from the channels of each subset to the same channels are copied.
            norm: its numbers for the channels of each subset are copied.
            act: the activation, used as it is.
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
        outputs.append(self.pool(self.last(parts[-1], num_frames)))
        return torch.cat(outputs, dim=1)


class TemporalExcitationAggregation(TemporalModule):
    """TEA: motion excitation, then multiple temporal aggregation, as the middle of a bottleneck.

    In the official repository (Phoenix1327/tea-action-recognition, `Bottle2neckShift`) ME follows the block's first
    convolution, norm and activation, MTA stands where a ResNet has its 3x3 convolution, norm and activation, and the
    block's last convolution follows. The official blocks are those of Res2Net-50 26w x 4s, whose subsets are there
    already. Here a plain bottleneck becomes such a block: its width C is parted into subsets of C/4 ("16w x 4s" for
    ResNet-50, 14.8 M parameters with 174 classes), so the network is smaller than the official one.

    Args:
        channels: channels C, in and out.
        num_frames: frames T of a clip; any later value may be assigned to the attribute.
        reduction: divisor of the channels inside ME; the official 16.
        scale: subsets of MTA; the official 4.

    Shape:
        x: (B*T, C, H, W) -> same, or (B*T, C, H', W') with the stride of a convolution that it replaces

    Raises:
        ValueError: the channels cannot be parted so.
    """

    placement = "replace_conv2_norm_act"

    def __init__(self, channels: int, num_frames: int = 8, reduction: int = 16, scale: int = 4):
        super().__init__(num_frames)
        self.excitation = MotionExcitation(channels, reduction)
        self.aggregation = TemporalAggregation(channels, scale)

    @classmethod
    def replacing(
        cls, old: tuple[Any, ...], num_frames: int, opens_stage: bool, **settings: Any
    ) -> "TemporalExcitationAggregation":
        """The module in place of a 3x3 convolution, its norm and its activation.

        Paper silent on a plain ResNet: its weights come from a Res2Net. Subset i starts with the block of the old
        weight that leads from its channels to its channels, and with its part of the norm.

        Args:
            old: convolution, norm and activation.
            num_frames: frames T of a clip.
            opens_stage: whether their block is the first of its stage.
            **settings: as for the class.

        Raises:
            ValueError: the convolution is not a plain 3x3 one that keeps the number of channels, or the norm no
                batch norm.
        """
        conv, norm, act = old
        plain = conv.kernel_size == (3, 3) and conv.groups == 1 and conv.bias is None and conv.padding == (1, 1)
        if not plain or conv.in_channels != conv.out_channels or type(norm) is not nn.BatchNorm2d:
            raise ValueError(
                "TEA takes the place of a 3x3 convolution of as many channels out as in, without groups, bias and "
                f"dilation, and of a batch norm, and found {conv} and {norm}; use a backbone with plain blocks, as "
                "resnet50"
            )
        module = cls(conv.in_channels, num_frames, **settings)
        module.aggregation = TemporalAggregation(
            conv.in_channels,
            len(module.aggregation.convolved) + 1,
            conv.stride[0],
            opens_stage or conv.stride != (1, 1),
        )
        module.aggregation.inherit(conv, norm, act)
        return module.to(conv.weight)

    def forward(self, x: Tensor) -> Tensor:
        """Excite, then aggregate."""
        return self.aggregation(self.excitation(x, self.num_frames), self.num_frames)
