"""The action perceptron synthesizer (Eq. 1, Fig. 3)."""

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor

from timm_video_psn.layers.branches import Pool, SpatialBank, SpatialConv, TemporalBank, Unit, odd_sizes
from timm_video_psn.layers.clip import split_frames
from timm_video_psn.layers.enhanced_residual import EnhancedResidual, check_choices
from timm_video_psn.layers.fusion import FUSIONS
from timm_video_psn.layers.recording import record


class ActionPerceptronSynthesizer(EnhancedResidual):
    """z = V + U, V synthesized from multi-scale spatial and temporal kernels (Eq. 1, Fig. 3).

    reduce (1x1) -> spatial bank X -> fusion Y = T x X -> temporal bank -> expand (1x1) -> + U.

    Args:
        channels: Channels C_in of the feature map U.
        num_frames: Frames T of a clip; any later value may be assigned to the attribute.
        proportion: Share of the channels that is enhanced, C = floor(C_in * proportion).
        receptive_field: (T, H, W), odd; the paper writes W x H x T, and 5x5x7 for its best, our (7, 5, 5).
        fusion: `dense`, `channelwise`, `grouping`, `shuffle` or `dropout` (Table 2).
        pool: The pooling branch of both banks, `max` or `avg` (Table 3). `identity` keeps the branch as a bypass
            without a pool, `none` shares its channels among the others.
        inter_act: The ReLU after each spatial convolution (Table 3).
        dilated: Kernels beyond 3 as 3 dilated taps, else with all their taps (Table 3).
        spatial_conv: `2d`, or `1+1d` for k x 1 and then 1 x k (Table 3).
        expand_init: Gain of the random initialisation of `expand`. At 0, the default, V = 0 and the
            pretrained backbone is untouched at the start; 1 learns faster from scratch.
        causal: Temporal kernels and pool reach back only, so that no frame sees a later one.
        fusion_init: Gain of the random initialisation of T. At 0, the paper's example ("W in Eq. (1) is initialized as
            zero"), V = 0 too; combined with `expand_init=1`, all weights learn from the second step on.
        unit: The spatial branch of size 1. `identity` is what Fig. 5 names it ("S-I-1"), `conv` with norm and ReLU is
            the 1x1x1 kernel of Eq. 1, with which the parameter counts come closer to Table 3.

    Shape:
        x: (B*T, C_in, H, W) -> same

    Raises:
        ValueError: A setting is unknown, even where it must be odd, or leaves a group without a channel.

    Example:
        >>> synthesizer = ActionPerceptronSynthesizer(256, num_frames=8)
        >>> synthesizer(torch.zeros(16, 256, 14, 14)).shape
        torch.Size([16, 256, 14, 14])
    """

    frozen = False
    fused_mean: Tensor | None
    _learned: tuple[str, ...] = ()  # parameters that took a gradient before they were frozen

    def __init__(
        self,
        channels: int,
        num_frames: int = 8,
        proportion: float = 0.25,
        receptive_field: Sequence[int] = (7, 5, 5),
        fusion: str = "dense",
        pool: Pool = "max",
        inter_act: bool = True,
        dilated: bool = True,
        spatial_conv: SpatialConv = "2d",
        expand_init: float = 0.0,
        causal: bool = False,
        fusion_init: float = 1.0,
        unit: Unit = "identity",
    ):
        check_choices(fusion=(fusion, FUSIONS), pool=(pool, Pool), spatial_conv=(spatial_conv, SpatialConv))
        check_choices(unit=(unit, Unit))
        temporal_sizes, spatial_sizes = _kernel_sizes(receptive_field)
        branches = max(len(temporal_sizes), len(spatial_sizes)) + (pool != "none")
        super().__init__(channels, num_frames, proportion, branches)
        width = self.reduce.out_channels
        self.spatial_bank = SpatialBank(width, spatial_sizes, pool, dilated, spatial_conv, inter_act, unit)
        self.temporal_bank = TemporalBank(width, temporal_sizes, pool, dilated, causal)
        self.fusion = FUSIONS[fusion](self.spatial_bank.widths, self.temporal_bank.widths)
        self._scale_routing(fusion, fusion_init)
        self.fused_mean = None
        self.causal = causal
        self.add_expand(expand_init)

    def _scale_routing(self, fusion: str, gain: float) -> None:
        """Multiplies the random T by the gain."""
        learned = list(self.fusion.parameters())
        if gain != 1 and not learned:
            raise ValueError(
                f"fusion_init={gain} scales a learned T, but T is fixed for fusion={fusion!r}; use fusion='dense' or "
                "'channelwise', or leave fusion_init out"
            )
        with torch.no_grad():
            for weight in learned:
                weight.mul_(gain)

    def enhance(self, x: Tensor) -> Tensor:
        """X from the spatial bank, Y = T x X, and Y through the temporal bank."""
        fused = self.fusion(self.spatial_bank(x))  # (B*T, C, H, W)
        if not torch.jit.is_scripting():
            self._record(fused)
        return self.temporal_bank(fused, self.num_frames)

    def _record(self, fused: Tensor) -> None:
        """In training, keep avg(Y) for Eq. 3: the mean over T, H and W, (B, C), in float32 or better."""
        if not self.training or torch.compiler.is_exporting():
            return
        record(self._keep, fused)

    def _keep(self, fused: Tensor) -> None:
        """Keeps avg(Y), in float32 or better."""
        dtype = torch.promote_types(fused.dtype, torch.float32)
        means = fused.mean((2, 3), dtype=dtype)  # (B*T, C)
        self.fused_mean = split_frames(means, self.num_frames).mean(1)  # (B, C)

    def train(self, mode: bool = True) -> "ActionPerceptronSynthesizer":
        """Switches mode, and forget the record of an earlier forward; a frozen one stays in evaluation mode."""
        self.fused_mean = None
        return super().train(mode and not self.frozen)

    def freeze(self) -> None:
        """Fixes the parameters and the norm statistics, for good or until `unfreeze`."""
        if self.frozen:
            return
        self.frozen = True
        self._learned = tuple(name for name, parameter in self.named_parameters() if parameter.requires_grad)
        self.requires_grad_(False)
        for parameter in self.parameters():
            parameter.grad = None  # an optimizer would still apply it, with its momentum and weight decay
        self.train(False)

    def unfreeze(self) -> None:
        """Undoes `freeze`, but for the mode: that is the caller's to choose."""
        if not self.frozen:
            return
        self.frozen = False
        for name in self._learned:
            self.get_parameter(name).requires_grad_()

    def no_weight_decay(self) -> set[str]:
        """The fusion matrix: decay would fight the interaction loss, which rewards large norms."""
        return {"fusion.weight"}

    def __getstate__(self) -> dict[str, Any]:
        """Copies and pickles start without a record: it belongs to one forward, and its graph cannot be copied."""
        return {**super().__getstate__(), "fused_mean": None}


def _kernel_sizes(receptive_field: Sequence[int]) -> tuple[list[int], list[tuple[int, int]]]:
    """Temporal sizes 1, 3, ... T and spatial sizes 1x1, 3x3, ... HxW."""
    if len(receptive_field) != 3:
        raise ValueError(
            f"receptive_field={tuple(receptive_field)} must be three odd numbers (T, H, W), such as (7, 5, 5)"
        )
    temporal, height, width = receptive_field
    rows, columns = odd_sizes(height), odd_sizes(width)
    steps = range(max(len(rows), len(columns)))
    spatial = [(rows[min(k, len(rows) - 1)], columns[min(k, len(columns) - 1)]) for k in steps]
    return odd_sizes(temporal), spatial
