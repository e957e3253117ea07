"""validate_video.py as a user runs it, on a model that train_video.py has made: its files, its numbers, its errors."""

import csv
import json
import shutil
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import timm
import torch
from PIL import Image
from safetensors.torch import save_file

from tests import miniatures
from timm_video_psn.__main__ import train as train_main
from timm_video_psn.__main__ import validate as validate_main
from timm_video_psn.command_line.validate import parse_validate_options
from timm_video_psn.data import EvalTransform, VideoDataset, create_loader, read_index
from timm_video_psn.data.datasets.motion import prepare_motion
from timm_video_psn.data.video.pyav_backend import VideoFile
from timm_video_psn.engine.evaluate.evaluate import evaluate
from timm_video_psn.engine.evaluate.scores import load_scores
from timm_video_psn.engine.evaluate.validate import Validation, validate
from timm_video_psn.engine.precision import Precision

ROOT = Path(__file__).parents[1]
PROTOCOLS = ("4x1x1 segments", "4x2x1 twice probabilities", "8x10x3@24/30 dense", "4x2x3@36")
TINY = ("--model", "psn_test_resnet", "--no-pretrained", "--img-size", "32", "--num-frames", "4", "--epochs", "1")


@pytest.fixture(scope="module")
def motion(tmp_path_factory) -> Path:
    folder = tmp_path_factory.mktemp("data") / "motion"
    return prepare_motion(folder, workers=1, progress=False, train_per_class=1, val_per_class=1)


@pytest.fixture(scope="module")
def run(motion, tmp_path_factory) -> Path:
    """The folder of a run of one epoch."""
    output = tmp_path_factory.mktemp("runs")
    arguments = ["--dataset", "motion", "--data-dir", str(motion), "--output", str(output), "--experiment", "run"]
    assert train_main([*arguments, *TINY, "--batch-size", "6", "--workers", "0", "--model-ema"]) == 0
    return output / "run"


@pytest.fixture(scope="module")
def tested(run, motion, tmp_path_factory) -> Path:
    """The folder of a test with several protocols, by the script in a process of its own."""
    folder = tmp_path_factory.mktemp("tested")
    protocols = [word for text in PROTOCOLS for word in ("--protocol", text)]
    result = script("--model", run / "best", "--data-dir", motion, "--output", folder, "--workers", "1", *protocols)
    assert result.returncode == 0, result.stderr
    (folder / "stdout").write_text(result.stdout)
    return folder


def script(*arguments) -> subprocess.CompletedProcess:
    command = [sys.executable, str(ROOT / "validate_video.py"), *map(str, arguments)]
    return subprocess.run(command, capture_output=True, text=True, timeout=300)


def results_of(*arguments):
    """Results of a test within this process."""
    return validate(parse_validate_options([*map(str, arguments), "--workers", "0"]))


def rows(path):
    with path.open() as file:
        return list(csv.DictReader(file))


def fails(capsys, *arguments):
    """The message of an error that the user can mend."""
    assert validate_main([*map(str, arguments), "--workers", "0"]) == 2
    return capsys.readouterr().err


def test_every_number_has_its_protocol_its_interval_and_its_videos(tested):
    expected = [
        "4x1x1@32/36 segments logits",
        "4x2x1@32/36 twice probabilities",
        "8x10x3@24/30 dense logits",
        "4x2x3@36/36 segments logits",
    ]
    lines = (tested / "stdout").read_text().splitlines()
    for protocol in expected:
        (line,) = [line for line in lines if line.startswith(f"{protocol}:")]
        assert "top-1 " in line
        assert line.endswith("% (12 of 12 videos)")
    summary = json.loads((tested / "results.json").read_text())
    assert (summary["num_videos"], summary["num_expected"], summary["skipped"]) == (12, 12, [])
    assert [entry["protocol"] for entry in summary["results"]] == expected
    for entry, row in zip(summary["results"], rows(tested / "results.csv"), strict=True):
        assert row["protocol"] == entry["protocol"]
        assert set(entry["metrics"]) == {"top1", "top5", "mean_class", "pair_top1"}
        for name, metric in entry["metrics"].items():
            assert metric["low"] <= metric["value"] <= metric["high"]
            assert float(row[name]) == pytest.approx(metric["value"], abs=1e-4)
        folder = tested / entry["folder"]
        assert {path.name for path in folder.iterdir()} == {
            *("scores.npz", "predictions.csv", "per_class.csv", "confusion.csv", "confusion.png")
        }
        for name in ("per_class.csv", "predictions.csv"):
            assert {row["protocol"] for row in rows(folder / name)} == {entry["protocol"]}
    assert (summary["results"][2]["num_clips"], summary["results"][2]["num_crops"]) == (10, 3)


