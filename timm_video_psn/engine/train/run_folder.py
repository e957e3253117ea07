"""The folder of one run: `args.yaml`, `summary.csv`, `curves.png`, `skipped.csv`, `last.pt` and `best/`.

With --checkpoint-hist above 1 also `checkpoints/`, and with --best-hist above 1 `best-epochs/`.
"""

import csv
import io
import os
import shutil
from pathlib import Path
from typing import Any

import yaml

from timm_video_psn.engine.checkpoint import differing, load_checkpoint, save_checkpoint
from timm_video_psn.files import atomic_path
from timm_video_psn.plotting import new_figure, plain, save_figure

Row = dict[str, Any]

# What may differ between a run and its continuation: where things are, how fast it goes, what is kept and where it
# ends, never what comes out until then. The clips of a step are compared over all processes.
FREE_OPTIONS = (
    *("resume", "output", "experiment", "workers", "data_dir", "train_list", "val_list", "device"),
    *("max_unreadable", "max_broken"),  # the second in checkpoints of earlier versions
    *("config", "traceback", "epochs", "checkpoint_interval", "checkpoint_hist", "best_hist", "batch_size", "log"),
)


class RunFolder:
    """The folder of a run, new or to be continued, and its small files; nothing is written before `open`.

    Args:
        options: all options of the run, plain values.
        processes: that train together.

    Raises:
        FileExistsError: the folder holds a run, and `resume` was not asked for.
        FileNotFoundError: `resume` names a file that does not exist.
        ValueError: the run to be continued had other settings, or its name leads out of `output`.
    """

    def __init__(self, options: dict[str, Any], processes: int = 1):
        resume = options["resume"]
        self.options = dict(options)
        self.processes = processes
        self.path = run_path(options)
        self.last, self.best = self.path / "last.pt", self.path / "best"
        self.checkpoints, self.best_epochs = self.path / "checkpoints", self.path / "best-epochs"
        self.state = self._resumed_state(resume)

    def open(self) -> None:
        """Claim the folder: from here on it holds this run."""
        try:
            self.path.mkdir(parents=True, exist_ok=True)
        except OSError as error:
            raise OSError(
                f"no folder {self.path} can be made for the run ({error.strerror}); name another place with --output"
            ) from error
        for folder in (self.path, self.checkpoints, self.best_epochs):
            for leftover in folder.glob(".*.tmp"):  # of a process that was killed while it wrote
                leftover.unlink()
            for leftover in folder.glob(".export-*"):
                shutil.rmtree(leftover)
        settings = {key: value for key, value in self.options.items() if key != "resume"}  # a recipe begins anew
        self._write("args.yaml", yaml.safe_dump(settings, sort_keys=False))

    def _resumed_state(self, resume: str | None) -> dict[str, Any] | None:
        """The checkpoint to continue from, or None for a new run."""
        source = self.last if resume == "auto" else Path(resume or "")
        fresh = not resume or (resume == "auto" and not source.exists())
        if fresh or _run_of(source).resolve() != self.path.resolve():
            self._check_unused(allow_begun=resume == "auto")
        if fresh:
            return None
        state = load_checkpoint(source)
        if "processes" not in state:
            raise ValueError(f"{source} was written by an older version of this package; continue it with that version")
        lines = differing(state["options"], self.options, FREE_OPTIONS) + self._differing_batches(state)
        if lines:
            raise ValueError(
                f"cannot continue {source}: its settings differ from those asked for now:\n  "
                + "\n  ".join(lines)
                + "\nrepeat the settings of the checkpoint, or start a new run with --experiment NAME"
            )
        return state

    def _differing_batches(self, state: dict[str, Any]) -> list[str]:
        """A line if the clips of a step are not as many as before, over all processes."""
        settings = (state["options"], len(state["processes"])), (self.options, self.processes)
        (old, old_processes), (new, new_processes) = settings
        if old["batch_size"] * old_processes == new["batch_size"] * new_processes:
            return []
        return [
            f"batch_size: {old['batch_size']} in each of {old_processes} processes in the checkpoint, "
            f"{new['batch_size']} in each of {new_processes} now"
        ]

    def _check_unused(self, allow_begun: bool) -> None:
        """Raise if the folder holds what a run has trained, or, unless `allow_begun`, has only begun."""
        results = ("last.pt", "best", "summary.csv", *(() if allow_begun else ("args.yaml",)))
        found = [name for name in results if (self.path / name).exists()]
        if found:
            begun = "continues it from its last.pt" if "last.pt" in found else "begins it again"
            raise FileExistsError(
                f"{self.path} holds another run ({', '.join(found)}); --resume auto {begun}, "
                "--experiment NAME puts this one elsewhere, or delete the folder"
            )

    def save(self, state: dict[str, Any], updates: int, keep: int) -> None:
        """Write last.pt, and a second name for it in checkpoints/ if more than one is to be kept.

        Args:
            state: see `engine.train.run_state`.
            updates: made so far; they name the file.
            keep: checkpoints to keep, this one included.
        """
        save_checkpoint(self.last, state)
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
        """Where the model of an epoch goes.

        Args:
            epoch: its number.
            ranking: the epochs whose models are to be kept, best first; the epoch is one of them.
        """
        folders = [self.best] if ranking[0] == epoch else []
        if int(self.options["best_hist"]) > 1:
            self.best_epochs.mkdir(exist_ok=True)
            folders.append(self.best_epochs / f"epoch-{epoch:04d}")
        return folders

    def drop_epochs_but(self, ranking: list[int]) -> None:
        """Remove the models of epochs that are no longer among the best.

        Args:
            ranking: the epochs to keep.
        """
        kept = {f"epoch-{epoch:04d}" for epoch in ranking}
        for folder in self.best_epochs.glob("epoch-*"):
            if folder.name not in kept:
                shutil.rmtree(folder)

    def write_summary(self, history: list[Row]) -> None:
        """Write `summary.csv`, a row an epoch, and `curves.png`.

        Args:
            history: the rows so far; cells of columns that a row lacks, as those of a validation, stay empty.
        """
        text = io.StringIO()
        longest = max(history, key=len)  # a row of an epoch that was validated, if there is one yet
        writer = csv.DictWriter(text, fieldnames=list(longest), lineterminator="\n")
        writer.writeheader()
        writer.writerows(history)
        self._write("summary.csv", text.getvalue())
        draw_curves(history, self.path / "curves.png", title=self.path.name)

    def _write(self, name: str, text: str) -> None:
        with atomic_path(self.path / name) as temporary:
            temporary.write_text(text)


