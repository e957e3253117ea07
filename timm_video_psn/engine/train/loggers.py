"""Where the numbers of every epoch go beside `summary.csv`: TensorBoard, W&B, trackio, MLflow, `interactions.npz`.

The horizontal axis is the number of finished epochs. Maps and ir-interactions begin at 0, before training.

`interactions.npz` holds what the fusion layers have learned, epoch after epoch (Fig. 5 as a film), for every run of a
model that has synthesizers. With E entries, its arrays are:

- `epoch`, (E,): 0 before training, then the number of every finished epoch;
- `irregular` and `total`, (E,): the ir-interactions of `timm_video_psn.ir_interactions`;
- `sites`, (S,): names of the sites, in the order of the model;
- for each site, as `layer1`: `layer1`, (E, G_t, G_s), the l1 norms of `timm_video_psn.interaction_map`;
  `layer1/temporal_labels`, (G_t,), and `layer1/spatial_labels`, (G_s,), the names of rows and columns.

With --model-ema the file holds the maps of the averaged weights, which are evaluated. No array is a pickle:
`numpy.load(path, allow_pickle=False)` reads the file.
"""

import importlib
import os
import secrets
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, Protocol

import numpy as np
from torch import nn

from timm_video_psn.console import launched_rank
from timm_video_psn.engine.train.run_folder import Row
from timm_video_psn.files import atomic_path
from timm_video_psn.interactions import (
    THRESHOLDS,
    InteractionMap,
    Interactions,
    drop_rate,
    interaction_map,
    ir_interactions,
)
from timm_video_psn.plotting import new_figure, pixels_of


class Logger(Protocol):
    """Takes the numbers and the pictures of an epoch."""

    def write(self, epoch: int, scalars: dict[str, float], images: dict[str, np.ndarray]) -> None:
        """Writes numbers, and pictures (H, W, 3) uint8, by name."""

    def close(self) -> None:
        """Writes what is not yet written."""


class TensorBoardLogger:
    """Event files in `tensorboard/` of the run: `tensorboard --logdir output` shows all runs.

    Args:
        folder: Folder of the run.
        options: Options of the run, plain values.
        finished: Epochs that the run has behind it, None for a new run; events of later ones, from before a resume,
            are hidden.
    """

    def __init__(self, folder: Path, options: dict[str, Any], finished: int | None):
        SummaryWriter = _load("torch.utils.tensorboard", "tensorboard").SummaryWriter
        self._writer = SummaryWriter(folder / "tensorboard", purge_step=None if finished is None else finished + 1)
        if finished is None:
            self._writer.add_text("options", "\n".join(f"    {key}: {value}" for key, value in options.items()))

    def write(self, epoch: int, scalars: dict[str, float], images: dict[str, np.ndarray]) -> None:
        """Writes numbers and pictures of an epoch."""
        for name, value in scalars.items():
            self._writer.add_scalar(name, value, epoch)
        for name, image in images.items():
            self._writer.add_image(name, image, epoch, dataformats="HWC")
        self._writer.flush()

    def close(self) -> None:
        """Closes the event file."""
        self._writer.close()


class WandbLogger:
    """A run of Weights & Biases, in the project WANDB_PROJECT or `timm_video_psn`; WANDB_MODE=offline keeps it here.

    Args:
        folder: Folder of the run; it gives the run its name, and `wandb-id.txt` in it lets the run resume.
        options: Options of the run, plain values: its config.
        finished: Epochs that the run has behind it, None for a new run.
    """

    def __init__(self, folder: Path, options: dict[str, Any], finished: int | None):
        wandb = _load("wandb", "wandb")
        self._image = wandb.Image
        self._run = wandb.init(
            project=os.environ.get("WANDB_PROJECT", "timm_video_psn"),
            name=folder.name,
            id=_kept(folder / "wandb-id.txt", finished, secrets.token_hex(4)),
            resume="allow",
            dir=folder,
            config=options,
            settings=wandb.Settings(console="off"),  # our own lines need no copy
        )
        self._run.define_metric("*", step_metric="epoch")

    def write(self, epoch: int, scalars: dict[str, float], images: dict[str, np.ndarray]) -> None:
        """Writes numbers and pictures of an epoch."""
        pictures = {name: self._image(image) for name, image in images.items()}
        self._run.log({"epoch": epoch, **scalars, **pictures})

    def close(self) -> None:
        """Ends the run."""
        self._run.finish()


