"""The folder of one run: `args.yaml`, `summary.csv`, `curves.png`, `skipped.csv`, `last.pt` and `best/`.

With --checkpoint-hist above 1 also `checkpoints/`, and with --best-hist above 1 `best-epochs/`.
"""

import os
import shutil
from dataclasses import fields
from pathlib import Path
from typing import Any

import yaml

from timm_video_psn.data import ShardedIndex, VideoIndex
from timm_video_psn.engine.checkpoint import load_checkpoint, save_checkpoint
from timm_video_psn.engine.train.options import TrainOptions, as_yaml
from timm_video_psn.files import atomic_path, first_names, remove_leftovers, write_csv, write_text
from timm_video_psn.plotting import new_figure, save_figure
from timm_video_psn.plotting import plain as plain_text

Row = dict[str, Any]

# What a resumed run may change: where things are, how fast it goes, what is kept and where it ends, never what comes
# out until then. The clips of a step are compared over all processes.
FREE_OPTIONS = {
    *("resume", "output", "experiment", "workers", "data_dir", "train_list", "val_list", "device", "max_unreadable"),
    *("config", "debug", "epochs", "checkpoint_interval", "checkpoint_hist", "best_hist", "batch_size", "log"),
    *("log_interval", "left_to_model", "early_stopping"),
}
TRAIN, VAL = "tab:blue", "tab:orange"  # the splits, in all panels
_OLD_COLUMNS = {"train_broken": "train_unreadable"}  # of a run that an earlier version began


