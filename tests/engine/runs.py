"""Runs of train_video.py in processes of their own, and what they leave.

The processes are forked off a server that has imported everything, so that they start in no time, and are told who they
are by the environment, as torchrun does it.
"""

import csv
import multiprocessing
import os
import signal
import sys
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch
import torch.distributed as dist

if TYPE_CHECKING:
    from timm_video_psn.engine.train.options import TrainOptions
    from timm_video_psn.engine.train.trainer import Trainer

TIMES = ("seconds", "train_seconds", "data_wait")

CONTEXT = multiprocessing.get_context("forkserver")
PRELOADED = (
    "timm_video_psn.__main__",
    "timm_video_psn.engine.train.trainer",
    "torch._dynamo",
    "matplotlib.figure",
    "av",
)
CONTEXT.set_forkserver_preload(list(PRELOADED))


def settled(*argv: str) -> "TrainOptions":
    """The options of a run with this command line."""
    from timm_video_psn.command_line.train import parse_options
    from timm_video_psn.engine.train.build import settle_options

    return settle_options(parse_options(argv))


def trainer_of(argv: Sequence[str]) -> "Trainer":
    """The trainer of a run with this command line, ready to train."""
    from timm_video_psn.command_line.train import parse_options
    from timm_video_psn.engine.train.trainer import create_trainer

    return create_trainer(parse_options(argv))


def stop_at_step(trainer: "Trainer", count: int) -> None:
    """Have SIGTERM arrive while batch number `count` is being trained on."""
    note, seen = trainer.run.report.note, []

    def note_and_signal(*args: Any) -> None:
        seen.append(args)
        if len(seen) == count:
            os.kill(os.getpid(), signal.SIGTERM)
        note(*args)

    trainer.run.report.note = note_and_signal  # type: ignore[method-assign]


def rows(folder: Path) -> list[dict[str, str]]:
    """summary.csv without the columns of times."""
    with (folder / "summary.csv").open() as file:
        return [{key: value for key, value in row.items() if key not in TIMES} for row in csv.DictReader(file)]


def assert_same_state(a: Any, b: Any, path: str = "state") -> None:
    """Equal to the last bit, whatever is nested in whatever."""
    assert type(a) is type(b), path
    if isinstance(a, torch.Tensor):
        assert torch.equal(a, b), path
    elif isinstance(a, dict):
        assert list(a) == list(b), path
        for key in a:
            if key not in TIMES:
                assert_same_state(a[key], b[key], f"{path}.{key}")
    elif isinstance(a, (list, tuple)):
        assert len(a) == len(b), path
        for i, pair in enumerate(zip(a, b, strict=True)):
            assert_same_state(*pair, f"{path}[{i}]")
    else:
        assert a == b or (a != a and b != b), path


def assert_same_runs(a: Path, b: Path) -> None:
    """The same weights, averages, optimizer, random numbers and results, to the last bit."""
    from timm_video_psn.engine.checkpoint import load_checkpoint

    states = [load_checkpoint(folder / "last.pt") for folder in (a, b)]
    for key in ("model", "ema", "optimizer", "scaler", "processes", "report", "history", "epoch", "step"):
        assert_same_state(states[0][key], states[1][key], key)
    assert rows(a) == rows(b)


class Processes:
    """As many processes as `count`, each of which calls `work(*arguments)`.

    Args:
        count: how many; one is started without torchrun's environment.
        log: folder for what each prints, by rank.
        work: called in each; what it returns is the exit code.
        arguments: of it.
    """

    def __init__(self, count: int, log: Path, work: Callable[..., int | None], *arguments: Any):
        log.mkdir(parents=True, exist_ok=True)
        self.logs = [log / f"{rank}.txt" for rank in range(count)]
        self.store = dist.TCPStore("127.0.0.1", 0, is_master=True, wait_for_workers=False)  # as torchrun holds it
        common = {
            "MASTER_ADDR": "127.0.0.1",
            "MASTER_PORT": str(self.store.port),
            "TORCHELASTIC_USE_AGENT_STORE": "True",
        }
        self.members = []
        for rank, file in enumerate(self.logs):
            place = {"RANK": str(rank), "LOCAL_RANK": str(rank), "WORLD_SIZE": str(count)} if count > 1 else {}
            member = CONTEXT.Process(target=_run, args=({**place, **common}, file, work, arguments))
            member.start()
            self.members.append(member)

    def wait(self, timeout: float = 120) -> list[int | None]:
        """The exit codes, once all have ended."""
        for member in self.members:
            member.join(timeout)
        codes = [member.exitcode for member in self.members]
        for member in self.members:
            member.kill()  # none may outlive a failed test
        return codes

    def said(self, rank: int = 0) -> str:
        """What a process has printed."""
        return self.logs[rank].read_text()


def train_in(count: int, log: Path, argv: list[str]) -> Processes:
    """Begin a run of as many processes."""
    from timm_video_psn.__main__ import train as train_main

    return Processes(count, log, train_main, argv)


def _run(environment: dict[str, str], log: Path, work: Callable[..., int | None], arguments: tuple[Any, ...]) -> None:
    """What a process does."""
    os.environ.update(environment)
    torch.set_num_threads(1)
    with log.open("w") as file:
        for stream in (1, 2):
            os.dup2(file.fileno(), stream)
    sys.exit(work(*arguments))
