"""Filter-interaction maps (Fig. 5): how strongly each spatial kernel feeds each temporal one, site by site.

"We quantize the importance of different shape interactions as the l1 norm of the corresponding transformation matrix",
T_ij of Eq. 2. A norm grows with the elements of its block, and our groups are not all of one width; `per_element`
divides by them, so that blocks and sites can be compared.
"""

import zipfile
import zlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
from torch import nn

from timm_video_psn.files import write_csv
from timm_video_psn.insights.films import save_gif
from timm_video_psn.interactions import THRESHOLDS, InteractionMap, drop_rate, interaction_map, ir_interactions
from timm_video_psn.plotting import new_figure, pixels_of, plain, save_figure

Maps = Mapping[str, InteractionMap]  # site -> map
_NAME_CHARS = 24  # of a model's name that fit beside its row


@dataclass(frozen=True)
class History:
    """The maps of a run, epoch by epoch: `epochs` (E,) and, by site, norms (E, G_t, G_s)."""

    epochs: np.ndarray
    norms: dict[str, np.ndarray]
    temporal_labels: dict[str, tuple[str, ...]]
    spatial_labels: dict[str, tuple[str, ...]]


def kernel_maps(model: nn.Module, per_element: bool = False) -> dict[str, InteractionMap]:
    """The map of every site, rows and columns in the order of Fig. 5: convolutions, pool, identity.

    Args:
        model: Any module that holds synthesizers.
        per_element: Divide the norms by the elements of their blocks.

    Raises:
        ValueError: There is no synthesizer in the model.
    """
    found = interaction_map(model)
    if not found:
        raise ValueError(
            f"{type(model).__name__} has no synthesizers and so no interactions; use a model with temporal='psn' "
            "(psn_resnet50, ...); cam, evolution and embedding work on every model"
        )
    return {site: _ordered(one, per_element) for site, one in found.items()}


def _ordered(one: InteractionMap, per_element: bool) -> InteractionMap:
    """The identity, which our banks have first, goes last."""
    rows, columns = _identity_last(one.temporal_labels), _identity_last(one.spatial_labels)
    norms = one.norms / one.sizes if per_element else one.norms
    return InteractionMap(
        norms[np.ix_(rows, columns)],
        tuple(one.temporal_labels[i] for i in rows),
        tuple(one.spatial_labels[j] for j in columns),
        one.sizes[np.ix_(rows, columns)],
    )


def _identity_last(labels: tuple[str, ...]) -> list[int]:
    """Places of the labels in the order of Fig. 5."""
    return sorted(range(len(labels)), key=lambda place: labels[place].startswith(("T-I", "S-I")))


def draw_kernel_maps(
    maps: Mapping[str, Maps], path: Path, title: str = "", starts: Mapping[str, Maps] | None = None
) -> Path:
    """Draws Fig. 5: a row of maps for each model, a column for each site.

    The maps of a column share one scale, from zero to the largest norm in it.

    Args:
        maps: Maps by the name of the model, see `kernel_maps`.
        path: The PNG file.
        title: Text above the picture.
        starts: Maps from before training, for those models that have them; the cells then show the change since.
    """
    figure = new_figure(*_size(maps))
    _draw(figure, maps, title, starts=starts)
    return save_figure(figure, path)


def save_kernel_maps(maps: Mapping[str, Maps], path: Path) -> Path:
    """Writes the numbers: a line for each block of each site of each model.

    Args:
        maps: Plain norms, by the name of the model.
        path: The CSV file.
    """
    rows = [
        (name, site, temporal, spatial, f"{one.norms[i, j]:.6g}", int(one.sizes[i, j]))
        for name, sites in maps.items()
        for site, one in sites.items()
        for i, temporal in enumerate(one.temporal_labels)
        for j, spatial in enumerate(one.spatial_labels)
    ]
    path.parent.mkdir(parents=True, exist_ok=True)
    write_csv(path, ("model", "site", "temporal", "spatial", "l1_norm", "elements"), rows)
    return path


def save_interaction_counts(models: Mapping[str, nn.Module], path: Path) -> Path:
    """Writes ir-interactions and drop rates of Table 2: a line for each threshold and model.

    Args:
        models: Models with synthesizers, by name.
        path: The CSV file.
    """
    rows = [
        (name, share, *ir_interactions(model, share), f"{drop_rate(model, share):.4g}")
        for name, model in models.items()
        for share in (0.0, *THRESHOLDS)
    ]
    write_csv(path, ("model", "share_of_strongest_block", "irregular", "total", "drop_rate"), rows)
    return path


