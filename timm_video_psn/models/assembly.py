"""The temporal modules of a system, put into a timm backbone."""

import logging
from collections import defaultdict
from collections.abc import Callable
from functools import partial
from typing import Any

from torch import nn

from timm_video_psn.layers.registry import settings_of, temporal_modules
from timm_video_psn.layers.temporal_module import TemporalModule
from timm_video_psn.models.backbones import injection_points
from timm_video_psn.models.injection_point import InjectionPoint, Mode
from timm_video_psn.surgery import inject, injected, replace

_logger = logging.getLogger(__name__)


def add_temporal_modules(
    backbone: nn.Module, temporal: str, num_frames: int, sites: tuple[str, ...] | None, settings: dict[str, Any]
) -> dict[str, str]:
    """Attaches the temporal modules of a system at their injection points, or put them in the place of layers.

    Args:
        backbone: A timm model; changed in place.
        temporal: Name of the system.
        num_frames: Frames T of a clip.
        sites: Names of levels or stages; None for the modules' own choice.
        settings: Keyword arguments of the modules.

    Returns:
        Site -> the child that carries the module, for modules that follow levels; empty for all others.

    Raises:
        ValueError: A site or a setting is unknown, or does not fit the backbone.
    """
    modules = temporal_modules(_current_name(temporal, backbone))
    if not modules and sites is not None:
        raise ValueError(f"sites={sites}: temporal={temporal!r} attaches no modules; leave sites out")
    chosen = _choose([(module, injection_points(backbone, module.placement)) for module in modules], sites, backbone)
    levels = {}
    for module, points in chosen:
        own = settings_of(module, settings)
        by_mode: dict[Mode, list[InjectionPoint]] = defaultdict(list)
        for point in points:
            by_mode[point.mode].append(point)
        for mode, alike in by_mode.items():
            _add(backbone, module, num_frames, own, mode, alike)
        if module.placement == "level":
            levels.update({point.site: point.target for point in points})
    _count_time_strides(backbone)
    for item in injected(backbone):
        if item.note:
            _logger.info(f"{item.name}: {item.note}")
    return levels


def _choose(
    known: list[tuple[type[TemporalModule], list[InjectionPoint]]], sites: tuple[str, ...] | None, backbone: nn.Module
) -> list[tuple[type[TemporalModule], list[InjectionPoint]]]:
    """The points at the given sites; by default all, but for the last level."""
    names = list(dict.fromkeys(point.site for _, points in known for point in points))
    unknown = [site for site in sites or () if site not in names]
    if unknown or sites == ():
        raise ValueError(
            f"sites={sites} of {type(backbone).__name__}: {unknown or 'an empty list'} not found; "
            f"use some of {', '.join(names)}"
        )
    chosen = []
    for module, points in known:
        allowed = sites or (names[:-1] if module.placement == "level" else names)
        wanted = [point for point in points if point.position is None or module.wants(point.position)]
        chosen.append((module, [point for point in wanted if point.site in allowed]))
    return chosen


def _count_time_strides(backbone: nn.Module) -> None:
    """Tells every temporal module by what the frames are divided where it is.

    Modules come in the order of the network, except that a shortcut comes after the branch beside it.
    """
    divisor = 1
    for module in backbone.modules():
        if isinstance(module, TemporalModule):
            beside = module.placement == "before_shortcut"
            module.time_divisor = divisor // module.time_stride if beside else divisor
            divisor *= 1 if beside else module.time_stride


def _current_name(temporal: str, backbone: nn.Module) -> str:
    """The system's name today: TEA on plain bottlenecks was `tea` until Res2Nets could have the official one."""
    if temporal != "tea" or any(type(module).__name__ == "Bottle2neck" for module in backbone.modules()):
        return temporal
    _logger.warning(
        f"temporal='tea' is now the official TEA on a Res2Net; on {type(backbone).__name__} it builds 'tea_16w', the "
        "form for plain bottlenecks: use that name"
    )
    return "tea_16w"


def _add(
    backbone: nn.Module,
    module: Any,
    num_frames: int,
    settings: dict[str, Any],
    mode: Mode,
    points: list[InjectionPoint],
) -> None:
    """One kind of temporal module at points of one mode."""
    by_target = {point.target: point for point in points}
    if mode == "instead":

        def replacement(point: InjectionPoint) -> TemporalModule:
            old = tuple(backbone.get_submodule(name) for name in (point.target, *point.further))
            assert point.position is not None  # only blocks have places for what replaces
            return module.replacing(old, num_frames, point.position, **settings)

        build = partial(_build_at, by_target, replacement)
        further = {name for point in points for name in point.further}
        replace(
            backbone,
            [*by_target, *further],
            lambda name, old: nn.Identity() if name in further else build(name, old),
        )
        return

    def attached(point: InjectionPoint) -> nn.Module:
        built = point.view.build(lambda channels: module(channels, num_frames, **settings), point.channels)
        return nn.Sequential(nn.ReLU(), built) if point.activated else built

    inject(backbone, list(by_target), partial(_build_at, by_target, attached), mode)


def _build_at(
    by_target: dict[str, InjectionPoint], create: Callable[[InjectionPoint], nn.Module], name: str, _: nn.Module
) -> nn.Module:
    """A temporal module for an injection point; an error in its settings names the point."""
    point = by_target[name]
    try:
        return create(point)
    except ValueError as error:
        raise ValueError(f"at {point.site} ({point.channels} channels): {error}") from error