def test_the_files_agree_with_one_another(tested):
    summary = json.loads((tested / "results.json").read_text())
    for entry in summary["results"]:
        folder = tested / entry["folder"]
        with np.load(folder / "scores.npz", allow_pickle=False) as file:
            scores, labels = file["scores"], file["labels"]
            assert str(file["protocol"]) == entry["protocol"]
            names, videos = file["class_names"].tolist(), file["videos"].tolist()
        assert (scores.shape, scores.dtype) == ((12, 12), np.float32)
        top1 = 100 * (scores.argmax(1) == labels).mean()
        assert entry["metrics"]["top1"]["value"] == pytest.approx(top1)
        table = rows(folder / "per_class.csv")
        assert [row["class"] for row in table] == names
        assert sum(int(row["correct"]) for row in table) == round(top1 * 12 / 100)
        with (folder / "confusion.csv").open() as file:
            matrix = np.array([row[1:] for row in list(csv.reader(file))[1:]], dtype=int)
        assert (matrix.sum(), matrix.trace()) == (12, round(top1 * 12 / 100))
        for row, video, values in zip(rows(folder / "predictions.csv"), videos, scores, strict=True):
            assert (row["video"], row["class"]) == (video, Path(video).parent.name)
            assert row["predicted_1"] == names[values.argmax()]
        with Image.open(folder / "confusion.png") as image:
            assert min(image.size) > 300
    if summary["results"][1]["fusion"] == "probabilities":
        values = load_scores(tested / summary["results"][1]["folder"] / "scores.npz").scores
        np.testing.assert_allclose(values.sum(1), 1, rtol=1e-5)


def test_protocols_in_one_pass_equal_each_alone_and_decode_each_video_once(tested, run, motion, monkeypatch):
    decoded = []
    original = VideoFile.__init__

    def open_file(self, path, *args, **options):
        decoded.append(path)
        original(self, path, *args, **options)

    monkeypatch.setattr(VideoFile, "__init__", open_file)
    common = ["--model", str(run / "best"), "--data-dir", str(motion), "--workers", "0"]
    protocols = [word for text in PROTOCOLS for word in ("--protocol", text)]
    together = Validation(parse_validate_options([*common, *protocols])).scores()
    assert len(decoded) == len(set(decoded)) == 12
    summary = json.loads((tested / "results.json").read_text())
    for text, joint, entry in zip(PROTOCOLS, together, summary["results"], strict=True):
        (alone,) = Validation(parse_validate_options([*common, "--protocol", text, "--views-per-step", "3"])).scores()
        written = load_scores(tested / entry["folder"] / "scores.npz")
        assert alone.videos == joint.videos == written.videos
        np.testing.assert_allclose(alone.scores, joint.scores, rtol=1e-4, atol=1e-5)
        np.testing.assert_allclose(written.scores, joint.scores, rtol=1e-4, atol=1e-5)


def test_without_further_options_it_is_the_validation_of_training(run, motion):
    """The model folder says everything; the number is that of the epoch that was kept."""
    (result,) = results_of("--model", run / "best", "--data-dir", motion)
    (row,) = [row for row in rows(run / "summary.csv") if row["val_top1"]]
    assert result.accuracy.top1.value == pytest.approx(float(row["val_top1"]), abs=1e-3)
    assert result.accuracy.top5.value == pytest.approx(float(row["val_top5"]), abs=1e-3)
    assert result.accuracy.pair_top1.value == pytest.approx(float(row["val_pair_top1"]), abs=1e-3)
    config = json.loads((run / "best" / "config.json").read_text())
    assert result.scores.protocol == config["video"]["protocol"] == config["metrics"]["protocol"]
    assert (run / "validate-motion-val" / "results.json").exists()
    model = timm.create_model(f"local-dir:{run / 'best'}", pretrained=True)
    cfg, index = model.pretrained_cfg, read_index("motion", motion, "val")
    dataset = VideoDataset(index, 4, EvalTransform(32, cfg["crop_pct"], cfg["interpolation"]), training=False)
    precision = Precision(torch.device("cpu"), cfg["mean"], cfg["std"])
    judge = evaluate(model, create_loader(dataset, 5, False, workers=0), precision, 12)
    assert result.accuracy.top1.value == pytest.approx(judge.top1)


