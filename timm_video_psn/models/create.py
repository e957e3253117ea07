"""From a name to a VideoNet: timm's builder, and what `pretrained=True` means for a video model."""

import difflib
import inspect
import math
import sys
from collections.abc import Callable, Mapping
from functools import partial
from pathlib import Path
from typing import Any

import timm
import torch
from safetensors import safe_open
from timm.models import (
    FeatureDictNet,
    FeatureListNet,
    PretrainedCfg,
    build_model_with_cfg,
    generate_default_cfgs,
    get_pretrained_cfg,
    is_model,
    list_models,
    model_entrypoint,
    register_model,
    resolve_pretrained_cfg,
    split_model_name_tag,
)
from timm.models._features import FeatureGetterNet  # not among timm's public names
from torch import Tensor, nn

from timm_video_psn.hub_files import CONFIG, hub_config
from timm_video_psn.layers.registry import temporal_modules, temporal_settings
from timm_video_psn.models.published_weights import pin_weights, weights_file
from timm_video_psn.models.video_net import VideoNet
from timm_video_psn.saved_config import read_saved_config, value_faults
from timm_video_psn.surgery import find_mismatch

# What a timm cfg says of the network and its input, and not of where its weights are or what they were trained on.
_STAYS_TRUE = (
    *("input_size", "test_input_size", "min_input_size", "fixed_input_size", "pool_size", "test_pool_size"),
    *("interpolation", "crop_pct", "test_crop_pct", "crop_mode", "mean", "std", "num_classes"),
)


def video_cfg(backbone: str, **kwargs: Any) -> dict[str, Any]:
    """The pretrained cfg of a video model without weights of its own: its backbone's preprocessing and names.

    Without the licence: timm would save the licence of the image weights with whatever is trained from them.

    Args:
        backbone: timm name, with or without a tag.
        **kwargs: Entries that replace the backbone's.
    """
    cfg = get_pretrained_cfg(backbone)
    if cfg is None:
        return kwargs
    result = {key: getattr(cfg, key) for key in _STAYS_TRUE if getattr(cfg, key) is not None}
    for key in ("first_conv", "classifier"):
        names = getattr(cfg, key)
        if names is not None:
            result[key] = f"backbone.{names}" if isinstance(names, str) else tuple(f"backbone.{n}" for n in names)
    return {**result, **kwargs}


