"""The folder of one run: `args.yaml`, `last.pt`, `best/`, `summary.csv`, `curves.png`, `skipped.csv` and the like."""

import csv
import io
import shutil
from pathlib import Path
from typing import Any

import yaml

from timm_video_psn.engine.checkpoint import atomic_path, differing, load_checkpoint

Row = dict[str, Any]

# What may differ between a run and its continuation: where things are and how fast it goes, never what comes out.
FREE_OPTIONS = (
    *("resume", "output", "experiment", "workers", "data_dir", "train_list", "val_list", "device", "max_broken"),
    *("config", "traceback", "log"),
)


class RunFolder:
    """The folder of a run, new or to be continued, and its small files; nothing is written before `open`.

    Args:
        options: all options of the run, plain values.

    Raises:
        FileExistsError: the folder holds a run, and `resume` was not asked for.
        FileNotFoundError: `resume` names a file that does not exist.
        ValueError: the run to be continued had other settings.
    """

    def __init__(self, options: dict[str, Any]):
        resume = options["resume"]
        self.options = dict(options)
        self.path = run_path(options)
        self.last, self.best = self.path / "last.pt", self.path / "best"
        self.state = self._resumed_state(resume)

    def open(self) -> None:
        """Claim the folder: from here on it holds this run."""
        self.path.mkdir(parents=True, exist_ok=True)
        for leftover in self.path.glob(".*.tmp"):  # of a process that was killed while it wrote
            leftover.unlink()
        for leftover in self.path.glob(".export-*"):
            shutil.rmtree(leftover)
        self._write("args.yaml", yaml.safe_dump(self.options, sort_keys=False))

    def _resumed_state(self, resume: str | None) -> dict[str, Any] | None:
        """The checkpoint to continue from, or None for a new run."""
        source = self.last if resume == "auto" else Path(resume or "")
        fresh = not resume or (resume == "auto" and not source.exists())
        if fresh or source.parent.resolve() != self.path.resolve():
            self._check_unused(allow_begun=resume == "auto")
        if fresh:
            return None
        state = load_checkpoint(source)
        lines = differing(state["options"], self.options, FREE_OPTIONS)
        if lines:
            raise ValueError(
                f"cannot continue {source}: its settings differ from those asked for now:\n  "
                + "\n  ".join(lines)
                + "\nrepeat the settings of the checkpoint, or start a new run with --experiment NAME"
            )
        return state

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
        from timm_video_psn.engine.curves import draw_curves

        with atomic_path(self.path / "curves.png") as temporary:
            draw_curves(history, temporary, title=self.path.name)

    def _write(self, name: str, text: str) -> None:
        with atomic_path(self.path / name) as temporary:
            temporary.write_text(text)


def run_path(options: dict[str, Any]) -> Path:
    """The folder of the run that the options describe.

    Args:
        options: all options of the run, plain values.
    """
    resume = options["resume"]
    if resume and resume != "auto" and not options["experiment"]:
        return Path(resume).parent
    return Path(options["output"]) / (options["experiment"] or _default_name(options))


def _default_name(options: dict[str, Any]) -> str:
    """<model>-<dataset>, with nothing in it that a file system minds."""
    model = str(options["model"]).rstrip("/").replace(":", "-").replace("/", "-")
    return f"{model}-{options['dataset']}"
