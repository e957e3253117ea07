"""Draw the README's picture of the architecture: clip, folded frames, backbone with synthesizers, frame average.

    python benchmarks/architecture_picture.py  # writes docs/images/architecture.png

The picture has a light card of its own, so it reads the same on light and dark pages.
"""

import argparse
from pathlib import Path

import numpy as np
from matplotlib.axes import Axes
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure
from matplotlib.patches import Circle, FancyArrowPatch, FancyBboxPatch, Polygon, Rectangle

PICTURE = Path(__file__).parents[1] / "docs" / "images" / "architecture.png"
WIDTH, HEIGHT, DPI = 12.0, 6.5, 150
INK, QUIET, CARD = "#1f2933", "#52606d", "#fbfbfa"
BLUE, BLUE_EDGE = "#d6e4f5", "#4a7ab5"
ORANGE, ORANGE_EDGE, ORANGE_CARD = "#f9b45c", "#c06f0a", "#fff4e3"
FRAMES = 4  # drawn of a clip
TOP, BOTTOM = 4.87, 1.5  # middle lines of the two rows


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--output", type=Path, default=PICTURE, metavar="FILE.png", help="default: %(default)s")
    args = parser.parse_args()
    figure = Figure(figsize=(WIDTH, HEIGHT), dpi=DPI)
    FigureCanvasAgg(figure)
    axes = figure.add_axes((0, 0, 1, 1), xlim=(0, WIDTH), ylim=(0, HEIGHT))
    axes.axis("off")
    box(axes, 0.06, 0.06, WIDTH - 0.12, HEIGHT - 0.12, CARD, "#cfd6dd", radius=0.2)
    synthesizer_x = draw_network(axes)
    draw_synthesizer(axes, synthesizer_x)
    figure.savefig(args.output, transparent=True)
    print(f"wrote {args.output}")


def draw_network(axes: Axes) -> float:
    """The way of a clip to its class; returns where the synthesizer stands that the lower row enlarges."""
    for number in reversed(range(FRAMES)):
        draw_frame(axes, 0.4 + 0.14 * number, TOP - 0.72 + 0.14 * number, 1.0, number, depth=0.1 * number)
    label(axes, 1.1, "clip", "(B, C, T, H, W)")
    arrow(axes, (1.95, TOP), (2.65, TOP))
    for number in range(FRAMES):
        draw_frame(axes, 2.75, TOP + 0.50 - 0.46 * number, 0.4, number)
    label(axes, 2.95, "folded frames", "(B·T, C, H, W)")
    arrow(axes, (3.25, TOP), (4.0, TOP))

    left, right = 4.0, 9.3
    box(axes, left, TOP - 0.92, right - left, 1.84, "#eef3f9", BLUE_EDGE, radius=0.12)
    label(axes, (left + right) / 2, "timm backbone with synthesizers")
    stages, step, x = ("stem", "layer1", "layer2", "layer3", "layer4"), 1.08, left + 0.18
    for number, name in enumerate(stages):
        half = 0.74 - 0.07 * number
        box(axes, x, TOP - half, 0.6, 2 * half, BLUE, BLUE_EDGE)
        write(axes, x + 0.3, TOP, name, rotation=90)
        if number < len(stages) - 1:
            box(axes, x + 0.67, TOP - 0.27, 0.34, 0.54, ORANGE, ORANGE_EDGE)
            write(axes, x + 0.84, TOP, "S", bold=True)
        x += step

    arrow(axes, (right, TOP), (right + 0.4, TOP))
    logits = np.random.default_rng(3).uniform(0.05, 0.7, (FRAMES, 5)) + np.array([0, 0, 0.25, 0, 0])
    for number, row in enumerate(logits):
        draw_bars(axes, right + 0.48, TOP + 0.52 - 0.46 * number, row)
    label(axes, right + 0.72, "frame logits", "(B·T, K)")
    arrow(axes, (right + 1.02, TOP), (right + 1.52, TOP))
    draw_bars(axes, right + 1.6, TOP - 0.25, logits.mean(0), scale=1.5)
    label(axes, right + 1.95, "average", "(B, K)")
    return left + 0.18 + step + 0.84


def label(axes: Axes, x: float, title: str, shape: str = "") -> None:
    """A title above the upper row, a shape below it."""
    write(axes, x, TOP + 1.2, title, bold=True)
    write(axes, x, TOP - 1.15, shape, QUIET)


