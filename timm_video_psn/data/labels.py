"""Labels of mirrored videos: what "from left to right" becomes when the frames are flipped."""

from __future__ import annotations

import re
from collections.abc import Sequence

import numpy as np

# The word is bounded by anything but letters, so that slide_left counts and upright does not.
_SIDE = re.compile(r"(?<![^\W\d_])(left|right)(?![^\W\d_])", re.IGNORECASE)
_OPPOSITE = {"left": "right", "right": "left"}


def mirror_name(name: str) -> str:
    """Class name of the mirrored video: every word left becomes right and every right left, in the same case.

    Example:
        >>> mirror_name("Pushing something from left to right")
        'Pushing something from right to left'
    """
    return _SIDE.sub(lambda match: _in_case_of(match[0], _OPPOSITE[match[0].lower()]), name)


def flip_label_map(class_names: Sequence[str]) -> np.ndarray:
    """Label of each class after mirroring, read off the class names alone.

    Lists of the same classes come in different orders, so that a table of label numbers for one list corrupts labels of
    another. A class whose mirrored name is no class gets -1: its videos must not be mirrored.

    Args:
        class_names: names in label order.

    Returns:
        int64 array (number of classes,); the identity where no name speaks of left or right.

    Example:
        >>> flip_label_map(["slide_left", "slide_right", "hop", "turn left"])
        array([ 1,  0,  2, -1])
    """
    label_of = {name: label for label, name in enumerate(class_names)}
    return np.array([label_of.get(mirror_name(name), -1) for name in class_names], dtype=np.int64)


def _in_case_of(model: str, word: str) -> str:
    """`word` in capitals, capitalised or in small letters as `model` is."""
    if model.isupper():
        return word.upper()
    return word.capitalize() if model[0].isupper() else word
