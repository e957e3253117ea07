"""One tiny epoch from each data set in its official form, as a user starts it."""

import csv
import json

import pytest

from tests import miniatures
from timm_video_psn.__main__ import train as train_main
from timm_video_psn.__main__ import validate as validate_main
from timm_video_psn.data.clips.sampling import dense_indices
from timm_video_psn.engine.load_model import load

TINY = ("--model", "psn_test_resnet", "--no-pretrained", "--img-size", "32", "--num-frames", "4", "--epochs", "1")


@pytest.fixture
def run(tmp_path):
    """Trains one epoch; gives the row of summary.csv and config.json."""

    def train(dataset, root, *more):
        arguments = ["--dataset", dataset, "--data-dir", str(root), "--output", str(tmp_path / "out"), *TINY]
        arguments += ["--experiment", dataset, "--batch-size", "4", "--workers", "0", *more]
        assert train_main(arguments) == 0
        folder = tmp_path / "out" / dataset
        with (folder / "summary.csv").open() as file:
            (row,) = csv.DictReader(file)
        return row, json.loads((folder / "best" / "config.json").read_text())

    return train


@pytest.mark.parametrize("first_release", [True, False])
@pytest.mark.parametrize("dataset", ["sthv1", "sthv2"])
def test_something_something(dataset, first_release, run, tmp_path, capsys):
    root = getattr(miniatures, dataset)(tmp_path / "data", first_release)
    row, config = run(dataset, root)
    assert (row["val_videos"], row["val_expected"], row["train_unreadable"]) == ("4", "4", "0")
    assert config["label_names"] == list(miniatures.CLASSES)
    assert config["dataset_version"] == dataset[-2:].upper()
    assert "8 videos of 4 classes to train, 4 videos of 4 classes to validate" in capsys.readouterr().out


@pytest.mark.parametrize("class_folders", [True, False])
@pytest.mark.parametrize("both_times", [True, False])
def test_kinetics(class_folders, both_times, run, tmp_path):
    root = miniatures.k400(tmp_path / "data", class_folders, both_times, is_cc=class_folders)
    row, config = run("k400", root, "--sampling", "dense")
    assert (row["val_videos"], row["train_unreadable"]) == ("4", "0")
    assert config["label_names"] == sorted(miniatures.KINETICS)
    assert config["video"]["sampling"] == "dense"
    assert config["metrics"]["protocol"] == "4x1x1@32/37 dense logits"
    model = load(tmp_path / "out" / "k400")
    assert model.sampling is dense_indices
    assert model.predict(next((root / "val").rglob("*.mp4"))).label in miniatures.KINETICS


@pytest.mark.parametrize(("prefix", "version"), [("V2_", "V2"), ("", "V1")])
def test_diving48_states_its_version(prefix, version, run, tmp_path, capsys):
    row, config = run("diving48", miniatures.diving48(tmp_path / "data", prefix))
    assert row["val_videos"] == "3"
    assert config["dataset_version"] == version
    assert config["label_names"] == [" ".join(dive) for dive in miniatures.DIVES]
    assert f"Diving48 labels {version}" in capsys.readouterr().out
    other = miniatures.diving48(tmp_path / "other", "" if prefix else "V2_")
    tested = {"V1": "V2", "V2": "V1"}[version]
    for weights in (("--model", "out/diving48/best"), ("--checkpoint", "out/diving48/last.pt")):
        source = (weights[0], str(tmp_path / weights[1]))
        where = ("--data-dir", str(other), "--output", str(tmp_path / "tested"), "--workers", "0")
        assert validate_main([*source, *where]) == 0
        assert f"the model was trained on annotations {version}" in capsys.readouterr().out
        with (tmp_path / "tested" / "results.csv").open() as file:
            assert [row["dataset_version"] for row in csv.DictReader(file)] == [tested]
        assert json.loads((tmp_path / "tested" / "results.json").read_text())["dataset_version"] == tested


