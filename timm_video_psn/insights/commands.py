"""What each command makes: files in a folder, each with a sentence that says what it shows."""

import difflib
import re
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import NamedTuple

import torch

from timm_video_psn.data import VideoIndex, check_class_names
from timm_video_psn.engine.evaluate.compare import compare
from timm_video_psn.engine.evaluate.scores import load_scores
from timm_video_psn.engine.model_source import file_of_run, short_name
from timm_video_psn.engine.run_index import read_run_index
from timm_video_psn.engine.trained_model import TrainedModel
from timm_video_psn.insights.activation_map import Method, activation_map, draw_activation_map, film_activation_map
from timm_video_psn.insights.class_gain import draw_class_gains, save_class_gains
from timm_video_psn.insights.embedding import (
    NUM_COLOURS,
    draw_embedding,
    embed,
    save_embedding_page,
)
from timm_video_psn.insights.kernel_map import (
    History,
    animate_history,
    draw_kernel_maps,
    kernel_maps,
    read_history,
    save_interaction_counts,
    save_kernel_maps,
    start_maps,
)
from timm_video_psn.insights.kernel_shapes import (
    draw_kernel_shapes,
    kernel_shapes,
    save_kernel_shapes,
    synthesizer_fields,
)
from timm_video_psn.insights.results import Features, create_feature_loader, extract_features
from timm_video_psn.insights.temporal_evolution import draw_evolution, film_evolution, temporal_evolution


class Artifact(NamedTuple):
    """A file, and what it shows."""

    path: Path
    caption: str


def make_interactions(models: Sequence[TrainedModel], out: Path) -> list[Artifact]:
    """Fig. 5 of one or more models, the numbers, and the epochs of those runs that kept them.

    Args:
        models: The models.
        out: Folder for the files.

    Raises:
        ValueError: A model has no synthesizer.
    """
    named = _named(models)
    plain = {name: kernel_maps(trained.model) for name, trained in named.items()}
    shared = {name: kernel_maps(trained.model, per_element=True) for name, trained in named.items()}
    histories = {name: history for name, trained in named.items() if (history := _history(trained)) is not None}
    starts = {name: start_maps(history, plain[name]) for name, history in histories.items()}
    since = " Below each number stands its change since the start of training." if any(starts.values()) else ""
    table, picture = out / "interactions.csv", out / "interactions.png"
    title = "||T_ij||$_1$ / elements of T_ij: temporal (rows) by spatial kernels (columns)"
    made = [
        Artifact(
            draw_kernel_maps(plain, picture, starts=starts),
            "The l1 norm of every block T_ij of the fusion layers (Fig. 5): how strongly a spatial kernel (column) "
            f"feeds a temporal one (row). The maps of a site share one scale. Wider blocks have larger norms.{since}",
        ),
        Artifact(
            draw_kernel_maps(shared, out / "interactions_per_element.png", title),
            "The same, divided by the elements of each block, so that blocks of different widths can be compared.",
        ),
        Artifact(save_kernel_maps(plain, table), "The numbers of both pictures."),
        Artifact(
            save_interaction_counts(
                {name: trained.model for name, trained in named.items()}, out / "ir_interactions.csv"
            ),
            "ir-interactions (i ≠ j, and all) and the drop rate of Table 2. In a trained T every path is open; counted "
            "are those stronger than a share of the strongest block.",
        ),
    ]
    for name, history in histories.items():
        film = animate_history(history, out / f"interactions_{_as_file(name)}.gif", title=name)
        made.append(Artifact(film, f"The maps of {name}, epoch by epoch."))
    return made


def _history(trained: TrainedModel) -> History | None:
    """The maps of the run's epochs, if the run kept them."""
    file = file_of_run(trained.source, "interactions.npz")
    return None if file is None else read_history(file)


