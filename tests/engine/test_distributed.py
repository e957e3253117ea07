"""Several processes do together what one would do alone, and end together."""

import json
import os
import random
import signal
import subprocess
import sys
import time
from functools import partial
from pathlib import Path

import pytest
import torch
from torch import nn
from torch.utils.data import DataLoader

from tests.engine.runs import Processes, assert_same_runs, settled, train_in, trainer_of
from timm_video_psn.__main__ import train as train_main
from timm_video_psn.data import Batch, UnreadableVideo
from timm_video_psn.data.clips.epoch_sampler import EpochSampler
from timm_video_psn.engine import distributed
from timm_video_psn.engine.checkpoint import load_checkpoint
from timm_video_psn.engine.evaluate.evaluate import evaluate
from timm_video_psn.engine.precision import Precision
from timm_video_psn.engine.train import build
from timm_video_psn.engine.train.model import create_model, synchronise_norms
from timm_video_psn.engine.train.trainer import Trainer

ROOT = Path(__file__).parents[2]


def arguments(data: Path, output: Path, name: str, *more: str) -> list[str]:
    return [
        *("--dataset", "motion", "--data-dir", str(data), "--output", str(output), "--experiment", name),
        *("--img-size", "32", "--num-frames", "4", "--epochs", "2", "--workers", "0", *more),
    ]


def use_float64() -> None:
    """From here on this process trains in float64: what differs then is no rounding."""
    create, clip = build.create_model, Precision.clip
    build.create_model = lambda *args: create(*args).double()
    Precision.clip = lambda self, frames: clip(self, frames).double()


def exact_run(argv: list[str], path: Path) -> None:
    """`recorded_run` in float64."""
    use_float64()
    recorded_run(argv, path)


def recorded_run(argv: list[str], path: Path) -> None:
    """Train with the statistics of the norms as they are, and write the loss of every step, and the last weights."""
    losses = []
    with distributed.process_group("cpu"):
        trainer = trainer_of(argv)
        for module in trainer.run.model.modules():
            if isinstance(module, nn.modules.batchnorm._BatchNorm):
                module.eval().train = lambda mode=True, module=module: module
        hook = lambda module, inputs, output: losses.append((len(inputs[1]), output[0]["loss"].item()))  # noqa: E731
        trainer.run.task.register_forward_hook(hook)
        trainer.fit()
        steps = [
            sum(clips * loss for clips, loss in step) / sum(clips for clips, _ in step)
            for step in zip(*distributed.gather(losses), strict=True)
        ]
        if distributed.is_first():
            weights = torch.cat([value.flatten() for value in trainer.run.model.parameters()]).tolist()
            path.write_text(json.dumps({"losses": steps, "weights": weights, "history": trainer.history}))


@pytest.fixture(scope="module")
def motion_with_an_unreadable_video(tmp_path_factory, tiny_motion) -> Path:
    """The processes of a step have unlike numbers of clips then."""
    import shutil

    folder = tmp_path_factory.mktemp("broken") / "motion"
    shutil.copytree(tiny_motion, folder)
    next((folder / "train").rglob("*.mp4")).write_bytes(b"broken")
    next((folder / "val").rglob("*.mp4")).write_bytes(b"broken")
    return folder


