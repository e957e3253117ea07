"""Where a model computes, with what numbers, and how a clip enters it: device, autocast and normalisation."""

from dataclasses import dataclass
from pathlib import Path

import torch
from torch import Tensor

from timm_video_psn.data import normalize_clip

_CPUINFO = Path("/proc/cpuinfo")


@dataclass(frozen=True)
class Precision:
    """How a clip enters the model: device, autocast and normalisation.

    Args:
        device: Device of the model.
        mean: Mean colour, which is subtracted.
        std: Deviation, which is divided by.
        amp_dtype: Numbers of autocast; None computes in float32.

    Raises:
        ValueError: The CPU does not compute in these numbers.
    """

    device: torch.device
    mean: tuple[float, ...]
    std: tuple[float, ...]
    amp_dtype: torch.dtype | None = None

    def __post_init__(self) -> None:
        if self.device.type == "cpu" and self.amp_dtype == torch.float16:
            raise ValueError("--amp with float16 needs a GPU; use --amp-dtype bfloat16, or leave --amp out")

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

    def is_emulated(self) -> bool:
        """Whether the numbers are bfloat16 on a CPU without units for them, as far as Linux tells."""
        if self.device.type != "cpu" or self.amp_dtype != torch.bfloat16 or not _CPUINFO.is_file():
            return False
        flags = next((line for line in _CPUINFO.read_text().splitlines() if line.startswith(("flags", "Features"))), "")
        return bool(flags) and not {"avx512_bf16", "amx_bf16", "bf16"} & set(flags.split())

    def __str__(self) -> str:
        """Device and numbers for a log: `cuda:0 (NVIDIA H100), bfloat16`, or `cpu, float32`."""
        name = f" ({torch.cuda.get_device_name(self.device)})" if self.device.type == "cuda" else ""
        return f"{self.device}{name}, {self.numbers}"


def resolve_device(name: str | None = "auto") -> str:
    """Replaces `auto` by the device that it stands for.

    Args:
        name: A device as torch names it; `auto` or None for the GPU, or the CPU where there is no GPU.
    """
    if name not in (None, "auto"):
        return str(name)
    return "cuda" if torch.cuda.is_available() else "cpu"


def find_device(name: str | None = "auto") -> torch.device:
    """The device of a name, if this machine can use it.

    Args:
        name: See `resolve_device`.

    Raises:
        ValueError: This machine has no such device.
    """
    try:
        device = torch.device(resolve_device(name))
        torch.empty(0, device=device)
    except (RuntimeError, AssertionError) as error:
        reason = str(error).splitlines()[0]
        raise ValueError(
            f"device {name!r} cannot be used here ({reason}); use auto, cpu, or cuda where there is a GPU"
        ) from error
    return torch.device("cuda", torch.cuda.current_device()) if device == torch.device("cuda") else device
