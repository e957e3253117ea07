"""The confusion matrix as a picture, for few classes with numbers and for hundreds with colours."""

from collections.abc import Sequence
from pathlib import Path

import numpy as np
import numpy.typing as npt

from timm_video_psn.plotting import new_figure, plain, save_figure

_NUMBERED = 20  # up to so many classes the cells show their numbers, and both axes the names
_NAME = 48  # characters of a class name that an axis has room for


def draw_confusion(confusion: npt.NDArray[np.int64], class_names: Sequence[str], path: Path, title: str) -> None:
    """Draws the share of each class's videos that get each answer: a row is a class and adds up to 100 %.

    Args:
        confusion: Videos by class and by predicted class, (K, K).
        class_names: Names in label order.
        path: The PNG file.
        title: Text above the picture; the protocol belongs into it.
    """
    count, few = len(class_names), len(class_names) <= _NUMBERED
    cell, font = (0.5, 8.0) if few else (0.11, 5.5)  # inches, points: a line of text fits into a row
    names = [_short(name) for name in class_names]
    text = max(map(len, names)) * font * 0.6 / 72 + 0.5  # inches that the names need
    side = max(2.5, cell * count)
    top = 0.8  # inches for the title
    width, height = text + side + 1.2, (text if few else 0.5) + side + top
    figure = new_figure(width, height, layout=None)  # matplotlib's own layout takes a minute for 400 names
    bottom = height - top - side
    axis = figure.add_axes((text / width, bottom / height, side / width, side / height))
    bar = figure.add_axes(((text + side + 0.25) / width, bottom / height, 0.2 / width, min(side, 4) / height))
    shares = 100 * confusion / np.maximum(confusion.sum(1, keepdims=True), 1)
    image = axis.imshow(shares, cmap="Blues", vmin=0, vmax=100, interpolation="nearest", aspect="auto")
    columns = range(0, count, 1 if few else 5)
    axis.set(xticks=[], yticks=[])  # a tick is five objects; 400 of them take half a minute
    for k, name in enumerate(names):
        axis.text(-0.8, k, name if few else f"{name}  {k}", ha="right", va="center", fontsize=font)
    for k in columns:
        axis.text(k, count - 0.2, names[k] if few else str(k), ha="center", va="top", fontsize=font, rotation=90)
    words = f"{title}\nrows: the class; columns: what it is taken for"
    figure.text(0.02, 1 - 0.1 / height, words, fontsize=8 if few else 12, va="top")
    figure.colorbar(image, cax=bar, label="% of the class's videos")
    if few:
        for (row, column), videos in np.ndenumerate(confusion):
            if videos:
                colour = "white" if shares[row, column] > 60 else "black"
                axis.text(column, row, str(videos), ha="center", va="center", fontsize=font, color=colour)
    else:
        axis.set_xticks(np.arange(-0.5, count, 10), minor=True)
        axis.set_yticks(np.arange(-0.5, count, 10), minor=True)
        axis.grid(which="minor", color="0.85", linewidth=0.4)
        axis.tick_params(which="minor", length=0)
    save_figure(figure, path, dpi=110 if few else 130)


def _short(name: str) -> str:
    """The beginning of a long name."""
    return plain(name if len(name) <= _NAME else f"{name[: _NAME - 3]}...")
