"""benchmarks/gestures.py: its data, its frames in memory, its runs, its statistics, and the page that it writes."""

import argparse
import csv
import json
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import timm
import torch
from safetensors.torch import save_file
from scipy import stats
from timm.models import save_for_hf

from benchmarks.evidence import data, packed, page, run, statistics, systems
from tests.data.sample_videos import decoded_plainly, encoded, moving_noise
from timm_video_psn.__main__ import train
from timm_video_psn.command_line.train import parse_options
from timm_video_psn.data import read_index

ROOT = Path(__file__).parents[1]
TINY = ["--img-size", "32", "--batch-size", "4", "--num-frames", "4", "--val-interval", "1"]


def video(path: Path, shift: int) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    frames = np.roll(moving_noise(36, 48, 10), shift, axis=2)
    return encoded(frames[::-1] if path.stem.startswith("left") else frames, "libx264", {"g": "5"}, "yuv420p", path)


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """Twelve videos of two classes, serial numbers 0 to 5."""
    root = tmp_path_factory.mktemp("gestures")
    for name in ("left", "right"):
        for serial in range(6):
            video(root / name / f"{name}_{serial}.mp4", serial)
    return root


def git(folder: Path, *command: str) -> None:
    identity = ["-c", "user.name=t", "-c", "user.email=t@example.org"]
    subprocess.run(["git", *identity, *command], cwd=folder, check=True, capture_output=True)


def test_a_clone_gives_the_newest_videos_and_those_of_its_history(tmp_path):
    clone, videos = tmp_path / "clone", tmp_path / "clone" / "testvideo"
    video(videos / "testvideo_left_1.mp4", 0)
    video(videos / "testvideo_unclassified_2.mp4", 1)
    git(clone, "init", "-q")
    git(clone, "add", ".")
    git(clone, "commit", "-qm", "old")
    video(videos / "testvideo_left_1.mp4", 2)
    video(videos / "testvideo_up_7.mp4", 3)
    video(videos / "testvideo_star_17.mp4", 4)
    git(clone, "add", ".")
    git(clone, "commit", "-qm", "new")
    data.prepare(clone, tmp_path / "made")
    made = sorted(str(path.relative_to(tmp_path / "made")) for path in (tmp_path / "made").rglob("*.mp4"))
    old = subprocess.run(
        ["git", "rev-parse", "HEAD~:testvideo/testvideo_left_1.mp4"], cwd=clone, capture_output=True, text=True
    ).stdout
    assert made == ["left/left_1.mp4", f"left/left_h1_{old[:6]}.mp4", "up/up_7.mp4"]
    with pytest.raises(FileExistsError, match="name a new folder"):
        data.prepare(clone, tmp_path / "made")


def test_each_video_is_tested_in_one_fold_and_trains_in_the_others(folder, tmp_path):
    tested = []
    for fold in range(5):
        train_list, test_list = (path.read_text().splitlines() for path in data.write_lists(folder, fold, tmp_path))
        assert len(train_list) + len(test_list) == 12
        assert not set(train_list) & set(test_list)
        tested += test_list
    assert sorted(tested) == sorted(f"{n}/{n}_{i}.mp4 {int(n == 'right')}" for n in ("left", "right") for i in range(6))
    assert data.fold_of(Path("left_h154_eed5fd.mp4")) == 154 % 5
    with pytest.raises(ValueError, match="no serial number"):
        data.fold_of(Path("left.mp4"))


def test_frames_in_memory_are_the_frames_of_the_file(folder, tmp_path):
    held = data.hold(read_index("folder", folder, "train"), tmp_path)
    for number in (3, 3, 0):  # decoded, mapped, another one
        whole = decoded_plainly(folder / held.paths[number])
        assert np.array_equal(held.decode(number, lambda count: [count - 1, 2]), whole[[len(whole) - 1, 2]])


