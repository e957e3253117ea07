"""Spatiotemporal and motion encoding (Jiang, Wang, Gan, Wu, Yan: "STM: SpatioTemporal and Motion ...", ICCV 2019)."""

from typing import Any

import torch
from torch import Tensor, nn

from timm_video_psn.layers.clip import split_frames
from timm_video_psn.layers.taps import weigh_taps
from timm_video_psn.layers.temporal_module import Position, TemporalModule


class SpatiotemporalMotion(TemporalModule):
    """CSTM + CMM in place of the 3x3 convolution of a bottleneck (the paper's Fig. 2).

        CSTM(X) = conv3x3(temporal(X)), with three taps of its own for each channel
        CMM(X)  = expand(M),  M(t) = conv3x3(R(t + 1)) - R(t), zero for the last frame,  R = reduce(X)

    reduce and expand are 1x1 convolutions to and from C/reduction channels, the 3x3 convolution of CMM is channelwise.
    The 3x3 convolution of CSTM is the backbone's own, with its weights.

    No official code is published. Paper silent on the start, on norms inside the modules and on strides: the temporal
    taps start as the identity and expand at zero, so that the block starts as the image network's; there are no norms;
    expand takes the stride.

    Args:
        channels: Channels C, in and out.
        num_frames: Frames T of a clip; any later value may be assigned to the attribute.
        reduction: Divisor of the channels inside CMM; the paper's 16.

    Shape:
        x: (B*T, C, H, W) -> same, or (B*T, C, H', W') with the stride of the convolution that it replaces

    Raises:
        ValueError: The reduction leaves no channel.
    """

    placement = "replace_conv2"

    def __init__(self, channels: int, num_frames: int = 8, reduction: int = 16):
        super().__init__(num_frames)
        if not 1 <= reduction <= channels:
            raise ValueError(f"reduction={reduction} leaves no channel of {channels}; use 1 to {channels}")
        reduced = channels // reduction
        self.taps = nn.Parameter(torch.tensor([0.0, 1.0, 0.0]).repeat(channels, 1))
        self.spatial = nn.Conv2d(channels, channels, kernel_size=3, padding=1, bias=False)
        self.reduce = nn.Conv2d(channels, reduced, kernel_size=1, bias=False)
        self.transform = nn.Conv2d(reduced, reduced, kernel_size=3, padding=1, groups=reduced, bias=False)
        self.expand = nn.Conv2d(reduced, channels, kernel_size=1, bias=False)
        for conv in (self.reduce, self.transform):
            nn.init.kaiming_normal_(conv.weight, mode="fan_out", nonlinearity="relu")
        nn.init.zeros_(self.expand.weight)

    @classmethod
    def replacing(
        cls, old: tuple[Any, ...], num_frames: int, position: Position, **settings: Any
    ) -> "SpatiotemporalMotion":
        """The module around a convolution that mixes space.

        Args:
            old: The convolution alone; it becomes the module's own.
            num_frames: Frames T of a clip.
            position: Makes no difference here.
            **settings: Settings of the class.

        Raises:
            ValueError: The convolution changes the number of channels.
        """
        (conv,) = old
        if conv.in_channels != conv.out_channels:
            raise ValueError(
                f"STM replaces convolutions with as many output as input channels, found {conv}; use a backbone with "
                "plain blocks, such as resnet50"
            )
        module = cls(conv.in_channels, num_frames, **settings).to(conv.weight)
        module.spatial = conv
        module.expand.stride = conv.stride
        return module

    def forward(self, x: Tensor) -> Tensor:
        """Spatiotemporal and motion features, added up."""
        frames = split_frames(x.flatten(2), self.num_frames)  # (B, T, C, H*W)
        mixed = weigh_taps(frames, self.taps[None]).flatten(0, 1).unflatten(2, x.shape[2:])
        return self.spatial(mixed) + self.expand(self._motion(self.reduce(x)))

    def _motion(self, x: Tensor) -> Tensor:
        """What changes from each frame to the next."""
        ahead = split_frames(self.transform(x).flatten(1), self.num_frames)  # (B, T, C/reduction * H * W)
        here = split_frames(x.flatten(1), self.num_frames)
        motion = torch.cat([ahead[:, 1:] - here[:, :-1], torch.zeros_like(here[:, :1])], dim=1)
        return motion.flatten(0, 1).unflatten(1, x.shape[1:])
