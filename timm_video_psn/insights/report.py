"""All insights into one trained model as one HTML page that holds everything it shows."""

import base64
import html
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path

from timm_video_psn.insights.commands import (
    Made,
    make_cam,
    make_embedding,
    make_evolution,
    make_gains,
    make_interactions,
    make_shapes,
    short_name,
)
from timm_video_psn.insights.pictures import save_text
from timm_video_psn.insights.viewer import open_viewer

_TYPES = {".png": "image/png", ".gif": "image/gif", ".mp4": "video/mp4"}
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
    made: tuple[Made, ...]
    reason: str = ""


def make_report(
    source: str,
    out: Path,
    videos: Sequence[Path] = (),
    dataset: str | None = None,
    data_dir: Path | None = None,
    limit: int | None = None,
    scores: tuple[Path, Path] | None = None,
    device: str = "cpu",
) -> list[Made]:
    """Write `report.html`, and beside it, in `files/`, what went into it.

    A part that the model or what was given does not allow says so in the page instead.

    Args:
        source: model folder, or run.
        out: folder for the files.
        videos: for class activation maps and predictions over time.
        dataset: for the embedding.
        data_dir: where it lies.
        limit: at most so many videos of it.
        scores: two files of scores, before and after.
        device: where the model runs.
    """
    files = out / "files"
    first = videos[0] if videos else None
    summary = _summary(source, device)  # first: where there is no model, there is no report
    parts = [
        _part("Filter interactions", lambda: make_interactions([source], files, device)),
        _part("Kernel shapes", lambda: make_shapes(source, files, first, device)),
    ]
    for number, video in enumerate(videos, 1):
        place = files / f"video_{number}"  # videos of two folders may have one name
        cam = partial(make_cam, source, video, place, device=device)
        evolution = partial(make_evolution, source, video, place, device=device)
        parts.append(_part(f"Activation maps of {video.name}", cam))
        parts.append(_part(f"Prediction over time, {video.name}", evolution))
    if dataset:
        parts.append(
            _part("Embedding", lambda: make_embedding([source], dataset, data_dir, files, limit=limit, device=device))
        )
    if scores:
        parts.append(_part("Gains of classes", lambda: make_gains(*scores, files)))
    title = f"Insights into {short_name(source)}"
    path = save_text(report_page(title, summary, parts), out / "report.html")
    return [Made(path, f"{sum(len(part.made) for part in parts)} pictures, films and tables in one page.")]


def _part(title: str, make: Callable[[], list[Made]]) -> Part:
    """What was made, or the reason why not, which is the page's to tell."""
    try:
        return Part(title, tuple(make()))
    except (ValueError, ImportError, FileNotFoundError) as error:
        return Part(title, (), str(error))


def _summary(source: str, device: str) -> dict[str, str]:
    """Lines about the model."""
    viewer = open_viewer(source, device)
    model, size = viewer.model, viewer.transform.img_size
    count = sum(parameter.numel() for parameter in model.parameters())
    return {
        "model": f"{model.pretrained_cfg['architecture']}, {count / 1e6:.2f} M parameters",
        "folder": source,
        "classes": f"{len(viewer.label_names)}: {', '.join(viewer.label_names[:12])}"
        + (", ..." if len(viewer.label_names) > 12 else ""),
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


def _figure(made: Made) -> str:
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