def test_a_checkpoint_of_training_and_weights_alone_are_the_same_model(run, motion, tmp_path):
    folder = ("--data-dir", motion, "--output", tmp_path / "out")
    (best,) = results_of("--model", run / "best", *folder)
    (last,) = results_of("--checkpoint", run / "last.pt", *folder)
    assert last.scores.protocol == best.scores.protocol
    np.testing.assert_allclose(last.scores.scores, best.scores.scores, rtol=1e-5, atol=1e-6)
    weights = tmp_path / "weights.safetensors"
    options = ("--model", "psn_test_resnet", "--checkpoint", weights, "--dataset", "motion", *folder)
    model = timm.create_model("psn_test_resnet", num_classes=12)
    save_file({name: value.contiguous() for name, value in model.state_dict().items()}, weights)
    (named,) = results_of(*options, "--num-frames", "4", "--test-img-size", "32", "--test-short-side", "36")
    assert named.scores.protocol == best.scores.protocol
    assert not np.allclose(named.scores.scores, best.scores.scores)
    shutil.copy(run / "best" / "model.safetensors", weights)  # whose synthesizers are wider, by the recipe
    with pytest.raises(ValueError, match="does not fit psn_test_resnet with 12 classes"):
        results_of(*options)
    with pytest.raises(ValueError, match="is of psn_test_resnet, not of --model tsm_test_resnet"):
        results_of("--model", "tsm_test_resnet", "--checkpoint", run / "last.pt", *folder)


def test_views_by_single_options(run, motion, tmp_path, caplog):
    (tmp_path / "results.json").write_text("{}")
    caplog.set_level("INFO")
    options = ("--views", "3x3", "--sampling", "dense", "--fusion", "probabilities", "--test-img-size", "40")
    (result,) = results_of("--model", run / "best", "--data-dir", motion, "--output", tmp_path, *options)
    assert result.scores.protocol == "4x3x3@40/40 dense probabilities"
    assert f"replaced  results.json of an earlier test in {tmp_path}; --output names another folder" in caplog.messages


def test_score_files_are_joined_and_compared(tested, tmp_path, capsys):
    summary = json.loads((tested / "results.json").read_text())
    files = [str(tested / entry["folder"] / "scores.npz") for entry in summary["results"]]
    assert validate_main(["--compare", files[0], files[2], "--output", str(tmp_path / "compared")]) == 0
    text = capsys.readouterr().out
    first, second = (load_scores(Path(files[number])) for number in (0, 2))
    right = [part.scores.argmax(1) == part.labels for part in (first, second)]
    comparison = json.loads((tmp_path / "compared" / "comparison.json").read_text())
    assert comparison["only_first"] == (right[0] & ~right[1]).sum()
    assert comparison["difference"]["value"] == pytest.approx(100 * (right[1].mean() - right[0].mean()))
    assert "McNemar's exact p" in text
    assert "the protocols differ" in text
    assert text.count("8x10x3@24/30 dense logits: top-1") == 1
    assert len(rows(tmp_path / "compared" / "comparison.csv")) == 12

    assert validate_main(["--ensemble", *files[::2], "--weights", "3", "1", "--output", str(tmp_path / "joined")]) == 0
    joined = load_scores(tmp_path / "joined" / "ensemble" / "scores.npz")
    np.testing.assert_allclose(joined.scores, (3 * first.scores + second.scores) / 4, rtol=1e-4, atol=1e-5)
    (row,) = rows(tmp_path / "joined" / "results.csv")
    assert float(row["top1"]) == pytest.approx(100 * (joined.scores.argmax(1) == joined.labels).mean(), abs=1e-3)


def test_videos_that_cannot_be_read_are_counted_and_named(run, motion, tmp_path, capsys):
    data = tmp_path / "data"
    shutil.copytree(motion, data)
    videos = sorted((data / "val").rglob("*.mp4"))
    videos[0].write_bytes(b"")
    videos[5].write_bytes(videos[5].read_bytes()[:200])
    # as a folder of classes: motion itself notices that its own files have changed
    options = ("--model", run / "best", "--dataset", "folder", "--data-dir", data, "--output", tmp_path / "out")
    (result,) = results_of(*options, "--max-unreadable", "0.2")
    assert (len(result.scores), result.scores.num_expected, result.accuracy.num_videos) == (10, 12, 10)
    assert not any(str(videos[number]).endswith(name) for number in (0, 5) for name in result.scores.videos)
    skipped = rows(tmp_path / "out" / "skipped.csv")
    assert [row["path"] for row in skipped] == [str(videos[0]), str(videos[5])]
    assert "empty (0 bytes)" in skipped[0]["reason"]
    summary = json.loads((tmp_path / "out" / "results.json").read_text())
    assert (summary["num_videos"], summary["num_expected"], len(summary["skipped"])) == (10, 12, 2)
    assert "more than --max-unreadable 0.05 allows" in fails(capsys, *options, "--max-unreadable", "0.05")
    for video in videos:
        video.write_bytes(b"")
    assert "none of the 12 videos of val could be read" in fails(capsys, *options, "--max-unreadable", "1")
    # a comparison with the full test says which videos are missing
    full = tmp_path / "full"
    (other,) = results_of("--model", run / "best", "--data-dir", motion, "--output", full)
    files = [tmp_path / "out" / result.slug / "scores.npz", full / other.slug / "scores.npz"]
    message = fails(capsys, "--compare", *files)
    assert "not of the same videos (10 and 12)" in message
    assert videos[0].name in message


