"""What an adapter has to know of another library's network."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor, nn

ToMaps = Callable[[Any, torch.Size], Tensor]


@dataclass(frozen=True)
class Source:
    """A network of another library, split at its classifier, with its preprocessing.

    Attributes:
        name: Name with its prefix, `torchvision:s3d`.
        network: Normalised clips to pooled features, (B, D).
        classifier: Last linear layer of the library's network.
        num_frames: Frames of a clip.
        fixed_frames: Whether the network takes clips of no other length.
        cfg: Preprocessing under timm's keys (`input_size`, `mean`, `std`, `crop_pct`, `interpolation`), and
            `label_names` where the library names the classes.
        frames_first: Whether the network takes (B, T, C, H, W).
        levels: Modules with maps for `insights cam`, in the order of the network, and what turns their outputs into
            (B, C, t, h, w), given the shape of the clip, (B, C, T, H, W).
        arguments: Arguments that rebuild the network where neither the Hub nor a local folder is at hand.
        sampling: Frames that its published weights were trained on; None where the library does not say.
    """

    name: str
    network: nn.Module
    classifier: nn.Linear
    num_frames: int
    fixed_frames: bool
    cfg: dict[str, Any]
    frames_first: bool = False
    levels: Mapping[str, ToMaps] = field(default_factory=dict)
    arguments: dict[str, Any] = field(default_factory=dict)
    sampling: str | None = None


def as_linear(layer: Any) -> nn.Linear:
    """The linear layer that a 1x1x1 convolution is on pooled features.

    Args:
        layer: `nn.Linear`, which is returned as it is, or `nn.Conv3d`.
    """
    if isinstance(layer, nn.Linear):
        return layer
    linear = nn.Linear(layer.in_channels, layer.out_channels, device=layer.weight.device)
    linear.weight.data.copy_(layer.weight.data[:, :, 0, 0, 0])
    linear.bias.data.copy_(layer.bias.data)
    return linear
