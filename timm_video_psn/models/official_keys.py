"""Weights of others under the names of our models: of the official codes of TSM, GST, TEA and TAM, and of images.

The official codes save the state dict of a `DataParallel` (prefix `module.`) around a model: `base_model`, a network
whose children are mostly named as torchvision's and timm's, and a classifier `new_fc`, or the network's own if trained
without dropout. Each code gets a function that turns our names into its own; what differs in form is brought into ours
by the shapes. GSM's checkpoints cannot be taken: its Inception v3 is Caffe's, with the 7x1 and 1x7 kernels in the other
order, another pool in the last block, and biases.
"""

import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass

import torch
from torch import Tensor

from timm_video_psn.files import first_names
from timm_video_psn.layers.baselines.gst import temporal_kernel
from timm_video_psn.models.video_net import VideoNet
from timm_video_psn.surgery import CHILD, find_mismatch, injected

_NOT_COUNTED = "PyTorch before 0.4.1 did not count batches, and nothing in evaluation depends on it"
_NOT_OF_IMAGES = "of a temporal module, which an image model has none of: its initial value"


@dataclass(frozen=True)
class ConvertedKeys:
    """A state dict under our names, and where each entry is from.

    Args:
        state_dict: Tensors for `model.load_state_dict`, with nothing missing.
        taken: Our name -> name in the file; every name of the file is here.
        kept: Our name that the file has nothing for -> why the model's own value stays.
    """

    state_dict: dict[str, Tensor]
    taken: dict[str, str]
    kept: dict[str, str]


def convert_keys(model: VideoNet, state_dict: Mapping[str, Tensor], source: str) -> ConvertedKeys:
    """Translate a state dict of other code, and account for every name.

    Args:
        model: The model that shall load it, as `tsm_resnet50`, with the checkpoint's number of classes.
        state_dict: The weights.
        source: `tsm`, `gst`, `tea` or `tam`, the official codes; `torchvision` or `timm`, an image model like
            the backbone.

    Raises:
        ValueError: Names are missing or unknown, or shapes differ; the message lists them.

    Example:
        >>> model = timm.create_model("tsm_resnet50", num_classes=174)  # doctest: +SKIP
        >>> checkpoint = torch.load("TSM_something_RGB_resnet50_shift8.pth", weights_only=True)
        >>> model.load_state_dict(convert_keys(model, checkpoint["state_dict"], "tsm").state_dict)
    """
    if source in ("torchvision", "timm"):
        return _from_images(model, state_dict)
    if source not in _NAMES:
        raise ValueError(f"source={source!r} is unknown; use one of {', '.join(SOURCES)}")
    found = _without_prefix(state_dict)
    values = {name: state_dict[theirs] for name, theirs in found.items()}
    names = _official_names(model, values, _NAMES[source](model))
    return _convert(model, values, found, names, {}, f"official {source.upper()}")


def _tsm_names(model: VideoNet) -> Callable[[str], str]:
    """Of mit-han-lab/temporal-shift-module, where a shift holds its convolution: `layer1.0.conv1.net.weight`.

    TSN models, which that code trains too, have no shifts, and load into `tsn_*`. Its MobileNetV2 numbers all layers.
    """
    shifted = [item.name for item in injected(model.backbone)]

    def rename(name: str) -> str:
        target, _, leaf = name.rpartition(".")
        held = ".net" if target in shifted else ""
        return f"{numbered.get(target, target)}{held}.{leaf}"

    numbered = _numbered_mobilenet(model) if hasattr(model.backbone, "conv_stem") else {}
    return rename


def _numbered_mobilenet(model: VideoNet) -> dict[str, str]:
    """Timm's names of the layers of MobileNetV2 -> their numbers in the official `archs/mobilenet_v2.py`."""
    blocks = [
        (f"blocks.{s}.{i}", block) for s, stage in enumerate(model.backbone.blocks) for i, block in enumerate(stage)
    ]
    names = {"conv_stem": "features.0.0", "bn1": "features.0.1"}
    for number, (name, block) in enumerate(blocks, 1):
        layers = ["conv_pw", "bn1", "conv_dw", "bn2", "conv_pwl", "bn3"]
        if not hasattr(block, "conv_pwl"):
            layers = ["conv_dw", "bn1", "conv_pw", "bn2"]
        places = (0, 1, 3, 4, 6, 7)  # an activation follows the first and the second norm
        names |= {
            f"{name}.{layer}": f"features.{number}.conv.{place}" for layer, place in zip(layers, places, strict=False)
        }
    last = len(blocks) + 1
    return {**names, "conv_head": f"features.{last}.0", "bn2": f"features.{last}.1"}


def _gst_names(model: VideoNet) -> Callable[[str], str]:
    """Of chenxuluo/GST-video, whose convolutions are 3D ones, and where a block's `conv2` has a `Tconv` beside it."""
    return lambda name: name.replace(".conv2.spatial.", ".conv2.").replace(".conv2.temporal.", ".Tconv.")


