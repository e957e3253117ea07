"""Batch norms of a pretrained backbone that keep their statistics, their weights and their biases in training.

Frozen through any later `.train()`; the norms of temporal modules go on learning, since nothing of theirs is
pretrained. TSM's and TSN's "partial BN" leaves the backbone's first one free, too.
"""

from functools import partial
from typing import Any

from torch import nn

from timm_video_psn.layers.temporal_module import TemporalModule


def freeze_backbone_norms(model: Any, keep_first: bool = False) -> tuple[str, ...]:
    """Freeze the batch norms that lie in no temporal module, whatever comes; copies and pickles stay frozen.

    Args:
        model: a video model; changed in place.
        keep_first: leave the first one free: partial BN.

    Returns:
        The dotted names of the frozen ones.

    Raises:
        ValueError: there is none to freeze.
    """
    inside = tuple(f"{name}." for name, module in model.named_modules() if isinstance(module, TemporalModule))
    norms = {
        name: module
        for name, module in model.named_modules()
        if isinstance(module, nn.modules.batchnorm._BatchNorm) and not name.startswith(inside)
    }
    frozen = list(norms)[1 if keep_first else 0 :]
    if not frozen:
        asked = "--partial-bn, all but the first" if keep_first else "--freeze-bn"
        raise ValueError(
            f"{asked}: the backbone has {len(norms)} batch norms outside its temporal modules, none of them to freeze; "
            "leave the option out"
        )
    for name in frozen:
        _freeze(norms[name])
    return tuple(frozen)


def _freeze(norm: nn.Module) -> None:
    """Keep a norm as it is. A partial, unlike a closure or a method, follows its norm into copies and pickles."""
    norm.requires_grad_(False)
    vars(norm)["train"] = partial(_stay_in_evaluation, norm)
    norm.train()


def _stay_in_evaluation(norm: nn.Module, mode: bool = True) -> nn.Module:
    """What the `train` of a frozen norm does, whatever mode is asked for."""
    return nn.Module.train(norm, False)
