"""A model folder as training leaves it, small videos of it, and the model itself."""

from pathlib import Path

import pytest

from tests.insights.tiny_runs import CLASSES, SETTINGS, export, moving_square
from timm_video_psn import plotting
from timm_video_psn.data import write_video
from timm_video_psn.engine.load_model import load
from timm_video_psn.engine.trained_model import TrainedModel
from timm_video_psn.insights import (
    activation_map,
    class_gain,
    embedding,
    kernel_map,
    kernel_shapes,
    temporal_evolution,
)


@pytest.fixture(scope="session")
def model_folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return export(tmp_path_factory.mktemp("runs") / "tiny" / "best", **SETTINGS)


@pytest.fixture(scope="session")
def other_folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Another model, without synthesizers."""
    return export(tmp_path_factory.mktemp("runs") / "plain" / "best", "tsn_test_resnet", seed=1, num_frames=4)


@pytest.fixture
def trained(model_folder: Path) -> TrainedModel:
    return load(model_folder)


@pytest.fixture(scope="session")
def video(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("videos") / "moving square.mp4"
    write_video(path, moving_square(0))
    return path


@pytest.fixture
def figures(monkeypatch: pytest.MonkeyPatch) -> list:
    """The figures that are written while a test runs."""
    written: list = []

    def save_figure(figure, path):
        written.append(figure)
        return plotting.save_figure(figure, path)

    for module in (activation_map, class_gain, embedding, kernel_map, kernel_shapes, temporal_evolution):
        monkeypatch.setattr(module, "save_figure", save_figure)
    return written


@pytest.fixture(scope="session")
def class_folders(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Three videos of each class."""
    root = tmp_path_factory.mktemp("data")
    for label, name in enumerate(CLASSES):
        (root / name).mkdir()
        for number in range(3):
            write_video(root / name / f"{number}.mp4", moving_square(10 * label + number))
    return root