@pytest.mark.parametrize("separator", [" ", "\t"])
def test_lists(separator, run, tmp_path):
    row, config = run("list", miniatures.frame_lists(tmp_path / "data", separator), "--sampling", "tsm")
    assert (row["val_videos"], row["train_unreadable"]) == ("4", "0")
    assert config["label_names"] == list(miniatures.CLASSES)


def test_folders_with_every_augmentation(run, tmp_path):
    for split, count in (("train", 2), ("val", 1)):
        for label, name in enumerate(miniatures.CLASSES):
            for number in range(count):
                path = tmp_path / "data" / split / name / f"{number}.mp4"
                miniatures.write_mp4(path, miniatures.pictures(10 * label + number))
    augmentation = ["--crop", "resized", "--scale", "0.5", "1", "--ratio", "0.8", "1.25", "--color-jitter", "0.4"]
    augmentation += ["--aa", "rand-m9-mstd0.5-inc1", "--mixup", "0.8", "--cutmix-minmax", "0.2", "0.8"]
    row, config = run("folder", tmp_path / "data", *augmentation)
    assert (row["val_videos"], row["train_unreadable"]) == ("4", "0")
    assert {"train_ce", "train_interaction", "train_capacity", "train_top1"} <= set(row)
    assert config["recipe"]["cutmix_minmax"] == [0.2, 0.8]
    assert config["recipe"]["aa"] == "rand-m9-mstd0.5-inc1"


@pytest.mark.parametrize("separator", [" ", "\t"])
def test_lists_of_parts_of_videos(separator, run, tmp_path):
    for split, count in (("train", 2), ("val", 1)):
        lines = []
        for label in range(len(miniatures.CLASSES)):
            path = tmp_path / "data" / "videos" / f"{split}_{label}.mp4"
            miniatures.write_mp4(path, miniatures.pictures(label, 20))
            lines += [separator.join((path.name, str(10 * part), "10", str(label))) for part in range(count)]
        miniatures.write_text(tmp_path / "data" / f"{split}.txt", *lines)
    row, _ = run("list", tmp_path / "data")
    assert (row["val_videos"], row["train_unreadable"]) == ("4", "0")


def test_lists_that_lie_elsewhere(run, tmp_path):
    root = miniatures.frame_lists(tmp_path / "data")
    for split in ("train", "val"):
        (root / f"{split}_videofolder.txt").rename(tmp_path / f"my_{split}.txt")
    lists = [f"--{split}-list={tmp_path}/my_{split}.txt" for split in ("train", "val")]
    row, config = run("list", root, *lists)
    assert row["val_videos"] == "4"
    assert config["label_names"] == list(miniatures.CLASSES)


def test_a_missing_video_is_counted_and_named(run, tmp_path, capsys):
    root = miniatures.k400(tmp_path / "data")
    next((root / "val" / "abseiling").iterdir()).unlink()
    row, _ = run("k400", root, "--max-unreadable", "0.3")
    assert (row["val_videos"], row["val_expected"]) == ("3", "4")
    output = capsys.readouterr()
    assert "1 of 4 val videos of kinetics-400_val.csv are missing" in output.out
    assert "there is no such file" in output.err


def test_validation_annotations_of_another_version_are_refused(tmp_path, capsys):
    root = miniatures.diving48(tmp_path / "data")
    (root / "Diving48_V2_test.json").rename(root / "Diving48_test.json")
    assert train_main(["--dataset", "diving48", "--data-dir", str(root), *TINY, "--output", str(tmp_path / "o")]) == 2
    assert "the training annotations are V2, the validation annotations V1" in capsys.readouterr().err


def test_a_folder_without_the_data_set_says_what_was_looked_for(tmp_path, capsys):
    for dataset, name in {
        "sthv1": "something-something-v1-train.csv",
        "sthv2": "something-something-v2-train.json",
        "k400": "kinetics-400_train.csv",
        "diving48": "Diving48_V2_train.json",
        "list": "train.txt",
    }.items():
        assert train_main(["--dataset", dataset, "--data-dir", str(tmp_path), *TINY]) == 2
        error = capsys.readouterr().err
        assert f"looked for {name}" in error or name in error
        assert "--train-list" in error