def draw_synthesizer(axes: Axes, above: float) -> None:
    """Eq. 1, enlarged: reduce, spatial bank, fusion, temporal bank, expand, residual."""
    left, right, bottom, top = 0.4, 11.6, 0.35, 3.2
    for x, corner in ((above - 0.17, above - 1.3), (above + 0.17, above + 1.3)):
        axes.plot((x, corner), (TOP - 0.27, top), color=ORANGE_EDGE, linestyle=(0, (4, 3)), linewidth=1.2, zorder=2)
    box(axes, left, bottom, right - left, top - bottom, ORANGE_CARD, ORANGE_EDGE, radius=0.12)
    write(axes, left + 0.25, top - 0.28, "S: action perceptron synthesizer", bold=True, align="left")

    write(axes, 0.85, BOTTOM, "U", size=17, bold=True)
    arrow(axes, (1.1, BOTTOM), (1.5, BOTTOM))
    box(axes, 1.5, BOTTOM - 0.45, 1.05, 0.9, "white", ORANGE_EDGE)
    write(axes, 2.025, BOTTOM, "reduce\n1×1")
    arrow(axes, (2.55, BOTTOM), (2.95, BOTTOM))
    draw_bank(axes, 2.95, 1.15, "spatial bank", ("1×1", "3×3", "5×5", "max 3×3"))
    arrow(axes, (4.1, BOTTOM), (4.75, BOTTOM))

    weights = np.random.default_rng(1).uniform(0.15, 1, (5, 4))
    for row in range(5):
        for column in range(4):
            corner = (4.8 + 0.3 * column, BOTTOM + 0.45 - 0.3 * row)
            color = blend(ORANGE_CARD, ORANGE_EDGE, weights[row, column])
            axes.add_patch(Rectangle(corner, 0.3, 0.3, facecolor=color, edgecolor="white", linewidth=1.2, zorder=3))
    write(axes, 5.4, BOTTOM + 0.98, "learned fusion T", bold=True)
    arrow(axes, (6.05, BOTTOM), (6.65, BOTTOM))
    draw_bank(axes, 6.65, 1.15, "temporal bank", ("1", "3", "5", "7", "max 3"))
    arrow(axes, (7.8, BOTTOM), (8.2, BOTTOM))
    box(axes, 8.2, BOTTOM - 0.45, 1.05, 0.9, "white", ORANGE_EDGE)
    write(axes, 8.725, BOTTOM, "expand\n1×1")
    arrow(axes, (9.25, BOTTOM), (9.75, BOTTOM))
    axes.plot(9.95, BOTTOM, "o", markersize=19, markerfacecolor="white", markeredgecolor=INK, zorder=3)
    write(axes, 9.95, BOTTOM - 0.01, "+", size=17)
    arrow(axes, (10.15, BOTTOM), (10.55, BOTTOM))
    write(axes, 10.98, BOTTOM, "U + V", size=17, bold=True)
    for start, end in (((1.25, BOTTOM), (1.25, 0.55)), ((1.25, 0.55), (9.95, 0.55))):
        axes.plot(*zip(start, end, strict=True), color=INK, linewidth=1.4, zorder=2)
    arrow(axes, (9.95, 0.55), (9.95, BOTTOM - 0.17))


def draw_bank(axes: Axes, x: float, width: float, title: str, branches: tuple[str, ...]) -> None:
    """A bank of branches, one below the other."""
    height = 1.5 / len(branches)
    for number, branch in enumerate(branches):
        bottom = BOTTOM + 0.75 - height * (number + 1)
        box(axes, x, bottom + 0.02, width, height - 0.04, "white", ORANGE_EDGE, radius=0.04)
        write(axes, x + width / 2, bottom + height / 2 - 0.01, branch, size=12)
    write(axes, x + width / 2, BOTTOM + 0.98, title, bold=True)


def draw_frame(axes: Axes, x: float, y: float, size: float, number: int, depth: float = 0.0) -> None:
    """A frame of the clip: a ball that moves from left to right over hills; `depth` puts it behind others."""
    over = 4 - depth
    axes.add_patch(Rectangle((x, y), size, size, facecolor="#dcebf7", edgecolor="none", zorder=over))
    hills = np.linspace(0, 1, 30)
    outline = np.column_stack((x + size * hills, y + size * (0.25 + 0.08 * np.sin(7 * hills + 0.5))))
    outline = np.vstack((outline, [(x + size, y), (x, y)]))
    axes.add_patch(Polygon(outline, facecolor="#8fb996", edgecolor="none", zorder=over))
    spot = (x + size * (0.2 + 0.2 * number), y + size * (0.5 + 0.1 * np.sin(1.1 * number)))
    axes.add_patch(Circle(spot, 0.13 * size, facecolor="#d9483b", edgecolor="none", zorder=over))
    axes.add_patch(Rectangle((x, y), size, size, facecolor="none", edgecolor=INK, linewidth=1, zorder=over))


def draw_bars(axes: Axes, x: float, y: float, values: np.ndarray, scale: float = 1.0) -> None:
    """Logits as a small bar chart."""
    step = 0.088 * scale
    axes.plot((x, x + step * len(values)), (y, y), color=INK, linewidth=1, zorder=3)
    for number, value in enumerate(values):
        corner = (x + step * (number + 0.12), y)
        height = 0.4 * scale * float(value)
        axes.add_patch(Rectangle(corner, step * 0.76, height, facecolor=BLUE_EDGE, edgecolor="none", zorder=3))


def box(
    axes: Axes, x: float, y: float, width: float, height: float, color: str, edge: str, radius: float = 0.07
) -> None:
    shape = f"round,pad=0,rounding_size={radius}"
    axes.add_patch(FancyBboxPatch((x, y), width, height, boxstyle=shape, facecolor=color, edgecolor=edge, zorder=2))


def arrow(axes: Axes, start: tuple[float, float], end: tuple[float, float]) -> None:
    style = {"arrowstyle": "-|>", "mutation_scale": 14, "color": INK, "linewidth": 1.4, "zorder": 3}
    axes.add_patch(FancyArrowPatch(start, end, shrinkA=1, shrinkB=1, **style))


def write(
    axes: Axes,
    x: float,
    y: float,
    text: str,
    color: str = INK,
    size: float = 13,
    bold: bool = False,
    rotation: float = 0,
    align: str = "center",
) -> None:
    weight = "bold" if bold else "normal"
    axes.text(x, y, text, color=color, fontsize=size, weight=weight, rotation=rotation, ha=align, va="center", zorder=6)


def blend(first: str, second: str, share: float) -> tuple[float, ...]:
    """A colour between two."""
    ends = [np.array([int(color[i : i + 2], 16) / 255 for i in (1, 3, 5)]) for color in (first, second)]
    return tuple((1 - share) * ends[0] + share * ends[1])


if __name__ == "__main__":
    main()