def make_shapes(trained: TrainedModel, out: Path, video: Path | None = None) -> list[Artifact]:
    """The distribution of kernel shapes of a model, and its effective receptive fields.

    Args:
        trained: The model.
        out: Folder for the files.
        video: Video at whose features the fields are measured; None for random clips.
    """
    maps, history = kernel_maps(trained.model), _history(trained)
    shapes = kernel_shapes(maps)
    starts = {} if history is None else kernel_shapes(start_maps(history, maps))
    clip = _random_clip(trained) if video is None else trained.precision.clip(trained.read(video).frames[None])
    fields = synthesizer_fields(trained.model, clip)
    at = "a random clip" if video is None else video.name
    since = ", and its change since the start of training in points" if starts else ""
    caption = (
        "Above: share of ||T_ij||_1 that goes to kernels of each temporal (row) and spatial size (column), in percent"
        f"{since}. Below: where the centre of what a synthesizer adds looks, by the energy of its gradients at {at}, "
        "in frames, and in pixels of the site's own map (colour: square root of the energy)."
    )
    picture = draw_kernel_shapes(shapes, fields, out / "shapes.png", short_name(trained.source), starts)
    table = save_kernel_shapes(shapes, fields, out / "shapes.csv")
    return [Artifact(picture, caption), Artifact(table, "The numbers of the picture.")]


def make_cam(
    trained: TrainedModel,
    video: Path,
    out: Path,
    label: str | None = None,
    layer: str | None = None,
    method: Method = "gradcam",
) -> list[Artifact]:
    """The class activation maps of a video.

    Args:
        trained: The model.
        video: Video file, or folder of frame images.
        out: Folder for the files.
        label: Name of the class; None for the most likely one.
        layer: See `activation_map`.
        method: See `activation_map`.

    Raises:
        ValueError: An unknown class or layer.
    """
    sampled = trained.read(video)
    clip = trained.precision.clip(sampled.frames[None])
    found = activation_map(trained.model, clip, _label(trained, label), layer, method)
    name = trained.label_names[found.label]
    stem = f"cam_{_as_file(video.stem)}"
    title = f"{video.name}: {method} of {name!r} at {found.layer}, logit {found.logit:.2f}"
    picture = draw_activation_map(sampled, found, out / f"{stem}.png", title)
    film = film_activation_map(sampled, found, out / f"{stem}.mp4")
    grid = " x ".join(map(str, found.maps.shape[1:]))
    caption = (
        f"Where {found.layer} ({grid} places a frame) speaks for {name!r} in {video.name}: "
        "warmer is more, on one scale for all frames."
    )
    return [Artifact(picture, caption), Artifact(film, "The same as a film.")]


def make_evolution(
    trained: TrainedModel, video: Path, out: Path, steps: int = 24, window: int | None = None
) -> list[Artifact]:
    """Class probabilities as the frames of a video arrive.

    Args:
        trained: The model.
        video: Video file, or folder of frame images.
        out: Folder for the files.
        steps: Number of times that the model is asked.
        window: Frames of the sliding window.
    """
    found = temporal_evolution(trained, video, steps, window)
    stem = f"evolution_{_as_file(video.stem)}"
    picture = draw_evolution(found, trained.label_names, out / f"{stem}.png", video.name)
    film = film_evolution(found, trained.label_names, out / f"{stem}.mp4", title=video.name)
    said = trained.label_names[int(found.growing[-1].argmax())]
    caption = (
        f"What the model says of {video.name} as its frames arrive: left from all frames so far, right from the latest "
        f"{found.window}. In the end it says {said!r} with {found.growing[-1].max():.0%}."
    )
    return [Artifact(picture, caption), Artifact(film, "The same as a film.")]


def make_embedding(
    models: Sequence[TrainedModel],
    out: Path,
    dataset: str | None = None,
    data_dir: str | Path | None = None,
    split: str = "val",
    limit: int | None = None,
    seed: int = 0,
) -> list[Artifact]:
    """The videos of a data set as points, for one or more models side by side.

    Args:
        models: The models.
        out: Folder for the files.
        dataset: Name of the data set; None for the data set of the first run.
        data_dir: Folder of the data set; None for the folder where that run found it.
        split: Split of the data set.
        limit: Largest number of videos, spread evenly; None for all.
        seed: Seed of t-SNE.
    """
    first, *others = models
    dataset, index = read_run_index(first, dataset, data_dir, split)
    for trained in others:
        check_class_names(trained.label_names, index.class_names, trained.source, f"data set {dataset!r}")
    features = {
        name: extract_features(trained, create_feature_loader(trained, index, limit))
        for name, trained in _named(models).items()
    }
    return draw_features(features, index, out, f"{split} videos of {dataset}", seed)


