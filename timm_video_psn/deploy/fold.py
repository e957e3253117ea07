"""A trained model as it runs: norms folded, the routing a convolution or in the temporal kernels.

"When the process finished, we freeze the synthesizer and utilize the produced filter group" (Sec. 1).
"""

import copy
from dataclasses import dataclass
from functools import partial
from typing import Any, TypeVar

import torch
from timm.utils import reparameterize_model
from torch import Tensor, nn

from timm_video_psn.deploy.norms import fold_norms
from timm_video_psn.deploy.residual import AddmmResidual
from timm_video_psn.deploy.routing import ConvFusion, InKernels, SynthesizedKernels
from timm_video_psn.files import first_names
from timm_video_psn.layers import ActionPerceptronSynthesizer, EnhancedResidual
from timm_video_psn.layers.fusion import GroupingFusion, ShuffleFusion
from timm_video_psn.models import VideoNet
from timm_video_psn.surgery import detach, inject, replace

_TOLERANCE = 1e-4  # of the largest logit; what float32 leaves is a hundredth of it
_NARROW = {"cpu": 16, "cuda": 64}  # channels up to which the routing is cheaper inside the temporal kernels
_Model = TypeVar("_Model", bound=nn.Module)


@dataclass(frozen=True)
class Folding:
    """What `fold` did to a model; printing it gives one line for each kind.

    Attributes:
        reparameterized: Modules that timm fused in its own way, or why it could not.
        norms: Each norm folded, with the layer that it went into.
        left: Norms that stay, because another thing than a convolution is before them.
        convolved: Synthesizers whose routing became a 1x1 convolution.
        merged: Synthesizers whose routing went into the temporal kernels.
        added: Modules whose expansion and residual became one matrix product.
        error: Largest difference of the folded model's logits from the model's, on random frames.
    """

    reparameterized: tuple[str, ...]
    norms: dict[str, str]
    left: tuple[str, ...]
    convolved: tuple[str, ...]
    merged: tuple[str, ...]
    added: tuple[str, ...]
    error: float

    def __str__(self) -> str:
        lines = [
            ("timm's own reparameterisation", self.reparameterized),
            ("norms in the layers before them", self.norms),
            ("norms that stay", self.left),
            ("routings as convolutions", self.convolved),
            ("routings in temporal kernels", self.merged),
            ("expansion and residual in one product", self.added),
        ]
        counted = [f"{what}: {len(names)}" + (f" ({first_names(names, 3)})" if names else "") for what, names in lines]
        return "\n".join([*counted, f"largest difference of logits: {self.error:.1e}"])


def fold(model: _Model, merge: bool | None = None, addmm: bool | None = None, example: Tensor | None = None) -> _Model:
    """Copies a trained model into the form that it runs fastest in; it gives the same logits.

    - Batch norms go into the convolutions before them, in the backbone and in the temporal modules; where timm
      has a reparameterisation of its own (RepVGG, MobileOne, FastViT, LeViT, ...) it comes first.
    - A synthesizer's routing T becomes a 1x1 convolution, or goes into the temporal kernels, K[tau] = W[tau] T.
    - Expansion and residual become one matrix product.

    The copy is in evaluation mode, and its parameters take no gradient. Its report is `folded.folding`.

    Args:
        model: A `VideoNet`, or with an example any module.
        merge: Put routings into temporal kernels; None for where it pays: where channels are few.
        addmm: Make expansion and residual one matrix product; None for where it pays: on CUDA.
        example: What the model takes; None for random frames in the size of the model's cfg.

    Raises:
        ValueError: The folded model gives other logits, or a module other than a `VideoNet` comes without an example.

    Example:
        >>> import timm, timm_video_psn
        >>> folded = timm_video_psn.fold(timm.create_model("psn_test_resnet", num_frames=2))
        >>> len(folded.folding.norms), len(folded.folding.left)
        (23, 0)
    """
    model = copy.deepcopy(model).eval().requires_grad_(False)
    example = _example(model) if example is None else example
    with torch.no_grad():
        expected = model(example)
    model, reparameterized = _reparameterize(model, example, expected)
    norms, left = fold_norms(model, lambda: model(example))
    device = example.device.type
    convolved, merged = _fold_routings(model, _NARROW.get(device, 0) if merge is None else (10**9 if merge else 0))
    added = _fold_residuals(model) if (device == "cuda" if addmm is None else addmm) else ()
    with torch.no_grad():
        error = _difference(model(example), expected)
    if not error <= _TOLERANCE * max(1.0, float(expected.abs().max())):
        raise ValueError(
            f"folding changes the logits of {type(model).__name__} by {error:.1e}; use it unfolded, and report the "
            "model's name"
        )
    model.requires_grad_(False)
    folding: Any = Folding(reparameterized, norms, left, convolved, merged, added, error)
    model.folding = folding
    return model


