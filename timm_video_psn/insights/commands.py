"""What each command makes: files in a folder, each with a sentence that says what it shows."""

import difflib
import re
from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

import torch

from timm_video_psn.engine.evaluate.scores import load_scores
from timm_video_psn.insights.activation_map import Method, activation_map, draw_activation_map, film_activation_map
from timm_video_psn.insights.class_gain import class_gains, draw_class_gains, save_class_gains
from timm_video_psn.insights.embedding import (
    NUM_COLOURS,
    Embedding,
    Features,
    create_feature_loader,
    draw_embedding,
    embed,
    extract_features,
    save_embedding_page,
)
from timm_video_psn.insights.kernel_map import (
    animate_history,
    draw_kernel_maps,
    kernel_maps,
    read_history,
    save_kernel_maps,
)
from timm_video_psn.insights.kernel_shapes import (
    draw_kernel_shapes,
    kernel_shapes,
    save_kernel_shapes,
    synthesizer_fields,
)
from timm_video_psn.insights.temporal_evolution import draw_evolution, film_evolution, temporal_evolution
from timm_video_psn.insights.viewer import (
    Viewer,
    check_classes,
    kept_by_run,
    open_viewer,
    place_of,
    read_videos,
    watch,
)


class Made(NamedTuple):
    """A file, and what it shows."""

    path: Path
    caption: str


def make_interactions(sources: Sequence[str], out: Path, device: str = "cpu") -> list[Made]:
    """Fig. 5 of one or more models, the numbers, and the epochs of those runs that kept them.

    Args:
        sources: model folders, or runs.
        out: folder for the files.
        device: where the models are loaded.

    Raises:
        ValueError: a model has no synthesizer.
    """
    models = {name: open_viewer(source, device).model for name, source in _named(sources).items()}
    plain = {name: kernel_maps(model) for name, model in models.items()}
    shared = {name: kernel_maps(model, per_element=True) for name, model in models.items()}
    table, picture = out / "interactions.csv", out / "interactions.png"
    title = "||T_ij||$_1$ / elements of T_ij: temporal (rows) by spatial kernels (columns)"
    made = [
        Made(
            draw_kernel_maps(plain, picture),
            "The l1 norm of every block T_ij of the fusion layers (Fig. 5): how strongly a spatial kernel (column) "
            "feeds a temporal one (row). The maps of a site share one scale. Wider blocks have larger norms.",
        ),
        Made(
            draw_kernel_maps(shared, out / "interactions_per_element.png", title),
            "The same, divided by the elements of each block, so that blocks of different widths can be compared.",
        ),
        Made(save_kernel_maps(plain, table), "The numbers of both pictures."),
    ]
    for name, source in _named(sources).items():
        history = kept_by_run(source, "interactions.npz")
        if history is not None:
            film = out / f"interactions_{_as_file(name)}.gif"
            made.append(
                Made(animate_history(read_history(history), film, title=name), f"The maps of {name}, epoch by epoch.")
            )
    return made


def make_shapes(source: str, out: Path, video: Path | None = None, device: str = "cpu") -> list[Made]:
    """The distribution of kernel shapes of a model, and its effective receptive fields.

    Args:
        source: model folder, or run.
        out: folder for the files.
        video: at whose features the fields are measured; None for random clips.
        device: where the model runs.
    """
    viewer = open_viewer(source, device)
    shapes = kernel_shapes(kernel_maps(viewer.model))
    clip = _random_clip(viewer) if video is None else viewer.clips(watch(viewer, video).frames[None])
    fields = synthesizer_fields(viewer.model, clip)
    at = "a random clip" if video is None else video.name
    caption = (
        "Above: share of ||T_ij||_1 that goes to kernels of each temporal (row) and spatial size (column). Below: "
        f"where the centre of what a synthesizer adds looks, by the energy of its gradients at {at}, in frames, and in "
        "pixels of the site's own map (colour: square root of the energy)."
    )
    picture = draw_kernel_shapes(shapes, fields, out / "shapes.png", short_name(source))
    table = save_kernel_shapes(shapes, fields, out / "shapes.csv")
    return [Made(picture, caption), Made(table, "The numbers of the picture.")]


def make_cam(
    source: str,
    video: Path,
    out: Path,
    label: str | None = None,
    layer: str | None = None,
    method: Method = "gradcam",
    device: str = "cpu",
) -> list[Made]:
    """The class activation maps of a video.

    Args:
        source: model folder, or run.
        video: file, or folder of frame images.
        out: folder for the files.
        label: name of the class; None for the most likely one.
        layer: see `activation_map`.
        method: see `activation_map`.
        device: where the model runs.

    Raises:
        ValueError: an unknown class or layer.
    """
    viewer = open_viewer(source, device)
    footage = watch(viewer, video)
    found = activation_map(viewer.model, viewer.clips(footage.frames[None]), _label(viewer, label), layer, method)
    title = f"{video.name}: {method} of {viewer.label_names[found.label]!r} at {found.layer}, logit {found.logit:.2f}"
    stem = f"cam_{_as_file(video.stem)}"
    picture = draw_activation_map(footage, found, out / f"{stem}.png", title)
    film = film_activation_map(footage, found, out / f"{stem}.mp4")
    grid = " x ".join(map(str, found.maps.shape[1:]))
    caption = (
        f"Where {found.layer} ({grid} places a frame) speaks for {viewer.label_names[found.label]!r} in {video.name}: "
        "warmer is more, on one scale for all frames."
    )
    return [Made(picture, caption), Made(film, "The same as a film.")]


