"""The transform that fits a model, by what the model says of its preprocessing."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Literal, overload

from timm_video_psn.data.clips.transforms import EvalTransform, TrainTransform


@overload
def create_transform(model_or_config: Any, is_training: Literal[False] = False) -> EvalTransform: ...


@overload
def create_transform(model_or_config: Any, is_training: Literal[True], **kwargs: Any) -> TrainTransform: ...


def create_transform(model_or_config: Any, is_training: bool = False, **kwargs: Any) -> EvalTransform | TrainTransform:
    """Creates the transform for the clips of a model.

    Args:
        model_or_config: A `TrainedModel`, a network with a `pretrained_cfg`, or that config itself: a dict with
            `input_size`, and as far as they are not the defaults `crop_pct` (0.875) and `interpolation` (bilinear).
        is_training: Create the random transform of training clips instead of the fixed one of validation.
        **kwargs: Further arguments of `TrainTransform`, such as `crop`, `hflip` and `augment`.

    Raises:
        TypeError: Neither a model nor a config was given.

    Example:
        >>> create_transform({"input_size": (3, 224, 224)}).resize_size
        256
    """
    network = getattr(model_or_config, "model", model_or_config)  # of a TrainedModel
    config = getattr(network, "pretrained_cfg", network)
    if not isinstance(config, Mapping) or "input_size" not in config:
        raise TypeError(
            f"{type(model_or_config).__name__} is neither a model with a pretrained_cfg nor a config with input_size"
        )
    if kwargs and not is_training:
        raise TypeError(f"{', '.join(kwargs)} belong to is_training=True; validation has one fixed transform")
    transform = TrainTransform if is_training else EvalTransform
    return transform(
        config["input_size"][-1],
        config.get("crop_pct") or 0.875,
        interpolation=config.get("interpolation") or "bilinear",
        **kwargs,
    )
