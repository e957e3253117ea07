"""Batch norm of what is left of a map once it is pooled."""

import torch
import torch.nn.functional as F
from torch import Tensor, nn


class PooledNorm(nn.BatchNorm1d):
    """A batch norm that also trains on a single frame of a single clip.

    Pooled, that frame is one value per channel, which has no variance: PyTorch refuses it. It is normalised by the
    running statistics then, as in evaluation.

    Shape:
        x: (N, C) or (N, C, L) -> same
    """

    def forward(self, x: Tensor) -> Tensor:
        """Normalise."""
        if self.training and x.numel() == x.shape[1]:
            return F.batch_norm(x, self.running_mean, self.running_var, self.weight, self.bias, False, 0.0, self.eps)
        if torch.jit.is_scripting():  # which knows no super()
            return F.batch_norm(
                x, self.running_mean, self.running_var, self.weight, self.bias, self.training, self.momentum, self.eps
            )
        return super().forward(x)
