"""The paper's own baselines: what is left of the synthesizer without the routes between its kernels (Fig. 4, Table 1).

All four share the synthesizer's frame, initialisation and banks. None has a fusion layer, so that they have neither
auxiliary losses nor an interaction map. The kernel shapes that the paper counts are 1, 1, 4 and 4; the synthesizer's
are 16.

Which levels of a backbone they follow is the backbone's default, the paper's conv1 to conv4, so that they meet PSN at
equal sites. The parameters of Table 1 were evidently counted one level later: `sites=("layer1", ..., "layer4")` on a
ResNet-50 gives them.
"""

from torch import Tensor, nn

from timm_video_psn.layers.branches import Pool, SpatialBank, TemporalBank
from timm_video_psn.layers.enhanced_residual import EnhancedResidual, check_choices


class ReceptiveFieldSmall(EnhancedResidual):
    """RF-S: one (2+1)D kernel of 3x3x3 on all enhanced channels (Fig. 4 (a)).

    Args:
        channels: Channels C_in of the feature map.
        num_frames: Frames T of a clip; any later value may be assigned to the attribute.
        proportion: Share of the channels that is enhanced; 1/6 in the paper.
        expand_init: Gain of the random initialisation of `expand`; at 0 the module starts as the identity.
        causal: Temporal kernels reach back only, so that no frame sees a later one.

    Shape:
        x: (B*T, C_in, H, W) -> same

    Example:
        >>> ReceptiveFieldSmall(256, num_frames=8)(torch.zeros(16, 256, 14, 14)).shape
        torch.Size([16, 256, 14, 14])
    """

    def __init__(
        self,
        channels: int,
        num_frames: int = 8,
        proportion: float = 1 / 6,
        expand_init: float = 0.0,
        causal: bool = False,
    ):
        super().__init__(channels, num_frames, proportion)
        self.stage = SingleScaleStage(self.reduce.out_channels, 3, causal)
        self.causal = causal
        self.add_expand(expand_init)

    def enhance(self, x: Tensor) -> Tensor:
        """The one stage."""
        return self.stage(x, self.num_frames)


class ReceptiveFieldLarge(EnhancedResidual):
    """RF-L: one kernel shape of 5x5x5 on all enhanced channels (Fig. 4 (b)).

    The caption says that kernels of size 5 are dilated ones; the parameters of Table 1 fit
    two stages of 3x3x3 in a row, whose receptive field is 5x5x5 too (27.35 M on ResNet-50, with one dilated stage
    26.30 M). The numbers decide the default.

    Args:
        channels: Channels C_in of the feature map.
        num_frames: Frames T of a clip; any later value may be assigned to the attribute.
        proportion: Share of the channels that is enhanced; 1/8 in the paper.
        dilated: One stage of 5x5x5 with 3 dilated taps in each direction, instead of two of 3x3x3.
        expand_init: Gain of the random initialisation of `expand`; at 0 the module starts as the identity.
        causal: Temporal kernels reach back only, so that no frame sees a later one.

    Shape:
        x: (B*T, C_in, H, W) -> same
    """

    def __init__(
        self,
        channels: int,
        num_frames: int = 8,
        proportion: float = 1 / 8,
        dilated: bool = False,
        expand_init: float = 0.0,
        causal: bool = False,
    ):
        super().__init__(channels, num_frames, proportion)
        self.stages = nn.ModuleList(
            SingleScaleStage(self.reduce.out_channels, size, causal) for size in ((5,) if dilated else (3, 3))
        )
        self.causal = causal
        self.add_expand(expand_init)

    def enhance(self, x: Tensor) -> Tensor:
        """Stage after stage."""
        for stage in self.stages:
            x = stage(x, self.num_frames)
        return x


