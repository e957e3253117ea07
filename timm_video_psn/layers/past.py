"""What a causal module knows of the frames before those at hand."""

import torch.nn.functional as F
from torch import Tensor, nn


class Past(nn.Module):
    """Puts the frames before a clip in front of it: padding, for nothing is before its first frame.

    The causal forms of temporal modules read the past through this module alone. Their stream (`deploy.stream`) puts a
    module in its place that keeps the last frames, and the rest of the network runs as it is.

    Args:
        length: Frames to put in front.
        dim: Dimension of the frames.
        value: Value of the padding.

    Shape:
        x: (B, T, ., .) with dim=1, (B, ., T, .) with dim=2 -> the same with length + T frames
    """

    def __init__(self, length: int, dim: int, value: float = 0.0):
        super().__init__()
        self.length, self.dim, self.value = length, dim, value
        self.padding = [0, 0] * (3 - dim) + [length, 0]  # F.pad counts from the last dimension

    def forward(self, x: Tensor) -> Tensor:
        """Pad."""
        return F.pad(x, self.padding, value=self.value)

    def extra_repr(self) -> str:
        """Length and dimension, for print(model)."""
        return f"length={self.length}, dim={self.dim}"
