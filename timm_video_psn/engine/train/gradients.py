"""The gradient of an update: its length, and the limit on it."""

from collections.abc import Iterable
from typing import Any

import torch
from timm.utils import dispatch_clip_grad
from torch import Tensor, nn
from torch.nn.utils import clip_grad_norm_, get_total_norm


class GradientLimit:
    """Limits gradients and averages the norms that they had before, gathered on the device so that nothing waits.

    Args:
        limit: largest gradient; 0 for no limit.
        mode: what of it is limited: `norm`, `value` or `agc`, as timm has them.
    """

    def __init__(self, limit: float, mode: str = "norm"):
        self.limit = limit
        self.mode = mode
        self._sum: Tensor | float = 0.0
        self._count: Tensor | int = 0

    def apply(self, parameters: Iterable[nn.Parameter]) -> None:
        """Limit the gradients of an update, and note the norm that they had.

        Args:
            parameters: those of the model; those without a gradient do not count.
        """
        having = [parameter for parameter in parameters if parameter.grad is not None]
        if self.limit and self.mode == "norm":
            norm = clip_grad_norm_(having, self.limit)
        else:
            norm = get_total_norm([parameter.grad for parameter in having if parameter.grad is not None])
            if self.limit:
                dispatch_clip_grad(having, self.limit, mode=self.mode)
        self._note(norm)

    def _note(self, norm: Tensor) -> None:
        """Add a norm, unless it is not finite: the scaler of float16 leaves such updates out, too."""
        finite = norm.isfinite()
        self._sum = self._sum + torch.where(finite, norm, 0)
        self._count = self._count + finite

    def average(self) -> float | None:
        """The mean of the norms since the last reset; None without any."""
        count = int(self._count)
        return float(self._sum) / count if count else None

    def reset(self) -> None:
        """A new epoch."""
        self._sum, self._count = 0.0, 0

    def state_dict(self) -> dict[str, Any]:
        """What resuming in the middle of an epoch needs."""
        return {"sum": float(self._sum), "count": int(self._count)}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Undo `state_dict`.

        Args:
            state: what it returned.
        """
        self._sum, self._count = state["sum"], state["count"]
