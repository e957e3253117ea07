"""Turns the pixels of a frame the way that its file asks players to show them.

Phones store what the sensor sees and note how the phone was held, as a 3 x 3 "display matrix" in the file's header
(mp4 and mov: the `tkhd` box). Players apply it; a model must see the same picture, or every portrait video lies on its
side.
"""

from __future__ import annotations

import struct
from typing import TYPE_CHECKING, Any

import numpy as np

if TYPE_CHECKING:
    from av.video.frame import VideoFrame


def display_matrix(frame: VideoFrame) -> tuple[int, int, int, int] | None:
    """The part (a, b, c, d) of a frame's display matrix that turns, or None where the frame has none.

    The pixel at (x, y) is shown at (a x + c y, b x + d y), up to a shift; x runs right and y down.

    Args:
        frame: Frame from the decoder.
    """
    side_data: Any = frame.side_data  # PyAV's own annotation names another class
    data = side_data.get("DISPLAYMATRIX")
    if data is None:
        return None
    a, b, _, c, d, *_ = struct.unpack("=9i", bytes(data))
    return a, b, c, d


def is_mirrored(matrix: np.ndarray) -> bool:
    """Whether a display matrix shows the mirror image of what it turns.

    Args:
        matrix: Matrix (a, b, c, d) as from `display_matrix`.
    """
    a, b, c, d = map(int, matrix)
    return a * d - b * c < 0


def upright(pixels: np.ndarray, matrix: tuple[int, int, int, int] | None) -> np.ndarray:
    """A frame turned and mirrored as its display matrix says, by the nearest multiple of 90 degrees.

    Args:
        pixels: Pixels as stored.
        matrix: Matrix from `display_matrix`.

    Shape:
        pixels: (H, W, 3) -> (H, W, 3), or (W, H, 3) after a quarter turn.
    """
    if matrix is None or not any(matrix):
        return pixels
    a, b, c, d = matrix
    if abs(b) + abs(c) > abs(a) + abs(d):  # a quarter turn: what ran right now runs down or up
        pixels, across, down = pixels.transpose(1, 0, 2), c, b  # (W, H, 3)
    else:
        across, down = a, d
    return pixels[:: -1 if down < 0 else 1, :: -1 if across < 0 else 1]
