"""Weights trained by the official codes of TSM and GST, under the names of our models.

Both save the state dict of a `DataParallel` (prefix `module.`) around a model: `base_model`, a ResNet whose children
are named as torchvision's and timm's, and a classifier `new_fc`, or `base_model.fc` if trained without dropout.
"""

from collections.abc import Callable

from torch import Tensor

from timm_video_psn.layers.gst import temporal_kernel
from timm_video_psn.layers.shift import TemporalShift
from timm_video_psn.models.video_net import VideoNet
from timm_video_psn.surgery import injected

_LISTED = 20  # names in an error


def from_official_tsm(model: VideoNet, state_dict: dict[str, Tensor]) -> dict[str, Tensor]:
    """A state dict of mit-han-lab/temporal-shift-module as one of ours.

    There a shift holds the convolution that it precedes: `layer1.0.conv1.net.weight`. TSN models, which that code
    trains too, have none, and load into `tsn_*`.

    Args:
        model: the model that it is for, as `tsm_resnet50` with the number of classes of the checkpoint.
        state_dict: the checkpoint's entry `state_dict`.

    Returns:
        What `model.load_state_dict` takes, with nothing missing.

    Raises:
        ValueError: names are missing or not known, or shapes differ; they are listed.

    Example:
        >>> model = timm.create_model("tsm_resnet50", num_classes=174)  # doctest: +SKIP
        >>> checkpoint = torch.load("TSM_something_RGB_resnet50_shift8.pth", weights_only=True)
        >>> model.load_state_dict(from_official_tsm(model, checkpoint["state_dict"]))
    """
    shifted = [item.name for item in injected(model.backbone) if isinstance(item.module, TemporalShift)]

    def rename(name: str) -> str:
        target, _, leaf = name.rpartition(".")
        return f"{target}.net.{leaf}" if target in shifted else name

    return _convert(model, state_dict, rename, "TSM")


def from_official_gst(model: VideoNet, state_dict: dict[str, Tensor]) -> dict[str, Tensor]:
    """A state dict of chenxuluo/GST-video as one of ours.

    There all convolutions are 3D ones, spatial kernels with one frame, and a block's `conv2` has a `Tconv` beside it.

    Args:
        model: the model that it is for, as `gst_resnet50` with alpha, beta and the number of classes of the checkpoint.
        state_dict: the checkpoint's entry `state_dict`.

    Returns:
        What `model.load_state_dict` takes, with nothing missing.

    Raises:
        ValueError: names are missing or not known, or shapes differ; they are listed.
    """

    def rename(name: str) -> str:
        return name.replace(".conv2.spatial.", ".conv2.").replace(".conv2.temporal.", ".Tconv.")

    return _convert(model, state_dict, rename, "GST")


def _convert(
    model: VideoNet, state_dict: dict[str, Tensor], rename: Callable[[str], str], source: str
) -> dict[str, Tensor]:
    """The official tensors under our names and in our shapes; `rename` turns names within the backbone into theirs."""
    found = {name.removeprefix("module."): value for name, value in state_dict.items()}
    classifier = model.get_classifier(name_only=True)
    assert isinstance(classifier, str)
    ours = model.state_dict()
    theirs = {}
    for name in ours:
        if name.startswith(f"{classifier}.") and "new_fc.weight" in found:
            theirs[name] = name.replace(classifier, "new_fc", 1)
        else:
            theirs[name] = "base_model." + rename(name.removeprefix("backbone."))
    # PyTorch before 0.4.1 did not count batches; nothing in evaluation depends on it.
    absent = [t for t in theirs.values() if t not in found]
    missing = [name for name in absent if not name.endswith("num_batches_tracked")]
    unknown = sorted(found.keys() - set(theirs.values()))
    if missing or unknown:
        raise ValueError(
            f"this state dict is not that of an official {source} model like {_describe(model)}; "
            f"missing: {_listed(missing)}; unknown: {_listed(unknown)}; create the model that it was trained as"
        )
    converted = {name: _in_our_form(found.get(theirs[name], value), value) for name, value in ours.items()}
    wrong = [
        f"{theirs[name]} has {tuple(found[theirs[name]].shape)} for {tuple(value.shape)}"
        for name, value in ours.items()
        if converted[name].shape != value.shape
    ]
    if wrong:
        raise ValueError(
            f"shapes differ from those of {_describe(model)}: {_listed(wrong)}; create the model with the settings "
            "that it was trained with (num_classes, and for GST alpha and beta)"
        )
    return converted


def _in_our_form(value: Tensor, ours: Tensor) -> Tensor:
    """A 3D convolution's weight as that of ours, which are 2D."""
    if value.ndim == 5 and ours.ndim == 4:
        return temporal_kernel(value)  # of a single frame too: there it drops the dimension
    return value


def _describe(model: VideoNet) -> str:
    name = model.pretrained_cfg.get("architecture") if hasattr(model, "pretrained_cfg") else None
    return f"{name or type(model).__name__} with {model.num_classes} classes"


def _listed(names: list[str]) -> str:
    more = f" and {len(names) - _LISTED} more" if len(names) > _LISTED else ""
    return ", ".join(names[:_LISTED]) + more if names else "none"