def _size(maps: Mapping[str, Maps]) -> tuple[float, float]:
    return max(5.2, 0.6 + 2.4 * len(_sites(maps))), 0.5 + 1.9 * len(maps)  # no narrower than the title


def _sites(maps: Mapping[str, Maps]) -> list[str]:
    """The sites of all models, in the order of the one that has most."""
    return list(dict.fromkeys(site for sites in sorted(maps.values(), key=len, reverse=True) for site in sites))


def _draw(
    figure: Any,
    maps: Mapping[str, Maps],
    title: str,
    tops: Mapping[str, float] | None = None,
    starts: Mapping[str, Maps] | None = None,
) -> None:
    """All maps onto a figure."""
    names = list(maps)
    sites = _sites(maps)
    axes = figure.subplots(len(maps), len(sites), squeeze=False)
    for column, site in enumerate(sites):
        present = [(row, by_site[site]) for row, by_site in enumerate(maps.values()) if site in by_site]
        top = tops[site] if tops else max(float(one.norms.max()) for _, one in present)
        for row, one in present:
            start = (starts or {}).get(names[row], {}).get(site)
            changes = None if start is None else _changes(start.norms, one.norms)
            heat_map(axes[row, column], one.norms, one.temporal_labels, one.spatial_labels, top, 0.0, changes)
        for row in set(range(len(maps))) - {row for row, _ in present}:
            axes[row, column].set(xticks=[], yticks=[])  # empty, but the first of a row carries its name
            axes[row, column].spines[:].set_visible(False)
        axes[0, column].set_title(site, fontsize=9)
    for row, name in enumerate(maps):
        axes[row, 0].set_ylabel(plain(name, _NAME_CHARS), fontsize=8)
    figure.suptitle(title or "||T_ij||$_1$, temporal kernels (rows) by spatial kernels (columns)", fontsize=9)


def heat_map(
    axis: Any,
    values: np.ndarray,
    rows: Sequence[str],
    columns: Sequence[str],
    high: float,
    low: float,
    changes: Sequence[Sequence[str]] | None = None,
) -> Any:
    """Draws a table of numbers as colours, "the deeper color, the denser", with the numbers in the cells.

    Args:
        axis: Axes of a figure.
        values: (rows, columns).
        rows: Names of the rows.
        columns: Names of the columns.
        high: Value of the deepest colour.
        low: Value of the palest one.
        changes: Second line of each cell, (rows, columns); None for no such line.
    """
    image = axis.imshow(values, cmap="Blues", vmin=low, vmax=high, aspect="auto")
    axis.set_xticks(range(len(columns)), columns, fontsize=7)
    axis.set_yticks(range(len(rows)), rows, fontsize=7)
    axis.tick_params(length=0)
    for i, row in enumerate(values):
        for j, value in enumerate(row):
            dark = value - low > 0.6 * (high - low)
            text = f"{value:.3g}" if changes is None else f"{value:.3g}\n{changes[i][j]}"
            axis.text(j, i, text, ha="center", va="center", fontsize=6, color="white" if dark else "black")
    return image


def kernel_codes(maps: Maps) -> dict[str, str]:
    """The meaning of each row and column of the maps, as `S-C-3` -> `spatial convolution, 3 x 3`.

    Args:
        maps: See `kernel_maps`.
    """
    labels = dict.fromkeys(label for one in maps.values() for label in (*one.spatial_labels, *one.temporal_labels))
    return {label: _meaning(label) for label in sorted(labels)}


def _meaning(label: str) -> str:
    """A label of Fig. 5, which is domain, kind and size, in words."""
    domain, kind, size = label.split("-", 2)
    spatial = domain == "S"
    if kind == "I":
        return f"{'spatial' if spatial else 'temporal'} identity: the features pass unchanged"
    name = {"C": "convolution", "M": "max pooling", "A": "average pooling"}[kind]
    if spatial:
        return f"spatial {name}, {size if 'x' in size else f'{size} x {size}'} pixels of the site's map"
    return f"temporal {name}, {size} frames"


