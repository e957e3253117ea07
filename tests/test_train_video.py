"""The scripts as a user runs them: processes, signals, real clips."""

import os
import random
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
import torch

from timm_video_psn.data.datasets.motion import prepare_motion
from timm_video_psn.engine.checkpoint import load_checkpoint

ROOT = Path(__file__).parents[1]
CLIPS = ROOT.parent / "shared" / "clips"


def command(script: str, *arguments: str) -> list[str]:
    return [sys.executable, str(ROOT / script), *arguments]


@pytest.fixture(scope="module")
def motion(tmp_path_factory) -> Path:
    folder = tmp_path_factory.mktemp("data") / "motion"
    return prepare_motion(folder, workers=1, progress=False, train_per_class=8, val_per_class=1)


@pytest.fixture
def train(motion, tmp_path):
    arguments = ["--dataset", "motion", "--data-dir", str(motion), "--output", str(tmp_path), "--img-size", "32"]
    arguments += ["--num-frames", "4", "--batch-size", "4", "--epochs", "2", "--workers", "1"]
    return lambda name, *more: command("train_video.py", *arguments, "--experiment", name, *more)


def test_a_killed_run_and_an_interrupted_one_resume_to_the_same_bits(train, tmp_path):
    subprocess.run(train("whole"), check=True, capture_output=True)
    whole = load_checkpoint(tmp_path / "whole" / "last.pt")
    for number in (signal.SIGKILL, signal.SIGTERM, signal.SIGINT):
        name = number.name
        pipes = {"stdout": subprocess.PIPE, "stderr": subprocess.PIPE, "text": True}
        process = subprocess.Popen(train(name), start_new_session=True, **pipes)
        for line in process.stdout:
            if line.startswith("epoch 1/2  loss"):
                break
        time.sleep(random.Random(number).uniform(0, 0.5))
        os.killpg(process.pid, number)  # as Ctrl-C, timeout and job schedulers do: the workers get it too
        _, error = process.communicate(timeout=120)
        if number is signal.SIGKILL:
            assert process.returncode == -number
        elif process.returncode:  # it may have been done already
            assert process.returncode == 128 + number
            assert "saved" in error
            assert "--resume auto resumes" in error
        subprocess.run(train(name, "--resume", "auto"), check=True, capture_output=True)
        resumed = load_checkpoint(tmp_path / name / "last.pt")
        assert all(torch.equal(whole["model"][key], resumed["model"][key]) for key in whole["model"])
        losses = [[(row["train_loss"], row.get("val_loss")) for row in run["history"]] for run in (whole, resumed)]
        assert losses[0] == losses[1]


def test_both_scripts_explain_themselves():
    for script in ("train_video.py", "predict_video.py"):
        result = subprocess.run(command(script, "--help"), check=True, capture_output=True, text=True)
        assert "--model" in result.stdout


@pytest.mark.skipif(not CLIPS.is_dir(), reason=f"the four real clips are not beside the repository ({CLIPS.name}/)")
@pytest.mark.slow
def test_four_real_clips_are_learned_and_named(tmp_path):
    videos = sorted(path for path in CLIPS.iterdir() if path.suffix in (".mp4", ".avi"))
    assert len(videos) == 4
    for video in videos:
        (tmp_path / "data" / video.stem).mkdir(parents=True)
        shutil.copy(video, tmp_path / "data" / video.stem / video.name)
    arguments = ["--dataset", "folder", "--data-dir", str(tmp_path / "data"), "--output", str(tmp_path / "out")]
    arguments += ["--experiment", "clips", "--model", "psn_resnet18", "--img-size", "112", "--num-frames", "4"]
    arguments += ["--batch-size", "4", "--epochs", "30", "--lr", "0.01", "--sched", "cosine", "--workers", "0"]
    arguments += ["--val-interval", "10"]
    subprocess.run(command("train_video.py", *arguments), check=True, env={**os.environ, "OMP_NUM_THREADS": "2"})
    best = str(tmp_path / "out" / "clips" / "best")
    for video in videos:
        result = subprocess.run(
            command("predict_video.py", str(video), "--model", best), check=True, capture_output=True, text=True
        )
        assert result.stdout.splitlines()[0].split()[-1] == video.stem
