"""Training on what real data brings: rare classes, videos of several classes, too many epochs, a teacher."""

import csv
import json
import shutil

import numpy as np
import pytest

from tests.engine.runs import assert_same_runs, rows, stop_at_step, trainer_of
from timm_video_psn.__main__ import insights as insights_main
from timm_video_psn.__main__ import train as train_main
from timm_video_psn.__main__ import validate as validate_main
from timm_video_psn.engine.load_model import load
from timm_video_psn.engine.signals import Interrupted


@pytest.fixture
def uneven(tiny_motion, tmp_path):
    """Three classes with 3, 2 and 1 videos to train, and one each to validate."""
    folder = tmp_path / "uneven"
    for count, name in zip((3, 2, 1), sorted(path.name for path in (tiny_motion / "train").iterdir()), strict=False):
        for split, most in (("train", count), ("val", 1)):
            (folder / split / name).mkdir(parents=True)
            for path in sorted((tiny_motion / split / name).iterdir())[:most]:
                shutil.copy(path, folder / split / name)
    return folder


def options(data, output, name, *more):
    return [
        *("--data-dir", str(data), "--output", str(output), "--experiment", name, "--model", "tsn_test_resnet"),
        *("--img-size", "32", "--num-frames", "2", "--batch-size", "2", "--epochs", "2", "--workers", "0", *more),
    ]


def test_balanced_epochs_resume_exactly_and_see_the_classes_equally_often(uneven, tmp_path, monkeypatch):
    settings = ("--sampler", "balanced", "--class-weights", "balanced", "--reprob", "0.5", "--resume", "auto")
    argv = options(uneven, tmp_path, "whole", "--checkpoint-interval", "1", *settings)
    trainer, seen = trainer_of(argv), []
    step = trainer.train_step
    monkeypatch.setattr(
        trainer, "train_step", lambda batch, *more, **k: seen.append(batch.label) or step(batch, *more, **k)
    )
    trainer.fit()
    assert np.bincount(np.concatenate(seen[:3])).tolist() == [2, 2, 2]
    weights = trainer.run.task.classification.class_weights
    np.testing.assert_allclose(weights, [6 / 9, 1, 2], rtol=1e-6)

    argv[argv.index("whole")] = "halved"
    stopped = trainer_of(argv)
    stop_at_step(stopped, 2)
    with pytest.raises(Interrupted):
        stopped.fit()
    trainer_of(argv).fit()
    assert_same_runs(tmp_path / "whole", tmp_path / "halved")


def test_early_stopping_counts_from_the_best_epoch_and_stays_stopped(uneven, tmp_path, caplog):
    frozen = (
        "--lr",
        "0",
        "--freeze-bn",
        "--epochs",
        "9",
        "--early-stopping",
        "2",
        "--resume",
        "auto",
    )  # nothing ever gets better
    argv = options(uneven, tmp_path, "run", *frozen)
    with caplog.at_level("INFO"):
        trainer_of(argv).fit()
    assert [row["epoch"] for row in rows(tmp_path / "run")] == ["1", "2", "3"]
    assert "stopped   after epoch 3 of 9: none of the last 2 was better than epoch 1" in caplog.text
    trainer_of(argv).fit()
    assert len(rows(tmp_path / "run")) == 3
    argv[argv.index("--early-stopping") + 1] = "4"
    trainer_of(argv).fit()
    assert len(rows(tmp_path / "run")) == 5


@pytest.fixture
def several(uneven):
    """The same videos with up to two of three classes each, as lists."""
    for split in ("train", "val"):
        paths = sorted(path.relative_to(uneven).as_posix() for path in (uneven / split).rglob("*.mp4"))
        labels = ("0;2", "1", "2;1", "0", "0;1", "2")
        lines = [f"{path},{label}\n" for path, label in zip(paths, labels, strict=False)]
        (uneven / f"{split}.txt").write_text("".join(lines))
    (uneven / "classes.txt").write_text("run\njump\nsit\n")
    return uneven


def test_videos_of_several_classes_are_trained_tested_predicted_and_reported(several, tmp_path, capsys):
    run, more = tmp_path / "run", ("--dataset", "list", "--class-weights", "balanced", "--mixup", "0.2")
    assert train_main(options(several, tmp_path, "no", *more)) == 2
    assert "--loss ce trains one class a video; use --loss bce" in capsys.readouterr().err
    assert train_main(options(several, tmp_path, "run", *more, "--loss", "bce")) == 0
    for row in rows(run):
        assert 0 < float(row["val_map"]) <= 100
        assert float(row["train_loss"]) == pytest.approx(float(row["train_bce"]))
    assert json.loads((run / "best" / "config.json").read_text())["activation"] == "sigmoid"

    assert validate_main(["--model", str(run), "--data-dir", str(several), "--workers", "0", "--device", "cpu"]) == 0
    (folder,) = run.glob("validate-list-val")
    (result,) = json.loads((folder / "results.json").read_text())["results"]
    assert result["metrics"]["map"]["value"] == pytest.approx(max(float(row["val_map"]) for row in rows(run)), abs=0.01)
    protocol = folder / result["folder"]
    assert (protocol / "ranking_curves.png").is_file()
    assert not (protocol / "confusion.png").exists()
    with (protocol / "predictions.csv").open() as file:
        assert [row["class"] for row in csv.DictReader(file)] == ["run; sit", "jump", "jump; sit"]
    with (protocol / "per_class.csv").open() as file:
        assert all(0 < float(row["average_precision"]) <= 100 for row in csv.DictReader(file))

    model = load(str(run), "cpu")
    video = next((several / "val").rglob("*.mp4"))
    clip, found = model.read(video), model.predict(video, topk=3)
    logits = model.model(model.precision.clip(clip.frames[None]))[0].detach()
    assert sorted(item.probability for item in found.top) == pytest.approx(sorted(logits.sigmoid().tolist()), abs=1e-5)

    report = ["report", str(run), "--output", str(tmp_path / "report"), "--data-dir", str(several)]
    assert insights_main(report) == 0
    page = (tmp_path / "report" / "report.html").read_text()
    assert "Precision, recall and ROC" in page
    assert "mAP" in page
    assert "found at 0.5" in page


def test_a_teacher_is_distilled(uneven, tmp_path, capsys):
    assert train_main(options(uneven, tmp_path, "teacher", "--epochs", "1")) == 0
    kd = ("--kd-teacher", str(tmp_path / "teacher"), "--kd-alpha", "0.7", "--kd-temperature", "2")
    assert train_main(options(uneven, tmp_path, "student", *kd)) == 0
    for row in rows(tmp_path / "student"):
        terms = [float(row[f"train_{name}"]) for name in ("ce", "kd")]
        assert float(row["train_loss"]) == pytest.approx(0.3 * terms[0] + 0.7 * terms[1], abs=1e-5)
        assert terms[1] > 0
