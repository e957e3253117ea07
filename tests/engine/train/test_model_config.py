"""What config.json says beside timm's entries."""

import hashlib
import json
from dataclasses import replace

import timm

from tests.engine.runs import settled
from timm_video_psn.__main__ import train as train_main
from timm_video_psn.data import label_fingerprint
from timm_video_psn.engine.train.model_config import _recipe
from timm_video_psn.version import package_versions


def test_the_config_of_a_run_carries_everything_and_stays_timms(arguments, tmp_path):
    assert train_main([*arguments, "--epochs", "1"]) == 0
    best = tmp_path / "run" / "best"
    config = json.loads((best / "config.json").read_text())
    assert config["video"] == {
        "num_frames": 4,
        "sampling": "segments",
        "num_clips": 1,
        "num_crops": 1,
        "img_size": 32,
        "short_side": 36,
        "fusion": "logits",
        "protocol": "4x1x1@32/36 segments logits",
    }
    assert config["metrics"]["protocol"] == config["video"]["protocol"]
    assert config["metrics"]["val_videos"] == config["metrics"]["val_expected"] == 12
    assert config["dataset"] == "motion"
    names = config["label_names"]
    assert config["label_fingerprint"] == hashlib.sha256("\n".join(names).encode()).hexdigest()
    recipe = config["recipe"]
    assert (recipe["config"], recipe["opt"], recipe["crop_pct"], recipe["seed"]) == ("motion.yaml", "muon", 8 / 9, 42)
    assert not {"data_dir", "output", "device"} & set(recipe)
    model = timm.create_model(f"local-dir:{best}", pretrained=True)
    assert (model.num_classes, model.pretrained_cfg["label_names"]) == (12, names)


def test_a_recipe_tells_no_places_of_the_machine():
    files = {"initial_checkpoint": "/elsewhere/last.pt", "config": "/elsewhere/own.yaml", "data_dir": "/elsewhere"}
    options = replace(settled("--log", "tensorboard"), model="local-dir:/elsewhere/runs/best", **files)
    recipe = _recipe(options)
    assert "/home" not in str(recipe)
    named = (recipe["model"], recipe["initial_checkpoint"], recipe["config"])
    assert named == ("local-dir:best", "last.pt", "own.yaml")


def test_the_order_of_classes_counts():
    assert label_fingerprint(["a", "b"]) == label_fingerprint(("a", "b")) != label_fingerprint(["b", "a"])


def test_versions_are_those_installed():
    versions = package_versions()
    assert versions["timm"] == timm.__version__
    assert {"python", "timm_video_psn", "torch", "av", "numpy", "pillow"} <= set(versions)
