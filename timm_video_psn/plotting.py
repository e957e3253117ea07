"""Figures without a display, names in all scripts, and PNG files that appear whole or not at all.

Colours follow one rule: darker or warmer is more.
"""

import functools
import logging
import textwrap
import unicodedata
import warnings
from pathlib import Path
from typing import Any

import numpy as np

from timm_video_psn.console import printable
from timm_video_psn.files import atomic_path, first_names

DPI = 100
_logger = logging.getLogger(__name__)


def new_figure(width: float, height: float, layout: str | None = "constrained") -> Any:
    """A matplotlib figure that needs no display.

    Args:
        width: Width in inches.
        height: Height in inches.
        layout: matplotlib's layout engine; None where axes are placed by hand.
    """
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    figure = Figure(figsize=(width, height), dpi=DPI, layout=layout)  # type: ignore[arg-type]
    FigureCanvasAgg(figure)
    return figure


def class_colours(count: int) -> list[str]:
    """A colour for each class: up to ten are all distinct; twenty for more, which then repeat.

    Args:
        count: Number of classes.
    """
    from matplotlib import colormaps
    from matplotlib.colors import to_hex

    table = colormaps["tab10" if count <= 10 else "tab20"]
    return [to_hex(table(number % table.N)) for number in range(count)]


def save_figure(figure: Any, path: Path, dpi: int = DPI) -> Path:
    """Writes a figure as a PNG.

    Args:
        figure: Figure of `new_figure`.
        path: The file; its folder is made if need be.
        dpi: Pixels of an inch.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    _use_fonts(figure, path.name)
    with atomic_path(path) as temporary, warnings.catch_warnings():
        warnings.filterwarnings("ignore", message="Glyph .* missing from")  # as has been said
        figure.savefig(temporary, format="png", dpi=dpi)
    return path


def pixels_of(figure: Any) -> np.ndarray:
    """A figure as a picture.

    Args:
        figure: Figure of `new_figure`.

    Returns:
        uint8 (H, W, 3).
    """
    _use_fonts(figure, "a picture")
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", message="Glyph .* missing from")  # as has been said
        figure.canvas.draw()
    return np.asarray(figure.canvas.buffer_rgba())[..., :3].copy()


def plain(text: str, width: int | None = None, lines: int | None = None) -> str:
    r"""Returns a name as figures show it: nothing in it begins a formula, ends a line or hides it from a legend.

    Args:
        text: Name of a class, a video or a folder.
        width: Characters of a line, for a name that is to be wrapped.
        lines: Most lines of a wrapped name.
    """
    text = printable(text)
    if width is not None:
        text = textwrap.fill(text, width, max_lines=lines, placeholder=" …")
    text = f" {text}" if text.startswith("_") else text  # else legends pass over it
    return text.replace("$", r"\$")


def add_font(path: Path) -> None:
    """Makes a font known to matplotlib; figures use it for characters that the default font lacks.

    Args:
        path: Font file.

    Raises:
        ValueError: It is no font.
        FileNotFoundError: There is no such file.
    """
    from matplotlib.font_manager import fontManager

    if not path.is_file():
        raise FileNotFoundError(f"font {path}: there is no such file; name a .ttf, .otf or .ttc file")
    try:
        fontManager.addfont(path)
    except (RuntimeError, OSError) as error:
        raise ValueError(f"font {path} cannot be read ({error}); name a .ttf, .otf or .ttc file") from error
    _families_for.cache_clear()


def _use_fonts(figure: Any, shown_in: str) -> None:
    """Gives all texts fonts that have their characters, and says which characters no font has."""
    from matplotlib.text import Text

    for axes in figure.axes:
        axes.get_xticklabels(), axes.get_yticklabels()  # which matplotlib makes when they are asked for
    texts = [text for text in figure.findobj(Text) if not text.get_text().isascii()]
    needed = {character for text in texts for character in text.get_text()}
    families, lost = _families_for(frozenset(filter(str.isprintable, needed)))
    for text in texts:
        text.set_fontfamily([*text.get_fontfamily(), *families])
    if lost:
        _logger.warning(
            "no installed font has %s (%s): %s shows boxes instead; install a font for them, such as Noto Sans CJK, or "
            "name its file with --font",
            first_names(sorted(lost), 5),
            first_names(sorted({unicodedata.name(character, "unknown").split()[0] for character in lost})),
            shown_in,
        )


@functools.lru_cache(16)
def _families_for(characters: frozenset[str]) -> tuple[tuple[str, ...], frozenset[str]]:
    """Families that add what the default font lacks, those that were added last first; and what is in none of them."""
    from matplotlib.font_manager import FontProperties, fontManager

    lost = characters - _characters_of(fontManager.findfont(FontProperties()))
    families: list[str] = []
    for font in reversed(fontManager.ttflist):
        if not lost:
            break
        if font.name.startswith("Last Resort"):  # which has a box for every character
            continue
        found = lost & _characters_of(font.fname)
        if found:
            families.append(font.name)
            lost -= found
    return tuple(families), lost


@functools.lru_cache(None)
def _characters_of(path: str) -> frozenset[str]:
    from matplotlib.ft2font import FT2Font

    return frozenset(map(chr, FT2Font(path).get_charmap()))