class RunFolder:
    """The folder of a run, new or to be resumed, and its small files; nothing is written before `open`.

    Args:
        options: Options of the run.
        processes: Processes that train together.

    Attributes:
        state: Checkpoint that the run resumes from; None for a new run.

    Raises:
        FileExistsError: The folder holds a run, and `resume` was not asked for.
        FileNotFoundError: `resume` names a file that does not exist.
        ValueError: The run to be resumed had other settings, or its name leads out of `output`.
    """

    def __init__(self, options: TrainOptions, processes: int = 1):
        self.options = options
        self.processes = processes
        self.path = run_path(options)
        self.last, self.best = self.path / "last.pt", self.path / "best"
        self.checkpoints, self.best_epochs = self.path / "checkpoints", self.path / "best-epochs"
        self.state = self._load_state()

    @property
    def finished_epochs(self) -> int | None:
        """Epochs that the run has behind it; None for a new run."""
        return None if self.state is None else int(self.state["epoch"])

    def _load_state(self) -> dict[str, Any] | None:
        """The checkpoint to resume from, or None for a new run."""
        resume = self.options.resume
        source = self.last if resume == "auto" else Path(resume or "")
        fresh = not resume or (resume == "auto" and not source.exists())
        if fresh or _run_of(source).resolve() != self.path.resolve():
            self._check_unused(allow_begun=resume == "auto")
        if fresh:
            return None
        state = load_checkpoint(source)
        if "processes" not in state:
            raise ValueError(f"{source} was written by an older version of this package; resume it with that version")
        if lines := [*self._differing_options(state), *self._differing_batches(state)]:
            raise ValueError(
                f"cannot resume {source}: its settings differ from those asked for now:\n  "
                + "\n  ".join(lines)
                + "\nrepeat the settings of the checkpoint, or start a new run with --experiment NAME"
            )
        state["history"] = [{_OLD_COLUMNS.get(key, key): row[key] for key in row} for row in state.get("history", [])]
        return state

    def _differing_options(self, state: dict[str, Any]) -> list[str]:
        """A line for each setting that the checkpoint has otherwise."""
        new, old = self.options.as_asked(), as_yaml(state["options"])
        lines = []
        for option in fields(TrainOptions):
            name = option.name
            if name in FREE_OPTIONS:
                continue
            before = old.get(name, as_yaml(option.metadata["default"]))  # may be newer than it
            if before != new[name]:
                lines.append(f"{name}: {before!r} in the checkpoint, {new[name]!r} now")
        return lines

    def _differing_batches(self, state: dict[str, Any]) -> list[str]:
        """A line if a step has not as many clips as before, over all processes."""
        (old, old_processes), (new, new_processes) = (
            (state["options"]["batch_size"], len(state["processes"])),
            (self.options.batch_size, self.processes),
        )
        if old * old_processes == new * new_processes:
            return []
        return [
            f"batch_size: {old} in each of {old_processes} processes in the checkpoint, "
            f"{new} in each of {new_processes} now"
        ]

    def _check_unused(self, allow_begun: bool) -> None:
        """Raises if the folder holds what a run has trained, or, unless `allow_begun`, has only begun."""
        results = ("last.pt", "best", "summary.csv", *(() if allow_begun else ("args.yaml",)))
        found = [name for name in results if (self.path / name).exists()]
        if found:
            begun = "resumes it from its last.pt" if "last.pt" in found else "starts it again"
            raise FileExistsError(
                f"{self.path} holds another run ({', '.join(found)}); --resume auto {begun}, "
                "--experiment NAME puts this one elsewhere, or delete the folder"
            )

    def check_data(self, train: VideoIndex, val: VideoIndex) -> None:
        """Raises if the checkpoint has other classes, other videos, other batches or more epochs.

        Args:
            train: Training videos.
            val: Validation videos.

        Raises:
            ValueError: The run would not go on as it began.
        """
        if self.state is None:
            return
        old, new = self.state, data_identity(train, val)
        if old["class_names"] != new["class_names"]:
            differing = sorted(set(old["class_names"]) ^ set(new["class_names"]))
            raise ValueError(
                f"cannot resume {self.last}: its {len(old['class_names'])} classes are not the "
                f"{len(new['class_names'])} of the data; not in both: {first_names(differing, 10) or 'none'} "
                "(their order counts, too); use the data that the run began with"
            )
        if old["videos"] != new["videos"]:
            raise ValueError(
                f"cannot resume {self.last}: the data set has other videos than when the run began, so their order "
                "would change; restore the videos, or start a new run with --experiment NAME"
            )
        before = len(old["processes"])
        if before != self.processes and isinstance(train, ShardedIndex):
            raise ValueError(
                f"cannot resume {self.last} with {self.processes} processes: it began with {before}, and processes "
                f"share out the shards, so the batches would change; use {before} processes"
            )
        begun = old["epoch"] + (old["step"] > 0)
        if self.options.epochs < begun:
            raise ValueError(
                f"cannot resume {self.last} to the end of epoch {self.options.epochs}: it is in epoch {begun} already; "
                f"use --epochs {begun} or more"
            )

    def open(self) -> None:
        """Claims the folder: from here on it holds this run."""
        try:
            self.path.mkdir(parents=True, exist_ok=True)
        except OSError as error:
            raise OSError(
                f"no folder {self.path} can be made for the run ({error.strerror}); name another place with --output"
            ) from error
        for folder in (self.path, self.checkpoints, self.best_epochs):
            remove_leftovers(folder)
            for leftover in folder.glob(".export-*"):
                shutil.rmtree(leftover)
        settings = {key: value for key, value in self.options.as_asked().items() if key != "resume"}
        write_text(self.path / "args.yaml", yaml.safe_dump(settings, sort_keys=False))  # a recipe, which starts anew

    def save(self, state: dict[str, Any], updates: int) -> None:
        """Writes last.pt, and a second name for it in checkpoints/ if more than one is to be kept.

        Args:
            state: Checkpoint; see `Trainer.save`.
            updates: Updates made so far; they name the file.
        """
        save_checkpoint(self.last, state)
        keep = self.options.checkpoint_hist
        if keep == 1:
            return
        self.checkpoints.mkdir(exist_ok=True)
        with atomic_path(self.checkpoints / f"update-{updates:08d}.pt") as temporary:
            _link_or_copy(self.last, temporary)
        # By their age, not by their numbers: a run may have gone back to an older checkpoint.
        kept = sorted(self.checkpoints.glob("update-*.pt"), key=lambda path: (path.stat().st_mtime_ns, path.name))
        for path in kept[:-keep]:
            path.unlink()

    def best_folders(self, epoch: int, ranking: list[int]) -> list[Path]:
        """Returns the folders that the model of an epoch goes to.

        Args:
            epoch: Number of the epoch.
            ranking: Epochs whose models are kept, best first; the epoch is one of them.
        """
        folders = [self.best] if ranking[0] == epoch else []
        if self.options.best_hist > 1:
            self.best_epochs.mkdir(exist_ok=True)
            folders.append(self.best_epochs / f"epoch-{epoch:04d}")
        return folders

    def drop_epochs_but(self, ranking: list[int]) -> None:
        """Removes the models of epochs that are no longer among the best.

        Args:
            ranking: Epochs to keep.
        """
        kept = {f"epoch-{epoch:04d}" for epoch in ranking}
        for folder in self.best_epochs.glob("epoch-*"):
            if folder.name not in kept:
                shutil.rmtree(folder)

    def write_summary(self, history: list[Row]) -> None:
        """Writes `summary.csv`, a row an epoch, and `curves.png`.

        Args:
            history: Rows so far; an epoch without validation leaves the cells of the validation empty.
        """
        names = list(dict.fromkeys(name for row in history for name in row))
        write_csv(self.path / "summary.csv", names, ([row.get(name, "") for name in names] for row in history))
        draw_curves(history, self.path / "curves.png", title=self.path.name)


