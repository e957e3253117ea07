"""The bags of fixed-size kernels: F_s, spatial, and F_t, temporal (Eq. 1; the two columns of Fig. 3).

A bank splits its channels into groups, gives each group its own kernel, and concatenates the results.
"""

from collections.abc import Sequence
from typing import Literal

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from timm_video_psn.layers.clip import frames_to_rows, rows_to_frames
from timm_video_psn.layers.past import Past

Pool = Literal["max", "avg", "identity", "none"]
SpatialConv = Literal["2d", "1+1d"]
Unit = Literal["identity", "conv"]


def group_widths(channels: int, groups: int) -> tuple[int, ...]:
    """Widths of the groups that `channels` are split into; the first, of the identity branch, takes the remainder.

    Paper silent: it only ever splits evenly. From 64 channels on the other widths are multiples of 4, which the
    convolution kernels of every library prefer.

    Args:
        channels: Channels to split.
        groups: Number of groups G.

    Returns:
        G widths that add up to `channels`.

    Raises:
        ValueError: A group would have no channel.

    Example:
        >>> group_widths(64, 5)
        (16, 12, 12, 12, 12)
    """
    width = channels // groups
    if channels >= 64:
        width -= width % 4
    if width < 1:
        raise ValueError(
            f"{channels} channels leave some of the {groups} groups empty; at least {groups} channels are needed: "
            "use a larger proportion, or fewer branches (a smaller receptive_field, pool='none')"
        )
    return (channels - (groups - 1) * width,) + (groups - 1) * (width,)


def odd_sizes(receptive_field: int) -> list[int]:
    """Kernel sizes 1, 3, 5, ... up to the receptive field."""
    if receptive_field < 1 or receptive_field % 2 == 0:
        raise ValueError(
            f"receptive field {receptive_field} is not a positive odd number, which centred kernels need; "
            "use 1, 3, 5, 7, ... in each of T, H, W"
        )
    return list(range(1, receptive_field + 1, 2))


def _taps(size: int, dilated: bool) -> tuple[int, int]:
    """Kernel taps and dilation of a kernel that spans `size`: 3 dilated taps beyond 3, as the paper's "d" blocks."""
    if size <= 3 or not dilated:
        return size, 1
    return 3, (size - 1) // 2


