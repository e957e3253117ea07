"""A trained model with all that its test needs: from a model folder, from the Hub, or from a checkpoint of training."""

import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import timm
from huggingface_hub import hf_hub_download
from safetensors import SafetensorError
from timm.models import load_checkpoint as load_weights

from timm_video_psn.engine.checkpoint import load_checkpoint
from timm_video_psn.engine.protocol import Protocol
from timm_video_psn.files import file_sha256
from timm_video_psn.models import VideoNet
from timm_video_psn.models.create import check_model_name

_HUB = ("hf-hub:", "hf_hub:")
_MISFIT = (RuntimeError, AttributeError, TypeError, SafetensorError)  # what timm and torch raise for wrong weights


@dataclass(frozen=True)
class TrainedModel:
    """A model and what its own files say of it.

    Args:
        model: with its weights.
        source: where it came from, for messages.
        class_names: in label order; empty where the files do not tell.
        protocol: how its validation looked at a video.
        mean: of the normalisation.
        std: of the normalisation.
        interpolation: of the resize.
        dataset: the data set that it was trained on, or None.
        dataset_version: of that, or "".
        weights_sha256: of the file of weights; None where it is the Hub's and states none.
    """

    model: VideoNet
    source: str
    class_names: tuple[str, ...]
    protocol: Protocol
    mean: tuple[float, ...]
    std: tuple[float, ...]
    interpolation: str
    dataset: str | None = None
    dataset_version: str = ""
    weights_sha256: str | None = None


def load_model(source: str) -> VideoNet:
    """The model of a folder or a Hub repository.

    Args:
        source: a folder with `config.json` and `model.safetensors`, as it is or as `local-dir:`, or `hf-hub:user/name`.

    Raises:
        FileNotFoundError: the folder is not there, or no model folder.
        ValueError: its files do not fit each other, or it is no video model.
    """
    if not source.startswith(_HUB):
        folder = _folder(source)
        check_model_name(_architecture(folder / "config.json"))
        source = f"local-dir:{folder}"
    try:
        model = timm.create_model(source, pretrained=True)
    except _MISFIT as error:
        raise ValueError(f"{source}: the weights do not fit config.json, or are missing: {error}") from error
    return _checked(model, source)


def read_config(source: str, model: VideoNet) -> dict[str, Any]:
    """The whole `config.json` of a folder or a Hub repository; timm itself passes over what is not its own.

    Args:
        source: as `load_model` takes it.
        model: that was loaded from it; its weights name the commit that a Hub's config is of, too.
    """
    if source.startswith(_HUB):
        repository, _, revision = str(model.pretrained_cfg["hf_hub_id"]).partition("@")
        path = Path(hf_hub_download(repository, "config.json", revision=revision or None))  # in the cache already
    else:
        path = _folder(source) / "config.json"
    config: dict[str, Any] = json.loads(path.read_text())
    return config


def load_trained(source: str) -> TrainedModel:
    """A model folder or Hub repository, with what its config says of its validation.

    Args:
        source: as `load_model` takes it.
    """
    model = load_model(source)
    config, cfg = read_config(source, model), model.pretrained_cfg
    return TrainedModel(
        model=model,
        source=source,
        class_names=tuple(cfg.get("label_names") or ()),
        protocol=_protocol(config, model),
        mean=tuple(cfg["mean"]),
        std=tuple(cfg["std"]),
        interpolation=cfg["interpolation"],
        dataset=config.get("dataset"),
        dataset_version=config.get("dataset_version", ""),
        weights_sha256=_sha256(source, config),
    )


def _sha256(source: str, config: dict[str, Any]) -> str | None:
    """Of the weights: the Hub's have been compared with what their config states."""
    if source.startswith(_HUB):
        return (config.get("weights") or {}).get("sha256")
    return file_sha256(_folder(source) / "model.safetensors")


