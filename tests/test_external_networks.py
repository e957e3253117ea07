"""Other libraries' networks by the same programs: trained on `motion`, validated, predicted, looked into."""

import csv
import json

import pytest

from tests.models.external.tiny_transformers import save_network
from timm_video_psn.__main__ import insights, predict, validate
from timm_video_psn.__main__ import train as train_main
from timm_video_psn.data.datasets.motion import prepare_motion
from timm_video_psn.engine.load_model import load


@pytest.fixture(scope="module")
def motion(tmp_path_factory):
    folder = tmp_path_factory.mktemp("data") / "motion"
    return prepare_motion(folder, workers=1, progress=False, train_per_class=2, val_per_class=1)


@pytest.mark.parametrize("name", ["torchvision:s3d", "transformers"])
def test_it_is_trained_validated_predicted_and_looked_into(name, motion, tmp_path, capsys):
    size, settings = "64", []
    if name == "transformers":
        pytest.importorskip("transformers")
        (tmp_path / "network").mkdir()
        save_network(tmp_path / "network", "videomae")
        name, size, settings = f"transformers:{tmp_path / 'network'}", "48", ["--model-kwargs", "img_size=48"]
    argv = ["--dataset", "motion", "--data-dir", str(motion), "--model", name, "--output", str(tmp_path)]
    argv += ["--img-size", size, "--num-frames", "8", "--experiment", "run", "--epochs", "1"]
    argv += ["--batch-size", "4", "--workers", "0", "--device", "cpu", "--opt", "adamw", "--lr", "0.001"]
    assert train_main([*argv, *settings]) == 0
    config = json.loads((tmp_path / "run" / "best" / "config.json").read_text())
    assert str(tmp_path) not in json.dumps({key: config[key] for key in ("model_args", "recipe", "pretrained_cfg")})
    if name.startswith("transformers"):  # best/ needs it no longer
        (tmp_path / "network").rename(tmp_path / "gone")
        assert config["pretrained_cfg"]["mean"] == [0.5, 0.4, 0.3]
    best = str(tmp_path / "run" / "best")
    with (tmp_path / "run" / "summary.csv").open() as file:
        (row,) = csv.DictReader(file)
    argv = ["--model", best, "--data-dir", str(motion), "--views", "2x1", "--output", str(tmp_path / "scores")]
    assert validate([*argv, "--workers", "0", "--device", "cpu"]) == 0
    assert load(best, "cpu").label_names == tuple(config["label_names"])
    assert float(row["val_videos"]) == 12
    video = next((motion / "val").rglob("*.mp4"))
    capsys.readouterr()
    assert predict([str(video), "--model", best, "--device", "cpu", "--topk", "1"]) == 0
    assert capsys.readouterr().out.splitlines()[0].split()[-1] in config["label_names"]
    assert insights(["cam", best, str(video), "--output", str(tmp_path / "cam")]) == 0
    assert insights(["report", best, "--output", str(tmp_path / "report"), "--data-dir", str(motion)]) == 0


def test_a_network_of_another_library_predicts_with_its_own_preprocessing(motion, tmp_path, caplog):
    pytest.importorskip("transformers")
    save_network(tmp_path, "videomae")
    trained = load(f"transformers:{tmp_path}", "cpu")
    assert trained.label_names == ("left", "right", "up")
    assert (trained.precision.mean, trained.interpolation) == ((0.5, 0.4, 0.3), "bicubic")
    assert str(trained.protocol) == "4x1x1@32/40 segments logits"
    assert "does not say which frames its validation took" in caplog.text
    assert trained.predict(next((motion / "val").rglob("*.mp4")), topk=1).label in trained.label_names
