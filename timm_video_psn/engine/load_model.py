"""A `TrainedModel` from a model folder, the Hub, a name with published weights, or a checkpoint of training."""

import difflib
import logging
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import timm
import torch
from safetensors import SafetensorError
from timm.models import is_model
from timm.models import load_checkpoint as load_weights

from timm_video_psn.console import MODEL_SOURCES
from timm_video_psn.data import SAMPLINGS
from timm_video_psn.engine.checkpoint import load_checkpoint
from timm_video_psn.engine.model_source import find_folder, is_on_hub, read_config
from timm_video_psn.engine.precision import Precision, find_device
from timm_video_psn.engine.protocol import Protocol
from timm_video_psn.engine.trained_model import TrainedModel
from timm_video_psn.files import file_sha256
from timm_video_psn.hub_files import hub_config, hub_faults
from timm_video_psn.losses import ACTIVATIONS
from timm_video_psn.models import ExternalVideoNet, VideoNet, create_model, is_external
from timm_video_psn.models.create import check_model_name
from timm_video_psn.models.published_weights import read_manifest, shipped_folder
from timm_video_psn.saved_config import value_faults

_logger = logging.getLogger(__name__)
_MISFIT = (RuntimeError, AttributeError, TypeError, SafetensorError)  # what timm and torch raise for wrong weights
_FORMER_SAMPLINGS = {"segments, middle frame (TSN)": "segments"}  # of configs from before there was a choice


def load(source: str | Path, device: str | torch.device | None = "auto") -> TrainedModel:
    """Loads a trained model, ready to predict.

    Args:
        source: The folder of a run, its `best/` or another model folder (`local-dir:` before it is accepted); a
            repository on the Hub, as `hf-hub:user/name`; the name of a model with published video weights, of which
            `psn_test_resnet.motion` comes with the package; or another library's model with its weights, as
            `torchvision:s3d` or `transformers:MCG-NJU/videomae-base-finetuned-kinetics`.
        device: Device of the model; `auto` for the GPU, or the CPU where there is no GPU.

    Raises:
        FileNotFoundError: There is no such model.
        ValueError: The files are damaged or do not fit each other, the model is not a video model, or the device cannot
            be used.
        HubError: The Hub does not give the files.

    Example:
        >>> model = timm_video_psn.load("output/psn_test_resnet-motion")  # doctest: +SKIP
        >>> print(model.predict("clip.mp4"))  # doctest: +SKIP
    """
    source, place = str(source), find_device(None if device is None else str(device))
    sha256 = None
    if is_external(source):
        return _from_library(source, place)
    if is_on_hub(source):
        hub_id = source.partition(":")[2]
        path, stated = hub_config(hub_id)
        check_model_name(stated["architecture"])
        timm_name = f"hf-hub:{hub_id.partition('@')[0]}@{path.parent.name}"  # the commit whose config has been checked
    elif is_model(source.partition(".")[0]) and not Path(source).exists() and shipped_folder(source) is None:
        timm_name = _published_name(source)
    else:
        folder = find_folder(source)
        source = str(folder)
        timm_name = f"local-dir:{folder}"
        check_model_name(timm_name)
        sha256 = file_sha256(folder / "model.safetensors") if (folder / "model.safetensors").is_file() else None
    try:
        with hub_faults(f"the weights of {source}"):
            model = _checked(timm.create_model(timm_name, pretrained=True), source)
    except _MISFIT as error:
        raise ValueError(f"{source}: the weights do not fit config.json, or are missing: {error}") from error
    config, cfg = read_config(source, model), model.pretrained_cfg
    return TrainedModel(
        _placed(model, place),
        source,
        tuple(cfg.get("label_names") or ()),
        _protocol(config, model, cfg, source),
        *_preprocessing(cfg, place),
        dataset=config.get("dataset"),
        dataset_version=config.get("dataset_version", ""),
        weights_sha256=sha256 or (config.get("weights") or {}).get("sha256"),
        activation=config.get("activation", "softmax"),
    )


def _from_library(source: str, device: torch.device) -> TrainedModel:
    """Another library's model with the weights that the library offers."""
    model = create_model(source, pretrained=True)
    cfg = model.pretrained_cfg
    video = {"sampling": model.sampling} if model.sampling else {}
    return TrainedModel(
        _placed(model, device),
        source,
        tuple(cfg.get("label_names") or ()),
        _protocol({"video": video}, model, cfg, source),
        *_preprocessing(cfg, device),
    )


def load_from_checkpoint(
    name: str | None, path: Path, class_names: tuple[str, ...], device: str | None = "auto"
) -> TrainedModel:
    """Loads the weights of a file into a model.

    Args:
        name: Name of the model; None where the file is a `last.pt` of training, which knows it.
        path: A `last.pt`, whose averaged weights are taken if it has some; or weights alone (.safetensors, .pth).
        class_names: Names of the data set's classes, for weights alone.
        device: See `load`.

    Raises:
        FileNotFoundError: There is no such file.
        ValueError: The weights do not fit the model, or its name is missing.
    """
    place = find_device(device)
    if path.suffix == ".pt":
        return _from_training(name, path, place)
    if name is None:
        raise ValueError(f"--checkpoint {path} holds weights alone; name their model with --model NAME")
    if not path.is_file():
        raise FileNotFoundError(f"--checkpoint {path} not found; give a file of weights, or a last.pt of a run")
    model = _build(name, {"num_classes": len(class_names)})
    try:
        load_weights(model, str(path), weights_only=True)
    except _MISFIT as error:
        raise ValueError(f"--checkpoint {path} does not fit {name} with {len(class_names)} classes: {error}") from error
    source, cfg = f"{name} with {path}", model.pretrained_cfg
    protocol = _protocol({"video": {"sampling": "segments"}}, model, cfg, source)
    return TrainedModel(_placed(model, place), source, (), protocol, *_preprocessing(cfg, place))