def make_evolution(
    source: str, video: Path, out: Path, steps: int = 24, window: int | None = None, device: str = "cpu"
) -> list[Made]:
    """Class probabilities as the frames of a video arrive.

    Args:
        source: model folder, or run.
        video: file, or folder of frame images.
        out: folder for the files.
        steps: how often the model is asked.
        window: frames of the sliding window.
        device: where the model runs.
    """
    viewer = open_viewer(source, device)
    found = temporal_evolution(viewer, video, steps, window)
    stem = f"evolution_{_as_file(video.stem)}"
    picture = draw_evolution(found, viewer.label_names, out / f"{stem}.png", video.name)
    film = film_evolution(found, viewer.label_names, out / f"{stem}.mp4", title=video.name)
    said = viewer.label_names[int(found.growing[-1].argmax())]
    caption = (
        f"What the model says of {video.name} as its frames arrive: left from all frames so far, right from the latest "
        f"{found.window}. In the end it says {said!r} with {found.growing[-1].max():.0%}."
    )
    return [Made(picture, caption), Made(film, "The same as a film.")]


def make_embedding(
    sources: Sequence[str],
    out: Path,
    dataset: str | None = None,
    data_dir: str | Path | None = None,
    split: str = "val",
    limit: int | None = None,
    seed: int = 0,
    device: str = "cpu",
) -> list[Made]:
    """The videos of a data set as points, for one or more models side by side.

    Args:
        sources: model folders, or runs.
        out: folder for the files.
        dataset: name of the data set; None for that of the first run.
        data_dir: where it lies; None for where that run has found it.
        split: of the data set.
        limit: at most so many videos, spread evenly.
        seed: of t-SNE.
        device: where the models run.
    """
    viewers = {name: open_viewer(source, device) for name, source in _named(sources).items()}
    first, *others = viewers.values()
    dataset, index = read_videos(first, dataset, data_dir, split)
    for viewer in others:
        check_classes(viewer, dataset, index)
    models: dict[str, tuple[Features, Embedding]] = {}
    for name, viewer in viewers.items():
        features = extract_features(viewer, create_feature_loader(viewer, index, limit))
        models[name] = features, embed(features, seed)
    picture = draw_embedding(models, index.class_names, out / "embedding.png")
    unreadable = sum(features.num_unreadable for features, _ in models.values())
    caption = (
        f"Features of {split} videos of {dataset}, laid out by t-SNE, coloured by class. Silhouette and the accuracy "
        "of the 5 nearest others are those of the features, not of the picture."
    )
    if len(index.class_names) > NUM_COLOURS:
        caption += f" Colours come again after {NUM_COLOURS} classes."
    if unreadable:
        caption += f" {unreadable} videos could not be read."
    page = save_embedding_page(models, index, out / "embedding.html")
    return [Made(picture, caption), Made(page, "The same to look into: every point tells its video.")]


def make_gains(before: Path, after: Path, out: Path, count: int = 10) -> list[Made]:
    """The classes that gained and lost most between two files of scores.

    Args:
        before: scores of the one model.
        after: scores of the other.
        out: folder for the files.
        count: classes at either end.
    """
    old, new = load_scores(before), load_scores(after)
    gains = class_gains(old, new)
    first, second = _apart(before, after)
    picture = draw_class_gains(gains, out / "gains.png", f"{first} to {second}", count)
    clear = sum(one.low > 0 for one in gains), sum(one.high < 0 for one in gains)
    caption = (
        f"Top-1 accuracy by class, from {before} ({old.protocol}) to {after} "
        f"({new.protocol}), with 95 % intervals of paired proportions. Of {len(gains)} classes "
        f"{clear[0]} have intervals above zero and {clear[1]} below; of many classes a few do so by chance."
    )
    return [Made(picture, caption), Made(save_class_gains(gains, out / "gains.csv"), "All classes.")]


def _random_clip(viewer: Viewer) -> torch.Tensor:
    """Normalised noise of the model's size, (1, 3, T, S, S)."""
    size = viewer.transform.img_size
    noise = torch.randn(1, 3, viewer.model.num_frames, size, size, generator=torch.Generator().manual_seed(0))
    return noise.to(viewer.precision.device)


def _label(viewer: Viewer, name: str | None) -> int | None:
    """The class of a name."""
    if name is None:
        return None
    if name not in viewer.label_names:
        near = difflib.get_close_matches(name, viewer.label_names, n=3, cutoff=0.0)
        raise ValueError(f"class {name!r} is none of the model's {len(viewer.label_names)}; nearest: {', '.join(near)}")
    return viewer.label_names.index(name)


def short_name(source: str) -> str:
    """A short name for a model folder: that of its run.

    Args:
        source: model folder, run, or hf-hub:user/name.
    """
    path = place_of(source)
    return path.parent.name if path.name == "best" and path.parent.name else path.name


def _named(sources: Sequence[str]) -> dict[str, str]:
    """Sources by short names, which are numbered where they would be the same."""
    names = [short_name(source) for source in sources]
    return {
        name if names.count(name) == 1 else f"{name} ({number})": source
        for number, (name, source) in enumerate(zip(names, sources, strict=True), 1)
    }


def _apart(first: Path, second: Path) -> tuple[str, str]:
    """Two files by the last parts of their paths, from the first that differs on: all are called scores.npz."""
    one, two = first.absolute().parts, second.absolute().parts
    same = next((n for n, pair in enumerate(zip(one[::-1], two[::-1], strict=False)) if pair[0] != pair[1]), 0)
    return one[-1 - same], two[-1 - same]


def _as_file(name: str) -> str:
    return re.sub(r"[^\w.-]+", "_", name)
