"""Temporal modules: pure nn.Modules on folded clips, (B*T, C, H, W) in, the same shape out."""

from timm_video_psn.layers.baselines.gate_shift import GateShift
from timm_video_psn.layers.baselines.gst import GroupedSpatialTemporal
from timm_video_psn.layers.baselines.receptive_field import (
    ReceptiveFieldInception,
    ReceptiveFieldInceptionTemporal,
    ReceptiveFieldLarge,
    ReceptiveFieldSmall,
)
from timm_video_psn.layers.baselines.shift import TemporalShift
from timm_video_psn.layers.baselines.tam import TemporalAdaptive
from timm_video_psn.layers.branches import SpatialBank, TemporalBank, group_widths
from timm_video_psn.layers.clip import fold_clip, frames_to_rows, rows_to_frames, unfold_clip
from timm_video_psn.layers.enhanced_residual import EnhancedResidual
from timm_video_psn.layers.fusion import FUSIONS, block_norms
from timm_video_psn.layers.registry import TEMPORAL_MODULES, temporal_modules, temporal_settings
from timm_video_psn.layers.synthesizer import ActionPerceptronSynthesizer
from timm_video_psn.layers.temporal_module import Placement, TemporalModule

__all__ = [
    "FUSIONS",
    "TEMPORAL_MODULES",
    "ActionPerceptronSynthesizer",
    "EnhancedResidual",
    "GateShift",
    "GroupedSpatialTemporal",
    "Placement",
    "ReceptiveFieldInception",
    "ReceptiveFieldInceptionTemporal",
    "ReceptiveFieldLarge",
    "ReceptiveFieldSmall",
    "SpatialBank",
    "TemporalAdaptive",
    "TemporalBank",
    "TemporalModule",
    "TemporalShift",
    "block_norms",
    "fold_clip",
    "frames_to_rows",
    "group_widths",
    "rows_to_frames",
    "temporal_modules",
    "temporal_settings",
    "unfold_clip",
]
