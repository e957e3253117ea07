"""Space and time in two convolutions, in place of an image network's one: P3D and R(2+1)D, from the image's weights."""

from typing import Any

import torch
from torch import Tensor, nn

from timm_video_psn.layers.baselines.inflated import EveryOtherFrame
from timm_video_psn.layers.clip import frames_to_rows, rows_to_frames
from timm_video_psn.layers.temporal_module import Position, TemporalModule


def temporal_conv(inputs: int, outputs: int, stride: int = 1) -> nn.Conv2d:
    """A 3x1x1 convolution, for maps whose rows are frames: (B, C, T, H*W)."""
    return nn.Conv2d(inputs, outputs, (3, 1), (stride, 1), padding=(1, 0), bias=False)


class PseudoThreeD(TemporalModule):
    """P3D: a 3x1x1 convolution T beside or behind the 3x3 convolution S of a bottleneck, each with norm and ReLU.

    The blocks of a network take turns (Qiu, Yao, Mei: "Learning Spatio-Temporal Representation with Pseudo-3D Residual
    Networks", ICCV 2017; the official code is Caffe's): A: T(S(x)), B: S(x) + T(x), C: S(x) + T(S(x)).

    S keeps the image network's convolution, norm and activation. So that a block starts as the image network's, T of
    kind A starts as the identity, and the gain of T's norm in kinds B and C at zero, with a bias of 1e-6: at zero the
    ReLU would pass no gradient.

    Args:
        channels: Channels C, in and out.
        num_frames: Frames T of a clip; any later value may be assigned to the attribute.
        kind: `A`, `B` or `C`; in a network every block has its own.

    Shape:
        x: (B*T, C, H, W) -> same, or (B*T, C, H', W') with the stride of the convolution that it replaces

    Raises:
        ValueError: The kind is unknown.
    """

    placement = "replace_conv2_norm_act"

    def __init__(self, channels: int, num_frames: int = 8, kind: str = "A"):
        super().__init__(num_frames)
        if kind not in ("A", "B", "C"):
            raise ValueError(f"kind={kind!r} is unknown; use 'A', 'B' or 'C'")
        self.kind = kind
        conv = nn.Conv2d(channels, channels, kernel_size=3, padding=1, bias=False)
        self.spatial = nn.Sequential(conv, nn.BatchNorm2d(channels), nn.ReLU(inplace=True))
        self.stride = 1
        self.temporal = temporal_conv(channels, channels)
        self.norm = nn.BatchNorm2d(channels)
        self.act = nn.ReLU(inplace=True)
        if kind == "A":
            nn.init.zeros_(self.temporal.weight)
            nn.init.eye_(self.temporal.weight.data[:, :, 1, 0])
        else:
            nn.init.zeros_(self.norm.weight)
            nn.init.constant_(self.norm.bias, 1e-6)

    @classmethod
    def replacing(cls, old: tuple[Any, ...], num_frames: int, position: Position, **settings: Any) -> "PseudoThreeD":
        """The module around a 3x3 convolution, its norm and its activation.

        Args:
            old: The three; they become the module's own.
            num_frames: Frames T of a clip.
            position: Their block, which decides the kind.
            **settings: A kind for all blocks, if they shall not take turns.
        """
        index = sum(position.depths[: position.stage]) + position.block
        conv = old[0]
        module = cls(conv.out_channels, num_frames, settings.get("kind", "ABC"[index % 3])).to(conv.weight)
        module.spatial = nn.Sequential(*old)
        module.stride = conv.stride[0]
        return module

    def forward(self, x: Tensor) -> Tensor:
        """Both convolutions, in the order of the kind."""
        s = self.spatial(x)
        if self.kind == "A":
            return self._along_time(s)
        if self.kind == "C":
            return s + self._along_time(s)
        return s + self._along_time(x[:, :, :: self.stride, :: self.stride])

    def _along_time(self, x: Tensor) -> Tensor:
        """T, its norm and its ReLU."""
        rows = self.temporal(frames_to_rows(x, self.num_frames))  # (B, C, T, H*W)
        return self.act(self.norm(rows_to_frames(rows, x.shape[2], x.shape[3])))

    def extra_repr(self) -> str:
        """The kind, for print(model)."""
        return f"kind={self.kind}"


