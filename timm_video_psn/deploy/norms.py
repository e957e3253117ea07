"""Batch norms into the convolutions before them, whatever the network is.

Which convolution a norm follows is not read from names, but from what flows: one forward is watched operator by
operator, and a norm belongs to a convolution if its input is the output of that convolution, and nothing else uses it.
"""

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

import torch
from timm.layers import BatchNormAct2d
from torch import Tensor, nn
from torch.nn.modules.batchnorm import _BatchNorm
from torch.nn.utils.fusion import fuse_conv_bn_weights, fuse_linear_bn_weights
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils.weak import WeakIdKeyDictionary

from timm_video_psn.layers import GroupedSpatialTemporal
from timm_video_psn.layers.pooled_norm import PooledNorm
from timm_video_psn.surgery import replace

_PLAIN = (nn.BatchNorm1d, nn.BatchNorm2d, nn.BatchNorm3d, nn.SyncBatchNorm, PooledNorm)
_CONVOLUTIONS = (nn.Conv1d, nn.Conv2d, nn.Conv3d)


def fold_norms(model: nn.Module, forward: Callable[[], Any]) -> tuple[dict[str, str], tuple[str, ...]]:
    """Folds every batch norm that directly follows a convolution or a linear layer into its weights.

    Args:
        model: In evaluation mode; changed in place.
        forward: Runs the model once, on any input.

    Returns:
        The norms folded, each with the name of the layer that it went into, and the names of those that stay.
    """
    names = {module: name for name, module in model.named_modules()}
    flow = _Flow(model)
    handles = [
        module.register_forward_hook(flow.note) for module in names if isinstance(module, GroupedSpatialTemporal)
    ]
    with torch.no_grad(), flow:
        forward()
    for handle in handles:
        handle.remove()
    pairs = {norm: layer for norm, layer in flow.pairs().items() if _after(norm) is not None}
    for norm, layer in pairs.items():
        _fold(layer, norm)
    folded = {names[norm]: names[layer] for norm, layer in pairs.items()}
    if folded:
        replace(model, list(folded), lambda _, norm: _after(norm) or nn.Identity())
    left = tuple(name for module, name in names.items() if isinstance(module, _BatchNorm) and module not in pairs)
    return folded, left


@dataclass
class _Output:
    """What a layer gave, and how often it was used."""

    layer: nn.Module
    uses: int = 0


@dataclass
class _Calls:
    """How often a layer or norm was called, and what a norm was called with."""

    count: int = 0
    source: _Output | None = field(default=None)


class _Flow(TorchDispatchMode):
    """Watches which layer's output each norm gets."""

    def __init__(self, model: nn.Module):
        super().__init__()
        self.outputs = WeakIdKeyDictionary()  # Tensor -> _Output
        self.owners = WeakIdKeyDictionary()  # parameter, or a view of it -> layer or norm
        self.calls: dict[nn.Module, _Calls] = {}
        shared = _shared_parameters(model)
        for module in model.modules():
            key = module.running_mean if isinstance(module, _BatchNorm) else getattr(module, "weight", None)
            known = isinstance(module, (_BatchNorm, nn.Linear, *_CONVOLUTIONS))
            if known and isinstance(key, Tensor) and id(key) not in shared:
                self.owners[key] = module
                self.calls[module] = _Calls()

    def note(self, module: nn.Module, args: Any, output: Tensor) -> None:
        """Forward hook of a module that takes a norm's numbers as a convolution does."""
        self.calls.setdefault(module, _Calls()).count += 1
        self.outputs[output] = _Output(module)

    def __torch_dispatch__(self, func: Any, types: Any, args: tuple[Any, ...] = (), kwargs: Any = None) -> Any:
        """Runs the operator, and take notes."""
        result = func(*args, **(kwargs or {}))
        tensors = [arg for arg in _flat(args) if isinstance(arg, Tensor)]
        owners = [self.owners[tensor] for tensor in tensors if tensor in self.owners]
        owner = owners[0] if len(owners) == 1 else None
        if func is torch.ops.aten.t.default and owner is not None:  # a linear layer's weight on its way
            self.owners[result] = owner
            return result
        for tensor in tensors:
            if tensor in self.outputs:
                self.outputs[tensor].uses += 1
        if owner is not None:
            call = self.calls[owner]
            call.count += 1
            first = tensors[1] if func is torch.ops.aten.addmm.default else tensors[0]
            if isinstance(owner, _BatchNorm):
                call.source = self.outputs.get(first)
            elif func in _LAYERS and first not in self.owners:
                self.outputs[result] = _Output(owner)
        return result

    def pairs(self) -> dict[nn.Module, nn.Module]:
        """Norm -> the layer whose output it alone gets, both called once."""
        return {
            norm: call.source.layer
            for norm, call in self.calls.items()
            if call.source is not None
            and call.source.uses == 1
            and call.count == self.calls[call.source.layer].count == 1
        }


_LAYERS = (torch.ops.aten.convolution.default, torch.ops.aten.addmm.default, torch.ops.aten.mm.default)


def _shared_parameters(model: nn.Module) -> set[int]:
    """Ids of the parameters that several modules have."""
    seen: set[int] = set()
    shared: set[int] = set()
    for module in model.modules():
        for parameter in module.parameters(recurse=False):
            (shared if id(parameter) in seen else seen).add(id(parameter))
    return shared


def _flat(values: Any) -> list[Any]:
    """Arguments with what is in their lists."""
    return [item for value in values for item in (_flat(value) if isinstance(value, (list, tuple)) else [value])]


def _after(norm: Any) -> nn.Module | None:
    """What is left of a norm once its numbers are in the layer before it; None for a kind that is not known."""
    if type(norm) in _PLAIN:
        return nn.Identity()
    if type(norm) is BatchNormAct2d:
        return nn.Sequential(norm.drop, norm.act)
    return None


def _fold(layer: Any, norm: Any) -> None:
    """The norm's numbers into the layer's."""
    numbers = [norm.running_mean, norm.running_var, norm.weight, norm.bias]
    if not isinstance(layer, GroupedSpatialTemporal):
        _scale(layer, numbers, norm.eps)
        return
    spatial, temporal = layer.spatial, layer.temporal
    first = spatial.out_channels
    _scale(spatial, [None if each is None else each[:first] for each in numbers], norm.eps)
    _scale(temporal, [None if each is None else each[first:].repeat(3) for each in numbers], norm.eps)
    bias: Any = temporal.bias
    bias.data.unflatten(0, (3, -1))[[0, 2]] = 0  # of the three taps, the one that every frame has keeps it


def _scale(layer: Any, numbers: list[Tensor | None], eps: float) -> None:
    """A norm's mean, variance, weight and bias into a convolution or linear layer."""
    fuse: Any = fuse_linear_bn_weights if isinstance(layer, nn.Linear) else fuse_conv_bn_weights
    # In float64: the folded weights are rounded once.
    weight, bias, mean, variance, scale, shift = (
        None if number is None else number.detach().double() for number in (layer.weight, layer.bias, *numbers)
    )
    weight, bias = fuse(weight, bias, mean, variance, eps, scale, shift)
    layer.weight = nn.Parameter(weight.to(layer.weight), requires_grad=False)
    layer.bias = nn.Parameter(bias.to(layer.weight), requires_grad=False)
