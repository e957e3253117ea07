"""The HTML page of a report: everything it shows is in it, and nothing is asked of any host."""

import base64
import html
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from timm_video_psn.insights.commands import Artifact

_TYPES = {".png": "image/png", ".gif": "image/gif", ".mp4": "video/mp4"}
_STYLE = """
:root { --ink: #1f2328; --soft: #656d76; --line: #d8dee4; --page: #f6f8fa; --mark: #0969da }
* { box-sizing: border-box }
body { font: 16px/1.5 system-ui, sans-serif; margin: 0; color: var(--ink); background: var(--page) }
main { max-width: 1160px; margin: 0 auto; padding: 24px 16px 64px }
h1 { margin: 0 0 4px; font-size: 28px } h2 { margin: 0 0 8px; font-size: 20px }
nav { display: flex; flex-wrap: wrap; gap: 4px 16px; margin: 16px 0 }
nav a { color: var(--mark); text-decoration: none } nav a:hover { text-decoration: underline }
section { background: #fff; border: 1px solid var(--line); border-radius: 8px; padding: 20px; margin: 16px 0 }
.soft, figcaption { color: var(--soft); font-size: 14px }
.numbers { display: flex; flex-wrap: wrap; gap: 12px; margin: 12px 0 }
.numbers div { border: 1px solid var(--line); border-radius: 8px; padding: 10px 16px; min-width: 150px }
.numbers b { display: block; font-size: 26px; font-variant-numeric: tabular-nums }
img, video { max-width: 100%; height: auto } video { min-width: 320px }
figure { margin: 16px 0 } iframe { border: 1px solid var(--line) }
.grid { display: grid; grid-template-columns: repeat(auto-fill, minmax(330px, 1fr)); gap: 16px }
.grid figure { margin: 0 } .grid img { width: 100%; image-rendering: auto; border-radius: 4px }
.scroll { overflow-x: auto; max-height: 560px; overflow-y: auto }
table { border-collapse: collapse; font-variant-numeric: tabular-nums }
td, th { padding: 3px 16px 3px 0; vertical-align: top }
th { text-align: left; position: sticky; top: 0; background: #fff }
td.n, th.n { text-align: right } tbody tr { border-top: 1px solid var(--line) }
.problem { border-left: 4px solid #bf8700; padding: 4px 12px; background: #fff8c5 }
code { background: var(--page); padding: 1px 4px; border-radius: 4px }
"""


@dataclass(frozen=True)
class Table:
    """Rows of cells; columns of numbers stand right."""

    header: tuple[str, ...]
    rows: tuple[tuple[str, ...], ...]
    numbers: frozenset[str] = frozenset()


@dataclass(frozen=True)
class Section:
    """A part of the page.

    Attributes:
        title: heading.
        text: A paragraph below it.
        numbers: Large numbers, each with its name and what stands below it.
        artifacts: Pictures, films, pages and tables.
        grid: Show the pictures small, in a grid.
        table: A table.
        problem: Why there is nothing to show, or "".
    """

    title: str
    text: str = ""
    numbers: tuple[tuple[str, str, str], ...] = ()
    artifacts: tuple[Artifact, ...] = ()
    grid: bool = False
    table: Table | None = None
    problem: str = ""


def render_page(title: str, subtitle: str, facts: dict[str, str], sections: Sequence[Section]) -> str:
    """The page.

    Args:
        title: Heading of the page.
        subtitle: Line below it.
        facts: Lines about the model.
        sections: Parts, in their order.
    """
    rows = "".join(f"<tr><td class=soft>{_text(key)}</td><td>{_text(value)}</td></tr>" for key, value in facts.items())
    links = "".join(f'<a href="#s{number}">{_text(one.title)}</a>' for number, one in enumerate(sections))
    body = "".join(_section(number, one) for number, one in enumerate(sections))
    return (
        f'<!doctype html><html lang="en"><head><meta charset="utf-8"><title>{_text(title)}</title>'
        '<meta name="viewport" content="width=device-width, initial-scale=1">'
        f'<link rel="icon" href="data:,"><style>{_STYLE}</style></head>'  # else browsers ask for an icon
        f"<body><main><h1>{_text(title)}</h1><div class=soft>{_text(subtitle)}</div><nav>{links}</nav>"
        f"{body}<section><h2>Model</h2><table>{rows}</table></section></main></body></html>"
    )


def _section(number: int, section: Section) -> str:
    parts = [f"<h2>{_text(section.title)}</h2>"]
    if section.problem:
        parts.append(f'<p class="problem">Nothing to show here: {_text(section.problem)}</p>')
    if section.numbers:
        cells = (
            f"<div>{_text(name)}<b>{_text(value)}</b><span class=soft>{_text(below)}</span></div>"
            for name, value, below in section.numbers
        )
        parts.append(f'<div class="numbers">{"".join(cells)}</div>')
    if section.text:
        parts.append(f"<p>{_text(section.text)}</p>")
    if section.table:
        parts.append(_table(section.table))
    figures = "".join(map(_figure, section.artifacts))
    parts.append(f'<div class="grid">{figures}</div>' if section.grid else figures)
    return f'<section id="s{number}">{"".join(parts)}</section>'


def _table(table: Table) -> str:
    numeric = [" class=n" if name in table.numbers else "" for name in table.header]
    head = "".join(f"<th{kind}>{_text(name)}</th>" for kind, name in zip(numeric, table.header, strict=True))
    rows = "".join(
        "<tr>" + "".join(f"<td{kind}>{_text(cell)}</td>" for kind, cell in zip(numeric, row, strict=True)) + "</tr>"
        for row in table.rows
    )
    return f'<div class="scroll"><table><thead><tr>{head}</tr></thead><tbody>{rows}</tbody></table></div>'


def _figure(artifact: Artifact) -> str:
    """One file, inside of the page."""
    path, caption = artifact
    below = f"<figcaption>{_text(caption)}</figcaption>"
    if path.suffix == ".html":
        inside = _text(path.read_text(encoding="utf-8"))
        return f'<figure><iframe srcdoc="{inside}" width="100%" height="560"></iframe>{below}</figure>'
    kind = _TYPES.get(path.suffix, "text/csv")
    data = f"data:{kind};base64,{base64.b64encode(path.read_bytes()).decode()}"
    if kind == "video/mp4":
        return f'<figure><video controls loop muted src="{data}"></video>{below}</figure>'
    if kind == "text/csv":
        name = _text(path.name)
        return f'<p class=soft><a download="{name}" href="{data}">{name}</a>: {_text(caption)}</p>'
    return f'<figure><img alt="{_text(caption)}" src="{data}">{below}</figure>'


def _text(text: str | Path) -> str:
    return html.escape(str(text))
