"""The optimized feature fusion layer: Y = T x X, from the spatial groups X_j to the temporal groups Y_i (Fig. 2).

Each class returns its routing, a (C, C) matrix of blocks T_ij, from `routing()`; `forward` applies it. The fixed ones
are the special cases that the paper names (Eq. 4, Table 2).
"""

import math
from collections.abc import Callable

import torch
import torch.nn.functional as F
from torch import Tensor, nn


class Fusion(nn.Module):
    """What the fusion layers share: a routing T, applied at every pixel.

    Args:
        in_widths: Channels of the spatial groups X_j.
        out_widths: Channels of the temporal groups Y_i.

    Shape:
        x: (B*T, C, H, W) -> same
    """

    def __init__(self, in_widths: tuple[int, ...], out_widths: tuple[int, ...]):
        super().__init__()
        self.in_widths, self.out_widths = in_widths, out_widths

    def routing(self) -> Tensor:
        """T, (C_out, C_in)."""
        raise NotImplementedError(f"{type(self).__name__} must implement routing()")

    def initial_norms(self) -> Tensor:
        """The ||T_ij||_1 to expect of a random T at the start, (G_t, G_s); 1 for a T that is not learned."""
        return torch.ones(len(self.out_widths), len(self.in_widths))

    def forward(self, x: Tensor) -> Tensor:
        """Y = T x X at every pixel."""
        return F.conv2d(x, self.routing()[:, :, None, None])


class DenseFusion(Fusion):
    """Every T_ij a full matrix: "simply implemented as a fully connected layer" without bias (Fig. 3).

    Args:
        in_widths: Channels of the spatial groups X_j.
        out_widths: Channels of the temporal groups Y_i.

    Shape:
        x: (B*T, C, H, W) -> same
    """

    def __init__(self, in_widths: tuple[int, ...], out_widths: tuple[int, ...]):
        super().__init__(in_widths, out_widths)
        self.weight = nn.Parameter(torch.empty(sum(out_widths), sum(in_widths)))
        nn.init.normal_(self.weight, std=self.weight.shape[1] ** -0.5)

    def routing(self) -> Tensor:
        """T, (C_out, C_in)."""
        return self.weight

    def initial_norms(self) -> Tensor:
        """Elements of each block times the mean absolute value of N(0, 1/C_in), (G_t, G_s)."""
        sizes = torch.outer(torch.tensor(self.out_widths), torch.tensor(self.in_widths))
        return sizes * (2 / (math.pi * sum(self.in_widths))) ** 0.5


class ChannelwiseFusion(Fusion):
    """Every T_ij a vector of c elements, applied channel by channel, as Fig. 2 draws it.

    Args:
        in_widths: Channels of the spatial groups X_j, all equal.
        out_widths: Channels of the temporal groups Y_i, all equal to those.
    """

    def __init__(self, in_widths: tuple[int, ...], out_widths: tuple[int, ...]):
        width = _equal_width("channelwise", in_widths, out_widths)
        super().__init__(in_widths, out_widths)
        self.weight = nn.Parameter(torch.empty(len(out_widths), len(in_widths), width))
        nn.init.normal_(self.weight, std=len(in_widths) ** -0.5)

    def routing(self) -> Tensor:
        """T, (C_out, C_in): block ij is diag(T_ij)."""
        blocks = torch.diag_embed(self.weight)  # (G_t, G_s, c, c)
        return blocks.transpose(1, 2).reshape(sum(self.out_widths), sum(self.in_widths))

    def initial_norms(self) -> Tensor:
        """Elements of each vector times the mean absolute value of N(0, 1/G_s), (G_t, G_s)."""
        mean = (2 / (math.pi * len(self.in_widths))) ** 0.5
        return torch.full((len(self.out_widths), len(self.in_widths)), self.in_widths[0] * mean)


class _FixedFusion(Fusion):
    """A routing that is not learned."""

    matrix: Tensor

    def __init__(self, in_widths: tuple[int, ...], out_widths: tuple[int, ...], matrix: Tensor):
        super().__init__(in_widths, out_widths)
        self.register_buffer("matrix", matrix, persistent=False)

    def routing(self) -> Tensor:
        """T, (C_out, C_in)."""
        return self.matrix


