"""Pictures of the motion data set: a textured shape before a textured background, seen by a swaying, noisy camera.

All frames are drawn at once: arrays are (T, S, S), or one such plane for each colour.
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np

from timm_video_psn.data.datasets.motion_actions import SIZE_PX, Trajectory

SHAPES = ("disc", "square", "triangle", "ring", "cross", "crescent")

_SWAY_PX = 6.0  # largest shift of the background to either side
_NOISE = (2.0, 7.0)  # largest deviation of a pixel, grey levels
_WAVELENGTHS_PX = (6.0, 40.0)  # of the background
_STRIPES = (0.4, 1.4)  # wavelength of the shape's texture, in radii
_TEXTURE = (15.0, 45.0)  # grey levels from the mean colour to the crests of a texture
_LEAST_CONTRAST = 100.0  # distance between the mean colours of shape and background

_PIXELS = np.arange(SIZE_PX, dtype=np.float32) + 0.5


class Texture(NamedTuple):
    """Mean colour, and the colour added at the crests of its waves; two arrays (3,)."""

    mean: np.ndarray
    crest: np.ndarray


def render(
    trajectory: Trajectory, rng: np.random.Generator, colour: tuple[float, float, float] | None = None
) -> np.ndarray:
    """Draws a clip; shape, angle, colours, textures, camera sway and noise come from `rng`.

    Args:
        trajectory: Position and size of the shape.
        rng: Source of everything else.
        colour: Mean colour of the shape, grey levels of red, green and blue; None for any.

    Returns:
        uint8 RGB frames (T, S, S, 3).
    """
    ground, figure = _draw_textures(rng, colour)
    u, v = _shape_coordinates(trajectory, rng.uniform(0, 2 * np.pi))
    distance = _signed_distance(SHAPES[rng.integers(len(SHAPES))], u, v) * _per_frame(trajectory.radius)
    cover = np.clip(0.5 - distance, 0, 1)  # (T, S, S); soft within one pixel of the outline
    background = _shade(_background_waves(len(u), rng), ground)  # (3, T, S, S)
    planes = background + cover * (_shade(_shape_waves(u, v, rng), figure) - background)
    planes += np.float32(2 * rng.uniform(*_NOISE)) * (rng.random(cover.shape, dtype=np.float32) - np.float32(0.5))
    pixels = np.clip(np.rint(planes, out=planes), 0, 255, out=planes).astype(np.uint8)
    return np.ascontiguousarray(np.moveaxis(pixels, 0, -1))  # (T, S, S, 3)


def _draw_textures(rng: np.random.Generator, colour: tuple[float, float, float] | None) -> tuple[Texture, Texture]:
    """Textures of background and shape, whose mean colours differ clearly."""
    while True:
        means = rng.uniform(30, 225, (2, 3)).astype(np.float32)
        if colour is not None:
            means[1] = colour
        if np.linalg.norm(means[0] - means[1]) >= _LEAST_CONTRAST:
            break
    crests = rng.standard_normal((2, 3)).astype(np.float32)
    crests *= (rng.uniform(*_TEXTURE, 2) / np.linalg.norm(crests, axis=1)).astype(np.float32)[:, None]
    return Texture(means[0], crests[0]), Texture(means[1], crests[1])


def _shade(waves: np.ndarray, texture: Texture) -> np.ndarray:
    """Colour planes of a texture, (3, T, S, S)."""
    mean, crest = texture.mean[:, None, None, None], texture.crest[:, None, None, None]
    return mean + waves * crest


def _background_waves(num_frames: int, rng: np.random.Generator, count: int = 3) -> np.ndarray:
    """Sum of plane waves, shifted in each frame by the sway of the camera, (T, S, S).

    The sway is a closed ellipse, once round in a clip, entered at any point and either way round. So it looks the same
    forwards and backwards, and from whichever frame on: it does not tell when something happened.
    """
    turn = 2 * np.pi * (np.arange(num_frames) / num_frames + rng.uniform(0, 1, (2, 1)))
    sway_x, sway_y = rng.uniform(0, _SWAY_PX, (2, 1)) * np.cos(turn)  # (T,) each
    waves = np.zeros((num_frames, SIZE_PX, SIZE_PX), dtype=np.float32)
    for _ in range(count):
        angle, phase = rng.uniform(0, 2 * np.pi, 2)
        frequency = 2 * np.pi / np.exp(rng.uniform(*np.log(_WAVELENGTHS_PX)))
        along_x = frequency * np.cos(angle) * (_PIXELS + sway_x[:, None])  # (T, S)
        along_y = frequency * np.sin(angle) * (_PIXELS + sway_y[:, None]) + phase  # (T, S)
        waves += _sine_of_sum(along_x, along_y)
    return waves / np.float32(np.sqrt(count))


def _sine_of_sum(along_x: np.ndarray, along_y: np.ndarray) -> np.ndarray:
    """sin(along_x + along_y) on the grid, from sines of the T * S coordinates instead of T * S * S."""
    x, y = along_x.astype(np.float32)[:, None, :], along_y.astype(np.float32)[:, :, None]
    return np.sin(x) * np.cos(y) + np.cos(x) * np.sin(y)  # (T, S, S)


def _shape_coordinates(trajectory: Trajectory, angle: float) -> tuple[np.ndarray, np.ndarray]:
    """Coordinates of every pixel in the frame of the shape, where its radius is 1; two arrays (T, S, S)."""
    x = (_PIXELS - _per_frame(trajectory.x)) / _per_frame(trajectory.radius)  # (T, 1, S)
    y = (_PIXELS[:, None] - _per_frame(trajectory.y)) / _per_frame(trajectory.radius)  # (T, S, 1)
    cos, sin = np.float32(np.cos(angle)), np.float32(np.sin(angle))
    return cos * x + sin * y, cos * y - sin * x


def _per_frame(values: np.ndarray) -> np.ndarray:
    return values.astype(np.float32)[:, None, None]  # (T, 1, 1)


def _signed_distance(shape: str, u: np.ndarray, v: np.ndarray) -> np.ndarray:
    """Distance to the outline, in radii, negative inside; near enough to it to soften the edge."""
    if shape == "disc":
        return _norm(u, v) - 1
    if shape == "square":
        return np.maximum(np.abs(u), np.abs(v)) - np.float32(0.82)
    if shape == "triangle":
        return np.maximum(np.float32(np.sqrt(0.75)) * np.abs(u) + v / 2, -v) - np.float32(0.6)
    if shape == "ring":
        return np.abs(_norm(u, v) - np.float32(0.72)) - np.float32(0.28)
    if shape == "cross":
        far, near = np.maximum(np.abs(u), np.abs(v)), np.minimum(np.abs(u), np.abs(v))
        return np.maximum(far - 1, near - np.float32(0.36))
    return np.maximum(_norm(u, v) - 1, np.float32(0.8) - _norm(u - np.float32(0.5), v))  # crescent


def _norm(u: np.ndarray, v: np.ndarray) -> np.ndarray:
    """np.hypot, five times as fast; overflow is no concern here."""
    return np.sqrt(u * u + v * v)


def _shape_waves(u: np.ndarray, v: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    """Stripes fixed to the shape, which move and grow with it, (T, S, S)."""
    angle, phase = rng.uniform(0, 2 * np.pi, 2)
    frequency = 2 * np.pi / rng.uniform(*_STRIPES)
    across, down = np.float32(frequency * np.cos(angle)), np.float32(frequency * np.sin(angle))
    return np.sin(across * u + down * v + np.float32(phase))
