"""The video classifiers of the library transformers: VideoMAE, TimeSformer, ViViT, V-JEPA 2 and what else it maps."""

import json
import logging
from pathlib import Path
from typing import Any

import torch
from timm.data import IMAGENET_DEFAULT_MEAN, IMAGENET_DEFAULT_STD
from torch import Tensor, nn

from timm_video_psn.models.external.source import Source, ToMaps, as_linear

PREFIX = "transformers:"
_PREPROCESSING = ("video_preprocessor_config.json", "preprocessor_config.json")
_INTERPOLATIONS = {2: "bilinear", 3: "bicubic"}  # PIL's numbers
_FRAMES, _SIZES = ("num_frames", "frames_per_clip"), ("image_size", "crop_size")
_ANY_LENGTH = ("timesformer", "vjepa2")  # interpolate their embeddings in time, or have rotary ones
_logger = logging.getLogger(__name__)


def open_transformers(
    source: str,
    pretrained: bool = False,
    num_frames: int | None = None,
    img_size: int | None = None,
    config: dict[str, Any] | None = None,
    **kwargs: Any,
) -> Source:
    """Builds a video classifier of transformers.

    Args:
        source: `transformers:` and a repository on the Hub or a local folder.
        pretrained: Load its weights, from safetensors only.
        num_frames: Frames of a clip; None for the config's.
        img_size: Side of the crop in pixels; None for the config's.
        config: Entries of the config. With them the source is not read.
        **kwargs: Further entries of the config, which replace its own.

    Raises:
        ImportError: Transformers is not installed.
        ValueError: The source is no video classifier.
        OSError: The source cannot be read.
    """
    try:
        from transformers import AutoConfig, AutoModelForVideoClassification
    except ImportError as error:
        raise ImportError(
            f"{source} needs the package transformers, which does not load here ({error}); "
            "pip install 'timm-video-psn[transformers]'"
        ) from error
    place = source.removeprefix(PREFIX)
    processor: dict[str, Any] = {}
    if config is None:
        own = AutoConfig.from_pretrained(place)
        processor = _read_preprocessing(place)
    else:
        own = AutoConfig.for_model(**config)
    if type(own) not in AutoModelForVideoClassification._model_mapping:
        known = sorted(each.model_type for each in AutoModelForVideoClassification._model_mapping)
        raise ValueError(f"{source} is a {own.model_type}, no video classifier; transformers has {', '.join(known)}")
    frames_key, size_key = (next(key for key in keys if hasattr(own, key)) for keys in (_FRAMES, _SIZES))
    changed = {frames_key: num_frames, size_key: img_size}
    for key, value in {**kwargs, **{key: value for key, value in changed.items() if value is not None}}.items():
        if not hasattr(own, key):
            raise TypeError(f"{source}: {own.model_type} has no setting {key!r}")
        setattr(own, key, value)
    if pretrained:
        network = AutoModelForVideoClassification.from_pretrained(place, config=own, use_safetensors=True)
    else:
        network = AutoModelForVideoClassification.from_config(own)
    classifier, network.classifier = as_linear(network.classifier), nn.Identity()
    size = getattr(own, size_key)
    side = int(size[-1] if isinstance(size, (list, tuple)) else size)
    names = tuple(own.id2label[label] for label in sorted(own.id2label))
    named = {"label_names": names} if names and not all(name.startswith("LABEL_") for name in names) else {}
    left_out = ("id2label", "label2id", "_name_or_path")  # classes are saved elsewhere, and paths are not
    saved = {key: value for key, value in own.to_diff_dict().items() if key not in left_out}
    return Source(
        name=f"{PREFIX}{Path(place).name}" if Path(place).is_dir() else source,
        network=_Features(network),
        classifier=classifier,
        num_frames=getattr(own, frames_key),
        fixed_frames=own.model_type not in _ANY_LENGTH,
        cfg={
            "input_size": (3, side, side),
            "fixed_input_size": own.model_type not in _ANY_LENGTH,
            **preprocessing(processor, side),
            **named,
        },
        frames_first=True,
        levels=_levels(network, own),
        arguments={"config": {**saved, "model_type": own.model_type, "num_labels": classifier.out_features}},
    )