def centred_conv(channels: int, size: tuple[int, int], dilated: bool) -> nn.Conv2d:
    """Convolution of `channels` to `channels` that spans `size` (rows, columns), keeps the map's size, has no bias."""
    (kernel_h, dilation_h), (kernel_w, dilation_w) = (_taps(span, dilated) for span in size)
    return nn.Conv2d(
        channels,
        channels,
        kernel_size=(kernel_h, kernel_w),
        padding=(size[0] // 2, size[1] // 2),
        dilation=(dilation_h, dilation_w),
        bias=False,
    )


class CausalConv2d(nn.Conv2d):
    """A temporal convolution that reaches back only: its last tap lies on the frame itself.

    Args:
        channels: Channels, in and out.
        size: Frames that it spans.
        dilated: 3 taps beyond 3 frames, else all taps.

    Shape:
        x: (B, C, T, H*W) -> same
    """

    def __init__(self, channels: int, size: int, dilated: bool):
        taps, dilation = _taps(size, dilated)
        super().__init__(channels, channels, (taps, 1), dilation=(dilation, 1), bias=False)
        self.past = Past(size - 1, dim=2)

    def forward(self, x: Tensor) -> Tensor:
        """Convolves the past and the frames at hand."""
        return self._conv_forward(self.past(x), self.weight, self.bias)


class CausalMaxPool(nn.Module):
    """The maximum over a frame and the two before it.

    Shape:
        x: (B, C, T, H*W) -> same
    """

    def __init__(self) -> None:
        super().__init__()
        self.past = Past(2, dim=2, value=float("-inf"))

    def forward(self, x: Tensor) -> Tensor:
        """Pool the past and the frames at hand."""
        return F.max_pool2d(self.past(x), (3, 1), stride=1)


class CausalAvgPool(nn.Module):
    """The average over a frame and the two before it, which does not count what is before the clip.

    Shape:
        x: (B, C, T, H*W) -> same
    """

    def __init__(self) -> None:
        super().__init__()
        self.past, self.past_count = Past(2, dim=2), Past(2, dim=2)  # of the map, and of the number of frames

    def forward(self, x: Tensor) -> Tensor:
        """Pool the past and the frames at hand."""
        count = F.avg_pool2d(self.past_count(torch.ones_like(x[:1, :1, :, :1])), (3, 1), stride=1)  # (1, 1, T, 1)
        return F.avg_pool2d(self.past(x), (3, 1), stride=1) / count


_CAUSAL_POOLS: dict[str, type[nn.Module]] = {"max": CausalMaxPool, "avg": CausalAvgPool}


def _pool(kind: Pool, size: tuple[int, int]) -> nn.Module:
    """Stride-1 pool over `size`. Paper silent on the border: neither kind of pool counts the padding."""
    padding = (size[0] // 2, size[1] // 2)
    if kind == "identity":
        return nn.Identity()
    if kind == "max":
        return nn.MaxPool2d(size, stride=1, padding=padding)
    return nn.AvgPool2d(size, stride=1, padding=padding, count_include_pad=False)


class SpatialBank(nn.Module):
    """F_s: a group of channels for each spatial kernel, and one for a pool (Eq. 1, left column of Fig. 3).

    "Only spatial convolutions are followed by the batch normalization and ReLU": identity and pool are bare.

    Args:
        channels: Channels C, in and out.
        sizes: (height, width) of each kernel.
        pool: A further branch, a `max` or `avg` pool over 3x3 or an `identity` that bypasses the kernels, or `none`.
        dilated: Kernels beyond 3 are 3 dilated taps; else they have all their taps.
        spatial_conv: `2d` kernels, or `1+1d`: k x 1 and then 1 x k, each with its norm and ReLU.
        inter_act: The ReLU after each spatial convolution.
        unit: The kernel of size (1, 1), an `identity`, or a `conv` with norm and ReLU as the others.

    Shape:
        x: (B*T, C, H, W) -> same
    """

    def __init__(
        self,
        channels: int,
        sizes: Sequence[tuple[int, int]],
        pool: Pool = "max",
        dilated: bool = True,
        spatial_conv: SpatialConv = "2d",
        inter_act: bool = True,
        unit: Unit = "identity",
    ):
        super().__init__()
        self.labels = tuple(_label("S", *size, unit) for size in sizes) + _pool_labels("S", pool)
        self.widths = group_widths(channels, len(self.labels))
        branches = [
            _spatial_branch(width, size, dilated, spatial_conv, inter_act, unit)
            for size, width in zip(sizes, self.widths, strict=False)
        ]
        self.branches = nn.ModuleList(branches + ([] if pool == "none" else [_pool(pool, (3, 3))]))

    def forward(self, x: Tensor) -> Tensor:
        """Each group through its kernel."""
        outputs: list[Tensor] = []
        start = 0
        for i, branch in enumerate(self.branches):  # TorchScript knows no zip of modules and numbers
            outputs.append(branch(x.narrow(1, start, self.widths[i])))
            start += self.widths[i]
        return outputs[0] if len(outputs) == 1 else torch.cat(outputs, dim=1)


class TemporalBank(nn.Module):
    """F_t: a group of channels for each temporal kernel, and one for a pool (Eq. 1, right column of Fig. 3).

    No norm and no activation follows. The clip's ends are padded with zeros.

    Args:
        channels: Channels C, in and out.
        sizes: Length in frames of each kernel; 1 is the identity.
        pool: A further branch, a `max` or `avg` pool over 3 frames or an `identity`, or `none`.
        dilated: Kernels beyond 3 are 3 dilated taps; else they have all their taps.
        causal: Kernels and pool reach back only, as far as they span.

    Shape:
        x: (B*T, C, H, W) and num_frames T -> (B*T, C, H, W)
    """

    def __init__(
        self, channels: int, sizes: Sequence[int], pool: Pool = "max", dilated: bool = True, causal: bool = False
    ):
        super().__init__()
        self.labels = tuple(_label("T", size, size) for size in sizes) + _pool_labels("T", pool)
        self.widths = group_widths(channels, len(self.labels))
        branches = [
            _temporal_branch(width, size, dilated, causal) for size, width in zip(sizes, self.widths, strict=False)
        ]
        if pool != "none":
            branches.append(_CAUSAL_POOLS[pool]() if causal and pool in _CAUSAL_POOLS else _pool(pool, (3, 1)))
        self.branches = nn.ModuleList(branches)

    def forward(self, x: Tensor, num_frames: int) -> Tensor:
        """Each group through its kernel, along time."""
        height, width = x.shape[-2:]
        rows = frames_to_rows(x, num_frames)  # (B, C, T, H*W)
        outputs: list[Tensor] = []
        start = 0
        for i, branch in enumerate(self.branches):
            outputs.append(branch(rows.narrow(1, start, self.widths[i])))
            start += self.widths[i]
        rows = outputs[0] if len(outputs) == 1 else torch.cat(outputs, dim=1)
        return rows_to_frames(rows, height, width)  # (B*T, C, H, W)


def _spatial_branch(
    channels: int, size: tuple[int, int], dilated: bool, spatial_conv: SpatialConv, inter_act: bool, unit: Unit
) -> nn.Module:
    """Identity, or convolution(s), each with its norm and ReLU."""
    if size == (1, 1) and unit == "identity":
        return nn.Identity()
    spans = [size] if spatial_conv == "2d" or size == (1, 1) else [(size[0], 1), (1, size[1])]
    layers: list[nn.Module] = []
    for span in spans:
        layers += [centred_conv(channels, span, dilated), nn.BatchNorm2d(channels)]
        layers += [nn.ReLU(inplace=True)] if inter_act else []
    return nn.Sequential(*layers)


def _temporal_branch(channels: int, size: int, dilated: bool, causal: bool) -> nn.Module:
    """Identity, or a convolution along time."""
    if size == 1:
        return nn.Identity()
    return CausalConv2d(channels, size, dilated) if causal else centred_conv(channels, (size, 1), dilated)


def _label(domain: str, height: int, width: int, unit: Unit = "identity") -> str:
    """The paper's triplet of Fig. 5: domain, type, size."""
    kind = "I" if (height, width) == (1, 1) and unit == "identity" else "C"
    return f"{domain}-{kind}-{height}" if height == width else f"{domain}-{kind}-{height}x{width}"


def _pool_labels(domain: str, pool: Pool) -> tuple[str, ...]:
    """The triplet of the pool, or of the identity in its place; I-1 is the kernel of size 1."""
    return {"max": (f"{domain}-M-3",), "avg": (f"{domain}-A-3",), "identity": (f"{domain}-I-3",), "none": ()}[pool]