def _changes(start: np.ndarray, end: np.ndarray) -> list[list[str]]:
    """Changes in percent; nothing where there was nothing."""
    pairs = [zip(before, after, strict=True) for before, after in zip(start, end, strict=True)]
    return [[f"{100 * (after / before - 1):+.0f} %" if before else "" for before, after in row] for row in pairs]


def start_maps(history: History, maps: Maps) -> Maps:
    """The maps of a run from before training, in the form of its present ones.

    Args:
        history: See `read_history`.
        maps: Maps of the trained model, see `kernel_maps`.

    Returns:
        The sites that the history has from before training, with rows and columns as in `maps`.
    """
    found: dict[str, InteractionMap] = {}
    if history.epochs[0] != 0:
        return found
    for site, one in maps.items():
        rows, columns = history.temporal_labels.get(site, ()), history.spatial_labels.get(site, ())
        if set(rows) != set(one.temporal_labels) or set(columns) != set(one.spatial_labels):
            continue
        places = np.ix_([rows.index(a) for a in one.temporal_labels], [columns.index(b) for b in one.spatial_labels])
        found[site] = replace(one, norms=history.norms[site][0][places])
    return found


def read_history(path: Path) -> History:
    """The maps that training left, `interactions.npz` of a run's folder.

    Args:
        path: The file, or the run's folder.

    Raises:
        FileNotFoundError: There is none.
        ValueError: It is damaged, or holds no maps.
    """
    file = path / "interactions.npz" if path.is_dir() else path
    if not file.is_file():
        raise FileNotFoundError(
            f"{file} not found; only runs of models with synthesizers have it, and runs of early versions lack it"
        )
    try:
        with np.load(file, allow_pickle=False) as archive:
            arrays = {name: archive[name] for name in archive.files}
    except (ValueError, OSError, KeyError, EOFError, zipfile.BadZipFile, zlib.error) as error:
        raise ValueError(f"{file} is damaged or not an interactions.npz: {error}") from error
    return _history(arrays, file)


def _history(arrays: dict[str, np.ndarray], file: Path) -> History:
    """What is in the arrays, checked."""
    epochs = arrays.get("epoch", np.empty(0))
    norms = {name: array for name, array in arrays.items() if array.ndim == 3 and len(array) == len(epochs)}
    if epochs.ndim != 1 or not len(epochs) or not norms:
        found = ", ".join(f"{name} {list(array.shape)}" for name, array in arrays.items())
        raise ValueError(f"{file}: expected `epoch` (E,) and maps (E, G_t, G_s) by site, found {found or 'nothing'}")
    labels = {
        side: {site: _labels(arrays, site, side, norms[site]) for site in norms} for side in ("temporal", "spatial")
    }
    return History(epochs, norms, labels["temporal"], labels["spatial"])


def _labels(arrays: dict[str, np.ndarray], site: str, side: str, norms: np.ndarray) -> tuple[str, ...]:
    """The names of a site's rows or columns, or their numbers where the file has none that fit."""
    length = norms.shape[1] if side == "temporal" else norms.shape[2]
    for name in (f"{site}.{side}_labels", f"{site}/{side}_labels", f"{side}_labels"):
        if name in arrays and arrays[name].shape == (length,):
            return tuple(str(label) for label in arrays[name])
    return tuple(f"{side[0].upper()}{number}" for number in range(length))


def animate_history(history: History, path: Path, fps: float = 2.0, title: str = "") -> Path:
    """Draws the maps of a run as a GIF, a picture an epoch, on scales that stay the same.

    Args:
        history: See `read_history`.
        path: The GIF file.
        fps: Epochs a second.
        title: Text above the picture, followed by the epoch.
    """
    tops = {site: float(norms.max()) for site, norms in history.norms.items()}
    pictures = []
    for number, epoch in enumerate(history.epochs.tolist()):
        maps = {
            title or "run": {
                site: _ordered(
                    InteractionMap(
                        norms[number],
                        history.temporal_labels[site],
                        history.spatial_labels[site],
                        np.ones(norms[number].shape, dtype=np.int64),
                    ),
                    per_element=False,
                )
                for site, norms in history.norms.items()
            }
        }
        figure = new_figure(*_size(maps))
        _draw(figure, maps, f"{title} epoch {epoch}".strip(), tops)
        pictures.append(pixels_of(figure))
    return save_gif(pictures, path, fps)
