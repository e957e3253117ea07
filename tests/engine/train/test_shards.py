"""Training from shards, as the trainer and as a user runs it."""

import json
import subprocess
import sys
from pathlib import Path

import pytest
import torch

from tests.engine.runs import stop_at_step, trainer_of
from timm_video_psn.data.registry import read_index
from timm_video_psn.data.shards.writer import ShardLimits, write_shards
from timm_video_psn.engine.checkpoint import load_checkpoint
from timm_video_psn.engine.signals import Interrupted

ROOT = Path(__file__).parents[3]
LIMITS = ShardLimits(12, 10**9)


@pytest.fixture(scope="module")
def shards(tiny_motion, tmp_path_factory):
    """Three shards to train and one to validate."""
    out = tmp_path_factory.mktemp("shards")
    write_shards("motion", {split: read_index("motion", tiny_motion, split) for split in ("train", "val")}, out, LIMITS)
    return out


@pytest.fixture
def arguments(shards, tmp_path):
    return [
        *("--dataset", "shards", "--data-dir", str(shards), "--output", str(tmp_path), "--experiment", "run"),
        *("--img-size", "32", "--num-frames", "4", "--batch-size", "6", "--epochs", "1", "--workers", "0"),
        *("--model", "psn_test_resnet", "--drop", "0.2"),
    ]


def test_a_run_that_was_stopped_goes_on_to_the_same_bits_with_other_workers(arguments, tmp_path):
    trainer_of([*arguments, "--experiment", "whole"]).fit()
    trainer = trainer_of(arguments)
    stop_at_step(trainer, 3)
    with pytest.raises(Interrupted, match="--resume auto resumes"):
        trainer.fit()
    state = load_checkpoint(tmp_path / "run" / "last.pt")
    assert (state["epoch"], state["step"]) == (0, 3)
    trainer_of([*arguments, "--resume", "auto", "--workers", "2"]).fit()
    whole, resumed = (load_checkpoint(tmp_path / name / "last.pt") for name in ("whole", "run"))
    assert all(torch.equal(whole["model"][key], resumed["model"][key]) for key in whole["model"])
    assert whole["history"][0]["val_loss"] == resumed["history"][0]["val_loss"]
    assert whole["history"][0]["val_videos"] == 12


def test_the_script_trains_from_shards_and_its_best_model_can_be_used(arguments, tiny_motion, tmp_path):
    def run(script, *more, returncode=0):
        command = [sys.executable, str(ROOT / script), *more]
        result = subprocess.run(command, capture_output=True, text=True, timeout=300)
        assert result.returncode == returncode, result.stderr
        return result

    output = run("train_video.py", *arguments, "--workers", "2").stdout
    assert "shards of motion in" in output
    assert "(12 of 12 videos, " in output
    config = json.loads((tmp_path / "run" / "best" / "config.json").read_text())
    assert config["dataset"] == "motion"
    video = next(tiny_motion.rglob("val/slide_left/*.mp4"))
    top = json.loads(run("predict_video.py", str(video), "--model", str(tmp_path / "run" / "best"), "--json").stdout)
    assert len(top["top"]) == 5
    assert {item["label"] for item in top["top"]} <= set(config["label_names"])


def test_a_shard_that_is_lost_ends_the_run_by_name(arguments, shards):
    trainer = trainer_of(arguments)
    path = shards / "train-000001.tar"
    content = path.read_bytes()
    path.write_bytes(content[:5000])
    try:
        with pytest.raises(ValueError, match=r"of 36 training videos could not be decoded.*train-000001.tar"):
            trainer.fit()
    finally:
        path.write_bytes(content)
