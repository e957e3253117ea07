"""The systems by name: one line here puts the temporal modules of a file into every backbone that has their places."""

import difflib
import inspect
from collections.abc import Callable, Sequence
from typing import Any

from timm_video_psn.layers.baselines.correlation import WeightedCorrelation
from timm_video_psn.layers.baselines.factorised import PseudoThreeD, TwoPlusOneD, TwoPlusOneDShortcut
from timm_video_psn.layers.baselines.gate_shift import GateShift
from timm_video_psn.layers.baselines.gst import GroupedSpatialTemporal
from timm_video_psn.layers.baselines.inflated import (
    HeadConv,
    HeadShortcut,
    InflatedConv,
    InflatedFirst,
    InflatedStem,
    SlowFirst,
    TemporalMaxPool,
)
from timm_video_psn.layers.baselines.non_local import NonLocal
from timm_video_psn.layers.baselines.receptive_field import (
    ReceptiveFieldInception,
    ReceptiveFieldInceptionTemporal,
    ReceptiveFieldLarge,
    ReceptiveFieldSmall,
)
from timm_video_psn.layers.baselines.shift import TemporalShift
from timm_video_psn.layers.baselines.stm import SpatiotemporalMotion
from timm_video_psn.layers.baselines.tam import TemporalAdaptive
from timm_video_psn.layers.baselines.tea import ChannelwiseTemporal, MotionExcitation, ShiftedTemporal
from timm_video_psn.layers.baselines.tea_bottleneck import BottleneckExcitationAggregation
from timm_video_psn.layers.synthesizer import ActionPerceptronSynthesizer
from timm_video_psn.layers.temporal_module import TemporalModule

# tsn (Wang et al., "Temporal Segment Networks", 2016) has no module: frames meet only in the average of their logits.
TEMPORAL_MODULES: dict[str, tuple[type[TemporalModule], ...]] = {
    "tsn": (),
    "tsm": (TemporalShift,),
    "gst": (GroupedSpatialTemporal,),
    "gsm": (GateShift,),
    "tea": (MotionExcitation, ChannelwiseTemporal, ShiftedTemporal),
    "tea_16w": (BottleneckExcitationAggregation,),
    "tam": (TemporalAdaptive,),
    "stm": (SpatiotemporalMotion,),
    "nl": (NonLocal,),
    "corr": (WeightedCorrelation,),
    "i3d_nl": (InflatedStem, InflatedFirst, TemporalMaxPool, NonLocal),
    "i3d": (InflatedStem, InflatedFirst, TemporalMaxPool),
    "slow": (SlowFirst,),
    "c3d": (InflatedConv,),
    "p3d": (PseudoThreeD,),
    "r2plus1d": (TwoPlusOneD, TwoPlusOneDShortcut),
    "eco": (HeadConv, HeadShortcut),
    "psn": (ActionPerceptronSynthesizer,),
    "rf_s": (ReceptiveFieldSmall,),
    "rf_l": (ReceptiveFieldLarge,),
    "rf_l_inception": (ReceptiveFieldInception,),
    "rf_l_inception_t": (ReceptiveFieldInceptionTemporal,),
}


def temporal_modules(name: str) -> tuple[type[TemporalModule], ...]:
    """The classes that a system puts into a backbone, none for `tsn`.

    Args:
        name: A key of `TEMPORAL_MODULES`.

    Raises:
        ValueError: The name is unknown; the message lists the known ones, nearest first.
    """
    if name in TEMPORAL_MODULES:
        return TEMPORAL_MODULES[name]
    near = difflib.get_close_matches(name, TEMPORAL_MODULES, n=3, cutoff=0.0)
    rest = [known for known in TEMPORAL_MODULES if known not in near]
    raise ValueError(f"temporal={name!r} is unknown; use one of {', '.join(near + rest)}")


def temporal_settings(name: str) -> tuple[str, ...]:
    """The keyword arguments that a system's modules take beside `channels` and `num_frames`.

    Args:
        name: A key of `TEMPORAL_MODULES`.
    """
    return tuple(_parameters(name))


def settings_of(module: type[TemporalModule], settings: dict[str, Any]) -> dict[str, Any]:
    """The settings that one of a system's modules takes.

    Args:
        module: Class of the module.
        settings: Keyword arguments of the whole system.
    """
    return {key: value for key, value in settings.items() if key in inspect.signature(module).parameters}


def check_settings(name: str, settings: dict[str, Any]) -> None:
    """Raises for a setting of another type than the temporal module declares: `dilated="no"` would count as true.

    Args:
        name: A key of `TEMPORAL_MODULES`.
        settings: Keyword arguments of its modules.

    Raises:
        ValueError: The settings of a wrong type, all of them, with what they take.
    """
    parameters = _parameters(name)
    wrong = [
        f"{key}={value!r} must be {_TYPES[declared][0]}"
        for key, value in settings.items()
        if (declared := parameters[key].annotation) in _TYPES and not _TYPES[declared][1](value)
    ]
    if wrong:
        raise ValueError(f"settings of temporal={name!r}: " + "; ".join(wrong))


def _parameters(name: str) -> dict[str, inspect.Parameter]:
    """The settings of a system by name."""
    found: dict[str, inspect.Parameter] = {}
    for module in temporal_modules(name):
        found |= inspect.signature(module).parameters
    return {key: value for key, value in found.items() if key not in ("channels", "num_frames")}


def _is_number(value: Any) -> bool:
    return isinstance(value, (int, float)) and not isinstance(value, bool)


def _is_integer(value: Any) -> bool:
    return isinstance(value, int) and not isinstance(value, bool)


def _is_integers(value: Any) -> bool:
    return isinstance(value, Sequence) and all(map(_is_integer, value))


# What a setting that is declared so must be, in words and as a check.
_TYPES: dict[Any, tuple[str, Callable[[Any], bool]]] = {
    bool: ("True or False", lambda value: isinstance(value, bool)),
    int: ("a whole number", _is_integer),
    float: ("a number", _is_number),
    str: ("a string", lambda value: isinstance(value, str)),
    Sequence[int]: ("whole numbers, as (7, 5, 5)", _is_integers),
}
