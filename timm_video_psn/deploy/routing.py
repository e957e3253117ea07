"""The fusion layer's routing as runtimes have it: a plain convolution, or inside the temporal kernels after it."""

import torch
from torch import Tensor, nn

from timm_video_psn.layers.branches import CausalAvgPool, CausalConv2d, CausalMaxPool, TemporalBank, centred_conv
from timm_video_psn.layers.clip import frames_to_rows, rows_to_frames
from timm_video_psn.layers.fusion import Fusion

_POOLS = (nn.MaxPool2d, nn.AvgPool2d, CausalMaxPool, CausalAvgPool)


class ConvFusion(nn.Conv2d):
    """Y = T x X as a 1x1 convolution.

    Args:
        fusion: The fusion layer that it takes the place of.

    Shape:
        x: (B*T, C, H, W) -> same
    """

    def __init__(self, fusion: Fusion):
        routing = fusion.routing().detach()
        super().__init__(routing.shape[1], routing.shape[0], 1, bias=False, device=routing.device, dtype=routing.dtype)
        self.weight = nn.Parameter(routing[:, :, None, None].clone(), requires_grad=False)
        self.in_widths, self.out_widths = fusion.in_widths, fusion.out_widths

    def routing(self) -> Tensor:
        """T, (C_out, C_in)."""
        return self.weight.flatten(1)


class SynthesizedKernels(nn.Module):
    """The temporal bank with the routing in its kernels, K[tau] = W[tau] T: "the produced filter group".

    One convolution over all taps of all branches, in place of the fusion layer and one convolution a branch; the pool,
    which is not linear, follows for its group alone. More arithmetic and fewer kernels: it pays where the channels are
    few, or the kernels' launches are what a clip waits for.

    Args:
        fusion: The fusion layer.
        bank: The temporal bank after it.

    Shape:
        x: (B*T, C, H, W), from the spatial bank, and num_frames T -> (B*T, C, H, W)
    """

    def __init__(self, fusion: Fusion, bank: TemporalBank):
        super().__init__()
        self.labels, self.widths = bank.labels, bank.widths
        kernels = [_kernel(branch, rows) for branch, rows in zip(bank.branches, _blocks(fusion, bank), strict=True)]
        first = min(offset for kernel in kernels for offset in kernel)
        last = max(offset for kernel in kernels for offset in kernel)
        weight = torch.cat([_dense(kernel, first, last) for kernel in kernels])[..., None]  # (C, C, taps, 1)
        channels, size = weight.shape[1:3]
        self.conv = centred_conv(channels, (size, 1), False) if last else CausalConv2d(channels, size, False)
        self.conv.weight = nn.Parameter(weight, requires_grad=False)
        self.pool = bank.branches[-1] if isinstance(bank.branches[-1], _POOLS) else None

    def forward(self, x: Tensor, num_frames: int) -> Tensor:
        """Convolve, and pool the last group."""
        height, width = x.shape[-2:]
        rows = self.conv(frames_to_rows(x, num_frames))  # (B, C, T, H*W)
        if self.pool is not None:
            pooled = rows.shape[1] - self.widths[-1]
            rows = torch.cat([rows[:, :pooled], self.pool(rows[:, pooled:])], dim=1)
        return rows_to_frames(rows, height, width)  # (B*T, C, H, W)


class InKernels(nn.Module):
    """Where the fusion layer was whose routing is inside `SynthesizedKernels`.

    Args:
        fusion: The fusion layer.

    Shape:
        x: (B*T, C, H, W) -> same
    """

    def __init__(self, fusion: Fusion):
        super().__init__()
        self.in_widths, self.out_widths = fusion.in_widths, fusion.out_widths

    def forward(self, x: Tensor) -> Tensor:
        """Nothing: the kernels route."""
        return x

    def routing(self) -> Tensor:
        """Raise: it cannot be had any more."""
        raise ValueError(
            "the routing of this synthesizer is folded into its temporal kernels; use the original model, or fold "
            "it with merge=False"
        )


def _blocks(fusion: Fusion, bank: TemporalBank) -> tuple[Tensor, ...]:
    """The rows of T for each temporal group, (c, C)."""
    return fusion.routing().detach().split(bank.widths)


def _kernel(branch: nn.Module, rows: Tensor) -> dict[int, Tensor]:
    """A branch's kernel on all channels by offset in time, each (c, C); for a pool, the kernel of what it pools."""
    if not isinstance(branch, nn.Conv2d):
        return {0: rows}
    weight = branch.weight.detach()[..., 0].double()  # (c, c, taps)
    taps, dilation = weight.shape[2], int(branch.dilation[0])
    centre = taps - 1 if isinstance(branch, CausalConv2d) else taps // 2
    return {(k - centre) * dilation: (weight[:, :, k] @ rows.double()).to(rows) for k in range(taps)}


def _dense(kernel: dict[int, Tensor], first: int, last: int) -> Tensor:
    """The kernel with a tap for each offset, (c, C, taps)."""
    zero = torch.zeros_like(next(iter(kernel.values())))
    return torch.stack([kernel.get(offset, zero) for offset in range(first, last + 1)], dim=2)
