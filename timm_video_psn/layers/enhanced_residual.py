"""What the synthesizer and the paper's own baselines share: a share of the channels is enhanced and added back."""

import difflib
from typing import Any

import torch
from torch import Tensor, nn

from timm_video_psn.layers.branches import SpatialBank, TemporalBank
from timm_video_psn.layers.temporal_module import TemporalModule


class EnhancedResidual(TemporalModule):
    """z = V + U, with V = expand(enhance(reduce(U))) (the frame of Fig. 3 and of all four of Fig. 4).

    A subclass registers its banks between `super().__init__` and `add_expand`, and says in `enhance` how a map runs
    through them.

    Args:
        channels: Channels C_in of the feature map U.
        num_frames: Frames T of a clip; any later value may be assigned to the attribute.
        proportion: Share of the channels that is enhanced, C = floor(C_in * proportion).
        branches: Groups that the channels are split into. If the proportion leaves fewer channels than branches, as in
            the first levels of narrow backbones, each branch gets four channels, and `note` says so.

    Shape:
        x: (B*T, C_in, H, W) -> same

    Raises:
        ValueError: The proportion is not in (0, 1].
    """

    note = ""

    def __init__(self, channels: int, num_frames: int, proportion: float, branches: int = 1):
        super().__init__(num_frames)
        if not 0 < proportion <= 1:
            raise ValueError(f"proportion={proportion} is not in (0, 1]; the paper uses 1/4, 1/6, 1/8 and 1/16")
        width = int(channels * proportion)
        if width < branches:
            self.note = f"{channels} channels * proportion leave {width} for {branches} branches, which get 4 each"
            width = 4 * branches
        self.reduce = nn.Conv2d(channels, width, 1, bias=False)

    def add_expand(self, expand_init: float) -> None:
        """Registers the last layer, and initialise all of them.

        Args:
            expand_init: See `init_weights`.
        """
        self.expand = nn.Conv2d(self.reduce.out_channels, self.reduce.in_channels, 1, bias=False)
        self.init_weights(expand_init)

    def init_weights(self, expand_init: float = 0.0) -> None:
        """Paper silent beyond "randomly initialized": normal, with the variance that keeps the map's variance.

        That is 1 / fan_in, and twice that before a ReLU. PyTorch's own third of it, through four linear steps in a row,
        would leave V so weak that training from scratch stays at chance for epochs. The taps of each temporal kernel
        add up to zero, so that it sees what changes and not what stays: from scratch that, too, saves epochs.

        Args:
            expand_init: Gain of `expand`. At 0 V = 0, and a pretrained backbone is untouched at the start.
        """
        spatial = _convolutions(self, SpatialBank)
        for module in self.modules():
            if isinstance(module, nn.Conv2d):
                gain = 2**0.5 if module in spatial else 1.0
                nn.init.normal_(module.weight, std=gain / module.weight[0].numel() ** 0.5)
        with torch.no_grad():
            for conv in _convolutions(self, TemporalBank):
                kernel, taps = conv.weight, conv.kernel_size[0]  # (c, c, taps, 1)
                kernel.sub_(kernel.mean(2, keepdim=True)).mul_((taps / (taps - 1)) ** 0.5)
            self.expand.weight.mul_(expand_init)

    def enhance(self, x: Tensor) -> Tensor:
        """What happens to the reduced map.

        Shape:
            x: (B*T, C, H, W) -> same
        """
        raise NotImplementedError(f"{type(self).__name__} must implement enhance()")

    def forward(self, x: Tensor) -> Tensor:
        """Z = V + U."""
        if x.ndim != 4 or x.shape[1] != self.reduce.in_channels:
            raise ValueError(
                f"input of shape {list(x.shape)}, expected maps (B*T, {self.reduce.in_channels}, H, W); "
                "convert tokens and channels-last maps first"
            )
        v = self.expand(self.enhance(self.reduce(x)))
        # In place: the maps of the first sites are large, and writing a further one costs more than the sum itself.
        alike = v.dtype == x.dtype and v.stride() == x.stride()
        if not torch.jit.is_scripting() and self._is_watched():
            return x + v
        return v.add_(x) if alike else x + v

    @torch.jit.unused
    def _is_watched(self) -> bool:
        """Whether somebody's hooks look at V, as class activation maps do."""
        expand = self.expand
        return bool(expand._forward_hooks or expand._backward_hooks or expand._backward_pre_hooks)


def check_choices(**settings: tuple[str, Any]) -> None:
    """Raises for the first setting whose value is not among its choices.

    Args:
        **settings: Name -> value, and its choices as a dict's keys or a `Literal`.
    """
    for name, (value, choices) in settings.items():
        known = list(choices if isinstance(choices, dict) else choices.__args__)
        if value not in known:
            near = difflib.get_close_matches(str(value), known, n=1)
            hint = f"; did you mean {near[0]!r}?" if near else ""
            raise ValueError(f"{name}={value!r} is unknown; use one of {', '.join(map(repr, known))}{hint}")


def _convolutions(model: nn.Module, bank: Any) -> list[nn.Conv2d]:
    """The convolutions in the banks of a class."""
    banks = [module for module in model.modules() if isinstance(module, bank)]
    return [conv for each in banks for conv in each.modules() if isinstance(conv, nn.Conv2d)]