def test_other_classes_are_an_error_that_shows_them(run, motion, tmp_path, capsys):
    data = tmp_path / "data"
    shutil.copytree(motion, data)
    for split in ("train", "val"):
        (data / split / "recede").rename(data / split / "retreat")
    options = ("--model", run / "best", "--dataset", "folder", "--data-dir", data, "--output", tmp_path / "out")
    message = fails(capsys, *options)
    assert "only in the model" in message
    assert "'recede'" in message
    assert "only in the data: 'retreat'" in message
    assert not (tmp_path / "out").exists()


def test_what_is_missing_or_contradictory_is_said(run, motion, tmp_path, capsys):
    best = run / "best"
    assert "is not a model folder: it has no config.json" in fails(capsys, "--model", tmp_path, "--data-dir", motion)
    assert "add --checkpoint FILE" in fails(capsys, "--model", "psn_resnet50", "--data-dir", motion)
    assert "nowhere" in fails(capsys, "--model", best, "--dataset", "folder", "--data-dir", tmp_path / "nowhere")
    assert "last.pt not found" in fails(capsys, "--checkpoint", tmp_path / "last.pt", "--data-dir", motion)
    assert "weights alone; name their model" in fails(
        capsys, "--checkpoint", tmp_path / "w.pth", "--dataset", "motion", "--data-dir", motion
    )
    options = ("--model", best, "--data-dir", motion, "--output", tmp_path / "out")
    assert "5 clips asked for, but sampling 'twice' has 2" in fails(
        capsys, *options, "--views", "5x1", "--sampling", "twice"
    )
    assert "asked for more than once" in fails(capsys, *options, "--protocol", "1x1", "--protocol", "4x1x1 segments")
    assert "'sideways' is not understood" in fails(capsys, *options, "--protocol", "1x1 sideways")
    assert "--amp with float16 needs a GPU" in fails(capsys, *options, "--amp", "--device", "cpu")
    assert "cannot be used here" in fails(capsys, *options, "--device", "tpu")
    assert "there are train and val" in fails(capsys, *options, "--split", "test")
    assert not (tmp_path / "out").exists()
    assert "not found" in fails(capsys, "--compare", tmp_path / "a.npz", tmp_path / "b.npz")
    for wrong in (
        [],
        ["--model", str(best), "--compare", "a", "b"],
        ["--model", str(best), "--weights", "1"],
        ["--model", str(best), "--protocol", "1x1", "--views", "1x1"],
        ["--compare", "a", "b", "--fusion", "logits"],
    ):
        with pytest.raises(SystemExit) as stop:
            validate_main(wrong)
        assert stop.value.code == 2


def test_score_files_cannot_be_told_of_views_and_data(capsys):
    with pytest.raises(SystemExit):
        validate_main(["--ensemble", "a", "b", "--views", "10x3", "--data-dir", "d", "--max-broken", "0.1"])
    assert "score files, which --data-dir, --views cannot change; leave it out" in capsys.readouterr().err
    files = ["--ensemble", "a", "b", "--bootstrap", "100", "--seed", "1"]
    options = parse_validate_options([*files, "--fusion", "probabilities", "--weights", "1", "2"])
    assert capsys.readouterr().err.count("does nothing any more: Wilson's intervals need no resampling") == 2
    assert (options.fusion, options.weights) == ("probabilities", [1.0, 2.0])


def test_a_split_without_labels_gets_predictions_and_no_accuracy(tmp_path, capsys):
    root = miniatures.sthv2(tmp_path / "data", first_release=False)
    arguments = ["--dataset", "sthv2", "--data-dir", str(root), "--output", str(tmp_path), "--experiment", "run"]
    assert train_main([*arguments, *TINY, "--batch-size", "4", "--workers", "0"]) == 0
    options = ("--model", tmp_path / "run" / "best", "--data-dir", root, "--split", "test", "--output", tmp_path)
    (labelled,) = results_of(*options)  # test-answers.csv is there
    assert labelled.accuracy.num_videos == 4
    next(root.rglob("test-answers.csv")).unlink()
    capsys.readouterr()
    (result,) = results_of(*options)
    assert result.accuracy is None
    assert (result.scores.labels == -1).all()
    folder = tmp_path / result.slug
    assert {path.name for path in folder.iterdir()} == {"scores.npz", "predictions.csv"}
    table = rows(folder / "predictions.csv")
    assert len(table) == 4
    assert {row["class"] for row in table} == {""}
    assert {row["predicted_1"] for row in table} <= set(miniatures.CLASSES)
    assert "top1" not in (tmp_path / "results.csv").read_text()
    assert json.loads((tmp_path / "results.json").read_text())["results"][0]["metrics"] == {}
    assert "no labels, so no accuracy; predictions of 4 of 4 videos" in capsys.readouterr().out