def run_path(options: TrainOptions) -> Path:
    """Returns the folder of the run that the options describe.

    Args:
        options: Options of the run.

    Raises:
        ValueError: Its name leads out of the folder of all runs.
    """
    if options.resume and options.resume != "auto" and not options.experiment:
        return _run_of(Path(options.resume))
    # <model>-<dataset>, with nothing in it that a file system minds
    default = f"{options.model.rstrip('/').replace(':', '-').replace('/', '-')}-{options.dataset}"
    return Path(options.output) / _checked_name(options.experiment or default)


def data_identity(train: VideoIndex, val: VideoIndex) -> dict[str, Any]:
    """Returns what tells the data of a run from other data, as its checkpoint keeps it.

    Args:
        train: Training videos.
        val: Validation videos.
    """
    return {
        "class_names": list(train.class_names),
        "dataset_version": train.version,
        "videos": [train.fingerprint(), val.fingerprint()],
    }


def _run_of(checkpoint: Path) -> Path:
    """The folder of the run that a checkpoint belongs to."""
    return checkpoint.parent.parent if checkpoint.parent.name == "checkpoints" else checkpoint.parent


def _link_or_copy(source: Path, target: Path) -> None:
    """A second name for a file, or a copy where the file system has only one name for each."""
    try:
        os.link(source, target)
    except OSError:
        shutil.copyfile(source, target)


def _checked_name(name: str) -> str:
    """The name, if it stays within the folder of all runs."""
    path = Path(os.path.normpath(name))
    if path.is_absolute() or ".." in path.parts or path == Path():
        raise ValueError(
            f"--experiment {name!r} leads out of the folder of all runs; use a name, for example run1 or study/run1, "
            "and --output DIR to put it elsewhere"
        )
    return name


def draw_curves(history: list[Row], path: Path, title: str) -> None:
    """Draws accuracy, losses and learning rate over the epochs.

    Args:
        history: Rows as in `summary.csv`, one an epoch.
        path: PNG file.
        title: Title of the picture.
    """
    from matplotlib.ticker import MaxNLocator

    figure = new_figure(11, 3.4)
    accuracy, loss, rate = figure.subplots(1, 3)
    kind = "bce" if any("train_bce" in row for row in history) else "ce"
    pale = {"alpha": 0.45, "linestyle": "--"}  # the lesser number of a split, in its colour
    _plot(accuracy, history, "train_top1", "train top-1", color=TRAIN)
    if kind == "bce":
        _plot(accuracy, history, "val_map", "val mAP", color=VAL)
    _plot(accuracy, history, "val_top1", "val top-1", color=VAL, **(pale if kind == "bce" else {}))
    _plot(accuracy, history, "val_top5", "val top-5", color=VAL, zorder=1, alpha=0.45, linestyle=":")
    accuracy.set(title="accuracy, %", ylim=(0, 103))
    _plot(loss, history, f"train_{kind}", "train", color=TRAIN)
    _plot(loss, history, "train_loss", "train, all terms", color=TRAIN, zorder=1, **pale)
    _plot(loss, history, "val_loss", "val", color=VAL)
    loss.set(title=f"loss ({'binary ' if kind == 'bce' else ''}cross-entropy, and all terms)", ylim=(0, None))
    _plot(rate, history, "lr", "learning rate", color="tab:gray")
    rate.set(title="learning rate at the end of the epoch", ylim=(0, None))
    for axis in (accuracy, loss, rate):
        axis.set_xlabel("epoch")
        axis.xaxis.set_major_locator(MaxNLocator(integer=True))
        axis.set_xlim(0.5, history[-1]["epoch"] + 0.5)
        axis.grid(alpha=0.3)
    accuracy.legend(loc="best")
    loss.legend(loc="best")
    protocols = dict.fromkeys(row["protocol"] for row in history if "protocol" in row)
    figure.suptitle(plain_text("; validation: ".join((title, *protocols))))
    save_figure(figure, path, dpi=110)


def _plot(axis: Any, history: list[Row], key: str, label: str, **style: Any) -> None:
    """One line, through the epochs that have this value."""
    points = [(row["epoch"], row[key]) for row in history if key in row]
    if points:
        axis.plot(*zip(*points, strict=True), marker=".", label=label, **style)
