"""What the fusion layers have learned: the strength of every path from a spatial to a temporal kernel (Fig. 5)."""

import dataclasses
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from timm_video_psn.layers.clip import frames_to_rows, rows_to_frames
from timm_video_psn.layers.fusion import Fusion, block_norms
from timm_video_psn.layers.synthesizer import ActionPerceptronSynthesizer

THRESHOLDS = (0.1, 0.25, 0.5)  # shares of the strongest block at which the paths of trained models are counted


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
        model: Any module that holds synthesizers.

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
        for site, synthesizer in synthesizers_by_site(model).items()
    }


def ir_interactions(model: nn.Module, threshold: float = 0.0) -> Interactions:
    """ir-interactions = sum_ij N(X_j -> Y_i), i != j, over all synthesizers (Sec. "Optimized Feature Fusion Layer").

    N counts the channels of Y_i that receive anything from X_j: rows of T_ij with an element that is not zero. In a
    trained dense T no element is exactly zero, so that a threshold has to say what counts.

    Args:
        model: Any module that holds synthesizers.
        threshold: Strength below which a row does not count, as a share of the strongest block of its synthesizer.
            The strength of a row or a block is the mean absolute value of its elements.

    Returns:
        `irregular`, the paper's sum over i != j, and `total`, over all i and j: the G^2 c that the interaction loss
        drives it to, 1856 for ResNet-50 with receptive_field=(5, 5, 5), which is also what the paper's Table 2 prints.

    Raises:
        ValueError: The threshold is not in [0, 1).
    """
    irregular = total = 0
    for synthesizer in synthesizers_by_site(model).values():
        floor, blocks = _strengths(synthesizer.fusion, threshold)
        for i, row_of_blocks in enumerate(blocks):
            for j, block in enumerate(row_of_blocks):
                channels = int((block.mean(dim=1) > floor).sum())
                total += channels
                irregular += channels if i != j else 0
    return Interactions(irregular, total)


def drop_rate(model: nn.Module, threshold: float = 0.0) -> float:
    """The share of the spatial channels whose features reach no temporal kernel (Table 2, "Dropout rate").

    Args:
        model: Any module that holds synthesizers.
        threshold: Strength below which a path does not count, as for `ir_interactions`. A channel is dropped if all of
            its paths into every Y_i, averaged within the group, are below it.

    Returns:
        0 for channel grouping and shuffling, 0.75 for channel dropout with four groups; 0 without synthesizers.

    Raises:
        ValueError: The threshold is not in [0, 1).
    """
    dropped = channels = 0
    for synthesizer in synthesizers_by_site(model).values():
        floor, blocks = _strengths(synthesizer.fusion, threshold)
        for j, width in enumerate(synthesizer.fusion.in_widths):
            reached = torch.stack([row_of_blocks[j].mean(dim=0) > floor for row_of_blocks in blocks])  # (G_t, c)
            dropped += int((~reached.any(dim=0)).sum())
            channels += width
    return dropped / max(1, channels)


def flow_map(model: nn.Module, clips: Iterable[Tensor]) -> dict[str, InteractionMap]:
    """Fig. 5 weighted by data: how much flows through each T_ij into V, as the root mean square over clips.

    The weights of T alone do not tell how strong the features are that they meet, or whether the temporal kernel and
    `expand` pass on what they make of them. Here each path's own contribution to V is measured: expand(F_i'(T_ij X_j)),
    with the temporal kernel F_i linearised at the clip's own Y_i. All paths of a site add up to V exactly, because a
    convolution is linear and a max pool selects.

    Args:
        model: A model that holds synthesizers, in evaluation mode.
        clips: Batches of clips, as the model takes them.

    Returns:
        By site, as `interaction_map`, with the root mean squares in the place of the norms.

    Raises:
        ValueError: The model is in training mode, or there was no clip.
    """
    if model.training:
        raise ValueError("flow_map measures a model in evaluation mode; call model.eval() first")
    found = synthesizers_by_site(model)
    squares: dict[str, Tensor] = {}
    counts: dict[str, int] = dict.fromkeys(found, 0)

    def measure(site: str, synthesizer: ActionPerceptronSynthesizer, x: Tensor) -> None:
        flows = torch.stack([flow.double().square().sum() for _, _, flow in path_flows(synthesizer, x)])
        shape = len(synthesizer.fusion.out_widths), len(synthesizer.fusion.in_widths)
        squares[site] = squares.get(site, 0.0) + flows.view(shape).cpu()
        counts[site] += x.shape[0] * synthesizer.expand.out_channels * x.shape[2] * x.shape[3]

    hooks = [
        synthesizer.fusion.register_forward_hook(
            lambda module, args, output, site=site, each=synthesizer: measure(site, each, args[0])
        )
        for site, synthesizer in found.items()
    ]
    try:
        with torch.no_grad():
            for clip in clips:
                model(clip)
    finally:
        for hook in hooks:
            hook.remove()
    if found and not squares:
        raise ValueError("flow_map measures what flows for clips, and was given none")
    return {
        site: dataclasses.replace(each, norms=(squares[site] / counts[site]).sqrt().numpy())
        for site, each in interaction_map(model).items()
    }