class TrackioLogger:
    """A run of Hugging Face's trackio, in the project TRACKIO_PROJECT or `timm_video_psn`: `trackio show` shows it.

    Args:
        folder: Folder of the run; `trackio-name.txt` in it keeps the run's name, with which it resumes.
        options: Options of the run, plain values: its config.
        finished: Epochs that the run has behind it, None for a new run.
    """

    def __init__(self, folder: Path, options: dict[str, Any], finished: int | None):
        self._trackio = _load("trackio", "trackio")
        name = _kept(folder / "trackio-name.txt", finished, f"{folder.name}-{secrets.token_hex(3)}")
        project = os.environ.get("TRACKIO_PROJECT", "timm_video_psn")
        quiet = {"embed": False, "auto_log_gpu": False, "auto_log_cpu": False}
        self._run = self._trackio.init(project=project, name=name, config=options, resume="allow", **quiet)

    def write(self, epoch: int, scalars: dict[str, float], images: dict[str, np.ndarray]) -> None:
        """Writes numbers and pictures of an epoch."""
        pictures = {name: self._trackio.Image(image) for name, image in images.items()}
        self._run.log({**scalars, **pictures}, step=epoch)

    def close(self) -> None:
        """Ends the run."""
        self._run.finish()


class MlflowLogger:
    """A run of MLflow, at MLFLOW_TRACKING_URI, in the experiment MLFLOW_EXPERIMENT_NAME or `timm_video_psn`.

    Args:
        folder: Folder of the run; it gives the run its name, and `mlflow-id.txt` in it lets the run resume.
        options: Options of the run, plain values: its parameters.
        finished: Epochs that the run has behind it, None for a new run.
    """

    def __init__(self, folder: Path, options: dict[str, Any], finished: int | None):
        self._client = _load("mlflow", "mlflow").MlflowClient()
        name, kept = os.environ.get("MLFLOW_EXPERIMENT_NAME", "timm_video_psn"), folder / "mlflow-id.txt"
        if finished is None or not kept.exists():
            experiment = self._client.get_experiment_by_name(name)
            place = self._client.create_experiment(name) if experiment is None else experiment.experiment_id
            run = self._client.create_run(place, run_name=folder.name)
            for key, value in options.items():
                self._client.log_param(run.info.run_id, key, str(value)[:500])
            kept.write_text(run.info.run_id)
        self._id = kept.read_text()
        self._client.update_run(self._id, status="RUNNING")

    def write(self, epoch: int, scalars: dict[str, float], images: dict[str, np.ndarray]) -> None:
        """Writes numbers and pictures of an epoch."""
        for name, value in scalars.items():
            self._client.log_metric(self._id, name, value, step=epoch)
        for name, image in images.items():
            self._client.log_image(self._id, image, key=name.replace("/", "."), step=epoch)

    def close(self) -> None:
        """Ends the run."""
        self._client.set_terminated(self._id)


def _kept(path: Path, finished: int | None, new: str) -> str:
    """The name under which a logger knows a run: a new one for a new run, else the one in its folder."""
    if finished is None or not path.exists():
        path.write_text(new)
    return path.read_text()


LOGGERS: dict[str, Callable[[Path, dict[str, Any], int | None], Logger]] = {
    "tensorboard": TensorBoardLogger,
    "wandb": WandbLogger,
    "trackio": TrackioLogger,
    "mlflow": MlflowLogger,
}


class EpochLog:
    """Writes what is logged once an epoch; in a run of several processes only the first one writes.

    Args:
        names: Names of `LOGGERS`; `interactions.npz` is always written.
        folder: Folder of the run; it exists when this is entered as a context.
        options: Options of the run, plain values, and the protocol of the validation.
        model: Model whose interactions are logged.
        finished: Epochs that the run has behind it, None for a new run. A run that resumes within its first epoch has
            0, and its weights are no longer the initial ones.

    Raises:
        ValueError: A name is unknown.
        ImportError: Its package is not installed.
    """

    def __init__(
        self,
        names: Sequence[str],
        folder: Path,
        options: dict[str, Any],
        model: nn.Module,
        finished: int | None = None,
    ):
        check_loggers(names)
        self.names = tuple(dict.fromkeys(names))
        self.folder, self.options, self.model, self.finished = folder, options, model, finished
        self._writes = launched_rank() == 0
        self._loggers: list[Logger] = []

    def __enter__(self) -> "EpochLog":
        if self._writes:
            self._history = InteractionHistory(self.folder / "interactions.npz", self.finished)
            self._loggers = [LOGGERS[name](self.folder, self.options, self.finished) for name in self.names]
            if self.finished is None:
                self._write(0, {})
        return self

    def __exit__(self, *error: object) -> None:
        for logger in self._loggers:
            logger.close()

    def epoch(self, row: Row) -> None:
        """Logs a finished epoch.

        Args:
            row: Row of the epoch in `summary.csv`.
        """
        if self._writes:
            self._write(row["epoch"], _scalars(row))

    def _write(self, epoch: int, scalars: dict[str, float]) -> None:
        """The numbers, and what the fusion layers have learned by now."""
        maps, interactions = interaction_map(self.model), ir_interactions(self.model)
        self._history.add(epoch, maps, interactions)
        if not self._loggers:
            return
        if maps:
            scalars = {**scalars, "interactions/irregular": interactions.irregular}
            for share in THRESHOLDS:
                scalars[f"interactions/total_over_{share:g}"] = ir_interactions(self.model, share).total
                scalars[f"interactions/drop_rate_over_{share:g}"] = drop_rate(self.model, share)
            scalars |= {f"interactions/mean_norm_{site}": float(each.norms.mean()) for site, each in maps.items()}
        images = {f"interactions/{site}": draw_map(each, site) for site, each in maps.items()}
        for logger in self._loggers:
            logger.write(epoch, scalars, images)


