"""Videos as points: the features of a model, laid out in the plane by t-SNE, coloured by class.

Two scores say what the eye would only guess, both computed from the features themselves, not from the picture:
silhouette, and the share of videos whose nearest others are mostly of their class.
"""

import html
import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from timm_video_psn.data import VideoIndex
from timm_video_psn.files import write_text
from timm_video_psn.insights.results import Features
from timm_video_psn.plotting import class_colours, new_figure, plain, save_figure

_NEIGHBOURS = 5
NUM_COLOURS = 20
FEWEST = 4  # videos of a map
_LEGEND_CHARS, _LEGEND_LINE_INCHES = 40, 0.155
_PAGE = Path(__file__).with_name("embedding.html")


@dataclass(frozen=True)
class Embedding:
    """Points (N, 2) of features, and how well the classes part in the features.

    Attributes:
        points: (N, 2).
        silhouette: Mean over the videos, from -1 to 1; nan where it is not defined.
        neighbour_accuracy: Share of the videos that the vote of their 5 nearest others names rightly.
    """

    points: np.ndarray
    silhouette: float
    neighbour_accuracy: float


def embed(features: Features, seed: int = 0) -> Embedding:
    """Lays the videos out in the plane, and scores the classes.

    Args:
        features: See `extract_features`.
        seed: Seed of t-SNE.

    Raises:
        ValueError: Fewer than 4 videos.
    """
    from sklearn.manifold import TSNE
    from sklearn.preprocessing import StandardScaler

    if len(features.labels) < FEWEST:
        raise ValueError(f"{len(features.labels)} videos are too few for t-SNE; use at least {FEWEST}")
    values = StandardScaler().fit_transform(features.values)
    perplexity = min(30.0, (len(values) - 1) / 3)
    points = TSNE(perplexity=perplexity, init="pca", random_state=seed).fit_transform(values)
    return Embedding(points.astype(np.float64), *cluster_scores(values, features.labels))


def cluster_scores(values: np.ndarray, labels: np.ndarray) -> tuple[float, float]:
    """Silhouette, and accuracy of the 5 nearest others (`Embedding`).

    Args:
        values: Features, (N, D).
        labels: Classes, (N,).
    """
    from sklearn.metrics import silhouette_score
    from sklearn.neighbors import NearestNeighbors

    classes, labels = np.unique(labels, return_inverse=True)
    defined = 1 < len(classes) < len(labels)
    silhouette = float(silhouette_score(values, labels)) if defined else float("nan")
    count = min(_NEIGHBOURS, len(labels) - 1)
    nearest = NearestNeighbors(n_neighbors=count).fit(values).kneighbors(return_distance=False)  # others only
    votes = np.zeros((len(labels), len(classes)))
    for column in nearest.T:
        votes[np.arange(len(labels)), labels[column]] += 1
    # A tie goes to the class of the nearest of the tied: its vote counts a little more.
    for rank, column in enumerate(nearest.T):
        votes[np.arange(len(labels)), labels[column]] += 1e-3 * 0.5**rank
    return silhouette, float((votes.argmax(1) == labels).mean())


def _caption(name: str, features: Features, found: Embedding) -> str:
    accuracy = (features.predicted == features.labels).mean()
    return (
        f"{name}: {len(features.labels)} videos, top-1 {accuracy:.1%}, silhouette {found.silhouette:.3f}, "
        f"5 nearest {found.neighbour_accuracy:.1%}"
    )


def draw_embedding(models: Mapping[str, tuple[Features, Embedding]], class_names: tuple[str, ...], path: Path) -> Path:
    """Draws one or more models side by side; with a legend, unless there are more classes than colours.

    Args:
        models: Features and points by the name of the model.
        class_names: Names in label order.
        path: The PNG file.
    """
    legend = [_in_legend(name) for name in class_names] if len(class_names) <= NUM_COLOURS else []
    lines = sum(text.count("\n") + 1 for text in legend)
    figure = new_figure(5.2 * len(models) + 1.8, max(5.2, _LEGEND_LINE_INCHES * lines))
    axes = figure.subplots(1, len(models), squeeze=False)[0]
    colours = class_colours(len(class_names))
    for axis, (name, (features, found)) in zip(axes, models.items(), strict=True):
        for label in np.unique(features.labels):
            x, y = found.points[features.labels == label].T
            axis.scatter(x, y, s=12, color=colours[label], label=legend[label] if legend else None)
        axis.set_title(plain(_caption(name, features, found)).replace(": ", "\n"), fontsize=8)
        axis.set(xticks=[], yticks=[])
    if legend:
        axes[-1].legend(loc="center left", bbox_to_anchor=(1.0, 0.5), fontsize=7)
    return save_figure(figure, path)


def _in_legend(name: str) -> str:
    """A name in two lines at most."""
    return plain(name, _LEGEND_CHARS, lines=2)


def embedding_page(models: Mapping[str, tuple[Features, Embedding]], index: VideoIndex, page: bool = True) -> str:
    """The same as HTML: points tell what they are, a video is marked in all panels, classes can be picked.

    Nothing is asked of any other host.

    Args:
        models: Features and points by the name of the model.
        index: The videos.
        page: A whole page, or just the part that goes into the body of one.
    """
    names = index.class_names
    data = {
        "classes": list(names),
        "colours": class_colours(len(names)),
        "panels": [
            {"caption": _caption(name, features, found), "points": _points(features, found, index)}
            for name, (features, found) in models.items()
        ],
    }
    text = json.dumps(data).replace("<", "\\u003c")  # so that no name can end the script
    part = _PAGE.read_text(encoding="utf-8").replace("__DATA__", text)
    title = html.escape(" and ".join(models))
    return f'<!doctype html><html lang="en"><meta charset="utf-8"><title>{title}</title>{part}</html>' if page else part


def save_embedding_page(models: Mapping[str, tuple[Features, Embedding]], index: VideoIndex, path: Path) -> Path:
    """Writes `embedding_page` to a file.

    Args:
        models: Features and points by the name of the model.
        index: The videos.
        path: The HTML file.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    write_text(path, embedding_page(models, index))
    return path


def _points(features: Features, found: Embedding, index: VideoIndex) -> list[list[Any]]:
    """x, y (0 to 1), class, prediction, number and name of each video."""
    low, high = found.points.min(0), found.points.max(0)
    shares = (found.points - low) / np.maximum(high - low, 1e-12)
    columns = (features.labels, features.predicted, features.index)
    return [
        [round(float(x), 4), round(float(y), 4), int(label), int(said), int(number), index.paths[int(number)]]
        for (x, y), label, said, number in zip(shares, *columns, strict=True)
    ]
