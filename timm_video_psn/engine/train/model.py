"""The model of a run: built by its name, with the weights of a file and with frozen norms where these are asked for."""

import argparse
import logging
from functools import partial
from typing import Any

import torch
from timm.layers import convert_sync_batchnorm
from torch import nn

from timm_video_psn.engine.train.options import ModelDefaults, TrainOptions
from timm_video_psn.freezing import freeze_synthesizers
from timm_video_psn.layers.temporal_module import TemporalModule
from timm_video_psn.models import VideoNet, is_external
from timm_video_psn.models import create_model as create_timm_model
from timm_video_psn.models.create import check_model_name
from timm_video_psn.models.image_backbone import load_weights_file

_logger = logging.getLogger(__name__)
_OPTIONAL_FLAGS = {"drop_path_rate": "--drop-path", "backbone_checkpoint": "--backbone-checkpoint"}


def model_defaults(asked: argparse.Namespace) -> ModelDefaults:
    """Returns frames, size and normalisation that the model takes by itself; it is built without memory for that.

    Args:
        asked: What the command line asks for; see `command_line.parse_options`.

    Raises:
        ValueError: There is no such model, or it takes no such arguments.
    """
    without_weights = {"pretrained": False, "backbone_checkpoint": None, "backbone_pretrained": None}
    with torch.device("meta"):
        model = create_timm_model(asked.model, **{**_model_kwargs(asked), **without_weights})
    cfg = model.pretrained_cfg
    return ModelDefaults(model.num_frames, cfg["input_size"][-1], tuple(cfg["mean"]), tuple(cfg["std"]))


def create_model(options: TrainOptions, num_classes: int) -> VideoNet:
    """Creates the model of a run, on the CPU.

    Args:
        options: Options of the run.
        num_classes: Classes of the data set.

    Raises:
        ValueError: The options do not fit the model or one another.
        OSError: Its pretrained weights cannot be had.
    """
    kwargs = _model_kwargs(options)
    try:
        model = create_timm_model(options.model, pretrained=options.pretrained, num_classes=num_classes, **kwargs)
    except OSError as error:
        if not options.pretrained or options.model.startswith("local-dir:"):
            raise
        if is_external(options.model):
            raise OSError(
                f"the pretrained weights of {options.model} could not be loaded ({error}); check the name and the "
                "network, or start from random weights with --no-pretrained"
            ) from error
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
    if options.sync_bn:
        model = synchronise_norms(model, options.device)
    if options.freeze_bn or options.partial_bn:
        freeze_backbone_norms(model, keep_first=options.partial_bn)
    if options.freeze_synthesizers:
        if not (options.initial_checkpoint or options.pretrained):
            raise ValueError(
                "--freeze-synthesizers keeps synthesizers as they are, and without trained weights they are at their "
                "random start; give a first run's weights with --initial-checkpoint output/RUN/best/model.safetensors"
            )
        freeze_synthesizers(model)
    return model


def _model_kwargs(options: Any) -> dict[str, Any]:
    """All arguments of the model, if its name is known and nothing is set twice; timm drops those that are None."""
    check_model_name(options.model)
    own = {
        "num_frames": options.num_frames,
        "drop_rate": options.drop,
        "drop_path_rate": options.drop_path,
        "backbone_checkpoint": options.backbone_checkpoint,
    }
    flags = {"num_classes": "the data set", "num_frames": "--num-frames", "drop_rate": "--drop"}
    flags |= {name: flag for name, flag in _OPTIONAL_FLAGS.items() if own[name] is not None}
    if taken := [f"{name} ({flag})" for name, flag in flags.items() if name in options.model_kwargs]:
        raise ValueError(
            f"--model-kwargs sets {', '.join(taken)}, which is set elsewhere, as named; leave it out there"
        )
    return {**own, **options.model_kwargs}


def load_initial_weights(model: VideoNet, file: str) -> None:
    """Loads a model.safetensors or last.pt of a run, or a state dict; a classifier of other classes stays as it is.

    Args:
        model: Model of timm, as built.
        file: Path of the weights.

    Raises:
        FileNotFoundError: There is no such file.
        ValueError: The file holds no weights, or weights of another model.
    """
    head = model.get_classifier(name_only=True)
    loaded = load_weights_file(
        model,
        file,
        (head,) if isinstance(head, str) else head,
        f"--initial-checkpoint {file}",
        "give the model.safetensors of a best/ folder or a last.pt, and the --model and --model-kwargs of its run",
    )
    _logger.info(f"weights   {loaded}")


def synchronise_norms(model: VideoNet, device: str) -> Any:
    """Gives a model batch norms that take their statistics over the clips of all processes.

    Args:
        model: Model of the run.
        device: Device that it is to train on.

    Raises:
        ValueError: The device is a CPU.
    """
    if torch.device(device).type == "cpu":
        raise ValueError(
            "--sync-bn is asked for, but torch's SyncBatchNorm works on GPUs only, and this run is on a CPU; leave it "
            "out: each process then normalises by its own clips"
        )
    return convert_sync_batchnorm(model)


def freeze_backbone_norms(model: Any, keep_first: bool = False) -> tuple[str, ...]:
    """Freezes the batch norms outside temporal modules through any later `.train()`; copies and pickles stay frozen.

    Statistics, weights and biases stay as pretrained. Norms of temporal modules learn, since nothing in them is
    pretrained.

    Args:
        model: Video model; changed in place.
        keep_first: Leave the first norm free: the "partial BN" of TSN and TSM.

    Returns:
        The dotted names of the frozen norms.

    Raises:
        ValueError: There is none to freeze.
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
        norms[name].requires_grad_(False)
        # A partial, unlike a closure or a method, follows its norm into copies and pickles.
        vars(norms[name])["train"] = partial(_stay_in_evaluation, norms[name])
        norms[name].train()
    return tuple(frozen)


def _stay_in_evaluation(norm: nn.Module, mode: bool = True) -> nn.Module:
    """The `train` of a frozen norm, whatever mode is asked for."""
    return nn.Module.train(norm, False)
