"""The temporal shift of TSM (Lin, Gan, Han: "TSM: Temporal Shift Module for Efficient Video Understanding", 2019)."""

import torch
from torch import Tensor

from timm_video_psn.layers.clip import split_frames
from timm_video_psn.layers.temporal_module import TemporalModule


class TemporalShift(TemporalModule):
    """The first 1/shift_div of the channels move one frame back in time, the second 1/shift_div one frame forward.

    As in the official repository (mit-han-lab/temporal-shift-module, `TemporalShift.shift`): channel block one of
    frame t comes from frame t + 1, block two from frame t - 1, zeros enter at the ends. It sits before the first
    convolution of each residual branch (`blockres` there), so that the shortcut stays unshifted.

    Args:
        channels: channels of the map; 2 * (channels // shift_div) of them move.
        num_frames: frames T of a clip; any later value may be assigned to the attribute.
        shift_div: the official 8.

    Shape:
        x: (B*T, C, H, W) -> same
    """

    placement = "residual_branch"

    def __init__(self, channels: int, num_frames: int = 8, shift_div: int = 8):
        super().__init__(num_frames)
        if shift_div < 2 or channels < shift_div:
            raise ValueError(f"shift_div={shift_div} of {channels} channels moves none or all; use 2 to {channels}")
        self.shift = channels // shift_div

    def forward(self, x: Tensor) -> Tensor:
        """Shift along time, out of place."""
        if x.is_contiguous(memory_format=torch.channels_last):  # and stays so
            return self._shift(x.permute(0, 2, 3, 1), channel_dim=4).permute(0, 3, 1, 2)
        return self._shift(x, channel_dim=2)

    def _shift(self, x: Tensor, channel_dim: int) -> Tensor:
        """The shift of a folded batch whose channels, once the frames are split off, are this dimension."""
        x = split_frames(x, self.num_frames)  # (B, T, C, H, W) or (B, T, H, W, C)
        rest = x.shape[channel_dim] - 2 * self.shift
        back, forth, still = x.split((self.shift, self.shift, rest), dim=channel_dim)
        zeros = torch.zeros_like(back[:, :1])
        back = torch.cat([back[:, 1:], zeros], dim=1)
        forth = torch.cat([zeros, forth[:, :-1]], dim=1)
        return torch.cat([back, forth, still], dim=channel_dim).flatten(0, 1)

    def extra_repr(self) -> str:
        """Channels that move, for print(model)."""
        return f"shift={self.shift}"