def create_video_net(
    variant: str,
    pretrained: bool = False,
    *,
    backbone: str,
    backbone_pretrained: bool = False,
    backbone_checkpoint: str | None = None,
    pretrained_cfg: Any = None,
    pretrained_cfg_overlay: dict[str, Any] | None = None,
    pretrained_model_args: dict[str, Any] | None = None,
    weights_sha256: str | None = None,
    cache_dir: str | None = None,
    **kwargs: Any,
) -> VideoNet:
    """Builds a registered video model, as timm's `create_model` asks its entrypoints to.

    `pretrained=True` loads the video weights that the cfg names (`local-dir:`, `hf-hub:`, a file). A name without
    video weights of its own gets timm's image weights in its backbone, and its temporal modules keep their
    initialisation. Video weights must fit: their keys are all of the model's, but for a classifier of other classes.
    They must be a safetensors file with the sha256 that was published with it (see `models.published_weights`).

    Args:
        variant: Name of the registered model.
        pretrained: Load weights.
        backbone: timm name of the backbone, with or without a tag.
        backbone_pretrained: Load timm's image weights into the backbone, where no video weights are loaded.
        backbone_checkpoint: Local file of image weights for the backbone; every name must fit, but for a classifier
            of other classes.
        pretrained_cfg: Cfg, or its tag, that replaces the registered one.
        pretrained_cfg_overlay: Entries that replace entries of the cfg.
        pretrained_model_args: The arguments that a saved model was built with, as timm found them beside its weights.
        weights_sha256: Checksum of the video weights; None for the one in the `config.json` beside them.
        cache_dir: timm's download folder.
        **kwargs: Arguments of `VideoNet`, and timm's for features: `features_only`, `out_indices` and `feature_cls`,
            which is `getter` (the default) or `list` for a list of maps (B, C_i, T, h_i, w_i), `dict` for a dict of
            them by level, and `fx` or `hook` for what timm finds in the graph or by hooks, the maps of folded frames.
    """
    if pretrained_cfg is None:
        pretrained_cfg = video_cfg(backbone)
        if any(module.placement == "replace_stem" for module in temporal_modules(kwargs.get("temporal", "psn"))):
            pretrained_cfg["first_conv"] += ".conv"  # inside of what stands in its place
    cfg = resolve_pretrained_cfg(variant, pretrained_cfg, pretrained_cfg_overlay)
    saved = pretrained_model_args or {}
    check_saved_arguments(saved, backbone, kwargs.get("temporal", "psn"), _place_of(cfg))
    has_video_weights = pretrained and has_weights(cfg)
    if has_video_weights:
        pinned = pin_weights(cfg, pretrained_cfg_overlay, cache_dir, weights_sha256)
        pretrained_cfg_overlay = {**(pretrained_cfg_overlay or {}), **pinned}
    if kwargs.get("features_only") and kwargs.get("feature_cls") in _FEATURE_CLASSES:
        kwargs["feature_cls"] = _FEATURE_CLASSES[kwargs["feature_cls"]]
    if saved.get("backbone_pretrained"):  # what a saved model once started from is no part of it
        backbone_pretrained = False
    if saved.get("backbone_checkpoint"):
        backbone_checkpoint = None
    if backbone_checkpoint is not None and pretrained:
        raise ValueError(
            f"pretrained=True and backbone_checkpoint={backbone_checkpoint!r} both give weights; use one of them"
        )
    build = partial(
        build_model_with_cfg,
        partial(VideoNet, cache_dir=cache_dir),  # the builder keeps it for the video weights
        variant,
        pretrained_cfg=pretrained_cfg,
        pretrained_cfg_overlay=pretrained_cfg_overlay,
        backbone=backbone,
        pretrained_model_args=pretrained_model_args,
        cache_dir=cache_dir,
        pretrained_filter_fn=_checked_keys,
    )
    if has_video_weights and saved:
        pinned_cfg = resolve_pretrained_cfg(variant, pretrained_cfg, pretrained_cfg_overlay)
        whole = {key: value for key, value in kwargs.items() if key not in _OF_FEATURES}
        check_size(partial(build, pretrained=False, **whole), weights_file(pinned_cfg, cache_dir))
    return build(
        pretrained=has_video_weights,
        feature_cfg={"feature_cls": "getter"},
        backbone_pretrained=(backbone_pretrained or pretrained) and not has_video_weights,
        backbone_checkpoint=backbone_checkpoint,
        **kwargs,
    )


# Arguments that timm's entrypoints take for the backbone without one of its classes naming them.
_OF_ENTRYPOINTS = {"bn_tf", "bn_eps", "bn_momentum", "drop_rate", "drop_path_rate", "img_size"}
_OF_FEATURES = ("features_only", "out_indices", "feature_cls")
_NOT_SAVED = {"self", "args", "kwargs", "device", "dtype", "cfg", "cache_dir", "pretrained"}
_FAR_MORE = 4  # times as many numbers as the file of weights, and ten million: other classes, other frames


def check_saved_arguments(saved: Mapping[str, Any], backbone: str, temporal: str, place: str) -> None:
    """Raises unless saved arguments are among those that describe a network: none names a file or a download.

    Args:
        saved: `model_args` of a config.json, or arguments in a checkpoint.
        backbone: timm name of the backbone.
        temporal: Name of the temporal module.
        place: File that the arguments come from, for the message.

    Raises:
        ValueError: An argument is not permitted, or its value is out of range.
    """
    if not saved:
        return
    ours = [*inspect.signature(VideoNet).parameters, *temporal_settings(temporal)]
    permitted = {*ours, *_OF_ENTRYPOINTS, *_arguments_of(backbone)} - _NOT_SAVED
    faults = [f"{key} is not among them" for key in saved if key not in permitted]
    if faults := [*value_faults(saved, ""), *faults]:
        own = ", ".join(name for name in ours if name not in _NOT_SAVED)
        raise ValueError(
            f"{place}: the saved arguments of the model cannot be used: {'; '.join(faults[:5])}; accepted are {own}, "
            f"and the arguments of timm's {backbone}"
        )