@pytest.mark.parametrize("accumulate", ["1", "2"])
def test_two_processes_follow_the_losses_of_one(motion_with_an_unreadable_video, tmp_path, accumulate):
    results = []
    more = ("--opt", "sgd", "--drop", "0", "--grad-accum-steps", accumulate, "--max-unreadable", "0.2", "--lr", "0.02")
    for processes in (1, 2):
        size = ("--batch-size", str(6 // processes))
        argv = arguments(motion_with_an_unreadable_video, tmp_path, f"run{processes}", *more, *size)
        run = Processes(processes, tmp_path / "log", exact_run, argv, tmp_path / f"{processes}.json")
        assert run.wait() == [0] * processes, run.said()
        results.append(json.loads((tmp_path / f"{processes}.json").read_text()))
        said = [run.said(rank) for rank in range(processes)]
        assert all("could not be decoded" not in text for text in said)
        listed = (tmp_path / f"run{processes}" / "skipped.csv").read_text().splitlines()
        assert [line.rsplit(",", 2)[1:] for line in listed] == [["epoch", "split"], ["1", "train"], ["2", "val"]]
    one, two = results
    assert len(one["losses"]) == len(two["losses"]) == 12
    assert max(abs(a - b) for a, b in zip(one["losses"], two["losses"], strict=True)) < 1e-6
    assert len(set(one["losses"])) == 12
    torch.testing.assert_close(torch.tensor(two["weights"]), torch.tensor(one["weights"]), rtol=1e-6, atol=1e-7)
    for a, b in zip(one["history"], two["history"], strict=True):
        for name in a.keys() - {"seconds", "train_seconds", "data_wait"}:
            if name.startswith("grad_share_"):  # taken on the clips of the first process
                continue
            assert a[name] == pytest.approx(b[name], abs=1e-6), name


class FirstPixel(nn.Module):
    """Reads its answer off the clip: the logits of class k are the mean of the pixels of frame k."""

    def forward(self, clip):
        return clip.mean((1, 3, 4))


def clips_of(keys: list[tuple[int, int]]) -> Batch:
    """Videos of which every third says its class, and number 4 cannot be read."""
    numbers = torch.tensor([number for number, _ in keys if number != 4], dtype=torch.int64)
    clip = torch.zeros(len(numbers), 5, 2, 2, 3, dtype=torch.uint8)
    for row, number in enumerate(numbers.tolist()):
        clip[row, number % 5 if number % 3 == 0 else (number + 1) % 5] = 100 + number
    unreadable = [UnreadableVideo(4, "4.mp4", "gone")] if (4, 0) in keys else []
    return Batch(clip, numbers % 5, numbers, torch.full_like(numbers, 5 - (len(keys) == 1)), unreadable)


def evaluate_numbers(num_videos: int, path: Path) -> None:
    """Evaluate in a group of processes, and write what each got."""
    with distributed.process_group("cpu"):
        sampler = EpochSampler(num_videos, 2, False, rank=distributed.rank(), world_size=distributed.world_size())
        loader = DataLoader(range(num_videos), batch_sampler=sampler, collate_fn=lambda keys: keys)
        loader = (clips_of(keys) for keys in loader.batch_sampler)
        precision = Precision(torch.device("cpu"), (0.0,) * 3, (1 / 255,) * 3)
        result = evaluate(FirstPixel(), loader, precision, num_videos, ((0, 1), (2, 3)))
        path.with_suffix(f".{distributed.rank()}").write_text(repr(result))


@pytest.mark.parametrize("num_videos", [2, 11])
def test_every_video_is_evaluated_once_by_any_number_of_processes(tmp_path, num_videos):
    results = set()
    for processes in (1, 2, 3):
        path = tmp_path / f"result{processes}"
        run = Processes(processes, tmp_path / "log", evaluate_numbers, num_videos, path)
        assert run.wait() == [0] * processes, run.said()
        results |= {path.with_suffix(f".{rank}").read_text() for rank in range(processes)}
    results = {text.partition("num_short")[0] + text.partition("unreadable=")[2] for text in results}
    assert len(results) == 1, results  # in every process, whatever their number
    known = [number for number in range(num_videos) if number != 4]
    (result,) = results
    assert f"num_videos={len(known)}, num_expected={num_videos}" in result
    assert f"top1={100 * sum(number % 3 == 0 for number in known) / len(known)}" in result
    assert result.count("UnreadableVideo(") == (num_videos > 4)


def evaluate_the_same(path: Path) -> None:
    with distributed.process_group("cpu"):
        precision = Precision(torch.device("cpu"), (0.0,) * 3, (1 / 255,) * 3)
        with pytest.raises(ValueError, match="2 videos were evaluated by more than one process; give the loader"):
            evaluate(FirstPixel(), [clips_of([(0, 0), (1, 0)])], precision, 2)
        path.with_suffix(f".{distributed.rank()}").write_text("raised")


def test_a_loader_that_knows_nothing_of_the_other_processes_is_found_out(tmp_path):
    run = Processes(2, tmp_path / "log", evaluate_the_same, tmp_path / "result")
    assert run.wait() == [0, 0], run.said()
    assert len(list(tmp_path.glob("result.*"))) == 2


def failing_run(argv: list[str], rank: int) -> int:
    """A run in which one process fails in its third step."""
    train_step = Trainer.train_step

    def fail(trainer: Trainer, batch: Batch, steps: int, last: bool) -> bool:
        if trainer.step == 2 and distributed.rank() == rank:
            raise ValueError("something is wrong with this one")
        return train_step(trainer, batch, steps, last)

    Trainer.train_step = fail  # type: ignore[method-assign]
    return train_main(argv)


@pytest.mark.parametrize("rank", [0, 1])
def test_the_error_of_one_process_ends_all_of_them_and_is_the_only_one_that_is_reported(tiny_motion, tmp_path, rank):
    argv = arguments(tiny_motion, tmp_path, "run", "--batch-size", "3")
    run = Processes(2, tmp_path / "log", failing_run, argv, rank)
    start = time.monotonic()
    codes = run.wait(60)
    assert time.monotonic() - start < 60
    assert codes[rank] == 2
    assert codes[1 - rank] == 1
    assert f"train_video.py: rank {rank} of 2: error: something is wrong with this one" in run.said(rank)
    assert ": error: " not in run.said(1 - rank)


def step_with_an_empty_batch(path: Path, accumulate: int) -> None:
    """Two steps of an update; in the second one, the second process has no video that can be read."""
    with distributed.process_group("cpu"):
        rank = distributed.rank()
        torch.manual_seed(0)
        model = nn.Linear(3, 2)
        wrapped = distributed.data_parallel(model, torch.device("cpu"))
        batch = clips_of([(rank, 0), (rank + 2, 0)])
        shared = distributed.sync_batch_counts(batch)
        assert (shared.clips, shared.skipped, shared.weight) == ((2, 2), False, 1.0)
        with distributed.no_sync(wrapped):
            wrapped(torch.full((1, 3), 1.0 + rank)).sum().backward()
        shared = distributed.sync_batch_counts(clips_of([(4 if rank else 5, 0)]))
        assert (shared.clips, shared.skipped) == ((1, 0), True)
        assert [item.index for item in shared.unreadable] == [4]
        assert model.weight.grad.unique().item() == 1.0 + rank
        distributed.average_gradients(model.parameters())
        assert model.weight.grad.unique().item() == 1.5
        path.with_suffix(f".{rank}").write_text("done")


def test_a_step_in_which_one_process_has_no_video_is_left_out_by_all(tmp_path):
    run = Processes(2, tmp_path / "log", step_with_an_empty_batch, tmp_path / "result", 2)
    assert run.wait() == [0, 0], run.said() + run.said(1)


def test_norms_are_synchronised_on_gpus_only_and_keep_their_names(tiny_motion, tmp_path, capsys):
    assert train_main(arguments(tiny_motion, tmp_path, "run", "--sync-bn")) == 2
    assert "SyncBatchNorm works on GPUs only, and this run is on a CPU" in capsys.readouterr().err
    model = create_model(settled("--dataset", "motion"), 3).eval()
    names, clip = list(model.state_dict()), torch.randn(1, 3, 8, 32, 32)
    before = model(clip)
    converted = synchronise_norms(model, "cuda")
    norms = [module for module in converted.modules() if isinstance(module, nn.modules.batchnorm._BatchNorm)]
    assert norms
    assert all(isinstance(module, nn.SyncBatchNorm) for module in norms)
    assert list(converted.state_dict()) == names
    assert torch.equal(converted.eval()(clip), before)


def torchrun(*argv: str) -> subprocess.Popen:
    command = [sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc_per_node=2"]
    environment = {**os.environ, "OMP_NUM_THREADS": "1", "PYTHONPATH": str(ROOT)}
    pipes = {"stdout": subprocess.PIPE, "stderr": subprocess.PIPE, "text": True}
    return subprocess.Popen([*command, str(ROOT / "train_video.py"), *argv], env=environment, **pipes)


def environment_of(process: str) -> list[str]:
    """What a process was told when it began."""
    return Path(f"/proc/{process}/environ").read_text().split("\0")


def wait_for_saves(path: Path, count: int, run: subprocess.Popen) -> None:
    """Until the file has been seen in so many versions, or the run is over."""
    seen: set[int] = set()
    while len(seen) < count and run.poll() is None:
        if path.exists():
            seen.add(path.stat().st_mtime_ns)
        time.sleep(0.005)


@pytest.mark.slow
def test_torchrun_a_worker_that_is_killed_three_times_and_one_more_start(tiny_motion, tmp_path):
    more = ("--batch-size", "3", "--drop", "0.2", "--model-ema", "--checkpoint-interval", "1", "--resume", "auto")
    whole = train_in(2, tmp_path / "log", arguments(tiny_motion, tmp_path, "whole", *more))
    last, dice = tmp_path / "killed" / "last.pt", random.Random(0)
    for rank in (1, 0, 1):
        killed = torchrun(*arguments(tiny_motion, tmp_path, "killed", *more))
        wait_for_saves(last, 1 + dice.randint(1, 3) if last.exists() else dice.randint(1, 3), killed)
        time.sleep(dice.uniform(0, 0.2))  # anywhere in an update, or while it writes
        children = Path(f"/proc/{killed.pid}/task/{killed.pid}/children").read_text().split()
        (worker,) = [child for child in children if f"RANK={rank}" in environment_of(child)]
        os.kill(int(worker), signal.SIGKILL)
        out, error = killed.communicate(timeout=120)
        assert killed.returncode != 0
        assert "another process of this run disappeared" in error or "SIGKILL" in error
        assert out.count("run       ") <= 1  # the first process alone reports
        state = load_checkpoint(last)
        assert (0, 0) < (state["epoch"], state["step"]) < (2, 0)
    resumed = torchrun(*arguments(tiny_motion, tmp_path, "killed", *more))
    out, error = resumed.communicate(timeout=120)
    assert resumed.returncode == 0, error
    assert "resuming  at epoch" in out
    assert "processes 2, gloo" in out
    assert "for updates of 6 clips (3 a batch x 2 processes)" in out
    assert whole.wait() == [0, 0], whole.said()
    assert_same_runs(tmp_path / "whole", tmp_path / "killed")


def compiled_run(argv: list[str], path: Path) -> None:
    """As above, compiled as far as no compiler of C++ is needed."""
    torch.compile = partial(torch.compile, backend="aot_eager")
    recorded_run([*argv, "--torchcompile"], path)


@pytest.mark.usefixtures("compiler")
@pytest.mark.slow
def test_two_processes_that_compile_follow_those_that_do_not(tiny_motion, tmp_path):
    """With what may go wrong together: channels_last, gradients shared at every second step alone, the two losses."""
    results = []
    for work in (recorded_run, compiled_run):
        more = ("--epochs", "1", "--batch-size", "6", "--grad-accum-steps", "2", "--channels-last", "--drop", "0")
        argv = arguments(tiny_motion, tmp_path, work.__name__, *more)
        run = Processes(2, tmp_path / "log", work, argv, tmp_path / f"{work.__name__}.json")
        assert run.wait(300) == [0, 0], run.said()
        results.append(json.loads((tmp_path / f"{work.__name__}.json").read_text()))
    assert len(results[0]["losses"]) == 3
    for key in ("losses", "weights"):
        torch.testing.assert_close(*(torch.tensor(result[key]) for result in results), rtol=1e-4, atol=1e-5)
