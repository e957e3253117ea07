"""A run that is killed anywhere and resumed ends as one that was left alone."""

import random
import re
import resource
import signal
import time
from pathlib import Path

import pytest
import torch

from tests.engine.runs import Processes, assert_same_runs, rows, train_in
from timm_video_psn.__main__ import train as train_main
from timm_video_psn.engine.checkpoint import load_checkpoint

UPDATES = 12  # two epochs of six


@pytest.fixture(scope="module")
def options(tiny_motion, tmp_path_factory):
    """Arguments of a run of as many processes, six clips an update in all; a folder for all runs of this file."""
    output = tmp_path_factory.mktemp("runs")

    def arguments(processes: int, name: str, *more: str) -> list[str]:
        return [
            *("--dataset", "motion", "--data-dir", str(tiny_motion), "--output", str(output), "--experiment", name),
            *("--img-size", "32", "--num-frames", "4", "--epochs", "2", "--workers", "0", "--checkpoint-interval", "1"),
            *("--batch-size", str(6 // processes), "--drop", "0.2", "--model-ema", "--resume", "auto", *more),
        ]

    arguments.output = output
    return arguments


@pytest.fixture(scope="module", params=[1, 2], ids=["one process", "two processes"])
def undisturbed(request, options):
    """Number of processes, and the folder of a run that nobody stopped."""
    name = f"undisturbed{request.param}"
    run = train_in(request.param, options.output / "log", options(request.param, name))
    assert run.wait() == [0] * request.param, run.said()
    return request.param, options.output / name


def wait_for_saves(run: Processes, path: Path, count: int) -> None:
    """Until the file has been replaced so often, or the run is over."""
    seen: set[int] = set()
    until = time.monotonic() + 60
    while len(seen) < count and time.monotonic() < until and any(member.is_alive() for member in run.members):
        if path.exists():
            seen.add(path.stat().st_mtime_ns)
        time.sleep(0.005)


def test_a_run_killed_at_three_random_steps_ends_with_the_same_bits(undisturbed, options):
    processes, whole = undisturbed
    dice = random.Random(processes)
    name = f"killed{processes}"
    for _ in range(3):
        run = train_in(processes, options.output / "log", options(processes, name))
        wait_for_saves(run, options.output / name / "last.pt", dice.randint(2, 4))
        time.sleep(dice.uniform(0, 0.2))  # anywhere in an update, or while it writes
        for member in run.members:
            member.kill()
        assert run.wait() == [-signal.SIGKILL] * processes, run.said()
        state = load_checkpoint(options.output / name / "last.pt")
        assert (state["epoch"], state["step"]) > (0, 0)
    run = train_in(processes, options.output / "log", options(processes, name))
    assert run.wait() == [0] * processes, run.said()
    assert re.search(r"resuming  at epoch \d of 2", run.said())
    assert_same_runs(whole, options.output / name)


def test_a_process_that_is_asked_to_stop_stops_all_of_them_after_the_same_update(undisturbed, options):
    processes, whole = undisturbed
    name = f"asked{processes}"
    run = train_in(processes, options.output / "log", options(processes, name))
    wait_for_saves(run, options.output / name / "last.pt", 2)
    run.members[-1].terminate()
    assert run.wait() == [128 + signal.SIGTERM] * processes, run.said()
    assert "--resume auto resumes" in run.said()
    run = train_in(processes, options.output / "log", options(processes, name))
    assert run.wait() == [0] * processes, run.said()
    assert_same_runs(whole, options.output / name)


def test_a_run_may_go_on_with_another_number_of_processes_over_the_same_batches(options):
    run = train_in(2, options.output / "log", options(2, "fewer"))
    wait_for_saves(run, options.output / "fewer" / "last.pt", 3)
    run.members[0].terminate()
    run.wait()
    done = load_checkpoint(options.output / "fewer" / "last.pt")
    seen = sum(process["meter"]["clips"] for process in done["processes"])
    assert seen == done["step"] * 6
    run = train_in(1, options.output / "log", options(1, "fewer"))
    assert run.wait() == [0], run.said()
    assert "resumes with 1 processes instead of 2: the same batches" in run.said()
    assert [row["epoch"] for row in rows(options.output / "fewer")] == ["1", "2"]


def test_checkpoints_come_at_every_nth_update_and_the_last_are_kept(options):
    argv = options(1, "kept", "--checkpoint-interval", "4", "--checkpoint-hist", "3", "--val-interval", "1")
    assert train_main([*argv, "--best-hist", "2"]) == 0
    folder = options.output / "kept"
    kept = sorted((folder / "checkpoints").iterdir())
    assert [path.name for path in kept] == [f"update-{number:08d}.pt" for number in (6, 8, 12)]
    assert [load_checkpoint(path)["step"] for path in kept] == [0, 2, 0]
    assert [path.name for path in sorted((folder / "best-epochs").iterdir())] == ["epoch-0001", "epoch-0002"]
    best = max(rows(folder), key=lambda row: (float(row["val_top1"]), -float(row["val_loss"])))
    weights = [
        (place / "model.safetensors").read_bytes()
        for place in (folder / "best", folder / "best-epochs" / f"epoch-000{best['epoch']}")
    ]
    assert weights[0] == weights[1]
    before = (folder / "summary.csv").read_text()
    (folder / "last.pt").unlink()  # from an older one the run ends alike
    assert train_main([*argv, "--best-hist", "2", "--resume", str(kept[1])]) == 0
    again = rows(folder)
    assert [list(row.values()) for row in again] == [
        list({key: row[key] for key in again[0]}.values()) for row in __import__("csv").DictReader(before.splitlines())
    ]


def test_a_finished_run_can_be_made_longer_and_says_what_its_schedule_does(options, capsys):
    argv = options(1, "longer", "--sched", "cosine", "--warmup-epochs", "0")
    assert train_main([*argv, "--epochs", "1"]) == 0
    assert train_main([*argv, "--epochs", "1"]) == 0
    assert "all 1 epochs are trained already" in capsys.readouterr().out
    assert train_main([*argv, "--epochs", "3"]) == 0
    said = capsys.readouterr().out
    assert "3 epochs instead of 1: the cosine schedule now spans 3 epochs" in said
    assert "resumes at 7.50e-03 (it was 0.00e+00)" in said  # 0.01 (1 + cos(pi / 3)) / 2
    assert [float(row["lr"]) for row in rows(options.output / "longer")] == pytest.approx([0, 0.0025, 0])
    assert train_main([*argv, "--epochs", "2"]) == 2
    assert "it is in epoch 3 already; use --epochs 3 or more" in capsys.readouterr().err


def limited_run(argv: list[str], limit: int) -> int:
    """A run in a process that may not write files larger than `limit`: the disk is full, as far as it can tell."""
    resource.setrlimit(resource.RLIMIT_FSIZE, (limit, limit))
    return train_main(argv)


def test_a_full_disk_ends_the_run_with_the_name_of_the_file_and_the_older_checkpoint_whole(options):
    argv = options(1, "full", "--val-interval", "1")
    run = Processes(1, options.output / "log", limited_run, argv, 10**9)
    wait_for_saves(run, options.output / "full" / "last.pt", 2)
    run.members[0].terminate()
    run.wait()
    last = options.output / "full" / "last.pt"
    before = last.read_bytes()
    run = Processes(1, options.output / "log", limited_run, argv, len(before) // 2)
    assert run.wait() == [2], run.said()
    assert f"error: could not write {last}: " in run.said()
    assert "what was there before is untouched" in run.said()
    assert last.read_bytes() == before
    assert sorted(path.name for path in last.parent.iterdir()) == ["args.yaml", "interactions.npz", "last.pt"]
    run = train_in(1, options.output / "log", argv)
    assert run.wait() == [0], run.said()
    assert torch.isfinite(load_checkpoint(last)["model"]["backbone.fc.weight"]).all()