def test_a_run_is_what_the_train_command_makes_of_the_files(folder, tmp_path, monkeypatch):
    system = systems.System("tiny", ("--model", "tsm_test_resnet"))
    monkeypatch.setitem(systems.SYSTEMS, "tsn", system)
    weights = tmp_path / "image.safetensors"
    save_file(timm.create_model("test_resnet").state_dict(), weights)
    monkeypatch.setattr(run, "RECIPE", [*systems.RECIPE, *TINY])
    args = argparse.Namespace(system="tsn", fold=0, seed=3, data_dir=folder, output=tmp_path, device="cpu", epochs=2)
    args.backbone_checkpoint = weights
    assert run.run(args) == 0
    here = tmp_path / "tsn-fold0-seed3"
    row = json.loads((here / "row.json").read_text())
    argv = [*run.RECIPE, *system.arguments, "--epochs", "2", "--seed", "3", "--backbone-checkpoint", str(weights)]
    argv += ["--dataset", "list", "--data-dir", str(folder), "--train-list", str(here / "train.txt")]
    argv += ["--val-list", str(here / "val.txt"), "--output", str(tmp_path), "--experiment", "files", "--device", "cpu"]
    assert train(argv) == 0
    numbers = []
    for name in (here.name, "files"):
        with (tmp_path / name / "summary.csv").open(newline="") as file:
            numbers.append([(e["train_loss"], e["val_loss"], e["val_top1"]) for e in csv.DictReader(file)])
    assert numbers[0] == numbers[1]
    assert float(row["top1"]) == pytest.approx(float(numbers[1][-1][2]), abs=0.01)
    assert set(row) == set(systems.COLUMNS)
    assert [len(row[name]) for name in ("truth", "predicted", "reversed")] == [4, 4, 4]  # 0 and 5
    assert len(row["shuffled"].split()) == 5
    assert (here / "model" / "model.safetensors").is_file()


def row(system: str, fold: int, seed: int, truth: str, predicted: str, **columns: str) -> dict[str, str]:
    top1 = 100 * np.mean([a == b for a, b in zip(truth, predicted, strict=True)])
    other = {"reversed": predicted, "shuffled": " ".join([predicted] * 5), "seconds": "3600", "device": "d"}
    curves = {"train_loss": "2.0 1.0", "val_top1": "2:50.0", "version": "v"}
    cell = {"system": system, "fold": str(fold), "seed": str(seed), "top1": str(top1), "truth": truth}
    return {**cell, "predicted": predicted, **other, **curves, **columns}


def test_a_video_counts_once_however_many_seeds_tested_it():
    runs = statistics.Runs(
        [row("dense", 0, 0, "01", "01"), row("dense", 0, 1, "01", "00"), row("dense", 1, 0, "2345", "2000")]
    )
    estimate = runs.top1("dense")
    assert estimate.value == pytest.approx(100 * (1 + 0.5 + 1 + 0 + 0 + 0) / 6)
    assert 0 <= estimate.low < estimate.value < estimate.high <= 100
    shuffled = row("dense", 0, 0, "01", "01", shuffled="01 00 00 00")
    assert statistics.Runs([shuffled]).top1("dense", "shuffled").value == pytest.approx(100 * (4 + 1) / 8)


def test_reversed_videos_are_asked_for_the_opposite_gesture():
    down, left, right, tick, up = (
        str(statistics.CLASSES.index(name)) for name in ("down", "left", "right", "tick", "up")
    )
    truth, seen = left + right + down + up + tick, right + right + up + down + tick
    assert statistics.Runs([row("dense", 0, 0, truth, truth, reversed=seen)]).after_reversal("dense") == 75.0


def test_the_interval_of_a_difference_is_wider_than_that_of_independent_runs():
    differences = [4.0, 1.0, 7.0, 3.0, 5.0]
    estimate = statistics.corrected_interval(differences)
    plain = stats.ttest_1samp(differences, 0).confidence_interval()
    factor = ((1 / 5 + 1 / 4) / (1 / 5)) ** 0.5  # test videos are a quarter of the training videos
    assert estimate.value == pytest.approx(4.0)
    assert estimate.high - estimate.value == pytest.approx(factor * (plain.high - 4.0))
    assert np.isnan(statistics.corrected_interval([3.0]).low)


def test_only_folds_and_seeds_that_both_have_are_compared():
    rows = [row("tsn", 0, 0, "0123", "0000"), row("tsn", 1, 0, "0123", "0120"), row("dense", 1, 0, "0123", "0123")]
    estimate, shared = statistics.Runs(rows).difference("tsn", "dense")
    assert (estimate.value, shared) == (25.0, [(1, 0)])


@pytest.mark.parametrize(
    ("paper", "low", "high", "words"),
    [
        (1.0, 0.5, 3.0, "holds"),
        (1.0, -0.5, 3.0, "cannot be told"),
        (1.0, -3.0, -0.5, "does not hold"),
        (-1.0, -3.0, -0.5, "holds"),
        (-1.0, 0.5, 3.0, "does not hold"),
        (1.0, float("nan"), float("nan"), "too few runs"),
    ],
)
def test_a_claim_holds_only_if_the_whole_interval_is_on_its_side(paper, low, high, words):
    assert statistics.verdict(paper, statistics.Estimate((low + high) / 2, low, high)) == words


