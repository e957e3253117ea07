"""Grouped spatial-temporal aggregation (Luo, Yuille: "Grouped Spatial-Temporal Aggregation ...", ICCV 2019)."""

from typing import Any

import torch
from torch import Tensor, nn

from timm_video_psn.layers.clip import split_frames
from timm_video_psn.layers.taps import add_taps
from timm_video_psn.layers.temporal_module import Position, TemporalModule


class GroupedSpatialTemporal(TemporalModule):
    """A 3x3 convolution and a 3x3x3 convolution side by side, each with its own part of the channels.

    As in the official repository (chenxuluo/GST-video, `GST.Bottleneck`): the second convolution of a bottleneck
    becomes `conv2`, 1 - 1/alpha of the outputs, and `Tconv`, the other 1/alpha, concatenated before the block's norm.
    With beta = 2 the first half of the inputs goes to the spatial and the second to the temporal convolution; with
    beta = 1 ("GST-Large") both see all of them. Zeros enter at the ends of the clip.

    The 3x3x3 convolution is computed as one 3x3 convolution for its three frames, whose outputs then meet along time:
    the same sums, without a map in the layout of 3D convolutions. So `temporal.weight` is (3 * C/alpha, C/beta, 3, 3),
    first the kernels for the frame before, then those for the frame itself, then those for the frame after.

    Paper silent on grouped and depthwise convolutions, as RegNet, EfficientNet and ConvNeXt have them: there the first
    groups stay spatial and the last 1/alpha of them become temporal, each with its own inputs, so that beta does not
    matter. A kernel of another size keeps its size in space.

    Args:
        channels: Channels C, in and out.
        num_frames: Frames T of a clip; any later value may be assigned to the attribute.
        alpha: 1/alpha of the outputs are temporal; the official 4.
        beta: 1/beta of the inputs go to either convolution; the official 2, or 1.

    Shape:
        x: (B*T, C, H, W) -> same, or (B*T, C, H', W') with the stride of a convolution that it replaces

    Raises:
        ValueError: Alpha or beta do not part the channels.

    Example:
        >>> GroupedSpatialTemporal(64, num_frames=8)(torch.zeros(16, 64, 7, 7)).shape
        torch.Size([16, 64, 7, 7])
    """

    placement = "replace_conv2"

    def __init__(self, channels: int, num_frames: int = 8, alpha: int = 4, beta: int = 2):
        super().__init__(num_frames)
        if not 2 <= alpha <= channels:
            raise ValueError(f"alpha={alpha} cannot split channels={channels}; use 2 to {channels}, for example 4")
        if beta not in (1, 2) or channels < beta:
            raise ValueError(f"beta={beta} is not supported for channels={channels}; use 2 or 1")
        self.alpha, self.beta = alpha, beta
        self._build(nn.Conv2d(channels, channels, kernel_size=3, padding=1, bias=False, device="meta"))

    def _build(self, conv: nn.Conv2d) -> None:
        """Both convolutions, in the form of the one that they replace."""
        channels, groups = conv.in_channels, conv.groups
        if groups == 1:
            temporal, halves = channels // self.alpha, (channels // 2, channels - channels // 2)
            self.inputs = halves if self.beta == 2 else (channels, channels)
        else:  # each group keeps its own inputs
            temporal = channels // groups * max(1, groups // self.alpha)
            self.inputs = (channels - temporal, temporal)
        self.shares_inputs = sum(self.inputs) > channels
        form: dict[str, Any] = {name: getattr(conv, name) for name in ("kernel_size", "stride", "padding", "dilation")}

        def part(inputs: int, outputs: int, frames: int, bias: bool) -> nn.Conv2d:
            own = groups * outputs // channels if groups > 1 else 1
            built = nn.Conv2d(inputs, frames * outputs, groups=own, bias=bias, **form)
            nn.init.kaiming_normal_(built.weight, mode="fan_out", nonlinearity="relu")  # as the official network
            return built

        self.spatial = part(self.inputs[0], channels - temporal, 1, conv.bias is not None)
        self.temporal = part(self.inputs[1], temporal, 3, False)

    @classmethod
    def replacing(
        cls, old: tuple[Any, ...], num_frames: int, position: Position, **settings: Any
    ) -> "GroupedSpatialTemporal":
        """The module in place of a convolution that mixes space.

        As the official loader does, the spatial convolution takes the weights of the first outputs and inputs of the
        old one, and the temporal convolution, which nothing in an image network matches, starts at random.

        Args:
            old: The convolution alone.
            num_frames: Frames T of a clip.
            position: Makes no difference here.
            **settings: Settings of the class.

        Raises:
            ValueError: The convolution changes the number of channels, or pads with something else than zeros.
        """
        (conv,) = old
        if conv.in_channels != conv.out_channels or conv.padding_mode != "zeros":
            raise ValueError(
                f"GST replaces convolutions with as many output as input channels and zero padding, found {conv}; use "
                "a backbone with plain blocks, such as resnet50"
            )
        module = cls(conv.in_channels, num_frames, **settings)
        module._build(conv)
        module.to(conv.weight)
        spatial: Any = module.spatial
        outputs, inputs = spatial.weight.shape[:2]
        with torch.no_grad():
            spatial.weight.copy_(conv.weight[:outputs, :inputs])
            if spatial.bias is not None:
                spatial.bias.copy_(conv.bias[:outputs])
        return module

    def forward(self, x: Tensor) -> Tensor:
        """Both convolutions, each on its part of the channels."""
        left, right = x, x
        if not self.shares_inputs:
            left, right = x[:, : self.inputs[0]], x[:, self.inputs[0] :]
        spatial = self.spatial(left)
        taps = [split_frames(tap, self.num_frames) for tap in self._by_tap(self.temporal(right).flatten(2))]
        temporal = add_taps(taps).flatten(0, 1).unflatten(2, spatial.shape[2:])
        return torch.cat([spatial, temporal], dim=1)

    def _by_tap(self, products: Tensor) -> list[Tensor]:
        """The outputs of the three taps; a grouped convolution sorts them by its groups first.

        Shape:
            products: (B*T, 3 * C/alpha, H'*W') -> each (B*T, C/alpha, H'*W')
        """
        groups = self.temporal.groups
        if groups == 1:
            return list(products.chunk(3, dim=1))
        batch, channels, pixels = products.shape
        by_group = products.reshape(batch, groups, 3, channels // (3 * groups) * pixels)
        return [by_group[:, :, k].reshape(batch, channels // 3, pixels) for k in range(3)]


def temporal_kernel(weight: Tensor) -> Tensor:
    """The weight of a 3x3x3 convolution in the form of `GroupedSpatialTemporal.temporal`.

    Shape:
        weight: (O, I, 3, 3, 3), time first -> (3*O, I, 3, 3)
    """
    return weight.movedim(2, 0).flatten(0, 1)
