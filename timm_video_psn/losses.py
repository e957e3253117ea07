"""The losses of the paper: interaction (Eq. 2), capacity (Eq. 3), and their weighted sum with the cross-entropy."""

from typing import Literal

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from timm_video_psn.layers.fusion import block_norms
from timm_video_psn.layers.synthesizer import ActionPerceptronSynthesizer

Norm = Literal["sum", "mean"]
_EPS = 1e-8


def interaction_loss(
    routing: Tensor, in_widths: tuple[int, ...], out_widths: tuple[int, ...], norm: Norm = "sum"
) -> Tensor:
    """L_interaction = -1/(G_t G_s) sum_ij sigmoid(||T_ij||_1)  (Eq. 2).

    Args:
        routing: T, (C_out, C_in).
        in_widths: channels of the spatial groups, j.
        out_widths: channels of the temporal groups, i.
        norm: `sum` is the printed l1 norm. With a dense T it starts so large that the sigmoid is flat and the loss
            has almost no gradient; `mean` divides each norm by the number of outputs of its block.

    Returns:
        A scalar in (-1, -0.5].
    """
    norms = block_norms(routing, in_widths, out_widths)  # (G_t, G_s)
    if norm == "mean":
        norms = norms / norms.new_tensor(out_widths)[:, None]
    elif norm != "sum":
        raise ValueError(f"norm={norm!r} is unknown; use 'sum' or 'mean'")
    return -norms.sigmoid().mean()


def capacity_loss(fused_mean: Tensor, widths: tuple[int, ...]) -> Tensor:
    """L_capacity = 1/G^2 sum_ij cos(avg(Y_i), avg(Y_j))  (Eq. 3), averaged over the batch.

    Paper silent on groups of unequal width: they are compared on their common leading channels. A group of zeros has
    the cosine 0 to every other, instead of 0/0.

    Args:
        fused_mean: avg(Y), pooled over T, H and W, (B, C).
        widths: channels of the groups Y_i.

    Returns:
        A scalar in [0, 1]: the sum of all cosines is the squared length of the sum of the unit vectors.
    """
    common = min(widths)
    groups = torch.stack([group[:, :common] for group in fused_mean.split(widths, dim=1)], dim=1)  # (B, G, c)
    lengths = groups.norm(dim=2, keepdim=True)
    # A group of zeros gets no gradient either: the gradient of x / max(|x|, eps) at zero is 1 / eps.
    units = torch.where(lengths > _EPS, groups / lengths.clamp_min(_EPS), 0)
    return (units.sum(1) / len(widths)).square().sum(1).mean()


def auxiliary_losses(model: nn.Module, norm: Norm = "sum") -> dict[str, Tensor]:
    """Both losses, averaged over the synthesizers of a model; call it after a forward in training mode.

    Frozen synthesizers (see `freeze_synthesizers`) count in neither: there is nothing left to regularize.

    Args:
        model: any module that holds synthesizers.
        norm: see `interaction_loss`.

    Returns:
        `{"interaction": scalar, "capacity": scalar}`, without their weights; empty for a model without synthesizers, or
        with frozen ones alone.

    Raises:
        RuntimeError: no forward in training mode came before.
    """
    synthesizers = [
        module for module in model.modules() if isinstance(module, ActionPerceptronSynthesizer) and not module.frozen
    ]
    if not synthesizers:
        return {}
    interaction, capacity = [], []
    for synthesizer in synthesizers:
        if synthesizer.fused_mean is None:
            raise RuntimeError(
                "auxiliary_losses needs the fusion outputs of a forward in training mode, and found none since the "
                "last model.train() or model.eval(); call model.train(), then model(clip), then auxiliary_losses(model)"
            )
        in_widths, out_widths = synthesizer.fusion.in_widths, synthesizer.fusion.out_widths
        interaction.append(interaction_loss(synthesizer.fusion.routing(), in_widths, out_widths, norm))
        capacity.append(capacity_loss(synthesizer.fused_mean, out_widths))
    return {"interaction": torch.stack(interaction).mean(), "capacity": torch.stack(capacity).mean()}


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
