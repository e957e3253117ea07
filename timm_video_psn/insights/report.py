"""All insights into one trained model as one HTML page that holds everything it shows."""

import base64
import html
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path

from timm_video_psn.data import ShardedIndex
from timm_video_psn.engine.model_source import short_name
from timm_video_psn.engine.trained_model import TrainedModel
from timm_video_psn.files import write_text
from timm_video_psn.insights.commands import (
    Artifact,
    make_cam,
    make_embedding,
    make_evolution,
    make_gains,
    make_interactions,
    make_shapes,
)
from timm_video_psn.insights.run_videos import read_videos

REPORT_LIMIT = 600  # videos of the embedding
_TYPES = {".png": "image/png", ".gif": "image/gif", ".mp4": "video/mp4"}
_REASONS = (ValueError, ImportError, FileNotFoundError)  # why a part is not there, which the page tells
_STYLE = """
body { font: 16px/1.5 sans-serif; max-width: 1100px; margin: 2em auto; padding: 0 1em; color: #222 }
img, video { max-width: 100%; border: 1px solid #ddd }
video { min-width: 320px }
figure { margin: 1em 0 } figcaption { color: #555; font-size: 14px }
table { border-collapse: collapse } td { padding: 2px 12px 2px 0; vertical-align: top }
"""


@dataclass(frozen=True)
class Part:
    """A section of the page: what was made, or why nothing was."""

    title: str
    made: tuple[Artifact, ...]
    reason: str = ""


def make_report(
    trained: TrainedModel,
    out: Path,
    videos: Sequence[Path] = (),
    dataset: str | None = None,
    data_dir: str | Path | None = None,
    limit: int | None = REPORT_LIMIT,
    scores: tuple[Path, Path] | None = None,
) -> list[Artifact]:
    """Write `report.html`, and beside it, in `files/`, what went into it.

    A run knows its data set, so that its folder is enough for all parts but the gains. A part that the model or what
    was given does not allow says so in the page instead.

    Args:
        trained: the model.
        out: folder for the files.
        videos: for class activation maps and predictions over time; none for the first of the data set.
        dataset: for the embedding; None for that of the run.
        data_dir: where it lies; None for where the run has found it.
        limit: at most so many videos of it, spread evenly.
        scores: two files of scores, before and after.
    """
    files = out / "files"
    missing = ""
    if not videos:
        try:
            videos = [_first_video(trained, dataset, data_dir)]
        except _REASONS as error:
            missing = f"no video was given, as --video FILE, and of the data set there is none: {error}"
    first = videos[0] if videos else None
    parts = [
        _part("Filter interactions", lambda: make_interactions([trained], files)),
        _part("Kernel shapes", lambda: make_shapes(trained, files, first)),
    ]
    for number, video in enumerate(videos, 1):
        place = files / f"video_{number}"  # videos of two folders may have one name
        cam = partial(make_cam, trained, video, place)
        evolution = partial(make_evolution, trained, video, place)
        parts.append(_part(f"Activation maps of {video.name}", cam))
        parts.append(_part(f"Prediction over time, {video.name}", evolution))
    if missing:
        parts.append(Part("Activation maps and prediction over time", (), missing))
    embedding = partial(make_embedding, [trained], files, dataset, data_dir, limit=limit)
    parts.append(_part("Embedding", embedding))
    if scores:
        parts.append(_part("Gains of classes", lambda: make_gains(*scores, files)))
    else:
        parts.append(
            Part("Gains of classes", (), "no two files of scores were given, as --scores BEFORE.npz AFTER.npz")
        )
    title = f"Insights into {short_name(trained.source)}"
    path = out / "report.html"
    path.parent.mkdir(parents=True, exist_ok=True)
    write_text(path, report_page(title, _summary(trained), parts))
    return [Artifact(path, f"{sum(len(part.made) for part in parts)} pictures, films and tables in one page.")]


def _part(title: str, make: Callable[[], list[Artifact]]) -> Part:
    """What was made, or the reason why not."""
    try:
        return Part(title, tuple(make()))
    except _REASONS as error:
        return Part(title, (), str(error))


def _first_video(trained: TrainedModel, dataset: str | None, data_dir: str | Path | None) -> Path:
    """A video to look at where none was given."""
    dataset, index = read_videos(trained, dataset, data_dir)
    if isinstance(index, ShardedIndex):
        raise ValueError("its videos lie in shards")
    number = next((number for number in range(len(index)) if index.part(number)[0] == 0), None)
    if number is None:
        raise ValueError(f"the videos of {dataset} are parts of longer ones")
    return index.root / index.paths[number]


def _summary(trained: TrainedModel) -> dict[str, str]:
    """Lines about the model."""
    model, size = trained.model, trained.transform.img_size
    count = sum(parameter.numel() for parameter in model.parameters())
    return {
        "model": f"{model.pretrained_cfg['architecture']}, {count / 1e6:.2f} M parameters",
        "folder": trained.source,
        "classes": f"{len(trained.label_names)}: {', '.join(trained.label_names[:12])}"
        + (", ..." if len(trained.label_names) > 12 else ""),
        "clip": f"{model.num_frames} frames of {size} x {size} pixels",
        "synthesizers": ", ".join(model.sites) or "none",
    }


def report_page(title: str, summary: dict[str, str], parts: Sequence[Part]) -> str:
    """The page: pictures, films and tables are in it, and nothing is asked of any host.

    Args:
        title: of the page.
        summary: lines about the model.
        parts: sections.
    """
    rows = "".join(f"<tr><td>{html.escape(key)}</td><td>{html.escape(text)}</td></tr>" for key, text in summary.items())
    body = "".join(
        f"<h2>{html.escape(part.title)}</h2>" + "".join(map(_figure, part.made)) + _told(part.reason) for part in parts
    )
    return (
        f'<!doctype html><html lang="en"><head><meta charset="utf-8"><title>{html.escape(title)}</title>'
        f'<link rel="icon" href="data:,"><style>{_STYLE}</style></head>'  # else browsers ask for an icon
        f"<body><h1>{html.escape(title)}</h1><table>{rows}</table>{body}</body></html>"
    )


def _told(reason: str) -> str:
    return f"<p>Nothing to show here: {html.escape(reason)}</p>" if reason else ""


def _figure(made: Artifact) -> str:
    """One file, inside of the page."""
    caption = f"<figcaption>{html.escape(made.caption)}</figcaption>"
    suffix = made.path.suffix
    if suffix == ".html":
        inside = made.path.read_text(encoding="utf-8")
        return f'<figure><iframe srcdoc="{html.escape(inside)}" width="100%" height="560"></iframe>{caption}</figure>'
    data = base64.b64encode(made.path.read_bytes()).decode()
    if suffix == ".mp4":
        return (
            f'<figure><video controls loop muted src="data:{_TYPES[suffix]};base64,{data}"></video>{caption}</figure>'
        )
    if suffix in _TYPES:
        alt = html.escape(made.caption)
        return f'<figure><img alt="{alt}" src="data:{_TYPES[suffix]};base64,{data}">{caption}</figure>'
    link = f'<a download="{html.escape(made.path.name)}" href="data:text/csv;base64,{data}">{made.path.name}</a>'
    return f"<p>{link}: {html.escape(made.caption)}</p>"
