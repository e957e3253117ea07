"""Where a trained model is loaded from, and what its config must say."""

import json
import shutil
from pathlib import Path

import pytest
import torch

from timm_video_psn.engine.load_model import load


def with_video(folder: str, target: Path, video: dict | None) -> Path:
    """A copy of a model folder with another entry `video` in its config."""
    copy = shutil.copytree(folder, target / "best")
    config = json.loads((copy / "config.json").read_text())
    config.pop("video")
    if video is not None:
        config["video"] = video
    (copy / "config.json").write_text(json.dumps(config))
    return copy


def test_a_run_stands_for_its_best_model(model_folder):
    run = Path(model_folder).parent
    sources = [model_folder, Path(model_folder), run, f"local-dir:{run}", f"local-dir:{model_folder}"]
    for trained in map(load, sources):
        assert trained.source == model_folder
        assert trained.label_names == tuple(f"class {number}" for number in range(5))
        assert str(trained.protocol) == "4x1x1@32/37 segments logits"
        assert len(trained.weights_sha256) == 64
        assert not trained.model.training


@pytest.mark.parametrize(
    ("source", "message"),
    [
        (
            "nowhere",
            "nowhere is not a model folder: there is no such folder; use the folder of a run, its best/, hf-",
        ),
        (".", "is not a model folder: it has no config.json"),
    ],
)
def test_a_folder_without_a_model_is_an_error(source, message, monkeypatch, tmp_path):
    monkeypatch.chdir(tmp_path)
    with pytest.raises(FileNotFoundError, match=message):
        load(source)


def test_names_without_video_weights_are_refused_with_what_to_use():
    with pytest.raises(ValueError, match="psn_resnet50 is the name of a model without trained video weights; use"):
        load("psn_resnet50")
    with pytest.raises(ValueError, match="'resnet50' is an image model of timm"):
        load("resnet50")
    with pytest.raises(ValueError, match="psn_resnet50_sthv1"):  # a name for weights that nobody has published
        load("psn_resnet50_sthv1")


def test_the_sampling_of_a_config_is_known_by_its_present_and_its_former_name(model_folder, tmp_path):
    assert load(with_video(model_folder, tmp_path / "a", {"sampling": "dense"})).protocol.sampling == "dense"
    former = {"num_frames": 4, "sampling": "segments, middle frame (TSN)"}
    assert load(with_video(model_folder, tmp_path / "b", former)).protocol.sampling == "segments"
    unknown = with_video(model_folder, tmp_path / "c", {"sampling": "random"})
    with pytest.raises(ValueError, match=r"frames chosen by 'random', which this version does not know; it knows segm"):
        load(unknown)


def test_a_config_without_a_sampling_is_told_of(model_folder, tmp_path, caplog):
    assert load(with_video(model_folder, tmp_path, None)).protocol.sampling == "segments"
    assert "does not say which frames its validation took: one of each segment is assumed" in caplog.text


def test_weights_that_do_not_fit_are_an_error(model_folder, tmp_path):
    copy = shutil.copytree(model_folder, tmp_path / "best")
    (copy / "model.safetensors").write_bytes(b"damaged")
    with pytest.raises(ValueError, match=r"the weights do not fit config\.json, or are missing"):
        load(copy)


def test_the_device_is_chosen_and_an_impossible_one_refused(model_folder):
    assert load(model_folder, "cpu").precision.device == torch.device("cpu")
    with pytest.raises(ValueError, match="device 'cuda:7' cannot be used here"):
        load(model_folder, "cuda:7")
