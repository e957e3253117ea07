"""The training loss: L = CE + alpha * Eq. 2 + beta * Eq. 3, with every term by name."""

import torch.nn.functional as F
from torch import Tensor, nn

from timm_video_psn.losses import Norm, auxiliary_losses


class VideoClassificationTask(nn.Module):
    """Forward pass and loss of a training step (Sec. "End-to-end learning for action recognition").

    Args:
        model: a video model; one without synthesizers has the classification loss alone.
        alpha: weight of the interaction loss, Eq. 2; the paper's 0.01.
        beta: weight of the capacity loss, Eq. 3; the paper's 0.001.
        interaction_norm: see `losses.interaction_loss`.
        smoothing: label smoothing of the cross-entropy.

    Shape:
        clip: (B, C, T, H, W); label: (B,), or of mixed clips the shares of the classes, (B, K)
    """

    def __init__(
        self,
        model: nn.Module,
        alpha: float = 0.01,
        beta: float = 0.001,
        interaction_norm: Norm = "sum",
        smoothing: float = 0.0,
    ):
        super().__init__()
        self.model = model
        self.weights = {"interaction": alpha, "capacity": beta}
        self.interaction_norm: Norm = interaction_norm
        self.smoothing = smoothing

    def forward(self, clip: Tensor, label: Tensor) -> tuple[dict[str, Tensor], Tensor]:
        """Losses by name, `loss` their weighted sum, the others as they are; and the logits."""
        logits = self.model(clip).float()
        terms = {"ce": F.cross_entropy(logits, label, label_smoothing=self.smoothing)}
        if any(self.weights.values()):
            terms.update(auxiliary_losses(self.model, self.interaction_norm))
        loss = terms["ce"] + sum(self.weights[name] * terms[name] for name in self.weights if name in terms)
        return {"loss": loss, **terms}, logits