def _tea_names(model: VideoNet) -> Callable[[str], str]:
    """Of Phoenix1327/tea-action-recognition: a block has `me`, motion excitation, and `shifts`, one for each subset."""
    parts = {"reduce": "conv1", "reduce_norm": "bn1", "transform": "conv2", "expand": "conv3", "expand_norm": "bn3"}

    def rename(name: str) -> str:
        block, _, leaf = name.partition(f".bn1.{CHILD}.1.")
        if leaf:
            layer, _, kind = leaf.partition(".")
            return f"{block}.me.{parts[layer]}.{kind}"
        name = re.sub(rf"\.convs\.(\d+)\.{CHILD}\.weight$", r".shifts.\1.conv.weight", name)
        block = name.removesuffix(f".conv3.{CHILD}.module.weight")
        if block == name:
            return name
        return f"{block}.shifts.{len(model.backbone.get_submodule(block).convs)}.conv.weight"

    return rename


def _tam_names(model: VideoNet) -> Callable[[str], str]:
    """Of liu-zhy/temporal-adaptive-module, where each block is held by one with `net` and `tam`."""

    def rename(name: str) -> str:
        name = re.sub(rf"^(layer\d\.\d+)\.conv2\.{CHILD}\.", r"\1.tam.", name)
        name = name.replace(".tam.global_branch.", ".tam.G.").replace(".tam.local_branch.", ".tam.L.")
        return name if ".tam." in name else re.sub(r"^(layer\d\.\d+)\.", r"\1.net.", name)

    return rename


_NAMES: dict[str, Callable[[VideoNet], Callable[[str], str]]] = {
    "tsm": _tsm_names,
    "gst": _gst_names,
    "tea": _tea_names,
    "tam": _tam_names,
}
SOURCES = (*_NAMES, "torchvision", "timm")


def _from_images(model: VideoNet, state_dict: Mapping[str, Tensor]) -> ConvertedKeys:
    """Of torchvision or timm, which name the parts of a ResNet alike."""
    attached = tuple(f"backbone.{item.name}.{CHILD}." for item in injected(model.backbone))
    kept = {name: _NOT_OF_IMAGES for name in model.state_dict() if name.startswith(attached)}
    theirs = {name: name.removeprefix("backbone.") for name in model.state_dict() if name not in kept}
    found = _without_prefix(state_dict)
    values = {name: state_dict[original] for name, original in found.items()}
    return _convert(model, values, found, theirs, kept, "image")


def _official_names(model: VideoNet, values: Mapping[str, Tensor], rename: Callable[[str], str]) -> dict[str, str]:
    """Our names -> names of the official codes; `rename` turns names within the backbone into theirs."""
    classifier = model.get_classifier(name_only=True)
    assert isinstance(classifier, str)
    theirs = {}
    for name in model.state_dict():
        if name.startswith(f"{classifier}.") and "new_fc.weight" in values:
            theirs[name] = name.replace(classifier, "new_fc", 1)
        else:
            theirs[name] = "base_model." + rename(name.removeprefix("backbone."))
    return theirs


def _without_prefix(state_dict: Mapping[str, Tensor]) -> dict[str, str]:
    """Name without the prefix of `DataParallel` -> name in the file."""
    found = {name.removeprefix("module."): name for name in state_dict}
    if len(found) < len(state_dict):
        twice = sorted(set(state_dict) - set(found.values()))
        raise ValueError(f"duplicate names, with and without `module.`: {first_names(twice)}; remove one of each")
    return found


def _convert(
    model: VideoNet,
    values: Mapping[str, Tensor],
    originals: dict[str, str],
    theirs: dict[str, str],
    kept: dict[str, str],
    source: str,
) -> ConvertedKeys:
    """The tensors under our names and in our shapes.

    `values` are the file's tensors by names without `module.`, `originals` these names -> the file's own, `theirs` our
    names -> the file's without `module.`, `kept` those that the file need not have -> why.
    """
    own = model.state_dict()
    absent = {ours: name for ours, name in theirs.items() if name not in values}
    converted = {name: _in_our_form(values[name], own[ours]) for ours, name in theirs.items() if ours not in absent}
    unknown = {name: values[name] for name in values.keys() - converted.keys()}
    mismatch = find_mismatch({name: own[ours] for ours, name in theirs.items()}, {**converted, **unknown})
    if mismatch:
        raise ValueError(
            f"this state dict is not from an {source} model like {_describe(model)}: {mismatch}; create the model with "
            "the settings that it was trained with (num_classes; for GST alpha and beta; for TAM num_frames)"
        )
    return ConvertedKeys(
        {**own, **{ours: converted[name] for ours, name in theirs.items() if ours not in absent}},
        {ours: originals[name] for ours, name in theirs.items() if ours not in absent},
        {**kept, **dict.fromkeys(absent, _NOT_COUNTED)},
    )


def _in_our_form(value: Tensor, ours: Tensor) -> Tensor:
    """3D convolutions in the form of our 2D ones, and without the dimensions of size 1 that ours do not have."""
    if value.ndim == 5 and ours.ndim == 4:
        return temporal_kernel(value)  # of a single frame too: there it drops the dimension
    if value.ndim > ours.ndim and torch.Size(size for size in value.shape if size > 1) == ours.shape:
        return value.reshape(ours.shape)
    return value


def _describe(model: VideoNet) -> str:
    name = model.pretrained_cfg.get("architecture") if hasattr(model, "pretrained_cfg") else None
    return f"{name or type(model).__name__} with {model.num_classes} classes"