def load_from_checkpoint(name: str | None, path: Path, class_names: tuple[str, ...]) -> TrainedModel:
    """A model by its name with the weights of a file.

    Args:
        name: of the model; None where the file is a `last.pt` of train_video.py, which knows it.
        path: a `last.pt`, whose averaged weights are taken if it has some; or weights alone (.safetensors, .pth).
        class_names: of the data, for weights alone.

    Raises:
        FileNotFoundError: there is no such file.
        ValueError: the weights do not fit the model, or its name is missing.
    """
    if path.suffix == ".pt":
        return _from_training(name, path)
    if name is None:
        raise ValueError(f"--checkpoint {path} holds weights alone; name their model with --model NAME")
    if not path.is_file():
        raise FileNotFoundError(f"--checkpoint {path} not found; give a file of weights, or a last.pt of a run")
    model = _build(name, {"num_classes": len(class_names)})
    try:
        load_weights(model, str(path), weights_only=True)
    except _MISFIT as error:
        raise ValueError(f"--checkpoint {path} does not fit {name} with {len(class_names)} classes: {error}") from error
    return TrainedModel(model, f"{name} with {path}", (), _protocol({}, model), *_preprocessing(model.pretrained_cfg))


def _from_training(name: str | None, path: Path) -> TrainedModel:
    """The model of a `last.pt`."""
    state = load_checkpoint(path)
    options: Mapping[str, Any] = state["options"]
    if name not in (None, options["model"]):
        raise ValueError(f"--checkpoint {path} is of {options['model']}, not of --model {name}; leave --model out")
    frames = {} if options["num_frames"] is None else {"num_frames": options["num_frames"]}
    kwargs = {"num_classes": len(state["class_names"]), **frames, **options["model_kwargs"]}
    model = _build(options["model"], kwargs)
    try:
        model.load_state_dict(state["model"] if state["ema"] is None else state["ema"])
    except RuntimeError as error:
        raise ValueError(f"--checkpoint {path} does not fit {options['model']}: {error}") from error
    given = {key: options[key] for key in ("mean", "std", "interpolation", "crop_pct") if options.get(key) is not None}
    if options["img_size"] is not None:
        given["input_size"] = (3, options["img_size"], options["img_size"])
    cfg = {**model.pretrained_cfg, **given}
    config = {"video": {"sampling": options["sampling"]}}
    protocol = _protocol(config, model, cfg)
    return TrainedModel(
        *(model, str(path), tuple(state["class_names"]), protocol, *_preprocessing(cfg)),
        dataset=options["dataset"],
        dataset_version=state.get("dataset_version", ""),
    )


def _build(name: str, kwargs: dict[str, Any]) -> VideoNet:
    """A model of random weights."""
    check_model_name(name)
    if ":" in name:
        raise ValueError(f"--checkpoint replaces the weights of {name}; give the name of a model, or no --checkpoint")
    return _checked(timm.create_model(name, pretrained=False, **kwargs), name)


def _protocol(config: Mapping[str, Any], model: VideoNet, cfg: Mapping[str, Any] | None = None) -> Protocol:
    """How validation looked at a video; what the config does not say is as train_video.py's defaults are."""
    cfg = model.pretrained_cfg if cfg is None else cfg
    video = config.get("video") or {}
    img_size = video.get("img_size") or cfg["input_size"][-1]
    short_side = video.get("short_side") or round(cfg["input_size"][-1] / (cfg.get("crop_pct") or 0.875))
    return Protocol(
        num_frames=video.get("num_frames") or model.num_frames,
        num_clips=video.get("num_clips", 1),
        num_crops=video.get("num_crops", 1),
        img_size=img_size,
        short_side=short_side,
        sampling=video.get("sampling", "segments"),
        fusion=video.get("fusion", "logits"),
    )


def _preprocessing(cfg: Mapping[str, Any]) -> tuple[tuple[float, ...], tuple[float, ...], str]:
    """Mean, deviation and interpolation."""
    return tuple(cfg["mean"]), tuple(cfg["std"]), cfg["interpolation"]


def _folder(source: str) -> Path:
    """The folder of that name, which has a config.json."""
    folder = Path(source.removeprefix("local-dir:"))
    if not (folder / "config.json").is_file():
        raise FileNotFoundError(
            f"{folder} is no model folder: it has no config.json; use the best/ folder of a run of train_video.py, "
            "or hf-hub:user/name"
        )
    return folder


def _architecture(config: Path) -> str:
    """The model's name in timm's config.json."""
    try:
        return str(json.loads(config.read_text())["architecture"])
    except (KeyError, TypeError, ValueError) as error:
        raise ValueError(f"{config} is damaged or not in timm's form: {error!r}") from error


def _checked(model: Any, source: str) -> VideoNet:
    """The model if it is one of ours."""
    if not isinstance(model, VideoNet):
        raise ValueError(f"{source} is a {type(model).__name__}, no video model of timm_video_psn")
    return model