def example_clip(model: VideoNet, batch_size: int = 1) -> Tensor:
    """Random frames in the form and size that a model takes, on its device.

    Args:
        model: With a cfg, as timm's builder leaves it.
        batch_size: clips.

    Shape:
        returns (B, C, T, H, W).
    """
    parameter = next(model.parameters())
    _, height, width = getattr(model, "pretrained_cfg", {}).get("input_size") or (3, 224, 224)
    generator = torch.Generator().manual_seed(0)
    # As a loader lays clips out: memory runs B, T, H, W, C.
    frames = torch.randn(batch_size, model.num_frames, height, width, model.in_chans, generator=generator)
    return frames.to(parameter).permute(0, 4, 1, 2, 3)


def _example(model: nn.Module) -> Tensor:
    if isinstance(model, VideoNet):
        return example_clip(model)
    raise ValueError(
        f"{type(model).__name__} is not a VideoNet, so its input is unknown; call fold(model, example=...)"
    )


def _reparameterize(model: _Model, example: Tensor, expected: Tensor) -> tuple[_Model, tuple[str, ...]]:
    """Timm's own fusions, with what is attached taken off and put back; the model as it is where that fails."""
    names = [
        name
        for name, module in model.named_modules()
        if any(hasattr(module, method) for method in ("fuse", "reparameterize", "switch_to_deploy"))
    ]
    if not names:
        return model, ()
    fused = copy.deepcopy(model)
    attached = {item.name: item for item in detach(fused).items}
    fused = reparameterize_model(fused, inplace=True)
    gone = attached.keys() - dict(fused.named_modules()).keys()
    if gone:
        return model, (f"none: {first_names(sorted(gone), 3)}, which carry temporal modules, would go",)
    for name, item in attached.items():
        inject(fused, name, partial(_give, item.module), item.where)
    with torch.no_grad():
        error = _difference(fused(example), expected)
    if not error <= _TOLERANCE * max(1.0, float(expected.abs().max())):
        return model, (f"none: its logits differ by {error:.1e}",)
    return fused, tuple(names)


def _give(module: nn.Module, name: str, target: nn.Module) -> nn.Module:
    """The module, to be attached to any target."""
    return module


def _fold_routings(model: nn.Module, most: int) -> tuple[tuple[str, ...], tuple[str, ...]]:
    """Routings of up to so many channels into the temporal kernels, the others into convolutions."""
    convolved, merged = [], []
    for name, module in list(model.named_modules()):
        if not isinstance(module, ActionPerceptronSynthesizer):
            continue
        fusion, bank = module.fusion, module.temporal_bank
        if isinstance(fusion, (GroupingFusion, ShuffleFusion)):  # nothing to compute
            continue
        if module.reduce.out_channels <= most:
            replace(module, "temporal_bank", partial(_give, SynthesizedKernels(fusion, bank)))
            replace(module, "fusion", partial(_give, InKernels(fusion)))
            merged.append(name)
        else:
            replace(module, "fusion", partial(_give, ConvFusion(fusion)))
            convolved.append(name)
    return tuple(convolved), tuple(merged)


def _fold_residuals(model: nn.Module) -> tuple[str, ...]:
    """Expansions and residuals into one product."""
    modules = {name: module for name, module in model.named_modules() if isinstance(module, EnhancedResidual)}
    if modules:
        replace(model, list(modules), lambda name, _: AddmmResidual(modules[name]))
    return tuple(modules)


def _difference(a: Tensor, b: Tensor) -> float:
    return float((a - b).abs().max())
