"""Figures without a display, and PNG files that appear whole or not at all.

Colours follow one rule: darker or warmer is more.
"""

from pathlib import Path
from typing import Any

import numpy as np

from timm_video_psn.files import atomic_path

DPI = 100


def new_figure(width: float, height: float, layout: str | None = "constrained") -> Any:
    """A matplotlib figure that needs no display.

    Args:
        width: width in inches.
        height: height in inches.
        layout: matplotlib's layout engine; None where axes are placed by hand.
    """
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    figure = Figure(figsize=(width, height), dpi=DPI, layout=layout)  # type: ignore[arg-type]
    FigureCanvasAgg(figure)
    return figure


def save_figure(figure: Any, path: Path, dpi: int = DPI) -> Path:
    """Writes a figure as a PNG.

    Args:
        figure: figure of `new_figure`.
        path: the file; its folder is made if need be.
        dpi: pixels of an inch.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    with atomic_path(path) as temporary:
        figure.savefig(temporary, format="png", dpi=dpi)
    return path


def pixels_of(figure: Any) -> np.ndarray:
    """A figure as a picture.

    Args:
        figure: figure of `new_figure`.

    Returns:
        uint8 (H, W, 3).
    """
    figure.canvas.draw()
    return np.asarray(figure.canvas.buffer_rgba())[..., :3].copy()


def plain(text: str) -> str:
    """A name for a figure, in which no dollar sign begins a formula.

    Args:
        text: name of a class, a video or a folder.
    """
    return text.replace("$", r"\$")