def check_loggers(names: Sequence[str]) -> None:
    """Raises for a logger that is unknown or not installed.

    Args:
        names: Names of `LOGGERS`.

    Raises:
        ValueError: A name is unknown.
        ImportError: Its package is not installed.
    """
    for name in names:
        if name not in LOGGERS:
            raise ValueError(f"--log {name} is unknown; use some of {', '.join(LOGGERS)}")
        _load(name, name)


def draw_map(interactions: InteractionMap, title: str) -> np.ndarray:
    """Draws the map of a site as Fig. 5 does, with its numbers.

    Args:
        interactions: Interactions of the site.
        title: Title of the picture.

    Returns:
        A picture (H, W, 3), uint8.
    """
    figure = new_figure(4, 4)
    axis = figure.subplots()
    norms = interactions.norms
    axis.imshow(norms, cmap="viridis", vmin=0)
    axis.set_xticks(range(norms.shape[1]), interactions.spatial_labels)
    axis.set_yticks(range(norms.shape[0]), interactions.temporal_labels)
    for (i, j), value in np.ndenumerate(norms):
        axis.text(j, i, f"{value:.3g}", ha="center", va="center", color="white" if value < norms.max() / 2 else "black")
    axis.set_title(title)
    return pixels_of(figure)


def _scalars(row: Row) -> dict[str, float]:
    """The numbers of a row under names that group them: `train/`, `val/` and `run/`."""
    parts = {name: name.partition("_") for name in row if name != "epoch"}
    return {
        f"{part[0]}/{part[2]}" if part[0] in ("train", "val") and part[2] else f"run/{name}": row[name]
        for name, part in parts.items()
        if isinstance(row[name], (int, float))
    }


def _load(module: str, package: str) -> Any:
    """An optional package, or the error that says how to get it."""
    try:
        return importlib.import_module(module)
    except ImportError as error:
        raise ImportError(
            f"--log {package} needs the package {package}, which does not load here ({error}); "
            "pip install 'timm-video-psn[log]', or leave it out"
        ) from error


class InteractionHistory:
    """`interactions.npz`, written anew after every epoch, all or nothing.

    Args:
        path: Path of the file.
        finished: Epochs that the run has behind it, None for a new run; entries of later epochs are dropped from an
            older file.
    """

    def __init__(self, path: Path, finished: int | None = None):
        self.path = path
        self.arrays: dict[str, np.ndarray] = {}
        if finished is not None and path.is_file():
            with np.load(path, allow_pickle=False) as old:
                self.arrays = dict(old)
            kept = self.arrays["epoch"] <= finished
            for name in self._over_epochs():
                self.arrays[name] = self.arrays[name][kept]

    def add(self, epoch: int, maps: dict[str, InteractionMap], interactions: Interactions) -> None:
        """Adds an epoch and writes the file; nothing for a model without synthesizers, or an epoch that is there.

        Args:
            epoch: Number of the epoch, from 1 on; 0 for before training.
            maps: Maps by site.
            interactions: Interactions of all sites.
        """
        if not maps or epoch in self.arrays.get("epoch", ()):
            return
        self.arrays["sites"] = np.array(list(maps))
        for site, each in maps.items():
            self.arrays[f"{site}/temporal_labels"] = np.array(each.temporal_labels)
            self.arrays[f"{site}/spatial_labels"] = np.array(each.spatial_labels)
            self._append(site, each.norms.astype(np.float32))
        for name, value in (("epoch", epoch), ("irregular", interactions.irregular), ("total", interactions.total)):
            self._append(name, np.int64(value))
        with atomic_path(self.path) as temporary, temporary.open("wb") as file:
            np.savez_compressed(file, allow_pickle=False, **self.arrays)

    def _append(self, name: str, value: Any) -> None:
        """One more entry of an array over epochs."""
        new = np.asarray(value)[None]
        self.arrays[name] = np.concatenate([self.arrays[name], new]) if name in self.arrays else new

    def _over_epochs(self) -> list[str]:
        """The arrays with an entry for every epoch."""
        return ["epoch", "irregular", "total", *self.arrays["sites"]]