def path_flows(synthesizer: ActionPerceptronSynthesizer, x: Tensor) -> Iterator[tuple[int, int, Tensor]]:
    """What each T_ij adds to V, row by row.

    Args:
        synthesizer: Synthesizer in evaluation mode.
        x: Output X of its spatial bank, (B*T, C, H, W).

    Yields:
        i, j and the contribution, (B*T, C_in, H, W); all of them add up to V.
    """
    fusion, bank = synthesizer.fusion, synthesizer.temporal_bank
    height, width = x.shape[-2:]
    expand = synthesizer.expand.weight.split(fusion.out_widths, dim=1)
    groups = x.split(fusion.in_widths, dim=1)
    for i, rows in enumerate(fusion.routing().split(fusion.out_widths, dim=0)):
        parts = [
            F.conv2d(group, block[:, :, None, None])
            for group, block in zip(groups, rows.split(fusion.in_widths, dim=1), strict=True)
        ]
        kernel = bank.branches[i]

        def along_time(y: Tensor, kernel: nn.Module = kernel) -> Tensor:
            return rows_to_frames(kernel(frames_to_rows(y, synthesizer.num_frames)), height, width)

        whole = torch.stack(parts).sum(0)
        for j, part in enumerate(parts):
            flow = torch.func.jvp(along_time, (whole,), (part,))[1]
            yield i, j, F.conv2d(flow, expand[i])


def _strengths(fusion: Fusion, threshold: float) -> tuple[float, list[list[Tensor]]]:
    """The strength that counts, and the absolute values of all blocks T_ij."""
    if not 0 <= threshold < 1:
        raise ValueError(f"threshold={threshold} is not in [0, 1): it is a share of the strongest block")
    blocks = [
        list(rows.split(fusion.in_widths, dim=1))
        for rows in fusion.routing().detach().float().abs().split(fusion.out_widths, dim=0)
    ]
    strongest = max(float(block.mean()) for row_of_blocks in blocks for block in row_of_blocks)
    return threshold * strongest, blocks


def _norms(synthesizer: ActionPerceptronSynthesizer) -> np.ndarray:
    fusion = synthesizer.fusion
    with torch.no_grad():
        norms = block_norms(fusion.routing().float(), fusion.in_widths, fusion.out_widths)
    return norms.cpu().numpy()


def synthesizers_by_site(model: nn.Module) -> dict[str, ActionPerceptronSynthesizer]:
    """Returns the synthesizers of a model by their sites, in the order of the network.

    Args:
        model: Any module; without synthesizers there are none.
    """
    sites = {target: site for site, target in getattr(model, "sites", {}).items()}
    found = {}
    for name, module in model.named_modules():
        if isinstance(module, ActionPerceptronSynthesizer):
            target, _, inside = f"{name}.".partition(".temporal.")  # one that is attached goes by what it follows
            target = target.removesuffix(".")
            parts = "".join(f".{part}" for part in inside.split(".") if part.isdigit())  # one of several there
            found[sites.get(target, target) + parts] = module
    return found
