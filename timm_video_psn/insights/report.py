"""The report on one trained model: its results first, then what the paper looks at, on one page."""

import logging
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import NamedTuple

from PIL import Image
from tqdm import tqdm

from timm_video_psn.data import VideoIndex
from timm_video_psn.engine.evaluate.accuracy import Accuracy, ClassAccuracy, measure
from timm_video_psn.engine.evaluate.confusion import draw_confusion
from timm_video_psn.engine.evaluate.ranking import draw_ranking_curves
from timm_video_psn.engine.evaluate.result_files import METRIC_NAMES, metrics_of
from timm_video_psn.engine.model_source import file_of_run, short_name
from timm_video_psn.engine.run_index import read_run_index
from timm_video_psn.engine.trained_model import TrainedModel
from timm_video_psn.files import first_names, write_text
from timm_video_psn.insights.commands import (
    Artifact,
    draw_features,
    make_cam,
    make_evolution,
    make_gains,
    make_interactions,
    make_shapes,
)
from timm_video_psn.insights.embedding import FEWEST
from timm_video_psn.insights.kernel_map import kernel_codes, kernel_maps
from timm_video_psn.insights.report_page import Section, Table, render_page
from timm_video_psn.insights.results import (
    Features,
    create_feature_loader,
    extract_features,
    hardest_videos,
    scores_of,
    surest_video,
)
from timm_video_psn.interactions import interaction_map
from timm_video_psn.surgery import count_parameters

_logger = logging.getLogger(__name__)
REPORT_LIMIT = 600  # videos
_HARDEST = 12


@dataclass(frozen=True)
class Seen:
    """The videos that the model was shown, and what it makes of them."""

    dataset: str
    index: VideoIndex
    features: Features
    accuracy: Accuracy


class Report(NamedTuple):
    """The page, and the titles of the sections that failed."""

    page: Artifact
    failed: tuple[str, ...]


def make_report(
    trained: TrainedModel,
    out: Path,
    videos: Sequence[Path] = (),
    dataset: str | None = None,
    data_dir: str | Path | None = None,
    limit: int | None = REPORT_LIMIT,
    scores: tuple[Path, Path] | None = None,
) -> Report:
    """Writes `report.html`, and beside it, in `files/`, what went into it.

    A run knows its data set, so that its folder is enough for all sections but the gains. Sections that a model does
    not have are left out. A section that fails says why on the page, and is logged.

    Args:
        trained: The model.
        out: Folder for the files.
        videos: Videos for activation maps and predictions over time; none for the one that the model is surest of.
        dataset: Name of the data set; None for the data set of the run.
        data_dir: Folder of the data set; None for the folder where the run found it.
        limit: Largest number of videos of the data set, spread evenly; None for all.
        scores: Two files of scores, before and after, for the gains.
    """
    files, sections = out / "files", _Sections()
    files.mkdir(parents=True, exist_ok=True)
    name = short_name(trained.source)
    seen: list[Seen] = []

    def results() -> Section:
        seen.append(_show(trained, dataset, data_dir, limit))
        return _results(trained, seen[0])

    sections.add("Results", results)
    curves = file_of_run(trained.source, "curves.png")
    if curves is not None:
        caption = "Accuracy, loss and learning rate of the run, epoch by epoch."
        sections.add("Training", lambda: Section("", artifacts=(Artifact(curves, caption),)))
    for one in seen:
        if one.accuracy.mean_ap is not None:
            sections.add("Precision, recall and ROC", partial(_ranking, trained, one, files))
        if one.accuracy.confusion is not None:
            sections.add("Confusion", partial(_confusion, one, files, trained))
        sections.add("Classes", partial(_classes, one.accuracy))
        sections.add("Hardest videos", partial(_hardest, trained, one, files))
        if not videos and (surest := surest_video(one.index, one.features)) is not None:
            videos = [surest]
    for number, video in enumerate(videos, 1):
        place = files / f"video_{number}"  # videos of two folders may have one name
        sections.add(f"Activation maps of {video.name}", _artifacts(partial(make_cam, trained, video, place)))
        sections.add(f"Prediction over time, {video.name}", _artifacts(partial(make_evolution, trained, video, place)))
    for one in seen:
        sections.add("Embedding", partial(_embedding, name, one, files))
    if trained.model.sites and interaction_map(trained.model):
        sections.add("Filter interactions", lambda: _interactions(trained, files))
        first = videos[0] if videos else None
        sections.add("Kernel shapes", _artifacts(partial(make_shapes, trained, files, first)))
    if scores:
        sections.add("Class gains", _artifacts(partial(make_gains, *scores, files)))
    page = out / "report.html"
    write_text(page, render_page(name, f"Report on {trained.source}", _facts(trained), sections.made))
    count = sum(len(section.artifacts) for section in sections.made)
    return Report(Artifact(page, f"{len(sections.made)} sections, {count} pictures, films and tables"), sections.failed)


