"""Products of matrices and convolutions as plain sums in one order, whatever else is computed beside them.

A library of linear algebra chooses its order of summation by the sizes of the matrices, so that one frame alone gets
other last bits than the same frame among others. Here each sum runs over its terms in order, so that what is equal on
paper is equal to the last bit.
"""

from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor
from torch.utils._python_dispatch import TorchDispatchMode

aten = torch.ops.aten


class PlainArithmetic(TorchDispatchMode):
    """Within this context the sums of products are plain."""

    def __torch_dispatch__(self, func: Any, types: Any, args: tuple[Any, ...] = (), kwargs: Any = None) -> Any:
        plain = {
            aten.mm.default: mm,
            aten.bmm.default: mm,
            aten.addmm.default: lambda bias, a, b: mm(a, b) + bias,
            aten.convolution.default: convolution,
        }.get(func)
        return func(*args, **(kwargs or {})) if plain is None else plain(*args)


def mm(a: Tensor, b: Tensor) -> Tensor:
    """A matrix product, or several."""
    total = torch.zeros(*a.shape[:-1], b.shape[-1], dtype=a.dtype)
    for k in range(a.shape[-1]):
        total = total + a[..., :, k : k + 1] * b[..., k : k + 1, :]
    return total


def convolution(
    x: Tensor,
    weight: Tensor,
    bias: Tensor | None,
    stride: list[int],
    padding: list[int],
    dilation: list[int],
    transposed: bool,
    output_padding: list[int],
    groups: int,
) -> Tensor:
    """A 2D convolution."""
    x = F.pad(x, (padding[1], padding[1], padding[0], padding[0]))
    outputs = []
    for group, kernels in enumerate(weight.chunk(groups)):
        part = x[:, group * weight.shape[1] :][:, : weight.shape[1]]
        total: Any = 0
        for i in range(weight.shape[2]):
            for j in range(weight.shape[3]):
                rows = (part.shape[2] - dilation[0] * (weight.shape[2] - 1) - 1) // stride[0] + 1
                columns = (part.shape[3] - dilation[1] * (weight.shape[3] - 1) - 1) // stride[1] + 1
                seen = part[:, :, i * dilation[0] :: stride[0], j * dilation[1] :: stride[1]][:, :, :rows, :columns]
                for c in range(weight.shape[1]):
                    total = total + seen[:, c : c + 1] * kernels[None, :, c, i, j, None, None]
        outputs.append(total)
    result = torch.cat(outputs, dim=1).contiguous()
    return result if bias is None else result + bias[:, None, None]
