"""Weights of classes in the loss: from their numbers of videos, or from a file."""

from __future__ import annotations

import difflib
from pathlib import Path

import numpy as np
import numpy.typing as npt

from timm_video_psn.data.datasets.index import VideoIndex
from timm_video_psn.data.datasets.labels import plain_name
from timm_video_psn.data.datasets.parsing import ParseErrors
from timm_video_psn.files import first_names

_FORM = "`weight` for each class in label order, or `class name,weight`"


def class_weights(asked: str, index: VideoIndex, several: bool = False) -> npt.NDArray[np.float32]:
    """Returns a weight for each class.

    Args:
        asked: `balanced`, or the path of a file with a line for each class.
        index: Training videos.
        several: Whether the weights are for the positive terms of a binary loss, where `balanced` is negatives /
            positives; else it is scikit-learn's, videos / (classes x videos of the class).

    Returns:
        (K,). A class without videos, whose weight has no effect, has the weight 1.

    Raises:
        FileNotFoundError: There is no such file.
        ValueError: The file lacks classes, or has lines of another form.
    """
    if asked != "balanced":
        return _read(Path(asked), index.class_names)
    counts = index.class_counts().astype(np.float64)
    weights = np.ones(len(counts))
    there = counts > 0
    if several:
        weights[there] = (len(index) - counts[there]) / counts[there]
    else:
        weights[there] = counts.sum() / (there.sum() * counts[there])
    return weights.astype(np.float32)


def _read(path: Path, class_names: tuple[str, ...]) -> npt.NDArray[np.float32]:
    """The weights of a file."""
    if not path.is_file():
        raise FileNotFoundError(f"--class-weights {path}: no such file; use `balanced`, or a file of {_FORM}, by line")
    errors, weights, label_of = ParseErrors(path), [], {name: label for label, name in enumerate(class_names)}
    labels: list[int] = []
    for number, line in enumerate(path.read_text(encoding="utf-8-sig").splitlines(), 1):
        if not line.strip():
            continue
        name, comma, text = line.rpartition(",")
        name = plain_name(name.strip().strip('"'))
        try:
            weight = float(text)
        except ValueError:
            if number > 1 or not comma:  # the first line may be a header
                errors.add(number, f"{line.strip()[:80]!r} ends in no weight; expected {_FORM}")
            continue
        if not 0 <= weight < float("inf"):
            errors.add(number, f"weight {text.strip()} is out of range; use 0 or more")
        elif comma and name not in label_of:
            near = difflib.get_close_matches(name, class_names, n=3)
            errors.add(number, f"{name!r} is no class of the data; nearest: {', '.join(near) or 'none'}")
        else:
            labels.append(label_of[name] if comma else len(labels))
            weights.append(weight)
    errors.raise_if_any()
    if sorted(labels) != list(range(len(class_names))):
        missing = [name for label, name in enumerate(class_names) if label not in labels]
        raise ValueError(
            f"{path} has {len(labels)} weights for {len(class_names)} classes; without one: "
            f"{first_names(missing) or 'none, so that some have two'}; expected a line of {_FORM}"
        )
    found = np.empty(len(class_names), dtype=np.float32)
    found[labels] = weights
    return found
