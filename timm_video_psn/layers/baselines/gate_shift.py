"""The gate-shift module (Sudhakaran, Escalera, Lanz: "Gate-Shift Networks for Video Action Recognition", CVPR 2020)."""

import torch
from torch import Tensor, nn

from timm_video_psn.layers.clip import split_frames
from timm_video_psn.layers.past import Past
from timm_video_psn.layers.taps import add_shifted, add_taps
from timm_video_psn.layers.temporal_module import TemporalModule


class GateShift(TemporalModule):
    """A learned gate decides, for each pixel, what of the features moves to the neighbouring frame.

    As in the official repository (swathikirans/GSM, `gsmModule`), for either half X of the channels:

        gate = tanh(conv3x3x3(relu(norm(X)))), one map for the half
        Y = gate * X;  Z = shift(Y) + (X - Y)

    The first half moves one frame back in time (frame t receives from t + 1), the second one forward; zeros enter at
    the ends. The gates start at zero, so that the module starts as the identity.

    Where: the official GSM is made for Inception, after the first convolution of one branch and before its norm. The
    ResNet of the same authors (swathikirans/GSF, `backbones/resnetGSFModels.py`, the successor's repository) puts the
    module after the last convolution of each residual branch and before its norm. So do we for either network.

    The official code ends by a fixed shuffle of the channels within each half. It changes nothing that can be learned:
    the rows of the convolution before it, reordered alike, give the same network. But it would scatter the pretrained
    channels before the norm that knows them, so it is off unless asked for.

    The 3x3x3 convolution is computed as one 3x3 convolution for its three frames, whose outputs then meet along time:
    `gate.weight` is (6, C/2, 3, 3), for each half the kernels for the frame before, itself, and after.

    Args:
        channels: Channels of the map, an even number.
        num_frames: Frames T of a clip; any later value may be assigned to the attribute.
        shuffle: The official shuffle: channel c of each half's two halves moves to 2c and 2c + 1.
        causal: Both halves move forward, and the gates see a frame and the two before it.

    Shape:
        x: (B*T, C, H, W) -> same

    Raises:
        ValueError: The channels cannot be halved, or quartered for the shuffle.
    """

    placement = "after_last_conv"

    def __init__(
        self,
        channels: int,
        num_frames: int = 8,
        shuffle: bool = False,
        causal: bool = False,
    ):
        super().__init__(num_frames)
        parts = 4 if shuffle else 2
        if channels % parts:
            raise ValueError(f"shuffle={shuffle} needs a multiple of {parts} channels, found channels={channels}")
        self.shuffle, self.causal = shuffle, causal
        self.norm = nn.BatchNorm2d(channels)
        self.act = nn.ReLU(inplace=True)
        self.gate = nn.Conv2d(channels, 6, kernel_size=3, padding=1, groups=2, bias=False)
        self.gate_bias = nn.Parameter(torch.zeros(2))
        self.past_taps, self.past_moving = Past(2, dim=1), Past(1, dim=1)
        nn.init.zeros_(self.gate.weight)

    def forward(self, x: Tensor) -> Tensor:
        """Gate, shift what passes, and add it to what does not."""
        batch, channels, height, width = x.shape
        taps = split_frames(self.gate(self.act(self.norm(x))).flatten(2), self.num_frames)  # (B, T, 6, H*W)
        gates = torch.tanh(self._sum(taps) + self.gate_bias[:, None]).to(x.dtype)  # (B, T, 2, H*W)
        halves = x.flatten(2).unflatten(1, (2, channels // 2))  # (B*T, 2, C/2, H*W)
        moving = halves * gates.flatten(0, 1)[:, :, None]
        out = self._add_moved(halves - moving, moving)
        if self.shuffle:
            out = out.unflatten(2, (2, channels // 4)).transpose(2, 3)  # (B*T, 2, C/4, 2, H*W)
        return out.reshape(batch, channels, height, width)

    def _sum(self, taps: Tensor) -> Tensor:
        """The three taps of each gate at their frame.

        Shape:
            taps: (B, T, 6, H*W) -> (B, T, 2, H*W)
        """
        if not self.causal:
            return add_taps([taps[:, :, k::3] for k in range(3)])
        frames = taps.shape[1]
        taps = self.past_taps(taps)  # (B, 2 + T, 6, H*W)
        return taps[:, :frames, 0::3] + taps[:, 1 : 1 + frames, 1::3] + taps[:, 2:, 2::3]

    def _add_moved(self, still: Tensor, moving: Tensor) -> Tensor:
        """What moves is added one frame further: of the first half back in time, unless causal, else forward.

        Shape:
            still, moving: (B*T, 2, C/2, H*W) -> same
        """
        if self.causal:
            moved = self.past_moving(split_frames(moving.flatten(1, 2), self.num_frames))[:, :-1]  # (B, T, C, H*W)
            return still + moved.flatten(0, 1).unflatten(1, still.shape[1:3])
        for half, offset in ((0, 1), (1, -1)):
            target, source = (split_frames(x[:, half], self.num_frames) for x in (still, moving))  # (B, T, C/2, H*W)
            add_shifted(target, source, offset)
        return still

    def extra_repr(self) -> str:
        """The settings, for print(model)."""
        return f"shuffle={self.shuffle}, causal={self.causal}"
