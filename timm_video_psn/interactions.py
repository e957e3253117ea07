"""What the fusion layers have learned: the strength of every path from a spatial to a temporal kernel (Fig. 5)."""

from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
import torch
from torch import nn

from timm_video_psn.layers.fusion import block_norms
from timm_video_psn.layers.synthesizer import ActionPerceptronSynthesizer


@dataclass(frozen=True)
class InteractionMap:
    """||T_ij||_1 of one site, (G_t, G_s), with the names of its rows and columns as Fig. 5 writes them.

    `sizes` are the elements of each block, (G_t, G_s): groups are not all of one width, and norms / sizes can be
    compared between blocks and between sites.
    """

    norms: np.ndarray
    temporal_labels: tuple[str, ...]
    spatial_labels: tuple[str, ...]
    sizes: np.ndarray


class Interactions(NamedTuple):
    """ir-interactions: feature channels that flow between kernels of different branches, and between all."""

    irregular: int
    total: int


def interaction_map(model: nn.Module) -> dict[str, InteractionMap]:
    """The map of Fig. 5 for every synthesizer of a model.

    Args:
        model: any module that holds synthesizers.

    Returns:
        By site, in the order of the model: `stem`, `layer1`, ... on a `VideoNet`; on any other model the dotted name of
        the module that the synthesizer was attached to, or its own.

    Example:
        >>> import timm, timm_video_psn
        >>> interaction_map(timm.create_model("psn_resnet18"))["layer1"].norms.shape
        (5, 4)
    """
    return {
        site: InteractionMap(
            _norms(synthesizer),
            synthesizer.temporal_bank.labels,
            synthesizer.spatial_bank.labels,
            np.outer(synthesizer.fusion.out_widths, synthesizer.fusion.in_widths),
        )
        for site, synthesizer in _synthesizers(model).items()
    }


def ir_interactions(model: nn.Module) -> Interactions:
    """ir-interactions = sum_ij N(X_j -> Y_i), i != j, over all synthesizers (Sec. "Optimized Feature Fusion Layer").

    N counts the channels of Y_i that receive anything from X_j: rows of T_ij with an element that is not zero.

    Args:
        model: any module that holds synthesizers.

    Returns:
        `irregular`, the paper's sum over i != j, and `total`, over all i and j: the G^2 c that the interaction loss
        drives it to, 1856 for ResNet-50 with receptive_field=(5, 5, 5), which is also what the paper's Table 2 prints.
    """
    irregular = total = 0
    for synthesizer in _synthesizers(model).values():
        fusion = synthesizer.fusion
        for i, rows in enumerate(fusion.routing().detach().split(fusion.out_widths, dim=0)):
            for j, block in enumerate(rows.split(fusion.in_widths, dim=1)):
                channels = int((block != 0).any(dim=1).sum())
                total += channels
                irregular += channels if i != j else 0
    return Interactions(irregular, total)


def _norms(synthesizer: ActionPerceptronSynthesizer) -> np.ndarray:
    fusion = synthesizer.fusion
    with torch.no_grad():
        norms = block_norms(fusion.routing().float(), fusion.in_widths, fusion.out_widths)
    return norms.cpu().numpy()


def _synthesizers(model: nn.Module) -> dict[str, ActionPerceptronSynthesizer]:
    """Site -> synthesizer."""
    sites = {target: site for site, target in getattr(model, "sites", {}).items()}
    found = {}
    for name, module in model.named_modules():
        if isinstance(module, ActionPerceptronSynthesizer):
            target, _, inside = f"{name}.".partition(".temporal.")  # one that is attached goes by what it follows
            target = target.removesuffix(".")
            parts = "".join(f".{part}" for part in inside.split(".") if part.isdigit())  # one of several there
            found[sites.get(target, target) + parts] = module
    return found