def run_path(options: dict[str, Any]) -> Path:
    """The folder of the run that the options describe.

    Args:
        options: all options of the run, plain values.

    Raises:
        ValueError: its name leads out of the folder of all runs.
    """
    resume = options["resume"]
    if resume and resume != "auto" and not options["experiment"]:
        return _run_of(Path(resume))
    return Path(options["output"]) / _checked_name(options["experiment"] or _default_name(options))


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
            f"--experiment {name!r} leads out of the folder of all runs; use a name, as run1 or study/run1, and "
            "--output DIR to put it elsewhere"
        )
    return name


def _default_name(options: dict[str, Any]) -> str:
    """<model>-<dataset>, with nothing in it that a file system minds."""
    model = str(options["model"]).rstrip("/").replace(":", "-").replace("/", "-")
    return f"{model}-{options['dataset']}"


def draw_curves(history: list[dict[str, Any]], path: Path, title: str) -> None:
    """Draw accuracy, losses and learning rate over the epochs.

    Args:
        history: a row an epoch, as in `summary.csv`.
        path: the PNG file.
        title: above the picture.
    """
    from matplotlib.ticker import MaxNLocator

    figure = new_figure(11, 3.4)
    accuracy, loss, rate = figure.subplots(1, 3)
    for key, label in (("train_top1", "train top-1"), ("val_top1", "val top-1"), ("val_top5", "val top-5")):
        _plot(accuracy, history, key, label)
    accuracy.set(title="accuracy, %", ylim=(0, 103))
    for key, label in (("train_loss", "train, with Eq. 2 and 3"), ("train_ce", "train"), ("val_loss", "val")):
        _plot(loss, history, key, label)
    loss.set(title="loss (cross-entropy, and all terms)", ylim=(0, None))
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
    figure.suptitle(plain("; validation: ".join((title, *protocols))))
    save_figure(figure, path, dpi=110)


def _plot(axis: Any, history: list[dict[str, Any]], key: str, label: str, **style: Any) -> None:
    """One line, through the epochs that have this value."""
    points = [(row["epoch"], row[key]) for row in history if key in row]
    if points:
        axis.plot(*zip(*points, strict=True), marker=".", label=label, **style)
