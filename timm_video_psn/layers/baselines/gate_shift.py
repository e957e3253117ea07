"""The gate-shift module (Sudhakaran, Escalera, Lanz: "Gate-Shift Networks for Video Action Recognition", CVPR 2020)."""

import torch
from torch import Tensor, nn

from timm_video_psn.layers.clip import split_frames
from timm_video_psn.layers.taps import add_shifted, add_taps
from timm_video_psn.layers.temporal_module import TemporalModule


class GateShift(TemporalModule):
    """A learned gate decides, for each pixel, what of the features moves to the neighbouring frame.

    As in the official repository (swathikirans/GSM, `gsmModule`), for either half X of the channels:

        gate = tanh(conv3x3x3(relu(norm(X)))), one map for the half
        Y = gate * X;  Z = shift(Y) + (X - Y)

    The first half moves one frame back in time (frame t receives from t + 1), the second one forward; zeros enter at
    the ends. The gates start at zero, so that the module starts as the identity.

    Where: the official GSM is made for Inception, after a branch's convolution and before its norm. The ResNet of the
    same authors (swathikirans/GSF, `backbones/resnetGSFModels.py`, the successor's repository) puts the module after
    the last convolution of each residual branch and before its norm, and so do we.

    The official code ends by a fixed shuffle of the channels within each half. It changes nothing that can be learned:
    the rows of the convolution before it, reordered alike, give the same network. But it would scatter the pretrained
    channels before the norm that knows them, so it is off unless asked for.

    The 3x3x3 convolution is computed as one 3x3 convolution for its three frames, whose outputs then meet along time:
    `gate.weight` is (6, C/2, 3, 3), for each half the kernels for the frame before, itself, and after.

    Args:
        channels: channels of the map, an even number.
        num_frames: frames T of a clip; any later value may be assigned to the attribute.
        shuffle: the official shuffle: channel c of each half's two halves moves to 2c and 2c + 1.

    Shape:
        x: (B*T, C, H, W) -> same

    Raises:
        ValueError: the channels cannot be halved, or quartered for the shuffle.
    """

    placement = "after_last_conv"

    def __init__(self, channels: int, num_frames: int = 8, shuffle: bool = False):
        super().__init__(num_frames)
        parts = 4 if shuffle else 2
        if channels % parts:
            raise ValueError(f"shuffle={shuffle} needs channels that {parts} divides, found channels={channels}")
        self.shuffle = shuffle
        self.norm = nn.BatchNorm2d(channels)
        self.act = nn.ReLU(inplace=True)
        self.gate = nn.Conv2d(channels, 6, kernel_size=3, padding=1, groups=2, bias=False)
        self.gate_bias = nn.Parameter(torch.zeros(2))
        nn.init.zeros_(self.gate.weight)

    def forward(self, x: Tensor) -> Tensor:
        """Gate, shift what passes, and add it to what does not."""
        batch, channels, height, width = x.shape
        taps = split_frames(self.gate(self.act(self.norm(x))), self.num_frames)  # (B, T, 6, H, W)
        sums = add_taps(list(taps.unflatten(2, (2, 3)).unbind(3)))  # (B, T, 2, H, W)
        gates = torch.tanh(sums + self.gate_bias[:, None, None]).to(x.dtype)
        halves = split_frames(x, self.num_frames).unflatten(2, (2, channels // 2))  # (B, T, 2, C/2, H, W)
        moving = halves * gates[:, :, :, None]
        out = halves - moving
        add_shifted(out[:, :, 0], moving[:, :, 0], 1)
        add_shifted(out[:, :, 1], moving[:, :, 1], -1)
        if self.shuffle:
            out = out.unflatten(3, (2, channels // 4)).transpose(3, 4)  # (B, T, 2, C/4, 2, H, W)
        return out.reshape(batch, channels, height, width)

    def extra_repr(self) -> str:
        """The shuffle, for print(model)."""
        return f"shuffle={self.shuffle}"
