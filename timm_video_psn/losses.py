"""The losses of the paper, interaction (Eq. 2) and capacity (Eq. 3), and their weighted sum with the classification."""

from collections.abc import Mapping
from typing import Literal, get_args

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from timm_video_psn.layers.fusion import Fusion, block_norms
from timm_video_psn.layers.synthesizer import ActionPerceptronSynthesizer

Norm = Literal["sum", "mean", "relative"]
Classification = Literal["ce", "bce"]
ACTIVATIONS = {"ce": "softmax", "bce": "sigmoid"}  # what makes probabilities of the logits that a loss has trained
_EPS = 1e-8


def interaction_loss(
    routing: Tensor, in_widths: tuple[int, ...], out_widths: tuple[int, ...], scale: Tensor | None = None
) -> Tensor:
    """L_interaction = -1/(G_t G_s) sum_ij sigmoid(||T_ij||_1)  (Eq. 2).

    Args:
        routing: T, (C_out, C_in).
        in_widths: Channels of the spatial groups, j.
        out_widths: Channels of the temporal groups, i.
        scale: Divisor of each norm, (G_t, G_s) or what broadcasts to it; None for the printed equation.

    Returns:
        A scalar in (-1, -0.5].
    """
    norms = block_norms(routing, in_widths, out_widths)  # (G_t, G_s)
    if scale is not None:
        norms = norms / scale.to(norms)
    return -norms.sigmoid().mean()


def norm_scale(fusion: Fusion, norm: Norm) -> Tensor | None:
    """The divisor of the norms of Eq. 2.

    Args:
        fusion: The fusion layer with its group widths.
        norm: `sum` is the printed l1 norm. A dense T starts with norms of 25 to 200, where the sigmoid is flat and the
            loss has no gradient. `mean` divides each norm by the outputs of its block, `relative` by its expected
            value at the random initialisation, so that every block starts near 1, whatever its size.

    Returns:
        None, or a tensor that broadcasts to (G_t, G_s).

    Raises:
        ValueError: The norm is unknown.
    """
    if norm == "sum":
        return None
    if norm == "mean":
        return torch.tensor(fusion.out_widths)[:, None]
    if norm == "relative":
        return fusion.initial_norms()
    raise ValueError(f"norm={norm!r} is unknown; use 'sum', 'mean' or 'relative'")


def capacity_loss(fused_mean: Tensor, widths: tuple[int, ...]) -> Tensor:
    """L_capacity = 1/G^2 sum_ij cos(avg(Y_i), avg(Y_j))  (Eq. 3), averaged over the batch.

    Paper silent on groups of unequal width: they are compared on their common leading channels. A group of zeros has
    the cosine 0 to every other, instead of 0/0: at T = 0 the loss is 0.

    Args:
        fused_mean: avg(Y), pooled over T, H and W, (B, C).
        widths: Channels of the groups Y_i.

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
        model: Any module that holds synthesizers.
        norm: `sum`, `mean` or `relative` (see `norm_scale`).

    Returns:
        `{"interaction": scalar, "capacity": scalar}`, without their weights; empty for a model without synthesizers, or
        with frozen ones alone.

    Raises:
        RuntimeError: No forward in training mode came before.
        ValueError: The norm is unknown.
    """
    synthesizers = _learning_synthesizers(model)
    if not synthesizers:
        return {}
    interaction, capacity = [], []
    for synthesizer in synthesizers:
        if synthesizer.fused_mean is None:
            raise RuntimeError(
                "auxiliary_losses needs the fusion outputs of a forward in training mode, and found none since the "
                "last model.train() or model.eval(); call model.train(), then model(clip), then auxiliary_losses(model)"
            )
        fusion = synthesizer.fusion
        scale = norm_scale(fusion, norm)
        interaction.append(interaction_loss(fusion.routing(), fusion.in_widths, fusion.out_widths, scale))
        capacity.append(capacity_loss(synthesizer.fused_mean, fusion.out_widths))
    return {"interaction": torch.stack(interaction).mean(), "capacity": torch.stack(capacity).mean()}


def gradient_shares(terms: Mapping[str, Tensor], model: nn.Module) -> dict[str, float]:
    """How much of the gradient of T comes from each term of a loss.

    A term whose share is 0 does nothing, however large its value is. Call it before the backward pass of the whole
    loss; it costs about one backward pass a term, keeps the graph, and leaves `.grad` alone.

    Args:
        terms: The terms of the loss by name, each multiplied by its weight.
        model: Any module that holds synthesizers.

    Returns:
        The l2 norm of each term's gradient in the routings T of all synthesizers, divided by the sum of these norms;
        empty for a model in which no T is learned.
    """
    weights = [
        weight
        for synthesizer in _learning_synthesizers(model)
        for weight in synthesizer.fusion.parameters()
        if weight.requires_grad
    ]
    if not weights:
        return {}
    lengths = {}
    for name, term in terms.items():
        gradients = torch.autograd.grad(term, weights, retain_graph=True, allow_unused=True)
        squares = [gradient.double().square().sum() for gradient in gradients if gradient is not None]
        lengths[name] = float(torch.stack(squares).sum().sqrt()) if squares else 0.0
    total = sum(lengths.values()) or 1.0
    return {name: length / total for name, length in lengths.items()}


def _learning_synthesizers(model: nn.Module) -> list[ActionPerceptronSynthesizer]:
    """The synthesizers that are not frozen."""
    return [
        module for module in model.modules() if isinstance(module, ActionPerceptronSynthesizer) and not module.frozen
    ]


