"""Crops, flips and normalisation of clips; every frame of a clip is treated alike.

Clips are uint8 (T, H, W, 3) as the decoder gives them. In this layout torchvision's resize works on channels_last
images without a copy, and a normalised batch folds into channels_last feature maps without one.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Literal, NamedTuple

import numpy as np
import torch

from timm_video_psn.data.clips.augment import Augmentation, seeded_rng

_SNAP_PX = 3  # TSN takes a crop within 3 pixels of the wanted size as that size, which spares the resize
_MAX_DISTORT = 1  # TSN pairs a height and a width that are at most one scale apart
_ANCHORS = (  # (vertical, horizontal) in quarters of the free space: corners, centre, edge middles, inner quarters
    *((0, 0), (0, 4), (4, 0), (4, 4), (2, 2)),
    *((2, 0), (2, 4), (4, 2), (0, 2)),
    *((1, 1), (1, 3), (3, 1), (3, 3)),
)


class Box(NamedTuple):
    """Part of a frame, in pixels."""

    top: int
    left: int
    height: int
    width: int


class TrainTransform:
    """Random crop, mirroring and further augmentation of a training clip.

    `crop="random"` is the plain augmentation of the PSN paper: the short side resized to img_size / crop_pct (256 for
    224), then a random img_size crop. The box is chosen in source pixels and only the box is resized, which is the same
    up to interpolation; where the short side has that size already, nothing is resized and the crop is exact.

    `crop="multiscale"` is the multi-scale corner crop of TSN (Wang et al., 2016) and TSM: height and width are `scales`
    of the short side at most one step apart, at one of 13 fixed places, resized to img_size.

    `crop="resized"` is the crop of Inception, as timm and torchvision train images and SlowFast trains Kinetics: a box
    whose area is a share of the frame in `scale` and whose width / height lies in `ratio`, resized to img_size.

    Args:
        img_size: Side S of the square output.
        crop_pct: Share of the short side that a plain crop covers.
        crop: Kind of crop.
        hflip: Probability of mirroring the clip. The data set adjusts the label.
        interpolation: Name of a torchvision interpolation mode.
        scales: Sides of the multi-scale crop, relative to the short side.
        scale: Smallest and largest share of the area, for the resized crop alone; None for 0.08 to 1.
        ratio: Smallest and largest width / height, for the resized crop alone; None for 3/4 to 4/3.
        augment: Further steps in order: from `data.clips.augment`, or functions of (clip, rng) that keep the shape.

    Shape:
        clip: (T, H, W, 3) uint8 -> (T, S, S, 3) uint8, contiguous.
    """

    def __init__(
        self,
        img_size: int,
        crop_pct: float = 0.875,
        crop: Literal["random", "multiscale", "resized"] = "random",
        hflip: float = 0.5,
        interpolation: str = "bilinear",
        scales: Sequence[float] = (1, 0.875, 0.75, 0.66),
        scale: Sequence[float] | None = None,
        ratio: Sequence[float] | None = None,
        augment: Sequence[Augmentation] = (),
    ) -> None:
        if crop not in ("random", "multiscale", "resized"):
            raise ValueError(f"crop={crop!r} is unknown; use 'random', 'multiscale' or 'resized'")
        if crop != "resized" and not (scale is ratio is None):
            raise ValueError(f"scale={scale} and ratio={ratio} need crop='resized', but crop={crop!r} was given")
        if not 0 <= hflip <= 1:
            raise ValueError(f"hflip={hflip} is not a probability; use 0 to 1")
        if not scales or not all(0 < scale <= 1 for scale in scales):
            raise ValueError(f"scales={tuple(scales)} do not fit into a frame; use values above 0 and up to 1")
        self.img_size = img_size
        self.resize_size = _resize_size(img_size, crop_pct)
        self.crop = crop
        self.hflip = hflip
        self.interpolation = _interpolation_mode(interpolation)
        self.scales = tuple(scales)
        self.scale = _span("scale", scale or (0.08, 1.0), most=1.0)
        self.ratio = _span("ratio", ratio or (3 / 4, 4 / 3))
        self.augment = tuple(augment)

    def __call__(self, clip: torch.Tensor, rng: np.random.Generator) -> tuple[torch.Tensor, bool]:
        """The cropped and augmented clip, and whether it was mirrored; all chance comes from `rng`."""
        height, width = _frame_size(clip)
        if self.crop == "random":
            box = random_box(height, width, self.img_size, self.resize_size, rng)
        elif self.crop == "resized":
            box = resized_box(height, width, self.scale, self.ratio, rng)
        else:
            box = multiscale_box(height, width, self.img_size, self.scales, rng)
        clip = _resize(_crop(clip, box), self.img_size, self.img_size, self.interpolation)
        flipped = bool(rng.random() < self.hflip)
        clip = (clip.flip(2) if flipped else clip).contiguous()
        for augment in self.augment:
            clip = augment(clip, rng)
        return clip.contiguous(), flipped


class EvalTransform:
    """Short side resized to img_size / crop_pct, then the centre crop of img_size.

    Args:
        img_size: Side S of the square output.
        crop_pct: img_size as a share of the resized short side.
        interpolation: Name of a torchvision interpolation mode.

    Shape:
        clip: (T, H, W, 3) uint8 -> (T, S, S, 3) uint8, contiguous.
    """

    def __init__(self, img_size: int, crop_pct: float = 0.875, interpolation: str = "bilinear") -> None:
        self.img_size = img_size
        self.resize_size = _resize_size(img_size, crop_pct)
        self.interpolation = _interpolation_mode(interpolation)

    def __call__(self, clip: torch.Tensor) -> torch.Tensor:
        """The centre of the clip."""
        clip = _resize_short_side(clip, self.resize_size, self.interpolation)  # (T, height, width, 3)
        height, width = clip.shape[1:3]
        return _crop(clip, _centre_box(height, width, self.img_size)).contiguous()  # (T, S, S, 3)


class ThreeCropTransform:
    """Three squares along the long side: the views "x3" of the tests of TSM, SlowFast and VideoMAE.

    The short side becomes img_size / crop_pct. The squares lie at the beginning (left, or top of an upright frame), in
    the middle and at the end of the long side, and in the middle of the short one; the middle square is the one of
    `EvalTransform`. Papers that test on 3 x 256 take img_size 256 and crop_pct 1. TSM looks left, in the middle and
    right also in upright frames, where that is three times the same; SlowFast does as is done here.

    Args:
        img_size: Side S of the square outputs.
        crop_pct: img_size as a share of the resized short side.
        interpolation: Name of a torchvision interpolation mode.

    Shape:
        clip: (T, H, W, 3) uint8 -> (3, T, S, S, 3) uint8, contiguous.
    """

    num_crops = 3

    def __init__(self, img_size: int, crop_pct: float = 1.0, interpolation: str = "bilinear") -> None:
        self.img_size = img_size
        self.resize_size = _resize_size(img_size, crop_pct)
        self.interpolation = _interpolation_mode(interpolation)

    def __call__(self, clip: torch.Tensor) -> torch.Tensor:
        """The three crops in the order of the long side."""
        clip = _resize_short_side(clip, self.resize_size, self.interpolation)  # (T, height, width, 3)
        height, width = clip.shape[1:3]
        middle = _centre_box(height, width, self.img_size)
        if height > width:
            ends = middle._replace(top=0), middle._replace(top=height - self.img_size)
        else:
            ends = middle._replace(left=0), middle._replace(left=width - self.img_size)
        return torch.stack([_crop(clip, box) for box in (ends[0], middle, ends[1])])  # (3, T, S, S, 3)


def random_box(height: int, width: int, img_size: int, resize_size: int, rng: np.random.Generator) -> Box:
    """Square anywhere in the frame that becomes `img_size` when the short side is resized to `resize_size`."""
    side = max(1, round(min(height, width) * img_size / resize_size))
    top = int(rng.integers(height - side + 1))
    left = int(rng.integers(width - side + 1))
    return Box(top, left, side, side)


def multiscale_box(height: int, width: int, img_size: int, scales: Sequence[float], rng: np.random.Generator) -> Box:
    """One of TSN's multi-scale corner crops; see `TrainTransform`."""
    short = min(height, width)
    sides = [max(1, int(short * scale)) for scale in scales]
    # Never beyond the frame: TSN's code would pad a 222-pixel frame with black to crop 224 out of it.
    sides = [img_size if abs(side - img_size) < _SNAP_PX and img_size <= short else side for side in sides]
    pairs = [(h, w) for i, h in enumerate(sides) for j, w in enumerate(sides) if abs(i - j) <= _MAX_DISTORT]
    box_height, box_width = pairs[rng.integers(len(pairs))]
    down, across = _ANCHORS[rng.integers(len(_ANCHORS))]
    return Box(down * ((height - box_height) // 4), across * ((width - box_width) // 4), box_height, box_width)


def resized_box(
    height: int, width: int, scale: tuple[float, float], ratio: tuple[float, float], rng: np.random.Generator
) -> Box:
    """The box of torchvision's RandomResizedCrop: a share of the area in `scale`, width / height in `ratio`."""
    from torchvision.transforms import RandomResizedCrop  # loading torchvision takes seconds

    frame = torch.empty(()).expand(1, height, width)  # only its size is looked at
    with seeded_rng(rng):
        return Box(*RandomResizedCrop.get_params(frame, list(scale), list(ratio)))


def normalize_clip(
    clip: torch.Tensor,
    mean: Sequence[float],
    std: Sequence[float],
    dtype: torch.dtype = torch.float32,
) -> torch.Tensor:
    """Bytes to a normalised model input, (clip / 255 - mean) / std, on the device where the clip is.

    Args:
        clip: Batch of uint8 clips.
        mean: Mean of each channel, in units of the full range.
        std: Standard deviation of each channel.
        dtype: Type of the result; the arithmetic is float32.

    Shape:
        clip: (B, T, H, W, C) -> (B, C, T, H, W), a permuted view of a contiguous (B, T, H, W, C) tensor: folding frames
        into the batch then gives a channels_last map without a copy.
    """
    if clip.ndim != 5:
        raise ValueError(f"clip has shape {tuple(clip.shape)}; accepted is a batch (B, T, H, W, C) of uint8 clips")
    if not len(mean) == len(std) == clip.shape[-1]:
        raise ValueError(
            f"clip has {clip.shape[-1]} channels, mean {len(mean)}, std {len(std)}; give one value for each"
        )
    offset = 255 * torch.tensor(mean, dtype=torch.float32, device=clip.device)  # (C,)
    scale = 255 * torch.tensor(std, dtype=torch.float32, device=clip.device)  # (C,)
    return (clip.contiguous() - offset).div_(scale).to(dtype).permute(0, 4, 1, 2, 3)  # (B, C, T, H, W)


def _resize_size(img_size: int, crop_pct: float) -> int:
    """Length of the short side from which `img_size` is cropped."""
    if img_size < 1:
        raise ValueError(f"img_size={img_size} leaves no pixel; use 1 or more")
    if not 0 < crop_pct <= 1:
        raise ValueError(f"crop_pct={crop_pct} is out of range; use a value above 0 and up to 1")
    return round(img_size / crop_pct)


def _span(name: str, values: Sequence[float], most: float = math.inf) -> tuple[float, float]:
    """The smallest and the largest of something."""
    if len(values) != 2 or not 0 < values[0] <= values[1] <= most:
        limit = "" if most == math.inf else f" up to {most:g}"
        raise ValueError(f"{name}={tuple(values)} is not a range; use two numbers above 0{limit}, the smaller first")
    return values[0], values[1]


def _interpolation_mode(name: str) -> object:
    from torchvision.transforms import InterpolationMode  # loading torchvision takes seconds

    try:
        return InterpolationMode(name)
    except ValueError:
        accepted = ", ".join(mode.value for mode in InterpolationMode)
        raise ValueError(f"interpolation={name!r} is unknown; use one of {accepted}") from None


def _frame_size(clip: torch.Tensor) -> tuple[int, int]:
    """Height and width of a clip that is fit for a transform."""
    if clip.ndim != 4 or clip.shape[-1] != 3 or clip.dtype != torch.uint8:
        raise ValueError(f"clip is {clip.dtype} of shape {tuple(clip.shape)}; accepted is uint8 of shape (T, H, W, 3)")
    if clip.numel() == 0:
        raise ValueError(f"clip of shape {tuple(clip.shape)} is empty; give at least one frame of at least one pixel")
    return clip.shape[1], clip.shape[2]


def _centre_box(height: int, width: int, img_size: int) -> Box:
    """Square in the middle, rounded as torchvision's center_crop does, so that odd margins fall on the same side."""
    return Box(round((height - img_size) / 2), round((width - img_size) / 2), img_size, img_size)


def _crop(clip: torch.Tensor, box: Box) -> torch.Tensor:
    """View of the box in every frame."""
    return clip[:, box.top : box.top + box.height, box.left : box.left + box.width]


def _resize_short_side(clip: torch.Tensor, size: int, interpolation: object) -> torch.Tensor:
    """Resizes all frames so that the shorter side gets that size."""
    height, width = _frame_size(clip)
    short = min(height, width)
    return _resize(clip, size * height // short, size * width // short, interpolation)


def _resize(clip: torch.Tensor, height: int, width: int, interpolation: object) -> torch.Tensor:
    """Resizes all frames; the clip itself where it has the size already."""
    if clip.shape[1:3] == (height, width):
        return clip
    from torchvision.transforms.v2 import functional

    frames = clip.permute(0, 3, 1, 2)  # (T, 3, H, W), channels_last
    resized: torch.Tensor = functional.resize(frames, [height, width], interpolation=interpolation, antialias=True)
    return resized.permute(0, 2, 3, 1)  # (T, height, width, 3)
