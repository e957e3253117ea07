"""Temporal excitation and aggregation (Li, Ji, Shi, Zhang, Kang, Wang: "TEA ... for Action Recognition", CVPR 2020).

As in the official repository (Phoenix1327/tea-action-recognition, `Bottle2neckShift`), in the blocks of a Res2Net:

    U = ME(relu(norm(conv1x1(X)))), parted into subsets U_1 ... U_s
    Y_i = relu(norm(conv3x3(temporal(U_i + Y_{i-1})))) for i < s, with Y_0 = 0;  Y_s = temporal(U_s)
    X + norm(conv1x1(Y_1 ... Y_s))

In a block that opens a stage no Y_{i-1} is added. Everything but ME and the temporal convolutions is there in timm's
`res2net50_26w_4s` already, so that attaching the three modules of this file makes the official network.
"""

from typing import ClassVar

import torch
from torch import Tensor, nn

from timm_video_psn.layers.clip import split_frames
from timm_video_psn.layers.pooled_norm import PooledNorm
from timm_video_psn.layers.taps import weigh_taps
from timm_video_psn.layers.temporal_module import Placement, TemporalModule


class MotionExcitation(TemporalModule):
    """ME: channels in which neighbouring frames differ are amplified, those in which they agree damped (Sec. 3.1).

    As in the official `MEModule`, with F = norm(conv1x1(X)) of C/reduction channels:

        M(t) = conv3x3(F(t + 1)) - F(t), zero for the last frame;  out = X + X * (sigmoid(norm(W . pool(M))) - 1/2)

    Args:
        channels: Channels C, in and out.
        num_frames: Frames T of a clip; any later value may be assigned to the attribute.
        reduction: Divisor of the channels of F; the official 16.

    Shape:
        x: (B*T, C, H, W), not negative -> same

    Raises:
        ValueError: The reduction leaves no channel.
    """

    placement = "before_split"

    def __init__(self, channels: int, num_frames: int = 8, reduction: int = 16):
        super().__init__(num_frames)
        if not 1 <= reduction <= channels:
            raise ValueError(f"reduction={reduction} leaves no channel of {channels}; use 1 to {channels}")
        reduced = channels // reduction
        self.reduce = nn.Conv2d(channels, reduced, kernel_size=1, bias=False)
        self.reduce_norm = nn.BatchNorm2d(reduced)
        self.transform = nn.Conv2d(reduced, reduced, kernel_size=3, padding=1, groups=reduced, bias=False)
        self.expand = nn.Linear(reduced, channels, bias=False)
        self.expand_norm = PooledNorm(channels)
        for layer in (self.reduce, self.transform, self.expand):
            nn.init.kaiming_normal_(layer.weight, mode="fan_out", nonlinearity="relu")  # as the official network

    def forward(self, x: Tensor) -> Tensor:
        """Weighs the channels of each frame."""
        return self.excite(x, self.num_frames)

    def excite(self, x: Tensor, num_frames: int) -> Tensor:
        """The same for clips of `num_frames` frames."""
        features = self.reduce_norm(self.reduce(x))
        # The pool is linear, so the difference may follow it.
        ahead = split_frames(self.transform(features).mean((2, 3)), num_frames)  # (B, T, C/reduction)
        here = split_frames(features.mean((2, 3)), num_frames)
        motion = torch.cat([ahead[:, 1:] - here[:, :-1], torch.zeros_like(here[:, :1])], dim=1)
        weights = torch.sigmoid(self.expand_norm(self.expand(motion.flatten(0, 1)))) - 0.5  # (B*T, C)
        return x + x * weights[:, :, None, None]


class ChannelwiseTemporal(TemporalModule):
    """A temporal convolution of each channel alone, three taps, no bias (the official `ShiftModule`).

    This one starts as the identity and comes before the 3x3 convolution of each subset.

    Args:
        channels: Channels, in and out.
        num_frames: Frames T of a clip; any later value may be assigned to the attribute.

    Shape:
        x: (B*T, C, H, W) -> same
    """

    placement: ClassVar[Placement] = "before_each_subset"

    def __init__(self, channels: int, num_frames: int = 8):
        super().__init__(num_frames)
        self.weight = nn.Parameter(torch.zeros(channels, 3))
        with torch.no_grad():
            self.weight[:, 1] = 1

    def forward(self, x: Tensor) -> Tensor:
        """Convolves along time."""
        return self.convolve(x, self.num_frames)

    def convolve(self, x: Tensor, num_frames: int) -> Tensor:
        """The same for clips of `num_frames` frames."""
        frames = split_frames(x.flatten(2), num_frames)  # (B, T, C, H*W)
        return weigh_taps(frames, self.weight[None]).flatten(0, 1).unflatten(2, x.shape[2:])


class ShiftedTemporal(ChannelwiseTemporal):
    """The same on the subset that has no 3x3 convolution.

    It starts as the shift of TSM, half of the channels one frame back in time and half of them forward.
    """

    placement = "last_subset"

    def __init__(self, channels: int, num_frames: int = 8):
        super().__init__(channels, num_frames)
        with torch.no_grad():
            self.weight.zero_()
            self.weight[: channels // 2, 2] = 1
            self.weight[channels // 2 :, 0] = 1