def test_the_page_says_what_is_missing():
    text = page.page(statistics.Runs([row("tsn", 0, 0, "0123", "0000")]))
    assert "1 runs are finished" in text
    assert "TSN 4 of 5" in text
    assert "dense over TSN) | +30.54 | - | 0 | too few runs |" in text
    assert "None" not in text
    assert "nan" not in text.lower()


def test_the_page_is_written_from_the_rows_that_are_there():
    with (ROOT / "docs" / "gestures.csv").open(newline="") as file:
        rows = [row for row in csv.DictReader(file) if row["epochs"] == str(systems.EPOCHS)]
    expected = page.page(statistics.Runs(rows))
    assert (ROOT / "docs" / "evidence.md").read_text() == expected, "run: python benchmarks/gestures.py write"
    for each in rows:
        assert float(each["top1"]) == pytest.approx(100 * statistics.hits(each).mean(), abs=0.01)


def test_rows_of_finished_runs_are_collected_once(tmp_path):
    for fold in (0, 1):
        (tmp_path / "runs" / str(fold)).mkdir(parents=True)
        (tmp_path / "runs" / str(fold) / "row.json").write_text(json.dumps(row("tsn", fold, 0, "0123", "0000")))
    code = (
        "import sys, pathlib; sys.path[:0] = ['benchmarks']; import gestures\n"
        f"gestures.ROWS = pathlib.Path({str(tmp_path / 'rows.csv')!r})\n"
        f"runs = pathlib.Path({str(tmp_path / 'runs')!r})\n"
        "print(gestures.collect(runs), gestures.collect(runs), len(gestures.read_rows()))\n"
        "other = gestures.ROWS; gestures.ROWS = other.with_name('copy.csv'); print(gestures.collect(other))"
    )
    done = subprocess.run([sys.executable, "-c", code], cwd=ROOT, check=True, capture_output=True, text=True)
    assert done.stdout.split() == ["2", "0", "2", "2"]


def test_runs_are_packed_stopped_in_time_and_failures_named(tmp_path, capsys):
    def python(code: str) -> list[str]:
        return [sys.executable, "-c", code]

    finished = []
    wait = "import signal, sys, time; signal.signal(signal.SIGTERM, lambda *_: sys.exit('saved')); print(1, flush=True)"
    commands = {"good": python("print('hello')"), "bad": python("raise SystemExit(3)")}
    assert packed.run_packed(commands, tmp_path, jobs=2, finished=lambda: finished.append(1)) == 1
    assert (tmp_path / "good" / "log.txt").read_text() == "hello\n"
    assert finished == [1]
    assert "failed: bad;" in capsys.readouterr().err
    assert packed.run_packed({"long": python(f"{wait}; time.sleep(60)")}, tmp_path, minutes=3 / 60) == 0
    assert (tmp_path / "long" / "log.txt").read_text() == "1\nsaved\n"


def test_runs_come_in_the_order_of_their_worth(monkeypatch):
    monkeypatch.syspath_prepend(str(ROOT / "benchmarks"))
    import gestures

    everything = argparse.Namespace(systems=list(systems.SYSTEMS), folds=range(5), seeds=range(3))
    jobs = gestures.planned(everything)
    main, more, repeated = len(systems.MAIN), len(systems.MORE), len(systems.REPEATED)
    assert len(set(jobs)) == len(jobs) == 5 * (main + 2 * repeated + more)
    assert [job.system for job in jobs[:main]] == list(systems.MAIN)
    assert {(job.fold, job.seed) for job in jobs[:main]} == {(0, 0)}
    assert {job.system for job in jobs[-5 * more :]} == set(systems.MORE)


def test_every_system_can_be_built():
    for system in systems.SYSTEMS.values():
        options = parse_options([*systems.RECIPE, *system.arguments])
        with torch.device("meta"):
            model = timm.create_model(options.model, num_classes=10, num_frames=8, **options.model_kwargs)
        assert sum(parameter.numel() for parameter in model.parameters()) < 4e6


def test_the_routing_of_trained_models_is_drawn_where_there_are_some(tmp_path, monkeypatch):
    (tmp_path / "images").mkdir()
    monkeypatch.setattr(page, "DOCS", tmp_path)
    page.draw_routing(tmp_path)
    assert not list((tmp_path / "images").iterdir())
    assert page.ROUTING not in page.page(statistics.Runs([]))
    model = timm.create_model("psn_test_resnet", num_classes=3, proportion=0.5)
    save_for_hf(model, tmp_path / "dense-fold0-seed0" / "model", safe_serialization=True)
    page.draw_routing(tmp_path)
    assert (tmp_path / "images" / page.ROUTING).stat().st_size > 10_000
    assert page.ROUTING in page.page(statistics.Runs([]))
