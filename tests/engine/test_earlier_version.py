"""What an earlier version wrote is read by this one: run folder, checkpoint, score file and shards.

The archive holds a run of two epochs with its tiny videos, shards of them, and the test of its best model.
"""

import csv
import shutil
import tarfile
from pathlib import Path

import numpy as np
import pytest

from timm_video_psn.__main__ import train as train_main
from timm_video_psn.__main__ import validate as validate_main
from timm_video_psn.engine.checkpoint import load_checkpoint
from timm_video_psn.engine.evaluate.scores import load_scores

ARCHIVE = Path(__file__).with_name("version_0_1_0.tar.xz")
SCORES = Path("4x1x1@32of37-segments-logits", "scores.npz")
ARGUMENTS = [
    *("--dataset", "folder", "--data-dir", "data", "--model", "video_net", "--num-frames", "4", "--img-size", "32"),
    *("--model-kwargs", "backbone=resnet10t", "temporal=psn", "channels=(8,8,16,16)", "stem_width=8", "proportion=1.0"),
    *("--batch-size", "2", "--workers", "0", "--device", "cpu", "--experiment", "old", "--output", "."),
]


@pytest.fixture
def folder(tmp_path, monkeypatch) -> Path:
    with tarfile.open(ARCHIVE) as archive:
        archive.extractall(tmp_path, filter="data")
    monkeypatch.chdir(tmp_path)  # the run was given its data by a relative path
    return tmp_path


def test_its_run_resumes_with_the_command_that_began_it(folder, capsys):
    before = load_checkpoint(folder / "old" / "last.pt")
    assert train_main([*ARGUMENTS, "--epochs", "3", "--resume", "auto", "--max-broken", "0.01"]) == 0
    said = capsys.readouterr()
    assert "resuming  at epoch 3 of 3" in said.out
    assert "--max-broken is now --max-unreadable" in said.err
    with (folder / "old" / "summary.csv").open() as file:
        rows = list(csv.DictReader(file))
    assert [row["epoch"] for row in rows] == ["1", "2", "3"]
    assert [float(row["train_loss"]) for row in rows[:2]] == [row["train_loss"] for row in before["history"]]
    assert 0.45 < float(rows[2]["train_loss"]) < float(rows[1]["train_loss"])
    assert [row["train_unreadable"] for row in rows] == ["0", "0", "0"]
    with np.load(folder / "old" / "interactions.npz", allow_pickle=False) as file:
        assert file["epoch"].tolist() == [0, 1, 2, 3]
    assert load_checkpoint(folder / "old" / "last.pt")["epoch"] == 3


def test_its_settings_are_compared_and_serve_as_a_recipe(folder, capsys):
    assert train_main([*ARGUMENTS, "--epochs", "3", "--resume", "auto", "--lr", "0.1"]) == 2
    error = capsys.readouterr().err
    assert "  lr: 0.0003125 in the checkpoint, 0.1 now\nrepeat" in error
    argv = ["--recipe", "old/args.yaml", "--experiment", "again", "--epochs", "1"]
    assert train_main(argv) == 0
    old, again = (load_checkpoint(folder / name / "last.pt")["history"][0] for name in ("old", "again"))
    assert again["train_loss"] == pytest.approx(old["train_loss"], rel=1e-4)


@pytest.mark.parametrize("source", [["--model", "old/best"], ["--checkpoint", "old/last.pt"]])
@pytest.mark.parametrize("data", ["data", "shards"])
def test_its_model_gives_the_scores_that_it_gave_on_its_videos_and_shards(folder, source, data):
    argv = ["--dataset", "shards"] if data == "shards" else []
    argv += [*source, "--data-dir", data, "--device", "cpu", "--workers", "0", "--output", "new-test"]
    assert validate_main(argv) == 0
    old, new = (load_scores(folder / test / SCORES) for test in ("old-test", "new-test"))
    assert (new.labels.tolist(), new.class_names) == (old.labels.tolist(), old.class_names)
    np.testing.assert_allclose(new.scores, old.scores, atol=1e-4)


def test_its_score_file_compares_with_a_new_one(folder, capsys):
    shutil.copytree(folder / "old-test", folder / "copy")
    assert validate_main(["--compare", str(folder / "old-test" / SCORES), str(folder / "copy" / SCORES)]) == 0
    assert capsys.readouterr().out