class ReceptiveFieldInception(EnhancedResidual):
    """RF-L-Inception: groups of 1x1x1, 3x3x3, 5x5x5 and a pool, each for itself (Fig. 4 (c)).

    The synthesizer with `fusion="grouping"`: "our method degenerates to the RF-L-Inception baseline". The parameters of
    Table 1 fit kernels with all their taps (27.56 M on ResNet-50, dilated 27.17 M), hence the default.

    Args:
        channels: Channels C_in of the feature map.
        num_frames: Frames T of a clip; any later value may be assigned to the attribute.
        proportion: Share of the channels that is enhanced; 1/4 in the paper.
        pool: The pooling branch, `max`, `avg`, `identity` or `none`.
        dilated: Kernels beyond 3 as 3 dilated taps, else with all their taps.
        expand_init: Gain of the random initialisation of `expand`; at 0 the module starts as the identity.
        causal: Temporal kernels reach back only, so that no frame sees a later one.

    Shape:
        x: (B*T, C_in, H, W) -> same
    """

    def __init__(
        self,
        channels: int,
        num_frames: int = 8,
        proportion: float = 1 / 4,
        pool: Pool = "max",
        dilated: bool = False,
        expand_init: float = 0.0,
        causal: bool = False,
    ):
        check_choices(pool=(pool, Pool))
        super().__init__(channels, num_frames, proportion, branches=3 + (pool != "none"))
        self.spatial_bank = SpatialBank(self.reduce.out_channels, [(1, 1), (3, 3), (5, 5)], pool, dilated)
        self.temporal_bank = TemporalBank(self.reduce.out_channels, [1, 3, 5], pool, dilated, causal)
        self.causal = causal
        self.add_expand(expand_init)

    def enhance(self, x: Tensor) -> Tensor:
        """Each group through the spatial and the temporal kernel of its size."""
        return self.temporal_bank(self.spatial_bank(x), self.num_frames)


class ReceptiveFieldInceptionTemporal(EnhancedResidual):
    """RF-L-Inception-T: groups of 1, 3 and 5 frames and a pool, no spatial kernel (Fig. 4 (d)).

    Paper silent on all but the figure: the temporal bank of `ReceptiveFieldInception`, with all taps as there. On
    ResNet-50 that makes 26.82 M parameters, the paper prints 27.28 M; its supplement, which has the details, is not
    available.

    Args:
        channels: Channels C_in of the feature map.
        num_frames: Frames T of a clip; any later value may be assigned to the attribute.
        proportion: Share of the channels that is enhanced; 1/4 in the paper.
        pool: The pooling branch, `max`, `avg`, `identity` or `none`.
        dilated: Kernels beyond 3 as 3 dilated taps, else with all their taps.
        expand_init: Gain of the random initialisation of `expand`; at 0 the module starts as the identity.
        causal: Temporal kernels reach back only, so that no frame sees a later one.

    Shape:
        x: (B*T, C_in, H, W) -> same
    """

    def __init__(
        self,
        channels: int,
        num_frames: int = 8,
        proportion: float = 1 / 4,
        pool: Pool = "max",
        dilated: bool = False,
        expand_init: float = 0.0,
        causal: bool = False,
    ):
        check_choices(pool=(pool, Pool))
        super().__init__(channels, num_frames, proportion, branches=3 + (pool != "none"))
        self.temporal_bank = TemporalBank(self.reduce.out_channels, [1, 3, 5], pool, dilated, causal)
        self.causal = causal
        self.add_expand(expand_init)

    def enhance(self, x: Tensor) -> Tensor:
        """Each group through its temporal kernel."""
        return self.temporal_bank(x, self.num_frames)


class SingleScaleStage(nn.Module):
    """A spatial and then a temporal convolution of one size on all channels: banks of a single branch.

    Args:
        channels: Channels C, in and out.
        size: Frames, rows and columns of the kernel; beyond 3 as 3 dilated taps.
        causal: The temporal kernel reaches back only.

    Shape:
        x: (B*T, C, H, W) and num_frames T -> (B*T, C, H, W)
    """

    def __init__(self, channels: int, size: int, causal: bool = False):
        super().__init__()
        self.spatial_bank = SpatialBank(channels, [(size, size)], pool="none")
        self.temporal_bank = TemporalBank(channels, [size], pool="none", causal=causal)

    def forward(self, x: Tensor, num_frames: int) -> Tensor:
        """Space, then time."""
        return self.temporal_bank(self.spatial_bank(x), num_frames)
