"""Grouped spatial-temporal aggregation (Luo, Yuille: "Grouped Spatial-Temporal Aggregation ...", ICCV 2019)."""

from typing import Any

import torch
from torch import Tensor, nn

from timm_video_psn.layers.clip import split_frames
from timm_video_psn.layers.taps import add_taps
from timm_video_psn.layers.temporal_module import TemporalModule


class GroupedSpatialTemporal(TemporalModule):
    """A 3x3 convolution and a 3x3x3 convolution side by side, each with its own part of the channels.

    As in the official repository (chenxuluo/GST-video, `GST.Bottleneck`): the second convolution of a bottleneck
    becomes `conv2`, 1 - 1/alpha of the outputs, and `Tconv`, the other 1/alpha, concatenated before the block's norm.
    With beta = 2 the first half of the inputs goes to the spatial and the second to the temporal convolution; with
    beta = 1 ("GST-Large") both see all of them. Zeros enter at the ends of the clip.

    The 3x3x3 convolution is computed as one 3x3 convolution for its three frames, whose outputs then meet along time:
    the same sums, without a map in the layout of 3D convolutions. So `temporal.weight` is (3 * C/alpha, C/beta, 3, 3),
    first the kernels for the frame before, then those for the frame itself, then those for the frame after.

    Args:
        channels: channels C, in and out.
        num_frames: frames T of a clip; any later value may be assigned to the attribute.
        alpha: 1/alpha of the outputs are temporal; the official 4.
        beta: 1/beta of the inputs go to either convolution; the official 2, or 1.

    Shape:
        x: (B*T, C, H, W) -> same, or (B*T, C, H', W') with the stride of a convolution that it replaces

    Raises:
        ValueError: alpha or beta do not divide the channels.

    Example:
        >>> GroupedSpatialTemporal(64, num_frames=8)(torch.zeros(16, 64, 7, 7)).shape
        torch.Size([16, 64, 7, 7])
    """

    placement = "replace_conv2"

    def __init__(self, channels: int, num_frames: int = 8, alpha: int = 4, beta: int = 2):
        super().__init__(num_frames)
        if alpha < 2 or channels % alpha:
            raise ValueError(f"alpha={alpha} does not part channels={channels}; use a divisor of them from 2 on, as 4")
        if beta not in (1, 2) or channels % beta:
            raise ValueError(f"beta={beta} of channels={channels} is not known; use 2, for an even number, or 1")
        self.beta = beta
        inputs, temporal = channels // beta, channels // alpha
        self.spatial = nn.Conv2d(inputs, channels - temporal, kernel_size=3, padding=1, bias=False)
        self.temporal = nn.Conv2d(inputs, 3 * temporal, kernel_size=3, padding=1, bias=False)
        for conv in (self.spatial, self.temporal):
            nn.init.kaiming_normal_(conv.weight, mode="fan_out", nonlinearity="relu")  # as the official network

    @classmethod
    def replacing(
        cls, old: tuple[Any, ...], num_frames: int, opens_stage: bool, **settings: Any
    ) -> "GroupedSpatialTemporal":
        """The module in place of a 3x3 convolution.

        As the official loader does, the spatial convolution takes the weights of the first outputs and inputs of the
        old one, and the temporal convolution, which nothing in an image network matches, starts at random.

        Args:
            old: the convolution alone.
            num_frames: frames T of a clip.
            opens_stage: makes no difference here.
            **settings: as for the class.

        Raises:
            ValueError: the convolution is not a plain 3x3 one that keeps the number of channels.
        """
        (conv,) = old
        plain = conv.kernel_size == (3, 3) and conv.groups == 1 and conv.bias is None and conv.padding_mode == "zeros"
        if not plain or conv.in_channels != conv.out_channels:
            raise ValueError(
                f"GST takes the place of a 3x3 convolution of as many channels out as in, without groups and bias, and "
                f"found {conv}; use a backbone with plain blocks, as resnet50"
            )
        module = cls(conv.in_channels, num_frames, **settings).to(conv.weight)
        for part in (module.spatial, module.temporal):
            part.stride, part.padding, part.dilation = conv.stride, conv.padding, conv.dilation
        outputs, inputs = module.spatial.weight.shape[:2]
        with torch.no_grad():
            module.spatial.weight.copy_(conv.weight[:outputs, :inputs])
        return module

    def forward(self, x: Tensor) -> Tensor:
        """Both convolutions, each on its part of the channels."""
        left, right = x, x
        if self.beta == 2:
            left, right = x.chunk(2, dim=1)
        spatial = self.spatial(left)
        taps = split_frames(self.temporal(right).flatten(2), self.num_frames).chunk(3, dim=2)  # (B, T, C/alpha, H'*W')
        temporal = add_taps(list(taps)).flatten(0, 1).unflatten(2, spatial.shape[2:])
        return torch.cat([spatial, temporal], dim=1)


def temporal_kernel(weight: Tensor) -> Tensor:
    """The weight of a 3x3x3 convolution in the form of `GroupedSpatialTemporal.temporal`.

    Shape:
        weight: (O, I, 3, 3, 3), time first -> (3*O, I, 3, 3)
    """
    return weight.movedim(2, 0).flatten(0, 1)
