"""Weights of others under the names of our models: of the official codes of TSM and GST, and of image models.

The two codes save the state dict of a `DataParallel` (prefix `module.`) around a model: `base_model`, a ResNet whose
children are named as torchvision's and timm's, and a classifier `new_fc`, or `base_model.fc` if trained without
dropout.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass

from torch import Tensor

from timm_video_psn.files import first_names
from timm_video_psn.layers.baselines.gst import temporal_kernel
from timm_video_psn.layers.baselines.shift import TemporalShift
from timm_video_psn.models.video_net import VideoNet
from timm_video_psn.surgery import CHILD, find_mismatch, injected

_NOT_COUNTED = "PyTorch before 0.4.1 did not count batches, and nothing in evaluation depends on it"
_NOT_OF_IMAGES = "of a temporal module, which an image model has none of: its initial value"


@dataclass(frozen=True)
class ConvertedKeys:
    """A state dict under our names, and where each entry is from.

    Args:
        state_dict: tensors for `model.load_state_dict`, with nothing missing.
        taken: our name -> name in the file; every name of the file is here.
        kept: our name that the file has nothing for -> why the model's own value stays.
    """

    state_dict: dict[str, Tensor]
    taken: dict[str, str]
    kept: dict[str, str]


def convert_keys(model: VideoNet, state_dict: Mapping[str, Tensor], source: str) -> ConvertedKeys:
    """Translate a state dict of other code, and account for every name.

    Args:
        model: the model that shall load it, as `tsm_resnet50`, with the checkpoint's number of classes.
        state_dict: the weights.
        source: `tsm` or `gst`, the official codes; `torchvision` or `timm`, an image model like the backbone.

    Raises:
        ValueError: names are missing or unknown, or shapes differ; the message lists them.

    Example:
        >>> model = timm.create_model("tsm_resnet50", num_classes=174)  # doctest: +SKIP
        >>> checkpoint = torch.load("TSM_something_RGB_resnet50_shift8.pth", weights_only=True)
        >>> model.load_state_dict(convert_keys(model, checkpoint["state_dict"], "tsm").state_dict)
    """
    if source not in _SOURCES:
        raise ValueError(f"source={source!r} is unknown; use one of {', '.join(_SOURCES)}")
    return _SOURCES[source](model, state_dict)


def _from_tsm(model: VideoNet, state_dict: Mapping[str, Tensor]) -> ConvertedKeys:
    """Of mit-han-lab/temporal-shift-module, where a shift holds its convolution: `layer1.0.conv1.net.weight`.

    TSN models, which that code trains too, have no shifts, and load into `tsn_*`.
    """
    shifted = [item.name for item in injected(model.backbone) if isinstance(item.module, TemporalShift)]

    def rename(name: str) -> str:
        target, _, leaf = name.rpartition(".")
        return f"{target}.net.{leaf}" if target in shifted else name

    return _convert(model, state_dict, _official_names(model, state_dict, rename), {}, "official TSM")


def _from_gst(model: VideoNet, state_dict: Mapping[str, Tensor]) -> ConvertedKeys:
    """Of chenxuluo/GST-video, whose convolutions are 3D ones, and where a block's `conv2` has a `Tconv` beside it."""

    def rename(name: str) -> str:
        return name.replace(".conv2.spatial.", ".conv2.").replace(".conv2.temporal.", ".Tconv.")

    return _convert(model, state_dict, _official_names(model, state_dict, rename), {}, "official GST")


def _from_images(model: VideoNet, state_dict: Mapping[str, Tensor]) -> ConvertedKeys:
    """Of torchvision or timm, which name the parts of a ResNet alike."""
    attached = tuple(f"backbone.{item.name}.{CHILD}." for item in injected(model.backbone))
    kept = {name: _NOT_OF_IMAGES for name in model.state_dict() if name.startswith(attached)}
    theirs = {name: name.removeprefix("backbone.") for name in model.state_dict() if name not in kept}
    return _convert(model, state_dict, theirs, kept, "image")


_SOURCES: dict[str, Callable[[VideoNet, Mapping[str, Tensor]], ConvertedKeys]] = {
    "tsm": _from_tsm,
    "gst": _from_gst,
    "torchvision": _from_images,
    "timm": _from_images,
}


def _official_names(model: VideoNet, state_dict: Mapping[str, Tensor], rename: Callable[[str], str]) -> dict[str, str]:
    """Our names -> names of the official codes; `rename` turns names within the backbone into theirs."""
    classifier = model.get_classifier(name_only=True)
    assert isinstance(classifier, str)
    apart = any(_bare(name) == "new_fc.weight" for name in state_dict)
    theirs = {}
    for name in model.state_dict():
        if name.startswith(f"{classifier}.") and apart:
            theirs[name] = name.replace(classifier, "new_fc", 1)
        else:
            theirs[name] = "base_model." + rename(name.removeprefix("backbone."))
    return theirs


def _convert(
    model: VideoNet, state_dict: Mapping[str, Tensor], theirs: dict[str, str], kept: dict[str, str], source: str
) -> ConvertedKeys:
    """The tensors under our names and in our shapes.

    `theirs` are our names -> the file's without `module.`, `kept` those that the file need not have -> why.
    """
    found = {_bare(name): name for name in state_dict}
    if len(found) < len(state_dict):
        twice = sorted(set(state_dict) - set(found.values()))
        raise ValueError(
            f"names are there twice, with and without `module.`: {first_names(twice)}; leave one of them out"
        )
    own = model.state_dict()
    absent = {ours: name for ours, name in theirs.items() if name not in found}
    taken = {ours: found[name] for ours, name in theirs.items() if ours not in absent}
    converted = {
        name: _in_our_form(state_dict[found[name]], own[ours]) for ours, name in theirs.items() if ours not in absent
    }
    unknown = {name: state_dict[found[name]] for name in found.keys() - converted.keys()}
    mismatch = find_mismatch({name: own[ours] for ours, name in theirs.items()}, {**converted, **unknown})
    if mismatch:
        raise ValueError(
            f"this state dict is not from an {source} model like {_describe(model)}: {mismatch}; create the model with "
            "the settings that it was trained with (num_classes, and for GST alpha and beta)"
        )
    ours_to_value = {ours: converted[name] for ours, name in theirs.items() if ours not in absent}
    return ConvertedKeys({**own, **ours_to_value}, taken, {**kept, **dict.fromkeys(absent, _NOT_COUNTED)})


def _bare(name: str) -> str:
    """Without the prefix of `DataParallel`."""
    return name.removeprefix("module.")


def _in_our_form(value: Tensor, ours: Tensor) -> Tensor:
    """A 3D convolution's weight in the form of our 2D convolutions."""
    if value.ndim == 5 and ours.ndim == 4:
        return temporal_kernel(value)  # of a single frame too: there it drops the dimension
    return value


def _describe(model: VideoNet) -> str:
    name = model.pretrained_cfg.get("architecture") if hasattr(model, "pretrained_cfg") else None
    return f"{name or type(model).__name__} with {model.num_classes} classes"