class _LeftOut(Exception):
    """A section that nothing was given for."""


class _Sections:
    """Makes sections one by one, and says on the console how each went."""

    def __init__(self) -> None:
        self.made: list[Section] = []
        self.failed: tuple[str, ...] = ()

    def add(self, title: str, make: Callable[[], Section]) -> None:
        """A section, or why there is none."""
        start = time.monotonic()
        try:
            section = make()
        except _LeftOut as error:
            _logger.warning("section %r is left out: %s", title, error)
            self.made.append(Section(title, problem=str(error)))
        except Exception as error:  # whatever it is, the other sections are worth having
            _logger.warning("section %r failed: %s", title, error or type(error).__name__)
            _logger.debug("section %r", title, exc_info=True)
            self.failed = (*self.failed, title)
            self.made.append(Section(title, problem=str(error) or type(error).__name__))
        else:
            _logger.info(f"made      {title} ({time.monotonic() - start:.1f} s)")
            self.made.append(Section(**{**vars(section), "title": title}))


def _artifacts(make: Callable[[], list[Artifact]]) -> Callable[[], Section]:
    """A section of files alone."""
    return lambda: Section("", artifacts=tuple(make()))


def _show(trained: TrainedModel, dataset: str | None, data_dir: str | Path | None, limit: int | None) -> Seen:
    """Shows the model the videos of its validation."""
    try:
        dataset, index = read_run_index(trained, dataset, data_dir)
    except (ValueError, FileNotFoundError) as error:
        raise _LeftOut(str(error)) from error
    batches = create_feature_loader(trained, index, limit)
    features = extract_features(trained, tqdm(batches, desc=f"{dataset} val", unit="batch", disable=None))
    accuracy = measure(scores_of(trained, index, features), index.reversal_pairs)
    return Seen(dataset, index, features, accuracy)


def _results(trained: TrainedModel, seen: Seen) -> Section:
    """The accuracy, each number with its interval and its videos."""
    shown, total = len(seen.features.labels), len(seen.index)
    which = f"all {total}" if shown + seen.features.num_unreadable == total else f"{shown} of {total}"
    numbers = tuple(
        (METRIC_NAMES[key], f"{value.value:.1f} %", f"95 % interval {value.low:.1f} to {value.high:.1f}")
        for key, value in metrics_of(seen.accuracy).items()
    )
    if seen.accuracy.mean_ap is not None:
        numbers = (("mAP", f"{seen.accuracy.mean_ap:.1f} %", "mean of the classes' average precision"), *numbers)
    unreadable = f" {seen.features.num_unreadable} videos could not be read." if seen.features.num_unreadable else ""
    text = (
        f"Measured on {which} validation videos of {seen.dataset}, protocol {trained.protocol}.{unreadable} The "
        "intervals are Wilson's: they say how far a number would move with other videos of the same kind."
    )
    return Section("", text, numbers)


def _ranking(trained: TrainedModel, seen: Seen, files: Path) -> Section:
    """How well each class's probability ranks the videos."""
    path, scores = files / "ranking_curves.png", scores_of(trained, seen.index, seen.features)
    names = seen.index.class_names
    draw_ranking_curves(scores.probabilities(), scores.one_hot(), names, path, str(trained.protocol))
    caption = "The area under a class's precision-recall curve is its average precision (AP); mAP is the mean."
    return Section("", artifacts=(Artifact(path, caption),))


