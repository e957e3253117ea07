"""A motion data set small enough to train on in a test, and the options to do so."""

from pathlib import Path

import pytest

from timm_video_psn.data.motion import prepare_motion


@pytest.fixture(scope="session")
def tiny_motion(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Three training clips and one validation clip of each of the 12 classes, as real mp4 files."""
    folder = tmp_path_factory.mktemp("data") / "motion"
    return prepare_motion(folder, workers=1, progress=False, train_per_class=3, val_per_class=1)


@pytest.fixture
def arguments(tiny_motion: Path, tmp_path: Path) -> list[str]:
    """Arguments of a run of seconds: six batches an epoch, 4 frames of 32 pixels."""
    return [
        *("--dataset", "motion", "--data-dir", str(tiny_motion), "--output", str(tmp_path), "--experiment", "run"),
        *("--img-size", "32", "--num-frames", "4", "--batch-size", "6", "--epochs", "2", "--workers", "0"),
    ]
