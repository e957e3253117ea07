"""How a prediction comes about: class probabilities as the frames of a video arrive.

`growing` shows the model all frames so far, `sliding` only the latest ones; either window is sampled as a whole video
would be. A window that holds fewer frames than a clip has some of them repeated.
"""

from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch

from timm_video_psn.data import VideoReader
from timm_video_psn.engine.trained_model import TrainedModel
from timm_video_psn.insights.films import save_film
from timm_video_psn.plotting import new_figure, pixels_of, plain, save_figure

_SHOWN = 8  # frames above the curves
_COLOURS = ("tab:blue", "tab:orange", "tab:green", "tab:red", "tab:purple", "tab:brown", "tab:pink", "tab:gray")


@dataclass(frozen=True)
class Evolution:
    """Probabilities over time.

    Attributes:
        arrived: Frames so far at each step, (K,).
        growing: Probabilities of the classes, from all frames so far, (K, num_classes).
        sliding: Probabilities from the latest `window` frames, (K, num_classes).
        window: Length of the sliding window in frames.
        num_frames: Length of the video.
        frames: uint8 (K, S, S, 3), the latest frame at each step.
    """

    arrived: np.ndarray
    growing: np.ndarray
    sliding: np.ndarray
    window: int
    num_frames: int
    frames: np.ndarray

    def leading(self, count: int = 5) -> list[int]:
        """The classes that come nearest to 1 at any time, most first."""
        best = np.maximum(self.growing.max(0), self.sliding.max(0))
        return [int(label) for label in np.argsort(-best, kind="stable")[:count]]


def temporal_evolution(trained: TrainedModel, path: Path, steps: int = 24, window: int | None = None) -> Evolution:
    """Lets the frames of a video arrive, and asks the model at every step.

    Args:
        trained: The model.
        path: Video file, or folder of frame images.
        steps: Number of times that it is asked; at most once a frame.
        window: Frames of the sliding window; None for a third of the video, at least a clip's.

    Raises:
        DecodeError: The video cannot be read.
        ValueError: `steps` or `window` is below 1.
    """
    if steps < 1 or (window is not None and window < 1):
        raise ValueError(f"steps={steps}, window={window}: use whole numbers of at least 1")
    with VideoReader(path) as reader:
        total = reader.num_frames
    length = trained.model.num_frames
    window = min(total, max(length, total // 3) if window is None else window)
    arrived = np.unique(np.linspace(1, total, min(steps, total)).round().astype(int))
    starts = {"growing": np.zeros_like(arrived), "sliding": np.maximum(arrived - window, 0)}
    chosen = {
        kind: [[s + i for i in trained.frame_indices(int(n - s))] for s, n in zip(first, arrived, strict=True)]
        for kind, first in starts.items()
    }
    latest = (arrived - 1).tolist()
    needed = sorted({index for rows in chosen.values() for row in rows for index in row} | set(latest))
    seen = trained.read(path, needed).frames  # (N, S, S, 3)
    place = {index: number for number, index in enumerate(needed)}

    def ask(rows: list[list[int]]) -> np.ndarray:
        return trained.probabilities(torch.stack([seen[[place[index] for index in row]] for row in rows]))

    frames = seen[[place[index] for index in latest]].numpy()
    return Evolution(arrived, ask(chosen["growing"]), ask(chosen["sliding"]), window, total, frames)


def draw_evolution(found: Evolution, names: tuple[str, ...], path: Path, title: str = "") -> Path:
    """Draws the frames, and below them the curves of the leading classes.

    Args:
        found: See `temporal_evolution`.
        names: Names of the classes.
        path: The PNG file.
        title: Text above the picture.
    """
    return save_figure(_Picture(found, names, title).figure, path)


def film_evolution(found: Evolution, names: tuple[str, ...], path: Path, fps: float = 6.0, title: str = "") -> Path:
    """Writes a film in which the frames arrive and the curves grow.

    Args:
        found: See `temporal_evolution`.
        names: Names of the classes.
        path: The .mp4 file.
        fps: Steps a second.
        title: Text above the picture.
    """
    picture = _Picture(found, names, title)
    return save_film(np.stack([picture.at(step) for step in range(1, len(found.arrived) + 1)]), path, fps)


class _Picture:
    """The frames over the curves, up to any step."""

    def __init__(self, found: Evolution, names: tuple[str, ...], title: str):
        self.found = found
        self.figure = new_figure(10, 5.4)
        upper, lower = self.figure.subfigures(2, 1, height_ratios=(1, 2.6))
        self.shown = np.unique(np.linspace(0, len(found.arrived) - 1, _SHOWN).round().astype(int))
        self.frames = upper.subplots(1, len(self.shown), squeeze=False)[0]
        for axis, number in zip(self.frames, self.shown, strict=True):
            axis.imshow(found.frames[number])
            axis.set_title(f"frame {found.arrived[number] - 1}", fontsize=8)
            axis.set_axis_off()
        axes = lower.subplots(1, 2, sharey=True)
        self.curves = [
            (line, values[:, label])
            for axis, values in zip(axes, (found.growing, found.sliding), strict=True)
            for colour, label in zip(_COLOURS, found.leading(), strict=False)
            for line in axis.plot(found.arrived, values[:, label], marker=".", color=colour, label=plain(names[label]))
        ]
        for axis, name in zip(axes, ("all frames so far", f"the latest {found.window} frames"), strict=True):
            axis.set(title=name, xlabel="frames that have arrived", ylim=(-0.02, 1.02), xlim=(0, found.num_frames + 1))
            axis.grid(alpha=0.3)
        axes[0].set_ylabel("probability")
        columns = 150 // (8 + max(len(names[label]) for label in found.leading()))  # as many as fit into the width
        handles = axes[1].get_lines()
        lower.legend(handles=handles, loc="outside lower center", fontsize=8, ncols=max(1, min(5, columns)))
        self.figure.suptitle(plain(title), fontsize=10)

    def at(self, step: int) -> np.ndarray:
        """The picture when so many steps have been made; nothing changes its place."""
        if self.figure.get_layout_engine() is not None:
            pixels_of(self.figure)  # lays everything out
            self.figure.set_layout_engine("none")
        for line, values in self.curves:
            line.set_data(self.found.arrived[:step], values[:step])
        for axis, number in zip(self.frames, self.shown, strict=True):
            axis.set_visible(bool(number < step))
        return pixels_of(self.figure)
