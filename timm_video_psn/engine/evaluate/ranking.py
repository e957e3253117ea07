"""Average precision of each class, and the curves behind it, for scores that rank the videos of a class."""

from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from timm_video_psn.plotting import class_colours, new_figure, plain, save_figure

_NAMED = 10  # classes up to which the legend names each curve
Bools = npt.NDArray[np.bool_]


def average_precisions(scores: npt.NDArray[np.floating], targets: Bools) -> npt.NDArray[np.float64]:
    """Area under the precision-recall curve of each class, in percent, as scikit-learn computes it.

    Args:
        scores: Logits or probabilities, (N, K).
        targets: Which classes each video shows, (N, K).

    Returns:
        (K,), nan for a class that no video shows; mAP is the mean of the others.
    """
    from sklearn.metrics import average_precision_score

    found = np.full(targets.shape[1], np.nan)
    for label in np.flatnonzero(targets.any(0)):
        found[label] = 100 * average_precision_score(targets[:, label], scores[:, label])
    return found


def mean_average_precision(scores: npt.NDArray[np.floating], targets: Bools) -> float:
    """The mean of `average_precisions` over the classes that some video shows, nan where there is none.

    Args:
        scores: Logits or probabilities, (N, K).
        targets: Which classes each video shows, (N, K).
    """
    shown = targets.any(0)
    return float(average_precisions(scores[:, shown], targets[:, shown]).mean()) if shown.any() else float("nan")


def draw_ranking_curves(
    scores: npt.NDArray[np.floating], targets: Bools, class_names: Sequence[str], path: Path, title: str
) -> None:
    """Draws precision over recall and the ROC curve, a line for each class, and one for all pairs of video and class.

    Args:
        scores: Probabilities, (N, K).
        targets: Which classes each video shows, (N, K).
        class_names: Names in label order.
        path: The PNG file.
        title: Text above the picture; the protocol belongs into it.
    """
    from sklearn.metrics import precision_recall_curve, roc_curve

    figure = new_figure(12, 5.4)
    precision_recall, roc = figure.subplots(1, 2)
    for name, style, score, target in _curves(scores, targets, class_names):
        precision, recall, _ = precision_recall_curve(target, score)
        precision_recall.plot(100 * recall, 100 * precision, drawstyle="steps-post", label=name, **style)
        if not target.all():  # else there is no false positive
            false_positive, true_positive, _ = roc_curve(target, score)
            roc.plot(100 * false_positive, 100 * true_positive, **style)
    roc.plot((0, 100), (0, 100), color="0.6", linestyle=":", linewidth=1)
    precision_recall.set(title="precision over recall", xlabel="recall, %", ylabel="precision, %")
    roc.set(title="ROC (dotted: chance)", xlabel="false positive rate, %", ylabel="true positive rate, %")
    for axis in (precision_recall, roc):
        axis.set(xlim=(-1, 101), ylim=(-1, 103))
        axis.grid(alpha=0.3)
    figure.legend(loc="outside right center", fontsize=8)
    figure.suptitle(plain(title), fontsize=9)
    save_figure(figure, path, dpi=110)


def _curves(
    scores: npt.NDArray[np.floating], targets: Bools, class_names: Sequence[str]
) -> Iterator[tuple[str | None, dict[str, Any], npt.NDArray[np.floating], Bools]]:
    """Name, style, scores and truth of each line."""
    shown, precisions = np.flatnonzero(targets.any(0)), average_precisions(scores, targets)
    named = len(shown) <= _NAMED
    for place, (colour, label) in enumerate(zip(class_colours(len(shown)), shown.tolist(), strict=True)):
        name: str | None = f"{plain(class_names[label], 28, 2)}: AP {precisions[label]:.1f}"
        if not named:  # too many to tell apart
            name = None if place else f"each of {len(shown)} classes"
        style: dict[str, Any] = {"color": colour} if named else {"color": "0.75", "linewidth": 0.6}
        yield name, style, scores[:, label], targets[:, label]
    style = {"color": "black", "linewidth": 2.2}
    yield f"all, mAP {np.nanmean(precisions):.1f}", style, scores[:, shown].ravel(), targets[:, shown].ravel()