def draw_features(
    features: Mapping[str, Features], index: VideoIndex, out: Path, what: str, seed: int = 0
) -> list[Artifact]:
    """Features of videos as points, with a page to look into.

    Args:
        features: Features by the name of the model.
        index: The videos.
        out: Folder for the files.
        what: The videos, in words.
        seed: Seed of t-SNE.
    """
    found = {name: (one, embed(one, seed)) for name, one in features.items()}
    picture = draw_embedding(found, index.class_names, out / "embedding.png")
    unreadable = sum(one.num_unreadable for one in features.values())
    caption = (
        f"Features of {what}, laid out by t-SNE, coloured by class. Silhouette and the accuracy "
        "of the 5 nearest others are measured in the features, not in the picture."
    )
    if len(index.class_names) > NUM_COLOURS:
        caption += f" Colours repeat after {NUM_COLOURS} classes."
    if unreadable:
        caption += f" {unreadable} videos could not be read."
    page = save_embedding_page(found, index, out / "embedding.html")
    return [Artifact(picture, caption), Artifact(page, "The same to look into: every point tells its video.")]


def make_gains(before: Path, after: Path, out: Path, count: int = 10) -> list[Artifact]:
    """The classes that gained and lost most between two score files of the same videos.

    Args:
        before: Score file of one model.
        after: Score file of another model.
        out: Folder for the files.
        count: Number of classes at either end.

    Raises:
        ValueError: The files are not of the same videos, labels and classes.
    """
    comparison = compare(load_scores(before), load_scores(after), (str(before), str(after)))
    first, second = _apart(before, after)
    picture = draw_class_gains(comparison, out / "gains.png", f"{first} to {second}", count)
    gains = [one.gain for one in comparison.classes]
    clear = sum(gain.low > 0 for gain in gains), sum(gain.high < 0 for gain in gains)
    caption = (
        f"Top-1 accuracy by class, from {before} ({comparison.protocols[0]}) to {after} ({comparison.protocols[1]}), "
        f"with 95 % intervals of paired proportions. Of {len(gains)} classes {clear[0]} have intervals above zero and "
        f"{clear[1]} below; of many classes a few do so by chance."
    )
    table = save_class_gains(comparison, out / "gains.csv")
    return [Artifact(picture, caption), Artifact(table, "All classes.")]


def _random_clip(trained: TrainedModel) -> torch.Tensor:
    """Normalised noise of the model's size, (1, 3, T, S, S)."""
    size = trained.transform.img_size
    noise = torch.randn(1, 3, trained.model.num_frames, size, size, generator=torch.Generator().manual_seed(0))
    return noise.to(trained.precision.device)


def _label(trained: TrainedModel, name: str | None) -> int | None:
    """The class of a name."""
    if name is None:
        return None
    names = trained.label_names
    if name not in names:
        near = difflib.get_close_matches(name, names, n=3, cutoff=0.0)
        raise ValueError(f"class {name!r} is not among the model's {len(names)}; nearest: {', '.join(near)}")
    return names.index(name)


def _named(models: Sequence[TrainedModel]) -> dict[str, TrainedModel]:
    """Models by short names, which are numbered where they would be the same."""
    names = [short_name(trained.source) for trained in models]
    return {
        name if names.count(name) == 1 else f"{name} ({number})": trained
        for number, (name, trained) in enumerate(zip(names, models, strict=True), 1)
    }


def _apart(first: Path, second: Path) -> tuple[str, str]:
    """Two files by the last parts of their paths, from the first that differs on: all are called scores.npz."""
    one, two = first.absolute().parts, second.absolute().parts
    same = next((n for n, pair in enumerate(zip(one[::-1], two[::-1], strict=False)) if pair[0] != pair[1]), 0)
    return one[-1 - same], two[-1 - same]


def _as_file(name: str) -> str:
    return re.sub(r"[^\w.-]+", "_", name)