class GroupingFusion(_FixedFusion):
    """T = identity: no routing between the groups, the paper's channel grouping (Table 2)."""

    def __init__(self, in_widths: tuple[int, ...], out_widths: tuple[int, ...]):
        super().__init__(in_widths, out_widths, torch.eye(sum(out_widths), sum(in_widths)))

    def forward(self, x: Tensor) -> Tensor:
        """Y = X."""
        return x


class ShuffleFusion(_FixedFusion):
    """Channel shuffling: Y_i collects sub-group i of every X_j (Eq. 4), in ShuffleNet's order.

    Paper silent on groups that G does not divide: the same order then gives Y_i one channel more of some X_j.
    """

    def __init__(self, in_widths: tuple[int, ...], out_widths: tuple[int, ...]):
        width, groups = _wide_enough("shuffle", in_widths, out_widths), len(in_widths)
        sources = torch.arange(groups * width).reshape(groups, width).T.flatten()  # Y[n * G + j] = X_j[n]
        super().__init__(in_widths, out_widths, torch.eye(groups * width)[sources])

    def forward(self, x: Tensor) -> Tensor:
        """Y = T x X, as the permutation that it is."""
        return F.channel_shuffle(x, len(self.in_widths))


class DropoutFusion(_FixedFusion):
    """Channel dropout: a fixed mask keeps 1/G of every spatial group, and every Y_i receives what is kept (Table 2).

    Paper silent on the mask: the first sub-group of each X_j is kept, so that the drop rate is 1 - 1/G. Where G does
    not divide the groups, the first of them keep one channel more.
    """

    def __init__(self, in_widths: tuple[int, ...], out_widths: tuple[int, ...]):
        width, groups = _wide_enough("dropout", in_widths, out_widths), len(in_widths)
        share, rest = divmod(width, groups)
        kept = torch.cat([j * width + torch.arange(share + (j < rest)) for j in range(groups)])  # one Y_i
        super().__init__(in_widths, out_widths, torch.eye(sum(in_widths))[kept.repeat(len(out_widths))])


FUSIONS: dict[str, Callable[[tuple[int, ...], tuple[int, ...]], Fusion]] = {
    "dense": DenseFusion,
    "channelwise": ChannelwiseFusion,
    "grouping": GroupingFusion,
    "shuffle": ShuffleFusion,
    "dropout": DropoutFusion,
}


def block_norms(routing: Tensor, in_widths: tuple[int, ...], out_widths: tuple[int, ...]) -> Tensor:
    """||T_ij||_1 of every block (Eq. 2, Fig. 5).

    Args:
        routing: T, (C_out, C_in).
        in_widths: Channels of the spatial groups, j.
        out_widths: Channels of the temporal groups, i.

    Returns:
        (G_t, G_s).
    """
    rows = torch.stack([block.sum(0) for block in routing.abs().split(out_widths, dim=0)])  # (G_t, C_in)
    return torch.stack([block.sum(1) for block in rows.split(in_widths, dim=1)], dim=1)  # (G_t, G_s)


def _equal_width(name: str, in_widths: tuple[int, ...], out_widths: tuple[int, ...]) -> int:
    """The one width c of all groups."""
    if len({*in_widths, *out_widths}) != 1:
        raise ValueError(
            f"fusion={name!r} needs spatial and temporal groups of one width, found {in_widths} and {out_widths}; "
            "use fusion='dense' or 'grouping', or as many temporal as spatial branches (receptive_field=(5, 5, 5)) and "
            "a number of channels that they divide"
        )
    return in_widths[0]


def _wide_enough(name: str, in_widths: tuple[int, ...], out_widths: tuple[int, ...]) -> int:
    """The one width c of all groups, each of which has a channel for every other one."""
    width, groups = _equal_width(name, in_widths, out_widths), len(in_widths)
    if width < groups:
        raise ValueError(
            f"fusion={name!r} divides groups of {width} channels into {groups} sub-groups, which leaves some empty; "
            f"use a proportion that gives at least {groups * groups} channels, or fusion='dense'"
        )
    return width