class _Features(nn.Module):
    """The network as a function of one tensor, with its classifier taken out.

    Args:
        network: Video classifier of transformers whose classifier is an identity.

    Shape:
        x: (B, T, C, H, W) -> (B, D)
    """

    def __init__(self, network: Any):
        super().__init__()
        self.network = network

    def forward(self, x: Tensor) -> Tensor:
        """Pooled features."""
        features: Tensor = self.network(**{self.network.main_input_name: x}).logits
        return features

    def set_grad_checkpointing(self, enable: bool = True) -> None:
        """Trades computation for memory in the blocks."""
        switch = "enable" if enable else "disable"
        # transformers before 5.24 calls it gradient checkpointing.
        names = (f"activation_checkpointing_{switch}", f"gradient_checkpointing_{switch}")
        next(getattr(self.network, name) for name in names if hasattr(self.network, name))()


def _read_preprocessing(place: str) -> dict[str, Any]:
    """The file that says how frames are prepared; {} where there is none."""
    from transformers.utils import cached_file

    for name in _PREPROCESSING:
        path = cached_file(place, name, _raise_exceptions_for_missing_entries=False)
        if path is not None:
            found: dict[str, Any] = json.loads(Path(path).read_text(encoding="utf-8"))
            return found
    _logger.warning("%s has no %s: ImageNet's mean and deviation are assumed", place, " or ".join(_PREPROCESSING))
    return {}


def preprocessing(processor: dict[str, Any], size: int) -> dict[str, Any]:
    """A preprocessor config of transformers under timm's keys.

    transformers computes (x * rescale_factor - offset - mean) / std from bytes x, timm (x / 255 - mean) / std. ViViT
    has an offset of 1.

    Args:
        processor: Entries of the file; {} for ImageNet's values.
        size: Side of the crop.
    """
    whole = 255 * float(processor.get("rescale_factor", 1 / 255)) if processor.get("do_rescale", True) else 255.0
    offset = 1.0 if processor.get("do_rescale", True) and processor.get("offset") else 0.0
    normalised = processor.get("do_normalize", True)
    mean = processor.get("image_mean", IMAGENET_DEFAULT_MEAN) if normalised else (0.0,) * 3
    std = processor.get("image_std", IMAGENET_DEFAULT_STD) if normalised else (1.0,) * 3
    resized = processor.get("size") or {}
    short = resized.get("shortest_edge") or min((resized.get(key, size) for key in ("height", "width")), default=size)
    crop = (processor.get("crop_size") or {}).get("height", short)
    return {
        "mean": tuple((offset + value) / whole for value in mean),
        "std": tuple(value / whole for value in std),
        "crop_pct": min(1.0, crop / short),
        "interpolation": _INTERPOLATIONS.get(processor.get("resample", 2), "bilinear"),
    }


def _levels(network: nn.Module, config: Any) -> dict[str, ToMaps]:
    """The blocks of the encoder, whose tokens are maps."""
    tubelet = getattr(config, "tubelet_size", 1)
    depth, *sides = tubelet if isinstance(tubelet, (list, tuple)) else (tubelet,)
    patch = sides[-1] if sides else getattr(config, "patch_size", None)
    lists = {name: module for name, module in network.named_modules() if isinstance(module, nn.ModuleList)}
    blocks = next((name for name, each in lists.items() if len(each) == getattr(config, "num_hidden_layers", 0)), None)
    if blocks is None or patch is None:
        return {}
    to_maps = TokensToMaps(int(depth), int(patch), space_first=config.model_type == "timesformer")
    return {f"network.network.{blocks}.{i}": to_maps for i in range(len(lists[blocks]))}


class TokensToMaps:
    """The tokens of a block as maps.

    Args:
        depth: Frames of a token.
        patch: Side of a token in pixels.
        space_first: Whether the tokens of one place follow each other, as in TimeSformer, or the tokens of one time.
    """

    def __init__(self, depth: int, patch: int, space_first: bool):
        self.depth, self.patch, self.space_first = depth, patch, space_first

    def __call__(self, output: Any, clip: torch.Size) -> Tensor:
        """Tokens (B, N, D), class tokens before them, to (B, D, t, h, w)."""
        tokens: Tensor = output[0] if isinstance(output, (tuple, list)) else output
        frames, height, width = clip[2:]
        grid = (max(1, frames // self.depth), height // self.patch, width // self.patch)
        tokens = tokens[:, tokens.shape[1] - grid[0] * grid[1] * grid[2] :]
        if self.space_first:
            return tokens.unflatten(1, (*grid[1:], grid[0])).permute(0, 4, 3, 1, 2)
        return tokens.unflatten(1, grid).permute(0, 4, 1, 2, 3)
