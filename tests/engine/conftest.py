"""A motion data set small enough to train on in a test, and the options to do so."""

from pathlib import Path

import pytest
import timm
import torch

from timm_video_psn.data.datasets.motion import prepare_motion
from timm_video_psn.engine.checkpoint import export_model


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


@pytest.fixture(scope="session")
def model_folder(tmp_path_factory: pytest.TempPathFactory) -> str:
    """A model folder as training leaves it, untrained: 5 classes, 4 frames of 32 pixels."""
    folder = tmp_path_factory.mktemp("model") / "best"
    torch.manual_seed(0)
    model = timm.create_model("psn_test_resnet", num_frames=4, num_classes=5, expand_init=1.0)
    config = {
        "label_names": [f"class {number}" for number in range(5)],
        "pretrained_cfg": {"input_size": (3, 32, 32), "crop_pct": 0.875, "interpolation": "bilinear"},
        "video": {"num_frames": 4, "sampling": "segments"},
    }
    export_model(model, folder, config, {"num_frames": 4, "expand_init": 1.0})
    return str(folder)