class TwoPlusOneD(TemporalModule):
    """R(2+1)D: 1xkxk to M channels, norm, ReLU, 3x1x1, in place of a k x k convolution.

    With M = floor(3 k^2 C_in C_out / (k^2 C_in + 3 C_out)) it has the parameters of a 3xkxk convolution, and with a
    spatial stride, which opens a stage, a stride of 2 in time (Tran et al.: "A Closer Look at Spatiotemporal
    Convolutions for Action Recognition", CVPR 2018).

    The image's weights W survive the ReLU as pairs: where M allows it, the first channels are W and the next -W, and
    the temporal kernel starts as their difference at the frame itself, since relu(y) - relu(-y) = y. Only in the
    convolutions that double the channels some outputs have no second half. The network's first convolution, which the
    original splits too, stays: its M would be too small to keep the weights.

    Args:
        channels: Channels, in and out, of a 3x3 convolution.
        num_frames: Frames T of a clip; any later value may be assigned to the attribute.

    Shape:
        x: (B*T, C, H, W) -> (B*ceil(T / time_stride), C', H', W')
    """

    placement = "replace_spatial"

    def __init__(self, channels: int, num_frames: int = 8):
        super().__init__(num_frames)
        self._factorise(nn.Conv2d(channels, channels, kernel_size=3, padding=1, bias=False))

    @classmethod
    def replacing(cls, old: tuple[Any, ...], num_frames: int, position: Position, **settings: Any) -> "TwoPlusOneD":
        """The module in place of a convolution, with its weights.

        Args:
            old: The convolution alone.
            num_frames: Frames T of a clip.
            position: Its block.
            **settings: Settings of the class; there are none.

        Raises:
            ValueError: The convolution has groups or a bias.
        """
        (conv,) = old
        if conv.groups > 1 or conv.bias is not None:
            raise ValueError(f"R(2+1)D splits convolutions without groups and bias, found {conv}; use resnet34")
        module = cls.__new__(cls)
        TemporalModule.__init__(module, num_frames)
        if conv.stride != (1, 1):
            module.time_stride = 2
        module._factorise(conv)
        return module

    def _factorise(self, conv: nn.Conv2d) -> None:
        """The two convolutions, so that they start as the one."""
        inputs, outputs, area = conv.in_channels, conv.out_channels, conv.kernel_size[0] * conv.kernel_size[1]
        middle = 3 * area * inputs * outputs // (area * inputs + 3 * outputs)
        form: Any = {name: getattr(conv, name) for name in ("kernel_size", "stride", "padding", "dilation")}
        self.spatial = nn.Conv2d(inputs, middle, bias=False, **form)
        nn.init.kaiming_normal_(self.spatial.weight, mode="fan_out", nonlinearity="relu")
        self.norm = nn.BatchNorm2d(middle)
        self.act = nn.ReLU(inplace=True)
        self.temporal = temporal_conv(middle, outputs, self.time_stride)
        kept = min(outputs, middle)
        pairs = max(0, min(outputs, middle - outputs))
        with torch.no_grad():
            self.spatial.weight[:kept] = conv.weight[:kept]
            self.spatial.weight[kept : kept + pairs] = -conv.weight[:pairs]
            self.temporal.weight.zero_()
            for first, count, sign in ((0, kept, 1.0), (kept, pairs, -1.0)):
                self.temporal.weight[:count, first : first + count, 1, 0] = sign * torch.eye(count)
        self.to(conv.weight)

    def forward(self, x: Tensor) -> Tensor:
        """Space, then time."""
        x = self.act(self.norm(self.spatial(x)))
        rows = self.temporal(frames_to_rows(x, self.num_frames))  # (B, C', T', H'*W')
        return rows_to_frames(rows, x.shape[2], x.shape[3])

    def extra_repr(self) -> str:
        """The stride, for print(model)."""
        return f"time_stride={self.time_stride}"


class TwoPlusOneDShortcut(EveryOtherFrame):
    """The shortcuts of R(2+1)D where stages two to four begin."""

    @classmethod
    def wants(cls, position: Position) -> bool:
        """Where `TwoPlusOneD` has a stride in time."""
        return position.opens_stage and position.stage > 0
