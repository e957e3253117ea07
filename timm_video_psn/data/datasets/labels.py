"""Labels of mirrored videos: what "from left to right" becomes when the frames are flipped."""

from __future__ import annotations

import hashlib
import re
import unicodedata
from collections.abc import Mapping, Sequence

import numpy as np

from timm_video_psn.files import first_names

# The word is bounded by anything but letters, so that slide_left counts and upright does not.
_SIDE = re.compile(r"(?<![^\W\d_])(left|right)(?![^\W\d_])", re.IGNORECASE)
_SHOWN = 5  # names that an error message lists
# "pulling it right out" of Something-Something speaks of no side: it is the same action in the mirror.
_NO_SIDE = re.compile(r"(?<![^\W\d_])right(?= (?:after|away|before|now|out|there)(?![^\W\d_]))", re.IGNORECASE)
_OPPOSITE = {"left": "right", "right": "left"}


def plain_name(name: str) -> str:
    """Returns a class name in the one Unicode form (NFC) in which names are compared.

    Systems write "é" as one character or as two, so that the same name would not be the same text.

    Args:
        name: Name as a file or a folder has it.
    """
    return unicodedata.normalize("NFC", name)


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
    another. A class whose mirrored name is not a class gets -1: its videos must not be mirrored. It keeps its label if
    it says "right" only as in "right out", which is no side.

    Args:
        class_names: Names in label order.

    Returns:
        int64 array (number of classes,); the identity where no name speaks of left or right.

    Example:
        >>> flip_label_map(["slide_left", "slide_right", "hop", "turn left"])
        array([ 1,  0,  2, -1])
    """
    label_of = {name: label for label, name in enumerate(class_names)}
    return np.array([label_of.get(mirror_name(name), _unsided(name, label_of)) for name in class_names], dtype=np.int64)


def _unsided(name: str, label_of: Mapping[str, int]) -> int:
    """A class's own label if its name speaks of no side after all, else -1."""
    return -1 if _SIDE.search(_NO_SIDE.sub("", name)) else label_of[name]


def label_fingerprint(class_names: Sequence[str]) -> str:
    """A digest that identifies class names in their order; models, results and shards carry it.

    Args:
        class_names: Class names in label order.
    """
    return hashlib.sha256("\n".join(class_names).encode("utf-8", "surrogateescape")).hexdigest()


def check_class_names(expected: Sequence[str], found: Sequence[str], expected_of: str, found_of: str) -> None:
    """Raises if two lists of class names differ, because the same label would mean different classes.

    Args:
        expected: Names in label order.
        found: Names in label order.
        expected_of: Owner of the first list, for the message.
        found_of: Owner of the second list, for the message.

    Raises:
        ValueError: The names or their order differ; the message shows how.
    """
    expected, found = (tuple(map(plain_name, names)) for names in (expected, found))
    if expected == found:
        return
    both = set(expected) & set(found)
    parts = [
        f"only in {place}: {first_names(map(repr, missing), _SHOWN)}"
        for place, names in ((expected_of, expected), (found_of, found))
        if (missing := [name for name in names if name not in both])
    ]
    if not parts:
        moved = [label for label, pair in enumerate(zip(expected, found, strict=False)) if pair[0] != pair[1]]
        shown = ", ".join(f"{label} is {expected[label]!r} and {found[label]!r}" for label in moved[:_SHOWN])
        parts = [f"the same names in another order: label {shown}"]
    raise ValueError(
        f"the {len(expected)} classes of {expected_of} are not the {len(found)} of {found_of}; {'; '.join(parts)}; "
        "the same label would mean different classes"
    )


def _in_case_of(model: str, word: str) -> str:
    """`word` in capitals, capitalised or in small letters as `model` is."""
    if model.isupper():
        return word.upper()
    return word.capitalize() if model[0].isupper() else word
