"""The model of a run: built by name, begun with the weights of a file, batch norms frozen where that is asked for."""

import argparse
import logging
import pickle
from functools import partial
from pathlib import Path
from typing import Any

import timm
from safetensors import SafetensorError
from timm.models import load_state_dict
from torch import nn

from timm_video_psn.layers.temporal_module import TemporalModule
from timm_video_psn.models import VideoNet
from timm_video_psn.models.create import check_model_name

_logger = logging.getLogger(__name__)


def create_model(options: argparse.Namespace, num_classes: int) -> VideoNet:
    """The model that the options name, with a class for each of the data set's.

    Args:
        options: see `engine.train.options`.
        num_classes: classes of the data set.

    Raises:
        ValueError: the name is unknown, or of an image model.
    """
    check_model_name(options.model)
    own = {"num_frames": "--num-frames", "drop_rate": "--drop", "num_classes": "the data set"}
    if options.drop_path is not None:
        own["drop_path_rate"] = "--drop-path"
    if options.backbone_checkpoint is not None:
        own["backbone_checkpoint"] = "--backbone-checkpoint"
    taken = [f"{key} ({source})" for key, source in own.items() if key in options.model_kwargs]
    if taken:
        raise ValueError(
            f"--model-kwargs sets {', '.join(taken)}, which is set elsewhere, as named; leave it out there"
        )
    kwargs = {"num_frames": options.num_frames, "drop_rate": options.drop, **options.model_kwargs}
    if options.drop_path is not None:
        kwargs["drop_path_rate"] = options.drop_path
    if options.backbone_checkpoint is not None:
        kwargs["backbone_checkpoint"] = options.backbone_checkpoint
    try:
        model = timm.create_model(options.model, pretrained=options.pretrained, num_classes=num_classes, **kwargs)
    except OSError as error:
        if not options.pretrained or options.model.startswith("local-dir:"):
            raise
        raise OSError(
            f"the pretrained weights of {options.model} could not be downloaded ({error}); check the network, put them "
            "into the Hub's cache (HF_HOME), or start from random weights with --no-pretrained"
        ) from error
    if model.in_chans != 3:
        raise ValueError(f"in_chans={model.in_chans} asked for, but the decoder gives three channels, RGB")
    if options.initial_checkpoint:
        load_initial_weights(model, options.initial_checkpoint)
    if options.grad_checkpointing:
        model.set_grad_checkpointing()
    freeze_norms(options, model)
    return model


def freeze_norms(options: argparse.Namespace, model: VideoNet) -> None:
    """Freeze the backbone's batch norms, if the options say so.

    Args:
        options: see `engine.train.options`.
        model: the model.
    """
    if options.freeze_bn or options.partial_bn:
        freeze_backbone_norms(model, keep_first=options.partial_bn)


def load_initial_weights(model: nn.Module, file: str) -> None:
    """Load a model.safetensors or last.pt of a run, or a state dict; a classifier of other classes stays as it is.

    Args:
        model: a model of timm, as built.
        file: path of the weights.

    Raises:
        FileNotFoundError: there is no such file.
        ValueError: the file holds no weights, or weights of another model.
    """
    path = Path(file)
    if not path.is_file():
        raise FileNotFoundError(
            f"--initial-checkpoint {file}: no such file; give the model.safetensors of a best/ folder, or a last.pt"
        )
    try:
        weights = load_state_dict(file, weights_only=True)
    except (
        RuntimeError,
        ValueError,
        KeyError,
        AttributeError,
        EOFError,
        pickle.UnpicklingError,
        SafetensorError,
    ) as error:
        raise ValueError(f"--initial-checkpoint {file} holds no weights: {str(error).splitlines()[0]}") from error
    own = model.state_dict()
    other = [name for name, value in weights.items() if name in own and own[name].shape != value.shape]
    classifier = [name for name in other if _is_classifier(model, name)]
    wrong = {
        "missing": [name for name in own if name not in weights],
        "unknown": [name for name in weights if name not in own],
        "of another shape": [name for name in other if name not in classifier],
    }
    if any(wrong.values()):
        found = "; ".join(f"{len(names)} {what} ({', '.join(names[:3])})" for what, names in wrong.items() if names)
        raise ValueError(
            f"--initial-checkpoint {file} does not fit the model: {found}; use the --model and --model-kwargs that it "
            "was trained with"
        )
    model.load_state_dict({name: own[name] if name in classifier else value for name, value in weights.items()})
    if classifier:
        _logger.info(f"weights   {file}, but for {', '.join(classifier)}: other classes, so these begin at random")


def _is_classifier(model: nn.Module, name: str) -> bool:
    """Whether a parameter belongs to the last layer."""
    module_name, _, parameter = name.rpartition(".")
    classifier = model.get_classifier()  # type: ignore[operator]
    return model.get_submodule(module_name) is classifier and parameter in ("weight", "bias")


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