def _from_training(name: str | None, path: Path, device: torch.device) -> TrainedModel:
    """The model of a `last.pt`."""
    state = load_checkpoint(path)
    options: Mapping[str, Any] = state["options"]
    if name not in (None, options["model"]):
        raise ValueError(f"--checkpoint {path} is of {options['model']}, not of --model {name}; leave --model out")
    frames = {} if options["num_frames"] is None else {"num_frames": options["num_frames"]}
    kwargs = {"num_classes": len(state["class_names"]), **frames, **options["model_kwargs"]}
    if faults := list(value_faults(kwargs, "")):
        raise ValueError(f"--checkpoint {path} does not describe a model: {'; '.join(faults)}")
    model = _build(options["model"], kwargs)
    try:
        model.load_state_dict(state["model"] if state["ema"] is None else state["ema"])
    except RuntimeError as error:
        raise ValueError(f"--checkpoint {path} does not fit {options['model']}: {error}") from error
    given = {key: options[key] for key in ("mean", "std", "interpolation", "crop_pct") if options.get(key) is not None}
    if options["img_size"] is not None:
        given["input_size"] = (3, options["img_size"], options["img_size"])
    cfg = {**model.pretrained_cfg, **given}
    return TrainedModel(
        _placed(model, device),
        str(path),
        tuple(state["class_names"]),
        _protocol({"video": {"sampling": options["sampling"]}}, model, cfg, str(path)),
        *_preprocessing(cfg, device),
        dataset=options["dataset"],
        dataset_version=state.get("dataset_version", ""),
        activation=ACTIVATIONS[options.get("loss", "ce")],
    )


def _published_name(name: str) -> str:
    """The name, if it stands for video weights; timm loads them, or says that nobody has published any."""
    known = read_manifest()
    if name.partition(".")[0] not in known:
        check_model_name(name)
        published = ["psn_test_resnet.motion", *(each for each, weights in known.items() if weights)]
        near = difflib.get_close_matches(name, published, n=3, cutoff=0.0)
        raise ValueError(
            f"{name} is the name of a model without trained video weights; use {MODEL_SOURCES}, or a name that "
            f"stands for video weights: {', '.join(near)}"
        )
    return name


def _build(name: str, kwargs: dict[str, Any]) -> VideoNet:
    """A model of random weights."""
    if ":" in name and not is_external(name):
        raise ValueError(f"--checkpoint replaces the weights of {name}; give the name of a model, or no --checkpoint")
    check_model_name(name)
    return _checked(create_model(name, pretrained=False, **kwargs), name)


def _checked(model: Any, source: str) -> Any:
    """The model if it is one of ours, or another library's behind our adapter."""
    if not isinstance(model, (VideoNet, ExternalVideoNet)):
        raise ValueError(f"{source} is a {type(model).__name__}, no video model of timm_video_psn")
    return model


def _placed(model: VideoNet, device: torch.device) -> VideoNet:
    """The model on its device, in the layout that is fastest there, to predict."""
    return model.to(device).to(memory_format=torch.channels_last).eval()


def _preprocessing(cfg: Mapping[str, Any], device: torch.device) -> tuple[Precision, str]:
    """Device with mean and deviation, and the interpolation."""
    return Precision(device, tuple(cfg["mean"]), tuple(cfg["std"])), cfg["interpolation"]


def _protocol(config: Mapping[str, Any], model: VideoNet, cfg: Mapping[str, Any], source: str) -> Protocol:
    """How validation looked at a video; sizes that the config does not say are as timm's entries of it."""
    video = config.get("video") or {}
    return Protocol(
        num_frames=video.get("num_frames") or model.num_frames,
        num_clips=video.get("num_clips", 1),
        num_crops=video.get("num_crops", 1),
        img_size=video.get("img_size") or cfg["input_size"][-1],
        short_side=video.get("short_side") or round(cfg["input_size"][-1] / (cfg.get("crop_pct") or 0.875)),
        sampling=_sampling(video, source),
        fusion=video.get("fusion", "logits"),
    )


def _sampling(video: Mapping[str, Any], source: str) -> str:
    """The name of the sampling that the entry `video` of a config states."""
    stated = video.get("sampling")
    if stated is None:
        _logger.warning("%s does not say which frames its validation took: one of each segment is assumed", source)
        return "segments"
    sampling = _FORMER_SAMPLINGS.get(stated, stated)
    if sampling not in SAMPLINGS:
        raise ValueError(
            f"{source} was validated on frames chosen by {stated!r}, which this version does not know; it knows "
            f"{', '.join(SAMPLINGS)}: update timm_video_psn, or correct `sampling` in config.json"
        )
    return sampling