def _arguments_of(backbone: str) -> set[str]:
    """What the classes of the file that defines a backbone take."""
    bare = backbone.removeprefix("hf-hub:timm/").partition(".")[0]
    if not is_model(bare):
        return set()  # its creation says that there is no such model
    classes = [item for item in vars(sys.modules[model_entrypoint(bare).__module__]).values() if isinstance(item, type)]
    bases = {base for item in classes if hasattr(item, "reset_classifier") for base in item.__mro__}
    modules = [base for base in bases if issubclass(base, nn.Module) and base is not nn.Module]
    return {name for base in modules for name in inspect.signature(base.__init__).parameters}


def _place_of(cfg: PretrainedCfg) -> str:
    """The file that saved arguments come from."""
    if cfg.source == "hf-hub":
        return f"{CONFIG} of {cfg.hf_hub_id}"
    return str(Path(cfg.file, CONFIG)) if cfg.file else "the model's files"


def check_size(build: Callable[[], nn.Module], weights: Path | None) -> None:
    """Raises where saved arguments describe a network that the weights could not fill: it may not fit into memory.

    Args:
        build: Builds the network.
        weights: Safetensors file of its weights; None for other weights, which are not looked at.

    Raises:
        ValueError: The network is far larger than the file.
    """
    if weights is None:
        return
    with safe_open(weights, framework="pt") as file:
        stored = sum(math.prod(file.get_slice(key).get_shape()) for key in file.keys())  # noqa: SIM118 - no dict
    with torch.device("meta"):  # takes no memory
        numbers = sum(value.numel() for value in build().state_dict().values())
    if numbers > _FAR_MORE * stored + 10_000_000:
        raise ValueError(
            f"{weights} holds {stored:,} numbers, and the model_args of {weights.with_name(CONFIG)} describe a network "
            f"of {numbers:,}; the files do not fit each other"
        )


class FeatureDictGetter(FeatureGetterNet):
    """Features of clips by level: `features_only=True, feature_cls="dict"`.

    Shape:
        x: (B, C, T, H, W) -> index of the level, as a string -> (B, C_i, T, h_i, w_i)
    """

    def forward(self, x: Tensor) -> dict[str, Tensor]:
        """The levels, in the order of the network."""
        return dict(zip(map(str, self.feature_info.out_indices), super().forward(x), strict=True))


# timm's list and dict take a model's children for its levels; a VideoNet's levels are inside its backbone.
_FEATURE_CLASSES: dict[Any, type[FeatureGetterNet]] = {
    "list": FeatureGetterNet,
    FeatureListNet: FeatureGetterNet,
    "dict": FeatureDictGetter,
    FeatureDictNet: FeatureDictGetter,
}


def has_weights(cfg: PretrainedCfg) -> bool:
    """Whether a cfg says where weights are.

    Args:
        cfg: A resolved cfg.
    """
    return bool(cfg.has_weights or cfg.state_dict)


def _checked_keys(state_dict: dict[str, Any], model: VideoNet) -> dict[str, Any]:
    """The state dict, if it has the model's keys.

    timm loads strictly only as long as the classes are the same; with other classes it would leave whole layers at
    their initialisation and say so nowhere but in its log.
    """
    heads = tuple(f"{name}." for name in _names(model.pretrained_cfg.get("classifier")))
    own = model.state_dict()
    # timm adapts the first convolution to other input channels afterwards.
    stems = {f"{name}.weight" for name in _names(model.pretrained_cfg.get("first_conv"))} & own.keys()
    found = {name: own[name] if name in stems else value for name, value in state_dict.items()}
    mismatch = find_mismatch(own, found, optional=lambda name: name.startswith(heads))
    if mismatch:
        raise ValueError(
            f"the weights do not fit {model.pretrained_cfg['architecture']}: {mismatch}; build the model with the "
            "settings of the weights (create_model('local-dir:FOLDER', pretrained=True) reads them from a folder saved "
            "by save_for_hf or by training); load image weights with create_model(..., backbone_pretrained=True)"
        )
    return state_dict


