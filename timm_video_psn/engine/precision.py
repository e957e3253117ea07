"""How a clip enters the model: device, autocast and normalisation."""

from dataclasses import dataclass

import torch
from torch import Tensor

from timm_video_psn.data import normalize_clip


@dataclass(frozen=True)
class Precision:
    """How a clip enters the model: device, autocast and normalisation."""

    device: torch.device
    mean: tuple[float, ...]
    std: tuple[float, ...]
    amp_dtype: torch.dtype | None = None

    def clip(self, clip: Tensor) -> Tensor:
        """uint8 frames (B, T, H, W, C) to a normalised clip (B, C, T, H, W) on the device."""
        return normalize_clip(clip.to(self.device, non_blocking=True), self.mean, self.std)

    @property
    def numbers(self) -> str:
        """The numbers that the model computes with, by name."""
        return str(self.amp_dtype or torch.float32).removeprefix("torch.")

    def autocast(self) -> torch.autocast:
        """The context of a forward."""
        return torch.autocast(self.device.type, self.amp_dtype, enabled=self.amp_dtype is not None)
