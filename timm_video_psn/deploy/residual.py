"""Expansion and residual as one matrix product, z = U + E V."""

import torch
from torch import Tensor

from timm_video_psn.layers import EnhancedResidual
from timm_video_psn.layers.temporal_module import TemporalModule


class AddmmResidual(TemporalModule):
    """A synthesizer, or another enhanced residual, that reads U and writes z once at its end.

    In channels_last memory the pixels of a folded batch are the rows of a matrix, so that the 1x1 convolution and the
    sum are `addmm`. With another layout of U it runs as the module does.

    Args:
        module: The module that it takes the place of.

    Shape:
        x: (B*T, C_in, H, W) -> same
    """

    def __init__(self, module: EnhancedResidual):
        super().__init__(module.num_frames)
        self.module, self.causal = module, module.causal

    def forward(self, x: Tensor) -> Tensor:
        """Z = U + E V."""
        if not x.is_contiguous(memory_format=torch.channels_last):
            return self.module(x)
        v = self.module.enhance(self.module.reduce(x))
        height, width = x.shape[2:]
        u, v = (each.permute(0, 2, 3, 1).flatten(0, 2) for each in (x, v))  # (B*T*H*W, C_in), (B*T*H*W, C)
        z = torch.addmm(u, v, self.module.expand.weight.flatten(1).T)
        return z.unflatten(0, (-1, height, width)).permute(0, 3, 1, 2)
