"""The weighted correlation of CorrNet (Wang, Tran, Torresani, Feiszli: "Video Modeling with ...", CVPR 2020)."""

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from timm_video_psn.layers.clip import split_frames
from timm_video_psn.layers.temporal_module import Position, TemporalModule


class WeightedCorrelation(TemporalModule):
    """A correlation block: each pixel is compared with its neighbourhood in the frame before, by learned weights.

    With A the frame, B the one before it (the first frame's is itself), both reduced to C/4 channels, and W_c(k, l) a
    weight for each channel and displacement:

        S_g(i, j, k, l) = sum_{c in group g} W_c(k, l) A_c(i, j) B_c(i + k, j + l);  Z = norm(expand(norm(S))) + X

    Where: after each stage but the last. The network around it, an R(2+1)D of its own, is not part of this module; no
    official code is published. Paper silent, as far as its text goes, on the start and on what lies between the
    correlation and `expand`: a norm is there, and the gain of the last one is zero, so that the block starts as the
    identity.

    Args:
        channels: Channels C, in and out.
        num_frames: Frames T of a clip; any later value may be assigned to the attribute.
        window: Displacements K in either direction of space together; the paper's 7.
        group_width: Channels that are added up; the paper's 32.

    Shape:
        x: (B*T, C, H, W) -> same

    Raises:
        ValueError: An even window, or fewer than four channels.
    """

    placement = "after_block"

    def __init__(self, channels: int, num_frames: int = 8, window: int = 7, group_width: int = 32):
        super().__init__(num_frames)
        if window < 1 or window % 2 == 0:
            raise ValueError(f"window={window} must be odd, for example 7")
        if channels < 4 or group_width < 1:
            raise ValueError(f"channels={channels}, group_width={group_width}: use at least 4 channels and groups of 1")
        reduced = channels // 4
        self.groups = max(1, reduced // group_width)
        reduced -= reduced % self.groups
        self.window = window
        self.reduce = nn.Conv2d(channels, reduced, kernel_size=1, bias=False)
        self.reduce_norm = nn.BatchNorm2d(reduced)
        self.weight = nn.Parameter(torch.empty(reduced, window * window))
        self.norm = nn.BatchNorm2d(self.groups * window * window)
        self.expand = nn.Conv2d(self.groups * window * window, channels, kernel_size=1, bias=False)
        self.expand_norm = nn.BatchNorm2d(channels)
        nn.init.normal_(self.weight, std=(reduced // self.groups) ** -0.5)
        nn.init.zeros_(self.expand_norm.weight)

    @classmethod
    def wants(cls, position: Position) -> bool:
        """The last block of each stage but the last."""
        last = position.block == position.depths[position.stage] - 1
        return last and position.stage < len(position.depths) - 1

    def forward(self, x: Tensor) -> Tensor:
        """Compare, and add."""
        a = F.relu(self.reduce_norm(self.reduce(x)))
        frames = split_frames(a.flatten(1), self.num_frames)
        before = torch.cat([frames[:, :1], frames[:, :-1]], dim=1).flatten(0, 1).unflatten(1, a.shape[1:])
        return x + self.expand_norm(self.expand(F.relu(self.norm(self.correlate(a, before)))))

    def correlate(self, a: Tensor, b: Tensor) -> Tensor:
        """S of two maps.

        Shape:
            a, b: (N, C', H, W) -> (N, groups * K * K, H, W), the displacements of each group together, row by row
        """
        height, width = a.shape[2:]
        reach = self.window // 2
        padded = F.pad(b, (reach, reach, reach, reach))
        sums = []
        for k in range(self.window):
            for j in range(self.window):
                product = a * padded[:, :, k : k + height, j : j + width]
                weighted = product * self.weight[:, k * self.window + j, None, None].to(product.dtype)
                sums.append(weighted.flatten(2).unflatten(1, (self.groups, -1)).sum(2))  # (N, groups, H*W)
        return torch.stack(sums, dim=2).flatten(1, 2).unflatten(2, (height, width))

    def extra_repr(self) -> str:
        """Window and groups, for print(model)."""
        return f"window={self.window}, groups={self.groups}"
