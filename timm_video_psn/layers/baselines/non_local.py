"""The non-local block (Wang, Girshick, Gupta, He: "Non-local Neural Networks", CVPR 2018)."""

import torch.nn.functional as F
from torch import Tensor, nn

from timm_video_psn.layers.clip import split_frames
from timm_video_psn.layers.temporal_module import Position, TemporalModule


class NonLocal(TemporalModule):
    """Every pixel of every frame looks at all others: softmax(theta(X) . phi(X) / sqrt(C')) g(X), added back.

    As in PySlowFast's `Nonlocal` and the paper's embedded Gaussian: theta, phi and g are 1x1x1 convolutions to half of
    the channels, phi and g see a max pool over 2x2 pixels, the result goes through a 1x1x1 convolution and a norm,
    whose gain starts at zero, so that the block starts as the identity.

    Where: after the second, fourth, ... block of stages two and three; of a third stage of 23 blocks (ResNet-101),
    after each seventh.

    Args:
        channels: Channels C, in and out.
        num_frames: Frames T of a clip; any later value may be assigned to the attribute.

    Shape:
        x: (B*T, C, H, W) -> same

    Raises:
        ValueError: There are fewer than two channels.
    """

    placement = "after_block"

    def __init__(self, channels: int, num_frames: int = 8):
        super().__init__(num_frames)
        if channels < 2:
            raise ValueError(f"channels={channels} is too few: non-local blocks compare half of them; use 2 or more")
        inner = channels // 2
        self.theta = _pointwise(channels, inner)
        self.phi = _pointwise(channels, inner)
        self.g = _pointwise(channels, inner)
        self.out = _pointwise(inner, channels)
        self.norm = nn.BatchNorm2d(channels)
        nn.init.zeros_(self.norm.weight)

    @classmethod
    def wants(cls, position: Position) -> bool:
        """Five blocks of a ResNet-50, as many of a ResNet-101."""
        every = 7 if position.stage == 2 and position.depths[2] >= 23 else 2
        return position.stage in (1, 2) and position.block % every == every - 1

    def forward(self, x: Tensor) -> Tensor:
        """Z = norm(out(Y)) + X."""
        height, width = x.shape[2:]
        pooled = F.max_pool2d(x, kernel_size=2, ceil_mode=min(height, width) < 2)
        queries, keys = self._pixels(self.theta(x)), self._pixels(self.phi(pooled))
        y = F.scaled_dot_product_attention(queries, keys, self._pixels(self.g(pooled)))  # (B, T*H*W, C')
        frames = y.unflatten(1, (self.num_frames, height * width)).flatten(0, 1).transpose(1, 2)  # (B*T, C', H*W)
        return x + self.norm(self.out(frames.unflatten(2, (height, width))))

    def _pixels(self, x: Tensor) -> Tensor:
        """All pixels of a clip in a row.

        Shape:
            x: (B*T, C', H, W) -> (B, T*H*W, C')
        """
        return split_frames(x.flatten(2).transpose(1, 2), self.num_frames).flatten(1, 2)


def _pointwise(inputs: int, outputs: int) -> nn.Conv2d:
    """A 1x1 convolution that starts as in the official network."""
    conv = nn.Conv2d(inputs, outputs, kernel_size=1)
    nn.init.normal_(conv.weight, std=0.01)
    nn.init.zeros_(conv.bias)  # type: ignore[arg-type]
    return conv