def _names(entry: str | tuple[str, ...] | None) -> tuple[str, ...]:
    """The names of a cfg's entry, which may be one, several or none."""
    return (entry,) if isinstance(entry, str) else tuple(entry or ())


def create_named(variant: str, pretrained: bool, backbone: str, temporal: str, kwargs: dict[str, Any]) -> VideoNet:
    """Builds a model whose name fixes its backbone and temporal module; the backbone's tag may be chosen.

    Args:
        variant: Name of the registered model, `<temporal>_<backbone>`.
        pretrained: Load weights.
        backbone: timm name with its default tag.
        temporal: Name of the temporal module.
        kwargs: Arguments of `create_video_net`.

    Raises:
        ValueError: Another architecture or temporal module was asked for than the name says.
    """
    architecture = split_model_name_tag(backbone)[0]
    backbone = kwargs.pop("backbone", backbone)
    if split_model_name_tag(backbone)[0] != architecture or kwargs.pop("temporal", temporal) != temporal:
        raise ValueError(
            f"{variant} is temporal={temporal!r} on backbone={architecture!r}, found backbone={backbone!r}; other tags "
            f"of {architecture} are accepted; for other pairs use create_model('video_net', backbone=..., temporal=...)"
        )
    return create_video_net(variant, pretrained, backbone=backbone, temporal=temporal, **kwargs)


def video_models() -> list[str]:
    """The names of this package's models, as timm lists them."""
    return [name for name in list_models() if model_entrypoint(name).__module__.startswith("timm_video_psn.")]


def check_model_name(name: str) -> None:
    """Raises for a name that timm does not know, or knows as an image model, and for a model folder that is damaged.

    Args:
        name: Name as given to `timm.create_model`.

    Raises:
        ValueError: There is no such model, or its config.json does not describe one.
        HubError: The Hub does not give it.
    """
    source, _, place = name.partition(":")
    if source.lower() in ("hf-hub", "hf_hub"):
        name = hub_config(place)[1]["architecture"]
    elif source.lower() == "local-dir":
        name = read_saved_config(Path(place) / CONFIG)["architecture"]
    elif place:  # torchvision:NAME or transformers:REPO, which their libraries know
        return
    bare = name.partition(".")[0]
    ours = video_models()
    if bare in ours:
        return
    if is_model(bare):
        name_of_pair = f"psn_{bare}" if f"psn_{bare}" in ours else "video_net"
        arguments = "" if name_of_pair != "video_net" else f" --model-kwargs backbone={name} temporal=psn"
        raise ValueError(
            f"model {name!r} is an image model of timm; for synthesizers on it, --model {name_of_pair}{arguments}"
        )
    near = difflib.get_close_matches(bare, ours, n=3)
    tip = f"nearest video models: {', '.join(near)}" if near else "timm.list_models('psn_*') lists video models"
    raise ValueError(f"model {name!r} is unknown; {tip}")


def create_model(name: str, pretrained: bool = False, **kwargs: Any) -> VideoNet:
    """`timm.create_model` for the video models of this package; an unknown name comes with the nearest ones.

    timm looks a name up before it asks anybody, so that its own function can only say that the name is unknown.

    Args:
        name: Name of a video model, `local-dir:FOLDER` or `hf-hub:REPO`.
        pretrained: Load weights; see `create_video_net`.
        **kwargs: Arguments of the model.

    Raises:
        ValueError: There is no such video model.

    Example:
        >>> timm_video_psn.create_model("psn_resnet5")
        Traceback (most recent call last):
        ValueError: model 'psn_resnet5' is unknown; nearest video models: psn_resnet50, psn_resnet152, tsn_resnet50
    """
    check_model_name(name)
    model: VideoNet = timm.create_model(name, pretrained=pretrained, **kwargs)
    return model


default_cfgs = generate_default_cfgs({"video_net": {}})


@register_model
def video_net(pretrained: bool = False, **kwargs: Any) -> VideoNet:
    """Any timm backbone with any temporal module: `create_model("video_net", backbone=..., temporal="psn")`."""
    if "backbone" not in kwargs:
        raise ValueError(
            "video_net needs a backbone, any timm name: create_model('video_net', backbone='resnet50', temporal='psn')"
        )
    return create_video_net("video_net", pretrained, **kwargs)
