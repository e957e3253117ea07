"""Trajectories of the motion data set: when, where and how far its shape moves and grows.

What `motion` promises, that the frames without their order say nothing within a pair of classes, is decided here.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import NamedTuple

import numpy as np

NUM_FRAMES = 24
SIZE_PX = 72

# Ranges of everything that is no matter of the class.
_RADIUS_PX = (3.5, 22.0)
_ZOOM = (1.3, 3.7)
_TRAVEL_PX = (6.5, 43.0)
_DURATION = (0.15, 1.0)  # of the clip

_LEAST_LEG = 2  # frames from rest to turning point: then one of any three frames in a row shows the excursion
_INSIDE = 0.6  # share of the radius by which the centre keeps off the border: the shape stays mostly visible


class Trajectory(NamedTuple):
    """Where the shape is in each frame, and how large; three arrays (T,), in pixels."""

    x: np.ndarray
    y: np.ndarray
    radius: np.ndarray


class Place(NamedTuple):
    """Room for an action: two radii, a length, and a range for the centre that keeps clear of the border."""

    small: float
    big: float
    travel: float
    low: float
    high: float


# --- when ----------------------------------------------------------------------------------------------------------


def ramp(before: int, move: int, curve: float) -> np.ndarray:
    """0 for `before` frames, then up to 1 within `move` steps, then 1; (T,)."""
    return _ease((np.arange(NUM_FRAMES) - before) / move, curve)


def tent(before: int, out: int, hold: int, back: int, curve: float) -> np.ndarray:
    """0 for `before` frames, up in `out` steps, `hold` further frames at 1, down in `back` steps, then 0; (T,).

    On a cyclic time axis this is: a rest at 0, a way up, a rest at 1, a way down. Seen upside down (1 - tent) the rests
    and the ways change places. So 1 - tent(before, out, hold, back) has, in another order, the frames of
    tent(before', back, rest, out) with rest = T - out - hold - back, for any before' up to hold.
    """
    up = _ease(np.arange(out) / out, curve)
    down = 1 - _ease(np.arange(back) / back, curve)
    profile = np.concatenate([np.zeros(before), up, np.ones(hold), down])
    return np.pad(profile, (0, NUM_FRAMES - len(profile)))


def _ease(progress: np.ndarray, curve: float) -> np.ndarray:
    """From 0 to 1, straight (curve 0) to smooth (curve 1); symmetric: ease(1 - p) = 1 - ease(p)."""
    progress = np.clip(progress, 0, 1)
    return progress + curve * (progress * progress * (3 - 2 * progress) - progress)


def _split(rng: np.random.Generator, total: int, parts: int, least: int) -> list[int]:
    """Random whole numbers of at least `least` that add up to `total`, every such split as likely as any other."""
    slots = total - least * parts + parts - 1
    bars = np.sort(rng.choice(slots, parts - 1, replace=False))
    return [int(gap) + least - 1 for gap in np.diff(bars, prepend=-1, append=slots)]


def _duration(rng: np.random.Generator, least: int, most: int = NUM_FRAMES) -> int:
    """Length of the action in frames."""
    return int(np.clip(round(rng.uniform(*_DURATION) * NUM_FRAMES), least, most))


def draw_ramp(rng: np.random.Generator) -> np.ndarray:
    """A single change at any time of the clip; (T,)."""
    move = _duration(rng, 4, NUM_FRAMES - 1)
    return ramp(int(rng.integers(NUM_FRAMES - move)), move, rng.uniform())


def draw_tent(rng: np.random.Generator) -> np.ndarray:
    """A change and its return; (T,).

    Both ways, and the rests at 0 and at 1, have exchangeable lengths. With what `tent` says about its frames, the
    frames of draw_tent and of 1 - draw_tent have the same distribution: neither end is seen more often.
    """
    moving = _duration(rng, 2 * _LEAST_LEG)
    out, back = _split(rng, moving, 2, _LEAST_LEG)
    rest, hold = _split(rng, NUM_FRAMES - moving, 2, 0)
    before = int(rng.integers(max(rest, 1)))  # never all of the rest: the return is to be seen
    return tent(before, out, hold, back, rng.uniform())


def draw_two_tents(rng: np.random.Generator) -> tuple[np.ndarray, np.ndarray]:
    """A change with its return, and later a second one; two arrays (T,)."""
    moving = _duration(rng, 4 * _LEAST_LEG)
    out1, back1, out2, back2 = _split(rng, moving, 4, _LEAST_LEG)
    before, between, _ = _split(rng, NUM_FRAMES - moving, 3, 0)
    curve = rng.uniform()
    second = before + out1 + back1 + between
    return tent(before, out1, 0, back1, curve), tent(second, out2, 0, back2, curve)


# --- where ---------------------------------------------------------------------------------------------------------


def _draw_place(rng: np.random.Generator, zooms: bool) -> Place:
    zoom = _log_uniform(rng, *_ZOOM) if zooms else 1.0
    small = _log_uniform(rng, _RADIUS_PX[0], _RADIUS_PX[1] / zoom)
    big = small * zoom
    return Place(small, big, rng.uniform(*_TRAVEL_PX), _INSIDE * big, SIZE_PX - _INSIDE * big)


def _log_uniform(rng: np.random.Generator, low: float, high: float) -> float:
    return float(np.exp(rng.uniform(np.log(low), np.log(high))))


def _still(value: float) -> np.ndarray:
    return np.full(NUM_FRAMES, value)


def _sideways(rng: np.random.Generator, profile: np.ndarray) -> Trajectory:
    """From left (0) to right (1)."""
    place = _draw_place(rng, zooms=False)
    left = rng.uniform(place.low, place.high - place.travel)
    return Trajectory(left + place.travel * profile, _still(rng.uniform(place.low, place.high)), _still(place.small))


def _sizewise(rng: np.random.Generator, profile: np.ndarray) -> Trajectory:
    """From small (0) to big (1), at a constant rate of growth."""
    place = _draw_place(rng, zooms=True)
    x, y = rng.uniform(place.low, place.high, 2)
    return Trajectory(_still(x), _still(y), place.small * (place.big / place.small) ** profile)


def _hop_then_pulse(rng: np.random.Generator) -> Trajectory:
    """Up and back while small, then big and back."""
    hop, pulse = draw_two_tents(rng)
    place = _draw_place(rng, zooms=True)
    floor = rng.uniform(max(place.low, place.travel + _INSIDE * place.small), place.high)
    x = rng.uniform(place.low, place.high)
    return Trajectory(_still(x), floor - place.travel * hop, place.small * (place.big / place.small) ** pulse)


def _duck_then_dip(rng: np.random.Generator) -> Trajectory:
    """Small and back, then down and back while big."""
    duck, dip = draw_two_tents(rng)
    place = _draw_place(rng, zooms=True)
    top = rng.uniform(place.low, place.high - place.travel)
    x = rng.uniform(place.low, place.high)
    return Trajectory(_still(x), top + place.travel * dip, place.big * (place.small / place.big) ** duck)


class Action(NamedTuple):
    """How the clips of a class come about: a trajectory is drawn, and its pictures played forwards or backwards."""

    draw: Callable[[np.random.Generator], Trajectory]
    backwards: bool = False


ACTIONS = {
    "slide_right": Action(lambda rng: _sideways(rng, draw_ramp(rng))),
    "slide_left": Action(lambda rng: _sideways(rng, draw_ramp(rng)), backwards=True),
    "approach": Action(lambda rng: _sizewise(rng, draw_ramp(rng))),
    "recede": Action(lambda rng: _sizewise(rng, draw_ramp(rng)), backwards=True),
    "hop_then_pulse": Action(_hop_then_pulse),
    "pulse_then_hop": Action(_hop_then_pulse, backwards=True),
    "duck_then_dip": Action(_duck_then_dip),
    "dip_then_duck": Action(_duck_then_dip, backwards=True),
    "right_then_left": Action(lambda rng: _sideways(rng, draw_tent(rng))),
    "left_then_right": Action(lambda rng: _sideways(rng, 1 - draw_tent(rng))),
    "grow_then_shrink": Action(lambda rng: _sizewise(rng, draw_tent(rng))),
    "shrink_then_grow": Action(lambda rng: _sizewise(rng, 1 - draw_tent(rng))),
}
