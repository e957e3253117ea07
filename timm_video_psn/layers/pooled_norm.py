"""Batch norm of what is left of a map once it is pooled."""

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
        training = self.training and x.numel() > x.shape[1]
        momentum = self.momentum  # None: the plain average of all batches, as torch.optim.swa_utils sets it
        if training and self.num_batches_tracked is not None:
            self.num_batches_tracked.add_(1)
            if momentum is None:
                momentum = 1.0 / float(self.num_batches_tracked)
        return F.batch_norm(
            x, self.running_mean, self.running_var, self.weight, self.bias, training, momentum or 0.0, self.eps
        )