def _confusion(seen: Seen, files: Path, trained: TrainedModel) -> Section:
    path = files / "confusion.png"
    assert seen.accuracy.confusion is not None
    draw_confusion(seen.accuracy.confusion, seen.index.class_names, path, str(trained.protocol))
    return Section("", artifacts=(Artifact(path, "Rows are the classes of the videos, columns what the model says."),))


def _classes(accuracy: Accuracy) -> Section:
    """A row for each class, the worst first."""
    several = accuracy.confusion is None  # classes of a video
    last = (
        ("recall, %", "95 % interval", "AP, %") if several else ("accuracy, %", "95 % interval", "most confused with")
    )
    header = ("class", "videos", "found at 0.5" if several else "correct", *last)
    present = sorted((row for row in accuracy.classes if row.accuracy), key=lambda row: row.correct / row.videos)
    rows = tuple(
        (
            row.name,
            str(row.videos),
            str(row.correct),
            f"{row.accuracy.value:.1f}",
            f"{row.accuracy.low:.1f} to {row.accuracy.high:.1f}",
            f"{row.average_precision:.1f}" if several else _confused(row),
        )
        for row in present
        if row.accuracy
    )
    absent = [row.name for row in accuracy.classes if not row.videos]
    text = f"The worst come first.{f' Without videos: {first_names(absent)}.' if absent else ''}"
    return Section("", text, table=Table(header, rows, frozenset(header[1:5])))


def _confused(row: ClassAccuracy) -> str:
    return f"{row.most_confused_with} ({row.confused_videos})" if row.most_confused_with else ""


def _hardest(trained: TrainedModel, seen: Seen, files: Path) -> Section:
    """Thumbnails of the videos that the model gets most wrong."""
    made = []
    for number, one in enumerate(hardest_videos(trained, seen.index, seen.features, _HARDEST), 1):
        path = files / f"hardest_{number:02d}.png"
        Image.fromarray(one.strip).save(path)
        said = f"says {one.predicted} ({one.probability:.0%}), is {one.label} ({one.own_probability:.0%}): {one.path}"
        made.append(Artifact(path, said))
    text = "The videos whose own class the model finds least likely. Wrong labels are often among them."
    return Section("", text if made else "The model names every video rightly.", artifacts=tuple(made), grid=True)


def _embedding(name: str, seen: Seen, files: Path) -> Section:
    """The page alone, in which each point tells its video; the picture lies beside it."""
    if len(seen.features.labels) < FEWEST:
        raise _LeftOut(f"{len(seen.features.labels)} videos are too few for t-SNE; use at least {FEWEST}")
    picture, page = draw_features({name: seen.features}, seen.index, files, f"{len(seen.features.labels)} videos")
    return Section("", artifacts=(Artifact(page.path, f"{picture.caption} Every point tells its video."),))


def _interactions(trained: TrainedModel, files: Path) -> Section:
    """Fig. 5, with what its codes mean."""
    codes = kernel_codes(kernel_maps(trained.model))
    text = (
        "A synthesizer mixes spatial kernels (columns) into temporal ones (rows). Each cell is the strength of one "
        "path, as in Fig. 5 of the paper."
    )
    table = Table(("code", "meaning"), tuple(codes.items()))
    return Section("", text, artifacts=tuple(make_interactions([trained], files)), table=table)


def _facts(trained: TrainedModel) -> dict[str, str]:
    """Lines about the model."""
    model, protocol = trained.model, trained.protocol
    return {
        "architecture": f"{model.pretrained_cfg['architecture']}, {count_parameters(model) / 1e6:.2f} M parameters",
        "folder": trained.source,
        "classes": f"{len(trained.label_names)}: {first_names(trained.label_names, 12)}",
        "clip": f"{protocol.num_frames} frames of {protocol.img_size} x {protocol.img_size} pixels",
        "synthesizers": ", ".join(model.sites) or "none",
        "weights, sha256": trained.weights_sha256 or "not stated",
    }
