"""What all insights draw with: figures without a display, and files that appear whole or not at all.

Colours follow one rule: darker or warmer is more.
"""

import csv
import io
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from timm_video_psn.data import write_video
from timm_video_psn.files import atomic_path

_DPI = 100
_FILM = {"preset": "veryfast", "crf": "20", "threads": "1"}  # of x264; what is drawn needs no key frame at each picture


def new_figure(width: float, height: float) -> Any:
    """A matplotlib figure that needs no display.

    Args:
        width: inches.
        height: inches.
    """
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    figure = Figure(figsize=(width, height), dpi=_DPI, layout="constrained")
    FigureCanvasAgg(figure)
    return figure


def save_figure(figure: Any, path: Path) -> Path:
    """Write a figure as a PNG, without the empty border that a layout may leave.

    Args:
        figure: made by `new_figure`.
        path: the file; its folder is made if need be.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    with atomic_path(path) as temporary:
        figure.savefig(temporary, format="png", dpi=_DPI)
    return path


def pixels_of(figure: Any) -> np.ndarray:
    """A figure as a picture.

    Args:
        figure: made by `new_figure`.

    Returns:
        uint8 (H, W, 3).
    """
    figure.canvas.draw()
    return np.asarray(figure.canvas.buffer_rgba())[..., :3].copy()


def save_gif(pictures: Sequence[np.ndarray], path: Path, fps: float) -> Path:
    """Write an endless animation; its last picture stays for three times as long.

    Args:
        pictures: uint8 (H, W, 3) each.
        path: the file.
        fps: pictures a second.
    """
    from PIL import Image

    path.parent.mkdir(parents=True, exist_ok=True)
    images = [Image.fromarray(picture).quantize(64) for picture in pictures]
    durations = [round(1000 / fps)] * (len(images) - 1) + [round(3000 / fps)]
    with atomic_path(path) as temporary:
        images[0].save(
            temporary, format="GIF", save_all=True, append_images=images[1:], duration=durations, loop=0, disposal=1
        )
    return path


def save_film(pictures: np.ndarray, path: Path, fps: float) -> Path:
    """Write an H.264 film that browsers play.

    Args:
        pictures: uint8 (T, H, W, 3); odd sides lose their last row or column.
        path: the .mp4 file.
        fps: pictures a second.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    height, width = (side - side % 2 for side in pictures.shape[1:3])
    with atomic_path(path) as temporary:
        draft = temporary.with_suffix(path.suffix)  # FFmpeg takes the container from the name
        try:
            write_video(draft, pictures[:, :height, :width], fps, _FILM)
            draft.replace(temporary)
        finally:
            draft.unlink(missing_ok=True)
    return path


def save_text(text: str, path: Path) -> Path:
    """Write a text file.

    Args:
        text: what it holds.
        path: the file.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    with atomic_path(path) as temporary:
        temporary.write_text(text, encoding="utf-8")
    return path


def save_table(header: Sequence[str], rows: Iterable[Sequence[Any]], path: Path) -> Path:
    """Write a CSV file.

    Args:
        header: names of the columns.
        rows: cells; floats are written with six significant digits.
        path: the file.
    """
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    writer.writerow(header)
    writer.writerows([f"{cell:.6g}" if isinstance(cell, float) else cell for cell in row] for row in rows)
    return save_text(text.getvalue(), path)


def heat_map(
    axis: Any, values: np.ndarray, rows: Sequence[str], columns: Sequence[str], high: float, low: float
) -> Any:
    """Draw a table of numbers as colours, "the deeper color, the denser", with the numbers in the cells.

    Args:
        axis: of a figure.
        values: (rows, columns).
        rows: names.
        columns: names.
        high: value of the deepest colour.
        low: value of the palest one.
    """
    image = axis.imshow(values, cmap="Blues", vmin=low, vmax=high, aspect="auto")
    axis.set_xticks(range(len(columns)), columns, fontsize=7)
    axis.set_yticks(range(len(rows)), rows, fontsize=7)
    axis.tick_params(length=0)
    for i, row in enumerate(values):
        for j, value in enumerate(row):
            dark = value - low > 0.6 * (high - low)
            axis.text(j, i, f"{value:.3g}", ha="center", va="center", fontsize=6, color="white" if dark else "black")
    return image
