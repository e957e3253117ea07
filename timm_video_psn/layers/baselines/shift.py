"""The temporal shift of TSM (Lin, Gan, Han: "TSM: Temporal Shift Module for Efficient Video Understanding", 2019)."""

import torch
import torch.nn.functional as F
from torch import Tensor

from timm_video_psn.layers.clip import split_frames
from timm_video_psn.layers.past import Past
from timm_video_psn.layers.temporal_module import Position, TemporalModule


class TemporalShift(TemporalModule):
    """The first 1/shift_div of the channels move one frame back in time, the second 1/shift_div one frame forward.

    As in the official repository (mit-han-lab/temporal-shift-module, `TemporalShift.shift`): channel block one of
    frame t comes from frame t + 1, block two from frame t - 1, zeros enter at the ends. It sits before the first
    convolution of each residual branch (`blockres` there), so that the shortcut stays unshifted.

    The causal form is the paper's online model (`online_demo/mobilenet_v2_tsm.py` there): block one comes from frame
    t - 1, and no channel comes from a later frame.

    Args:
        channels: Channels of the map; 2 * (channels // shift_div) of them move, half as many in the causal form.
        num_frames: Frames T of a clip; any later value may be assigned to the attribute.
        shift_div: The official 8.
        causal: Whether no frame sees a later one.

    Shape:
        x: (B*T, C, H, W) -> same
    """

    placement = "residual_branch"

    @classmethod
    def wants(cls, position: Position) -> bool:
        """Every block, or every second one of a network whose third stage has 23 blocks or more (ResNet-101, -152).

        So chooses the official `make_temporal_shift`.
        """
        deep = len(position.depths) > 2 and position.depths[2] >= 23
        return not deep or position.block % 2 == 0

    def __init__(self, channels: int, num_frames: int = 8, shift_div: int = 8, causal: bool = False):
        super().__init__(num_frames)
        if shift_div < 2 or channels < shift_div:
            raise ValueError(f"shift_div={shift_div} shifts none or all of {channels} channels; use 2 to {channels}")
        self.shift = channels // shift_div
        self.causal = causal
        self.past = Past(1, dim=1)

    def forward(self, x: Tensor) -> Tensor:
        """Shift along time, out of place."""
        height, width = x.shape[2:]
        if x.is_contiguous(memory_format=torch.channels_last):  # and stays so
            pixels = split_frames(x.permute(0, 2, 3, 1).flatten(1, 2), self.num_frames)  # (B, T, H*W, C)
            moved = self._shift(pixels, channel_dim=3).flatten(0, 1)  # (B*T, H*W, C)
            return moved.unflatten(1, (height, width)).permute(0, 3, 1, 2)
        planes = split_frames(x.flatten(2), self.num_frames)  # (B, T, C, H*W)
        return self._shift(planes, channel_dim=2).flatten(0, 1).unflatten(2, (height, width))

    def _shift(self, x: Tensor, channel_dim: int) -> Tensor:
        """The shift of frames (B, T, ., .) whose channels are this dimension."""
        channels, shift = x.shape[channel_dim], self.shift
        first = x.narrow(channel_dim, 0, shift)
        if self.causal:
            # The past is (B, T, C, H*W) in either layout, so that a stream may change from one to the other.
            forth = self.past(first.transpose(2, channel_dim))[:, :-1].transpose(2, channel_dim)
            return torch.cat([forth, x.narrow(channel_dim, shift, channels - shift)], dim=channel_dim)
        second = x.narrow(channel_dim, shift, shift)
        back = F.pad(first[:, 1:], [0, 0, 0, 0, 0, 1])
        forth = F.pad(second[:, :-1], [0, 0, 0, 0, 1, 0])
        still = x.narrow(channel_dim, 2 * shift, channels - 2 * shift)
        return torch.cat([back, forth, still], dim=channel_dim)

    def extra_repr(self) -> str:
        """Channels that move, for print(model)."""
        return f"shift={self.shift}, causal={self.causal}"
