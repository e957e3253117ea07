"""The learning curves of a run as a picture."""

from pathlib import Path
from typing import Any


def draw_curves(history: list[dict[str, Any]], path: Path, title: str) -> None:
    """Draw accuracy, losses and learning rate over the epochs.

    Args:
        history: a row an epoch, as in `summary.csv`.
        path: the PNG file.
        title: above the picture.
    """
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure
    from matplotlib.ticker import MaxNLocator

    figure = Figure(figsize=(11, 3.4), layout="constrained")
    FigureCanvasAgg(figure)
    accuracy, loss, rate = figure.subplots(1, 3)
    for key, label in (("train_top1", "train top-1"), ("val_top1", "val top-1"), ("val_top5", "val top-5")):
        _plot(accuracy, history, key, label)
    accuracy.set(title="accuracy, %", ylim=(0, 103))
    for key, label in (("train_loss", "train, with Eq. 2 and 3"), ("train_ce", "train"), ("val_loss", "val")):
        _plot(loss, history, key, label)
    loss.set(title="loss (cross-entropy, and all terms)", ylim=(0, None))
    _plot(rate, history, "lr", "learning rate", color="tab:gray")
    rate.set(title="learning rate at the end of the epoch", ylim=(0, None))
    for axis in (accuracy, loss, rate):
        axis.set_xlabel("epoch")
        axis.xaxis.set_major_locator(MaxNLocator(integer=True))
        axis.set_xlim(0.5, history[-1]["epoch"] + 0.5)
        axis.grid(alpha=0.3)
    accuracy.legend(loc="best")
    loss.legend(loc="best")
    protocols = dict.fromkeys(row["protocol"] for row in history if "protocol" in row)
    figure.suptitle("; validation: ".join((title, *protocols)))
    figure.savefig(path, dpi=110, format="png")


def _plot(axis: Any, history: list[dict[str, Any]], key: str, label: str, **style: Any) -> None:
    """One line, through the epochs that have this value."""
    points = [(row["epoch"], row[key]) for row in history if key in row]
    axis.plot(*zip(*points, strict=True) if points else ([], []), marker=".", label=label, **style)
