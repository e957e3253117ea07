"""The video networks of torchvision: R3D, MC3, R(2+1)D, S3D, MViT and Video Swin, by their names there."""

import difflib
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from timm_video_psn.models.external.source import Source, ToMaps, as_linear

PREFIX = "torchvision:"
_FRAMES = {"swin3d": 32}  # of a clip in the recipes of the published weights; 16 for all others
_CLASSIFIERS = {"r3d": "fc", "mc3": "fc", "r2plus1d": "fc", "s3d": "classifier", "mvit": "head", "swin3d": "head"}
_STAGES = ("layer1", "layer2", "layer3", "layer4")
_LEVELS = {
    **dict.fromkeys(("r3d", "mc3", "r2plus1d"), _STAGES),
    "s3d": ("features.4", "features.7", "features.13", "features.15"),
    "swin3d": ("features.0", "features.2", "features.4", "features.6"),
}


def open_torchvision(
    source: str, pretrained: bool = False, num_frames: int | None = None, img_size: int | None = None, **kwargs: Any
) -> Source:
    """Builds a video network of torchvision.

    Args:
        source: `torchvision:` and a name of `torchvision.models.video`.
        pretrained: Load torchvision's default weights, trained on Kinetics-400.
        num_frames: Frames of a clip; None for the recipe's.
        img_size: Side of the crop in pixels; None for the recipe's.
        **kwargs: Arguments of torchvision's builder.

    Raises:
        ValueError: torchvision has no video network of this name, or has it for one size only.
    """
    from torchvision.models import get_model, get_model_weights, list_models, video

    name, known = source.removeprefix(PREFIX), list_models(module=video)
    if name not in known:
        near = difflib.get_close_matches(name, known, n=3) or known
        raise ValueError(f"{source}: torchvision has no such video model; nearest: {', '.join(near)}")
    family = name.partition("_")[0]
    weights = get_model_weights(name).DEFAULT
    preset = weights.transforms()
    frames = num_frames or _FRAMES.get(family, 16)
    size = img_size or preset.crop_size[0]
    fixed = family == "mvit"
    if fixed and (frames, size) != (16, 224):
        raise ValueError(f"{source} takes 16 frames of 224 x 224 pixels only; asked for {frames} of {size} x {size}")
    network: Any = get_model(name, weights=weights if pretrained else None, **kwargs)
    place = _CLASSIFIERS[family]
    head: Any = getattr(network, place)
    setattr(network, place, nn.Identity())
    if family == "s3d":
        network.avgpool = _PoolOfSmallMaps(network.avgpool)
    return Source(
        name=source,
        network=network,
        classifier=as_linear(head[-1] if isinstance(head, nn.Sequential) else head),
        num_frames=frames,
        fixed_frames=fixed,
        cfg={
            "input_size": (3, size, size),
            "fixed_input_size": fixed,
            "mean": tuple(preset.mean),
            "std": tuple(preset.std),
            "crop_pct": preset.crop_size[0] / min(preset.resize_size),
            "interpolation": str(preset.interpolation.value),
            "label_names": tuple(weights.meta["categories"]),
        },
        levels={f"network.{level}": _to_maps(family) for level in _LEVELS.get(family, ())},
        sampling="dense",
    )


def _to_maps(family: str) -> ToMaps:
    """Maps (B, C, t, h, w) of what a level passes on."""
    return _from_channels_last if family == "swin3d" else _as_they_are


def _from_channels_last(output: Tensor, clip: torch.Size) -> Tensor:
    return output.permute(0, 4, 1, 2, 3)


def _as_they_are(output: Tensor, clip: torch.Size) -> Tensor:
    return output


class _PoolOfSmallMaps(nn.Module):
    """S3D's average pool, whose window is no larger than the map: without this, it takes 224 pixels and 14 frames.

    Args:
        pool: Pool of S3D, of stride 1.

    Shape:
        x: (B, C, t, h, w)
    """

    def __init__(self, pool: nn.AvgPool3d):
        super().__init__()
        self.window = tuple(pool.kernel_size) if isinstance(pool.kernel_size, tuple) else (pool.kernel_size,) * 3

    def forward(self, x: Tensor) -> Tensor:
        """The mean of every window."""
        window = [min(own, length) for own, length in zip(self.window, x.shape[2:], strict=True)]
        return F.avg_pool3d(x, window, stride=1)