class ClassificationLoss(nn.Module):
    """Cross-entropy, or binary cross-entropy over the classes, averaged over the clips.

    Weighted terms are divided by the number of clips, not by the sum of their weights, so that the average over
    processes and accumulated batches is the loss of one large batch.

    Args:
        kind: `ce`, or `bce` for clips of several classes.
        smoothing: Label smoothing, as timm's losses smooth.
        class_weights: Weights of the classes, (K,); of `bce` they weigh the positive terms. None for 1.

    Shape:
        logits: (B, K); label: (B,) class numbers, or (B, K) shares of the classes -> scalar
    """

    class_weights: Tensor | None

    def __init__(self, kind: Classification = "ce", smoothing: float = 0.0, class_weights: Tensor | None = None):
        super().__init__()
        if kind not in get_args(Classification):
            raise ValueError(f"loss={kind!r} is unknown; use 'ce' or 'bce'")
        self.kind, self.smoothing = kind, smoothing
        self.register_buffer("class_weights", class_weights, persistent=False)

    def forward(self, logits: Tensor, label: Tensor) -> Tensor:
        """Returns the loss."""
        if self.kind == "ce":
            terms = F.cross_entropy(logits, label, self.class_weights, reduction="none", label_smoothing=self.smoothing)
            return terms.mean()
        target = F.one_hot(label, logits.shape[1]).to(logits) if label.ndim == 1 else label.to(logits)  # (B, K)
        target = target * (1 - self.smoothing) + self.smoothing / logits.shape[1]
        return F.binary_cross_entropy_with_logits(logits, target, pos_weight=self.class_weights)


def distillation_loss(logits: Tensor, teacher: Tensor, temperature: float, kind: Classification = "ce") -> Tensor:
    """The distance to a teacher's answers, both softened by a temperature (Hinton et al., 2015).

    Args:
        logits: Logits of the model, (B, K).
        teacher: Logits of the teacher, (B, K).
        temperature: Divisor of all logits; the loss is multiplied by its square, so that gradients keep their size.
        kind: `ce` for the Kullback-Leibler divergence of the softmax, `bce` for the binary ones of each class.
    """
    ours, theirs = logits / temperature, teacher.to(logits) / temperature
    if kind == "ce":
        loss = F.kl_div(ours.log_softmax(1), theirs.log_softmax(1), reduction="batchmean", log_target=True)
    else:
        share = theirs.sigmoid()
        loss = F.binary_cross_entropy_with_logits(ours, share) - F.binary_cross_entropy_with_logits(theirs, share)
    return loss * temperature**2


class VideoClassificationTask(nn.Module):
    """Forward pass and loss of a training step (Sec. "End-to-end learning for action recognition").

    Args:
        model: Video model; one without synthesizers has the classification loss alone.
        alpha: Weight of the interaction loss, Eq. 2; 0.01 in the paper.
        beta: Weight of the capacity loss, Eq. 3; 0.001 in the paper.
        interaction_norm: `sum`, `mean` or `relative` (see `norm_scale`).
        smoothing: Label smoothing of the classification loss.
        loss: Classification loss; see `ClassificationLoss`.
        class_weights: Weights of the classes, (K,).
        kd_alpha: Weight of the distillation loss; the classification loss then has 1 - kd_alpha.
        kd_temperature: Temperature of the distillation.

    Shape:
        clip: (B, C, T, H, W); label: (B,), or shares of the classes, (B, K); teacher: logits of a teacher, (B, K)
    """

    def __init__(
        self,
        model: nn.Module,
        alpha: float = 0.01,
        beta: float = 0.001,
        interaction_norm: Norm = "sum",
        smoothing: float = 0.0,
        loss: Classification = "ce",
        class_weights: Tensor | None = None,
        kd_alpha: float = 0.5,
        kd_temperature: float = 4.0,
    ):
        super().__init__()
        self.model = model
        self.classification = ClassificationLoss(loss, smoothing, class_weights)
        self.kd_alpha, self.kd_temperature = kd_alpha, kd_temperature
        self.weights = {"interaction": alpha, "capacity": beta}
        self.interaction_norm: Norm = interaction_norm

    def gradient_shares(self, terms: Mapping[str, Tensor]) -> dict[str, float]:
        """Which shares of the gradient of T come from the classification, Eq. 2 and Eq. 3, with their weights.

        Args:
            terms: What `forward` has returned, before the backward pass.

        Returns:
            See `gradient_shares`; empty where the loss is the classification alone, or T is not learned.
        """
        weights = self._weights(terms)
        weighted = {name: weights[name] * term for name, term in terms.items() if name != "loss"}
        return gradient_shares(weighted, self.model) if len(weighted) > 1 else {}

    def _weights(self, terms: Mapping[str, Tensor]) -> dict[str, float]:
        """Weights of the terms of the loss; a teacher takes its share of the classification's."""
        kind, share = self.classification.kind, self.kd_alpha if "kd" in terms else 0.0
        return {kind: 1 - share, "kd": share, **self.weights}

    def forward(self, clip: Tensor, label: Tensor, teacher: Tensor | None = None) -> tuple[dict[str, Tensor], Tensor]:
        """Returns losses by name, of which `loss` is the weighted sum of the others, and the logits."""
        logits, kind = self.model(clip).float(), self.classification.kind
        terms: dict[str, Tensor] = {kind: self.classification(logits, label)}
        if teacher is not None:
            terms["kd"] = distillation_loss(logits, teacher, self.kd_temperature, kind)
        if any(self.weights.values()):
            terms.update(auxiliary_losses(self.model, self.interaction_norm))
        weights = self._weights(terms)
        loss = torch.stack([weights[name] * term for name, term in terms.items()]).sum()
        return {"loss": loss, **terms}, logits
