"""The files of a test, with the protocol beside every number.

`results.json` and `results.csv` have a row for each protocol; its folder holds `scores.npz`, `predictions.csv` and,
where labels are known, `per_class.csv`; `confusion.csv` and `confusion.png`, unless videos have several classes; and
`ranking_curves.png` of models with a probability for each class by itself. `skipped.csv` lists the unreadable videos.
"""

import json
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from timm_video_psn.data import UnreadableVideo
from timm_video_psn.engine.evaluate.accuracy import Accuracy
from timm_video_psn.engine.evaluate.confusion import draw_confusion
from timm_video_psn.engine.evaluate.intervals import Interval
from timm_video_psn.engine.evaluate.ranking import draw_ranking_curves
from timm_video_psn.engine.evaluate.scores import Scores, save_scores
from timm_video_psn.files import write_csv, write_text

METRIC_NAMES = {"top1": "top-1", "top5": "top-5", "mean_class": "mean of classes", "pair_top1": "within pairs"}
_BEST = 5  # classes of each video in predictions.csv


@dataclass(frozen=True)
class Result:
    """The scores of one protocol, and their accuracy where labels are known.

    Attributes:
        scores: Scores of the videos.
        accuracy: Accuracy of the scores, or None.
        slug: Name of the protocol's folder.
        settings: The protocol's values by name.
    """

    scores: Scores
    accuracy: Accuracy | None
    slug: str
    settings: dict[str, Any]


def count_line(scores: Scores, accuracy: Accuracy | None) -> str:
    """The number of videos behind a result, and how many there should be.

    Args:
        scores: Scores of the videos.
        accuracy: Accuracy of the scores, or None.
    """
    line = f"{len(scores)} of {scores.num_expected} videos"
    if accuracy is not None and accuracy.num_videos < len(scores):
        line += f", {accuracy.num_videos} of them labelled"
    return line


def metrics_of(accuracy: Accuracy) -> dict[str, Interval]:
    """The metrics by name that have an interval.

    Args:
        accuracy: Accuracy under one protocol.
    """
    found = {name: getattr(accuracy, name) for name in METRIC_NAMES}
    return {name: interval for name, interval in found.items() if interval is not None}


def write_results(
    folder: Path, results: Sequence[Result], about: dict[str, Any], unreadable: Sequence[UnreadableVideo] = ()
) -> None:
    """Writes all files.

    Args:
        folder: Folder of the files, which is made if it is not there; files of an earlier test are replaced.
        results: Results of all protocols.
        about: Model, data and settings behind the numbers, for results.json.
        unreadable: Videos that could not be read.
    """
    folder.mkdir(parents=True, exist_ok=True)
    for result in results:
        _write_protocol(folder / result.slug, result)
    rows = [_row(result) for result in results]
    skipped = [{"path": item.path, "reason": item.reason} for item in unreadable]
    summary = {**about, "skipped": skipped, "results": [_json_row(result) for result in results]}
    write_text(folder / "results.json", json.dumps(summary, indent=2, ensure_ascii=False) + "\n")
    write_csv(folder / "results.csv", list(rows[0]), (list(row.values()) for row in rows))
    (folder / "skipped.csv").unlink(missing_ok=True)
    if unreadable:
        write_csv(folder / "skipped.csv", ("path", "reason"), ((item.path, item.reason) for item in unreadable))


def _write_protocol(folder: Path, result: Result) -> None:
    """The folder of one protocol."""
    folder.mkdir(exist_ok=True)
    scores, accuracy = result.scores, result.accuracy
    save_scores(folder / "scores.npz", scores)
    _write_predictions(folder / "predictions.csv", scores)
    for name in ("per_class.csv", "confusion.csv", "confusion.png", "ranking_curves.png"):  # of an earlier test
        (folder / name).unlink(missing_ok=True)
    if accuracy is None:
        return
    precisions = accuracy.mean_ap is not None
    header = (
        "label",
        "class",
        "videos",
        "correct",
        "top1",
        "low",
        "high",
        "most_confused_with",
        "confused_videos",
        *(("average_precision",) if precisions else ()),
        "protocol",
    )
    rows = (
        (
            *row[:4],
            *(_rounded(row.accuracy) if row.accuracy else ("", "", "")),
            *row[5 : 7 + precisions],
            scores.protocol,
        )
        for row in accuracy.classes
    )
    write_csv(folder / "per_class.csv", header, rows)
    names = scores.class_names
    if precisions:
        known = scores.take(np.flatnonzero(scores.labels >= 0))
        title = f"{scores.protocol}: mAP {accuracy.mean_ap:.2f}, {count_line(scores, accuracy)}"
        draw_ranking_curves(known.probabilities(), known.one_hot(), names, folder / "ranking_curves.png", title)
    if accuracy.confusion is None:
        return
    matrix = ((name, *counts) for name, counts in zip(names, accuracy.confusion.tolist(), strict=True))
    write_csv(folder / "confusion.csv", ("class \\ predicted", *names), matrix)
    title = f"{scores.protocol}\ntop-1 {accuracy.top1} %, {count_line(scores, accuracy)}"
    draw_confusion(accuracy.confusion, names, folder / "confusion.png", title)


def _write_predictions(path: Path, scores: Scores) -> None:
    """Each video with its most likely classes."""
    best = min(_BEST, len(scores.class_names))
    header = ("video", "class", *(f"{what}_{i}" for i in range(1, best + 1) for what in ("predicted", "probability")))
    probabilities, one_hot = scores.probabilities(), scores.one_hot()
    order = np.argsort(-scores.scores, axis=1, kind="stable")[:, :best]
    rows = []
    for row, video in enumerate(scores.videos):
        likely = [(scores.class_names[k], f"{probabilities[row, k]:.6f}") for k in order[row].tolist()]
        truth = "; ".join(scores.class_names[k] for k in np.flatnonzero(one_hot[row]).tolist())
        rows.append((video, truth, *(value for pair in likely for value in pair)))
    write_csv(path, (*header, "protocol"), ((*row, scores.protocol) for row in rows))


def _row(result: Result) -> dict[str, Any]:
    """The protocol's row of results.csv."""
    version = result.scores.dataset_version
    row: dict[str, Any] = {"protocol": result.scores.protocol, **({"dataset_version": version} if version else {})}
    if result.accuracy is not None:
        for name, interval in metrics_of(result.accuracy).items():
            row |= dict(zip((name, f"{name}_low", f"{name}_high"), _rounded(interval), strict=True))
        if result.accuracy.mean_ap is not None:
            row["map"] = round(result.accuracy.mean_ap, 4)
        row["labelled"] = result.accuracy.num_videos
    return {**row, "videos": len(result.scores), "expected": result.scores.num_expected}


def _json_row(result: Result) -> dict[str, Any]:
    """The protocol's entry of results.json."""
    accuracy = result.accuracy
    metrics: dict[str, Any] = {}
    if accuracy is not None:
        metrics = {name: value._asdict() for name, value in metrics_of(accuracy).items()}
        if accuracy.mean_ap is not None:
            metrics["map"] = {"value": accuracy.mean_ap, "low": None, "high": None}
    return {
        "protocol": result.scores.protocol,
        **result.settings,
        "num_videos": len(result.scores),
        "num_labelled": 0 if accuracy is None else accuracy.num_videos,
        "num_expected": result.scores.num_expected,
        "folder": result.slug,
        "metrics": metrics,
    }


def _rounded(interval: Interval) -> tuple[float, ...]:
    return tuple(round(number, 4) for number in interval)
