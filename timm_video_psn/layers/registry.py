"""The temporal modules by name: one line here makes a file of this folder usable on every backbone."""

import difflib
import inspect

from timm_video_psn.layers.gate_shift import GateShift
from timm_video_psn.layers.gst import GroupedSpatialTemporal
from timm_video_psn.layers.receptive_field import (
    ReceptiveFieldInception,
    ReceptiveFieldInceptionTemporal,
    ReceptiveFieldLarge,
    ReceptiveFieldSmall,
)
from timm_video_psn.layers.shift import TemporalShift
from timm_video_psn.layers.synthesizer import ActionPerceptronSynthesizer
from timm_video_psn.layers.tam import TemporalAdaptive
from timm_video_psn.layers.tea import TemporalExcitationAggregation
from timm_video_psn.layers.temporal_module import TemporalModule

# tsn (Wang et al., "Temporal Segment Networks", 2016) has no module: frames meet only in the average of their logits.
TEMPORAL_MODULES: dict[str, type[TemporalModule] | None] = {
    "tsn": None,
    "tsm": TemporalShift,
    "gst": GroupedSpatialTemporal,
    "gsm": GateShift,
    "tea": TemporalExcitationAggregation,
    "tam": TemporalAdaptive,
    "psn": ActionPerceptronSynthesizer,
    "rf_s": ReceptiveFieldSmall,
    "rf_l": ReceptiveFieldLarge,
    "rf_l_inception": ReceptiveFieldInception,
    "rf_l_inception_t": ReceptiveFieldInceptionTemporal,
}


def temporal_module(name: str) -> type[TemporalModule] | None:
    """The class of a temporal module, None for `tsn`.

    Args:
        name: a key of `TEMPORAL_MODULES`.

    Raises:
        ValueError: the name is unknown; the message lists those known, nearest first.
    """
    if name in TEMPORAL_MODULES:
        return TEMPORAL_MODULES[name]
    near = difflib.get_close_matches(name, TEMPORAL_MODULES, n=3, cutoff=0.0)
    rest = [known for known in TEMPORAL_MODULES if known not in near]
    raise ValueError(f"temporal={name!r} is unknown; use one of {', '.join(near + rest)}")


def temporal_settings(name: str) -> tuple[str, ...]:
    """Names of the keyword arguments that a temporal module takes beside `channels` and `num_frames`."""
    module = temporal_module(name)
    if module is None:
        return ()
    return tuple(p for p in inspect.signature(module).parameters if p not in ("channels", "num_frames"))
