"""The classes that one model names better, or worse, than another on the same videos, as a picture and a table."""

from collections.abc import Sequence
from pathlib import Path

import numpy as np

from timm_video_psn.engine.evaluate.compare import ClassChange, Comparison, class_rows
from timm_video_psn.files import write_csv
from timm_video_psn.plotting import new_figure, plain, save_figure


def most_changed(classes: Sequence[ClassChange], count: int = 10) -> list[ClassChange]:
    """The classes that gained most and those that lost most, each at most `count`, all of them if they are few.

    Args:
        classes: Changes, the largest gain first.
        count: Number of classes at either end.
    """
    return [*classes] if len(classes) <= 2 * count else [*classes[:count], *classes[-count:]]


def draw_class_gains(comparison: Comparison, path: Path, title: str = "", count: int = 10) -> Path:
    """Draws the most improved and the most worsened classes with their intervals.

    Args:
        comparison: See `engine.evaluate.compare`.
        path: The PNG file.
        title: Text above the picture.
        count: Number of classes at either end.
    """
    shown = most_changed(comparison.classes, count)
    names = [plain(f"{one.name} ({one.first:.0f} to {one.second:.0f} %, n={one.videos})") for one in shown]
    width = max(8.0, 4.5 + 0.065 * max(map(len, names)))  # inches; the names have theirs beside the bars
    figure = new_figure(width, 1.2 + 0.3 * len(shown))
    axis = figure.subplots()
    rows = np.arange(len(shown))[::-1]
    values, low, high = np.array([one.gain for one in shown]).T
    errors = np.stack([values - low, high - values]).clip(min=0)
    colours = ["tab:green" if value > 0 else "tab:red" if value < 0 else "tab:gray" for value in values]
    axis.barh(rows, values, color=colours, alpha=0.7, xerr=errors, error_kw={"elinewidth": 1, "capsize": 2})
    axis.set_yticks(rows, names, fontsize=8)
    axis.axvline(0, color="black", linewidth=0.8)
    axis.set_xlabel("gain in top-1 accuracy, percentage points, with 95 % intervals")
    axis.grid(axis="x", alpha=0.3)
    figure.suptitle(plain(title), fontsize=10)
    return save_figure(figure, path)


def save_class_gains(comparison: Comparison, path: Path) -> Path:
    """Writes all classes, the largest gain first.

    Args:
        comparison: See `engine.evaluate.compare`.
        path: The CSV file.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    write_csv(path, ("class", "videos", "before", "after", "gain", "low", "high"), class_rows(comparison))
    return path
