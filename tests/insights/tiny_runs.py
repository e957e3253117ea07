"""A model folder as training leaves it, and small videos."""

from pathlib import Path

import numpy as np
import timm
import torch
from PIL import Image

from timm_video_psn.engine.checkpoint import export_model

CLASSES = ("bounce", "roll", "spin & turn")
SETTINGS = {"num_frames": 4, "proportion": 0.5, "expand_init": 1.0}


def export(folder: Path, name: str = "psn_test_resnet", seed: int = 0, **settings) -> Path:
    """An untrained model with all that a folder of training says."""
    torch.manual_seed(seed)
    model = timm.create_model(name, num_classes=len(CLASSES), **settings)
    config = {
        "label_names": list(CLASSES),
        "pretrained_cfg": {"input_size": (3, 32, 32), "crop_pct": 0.875, "interpolation": "bilinear"},
        "video": {"num_frames": 4, "sampling": "segments"},
    }
    export_model(model, folder, config, settings)
    return folder


def moving_square(seed: int, num_frames: int = 10) -> np.ndarray:
    """Frames (T, 40, 48, 3)."""
    rng = np.random.default_rng(seed)
    frames = np.broadcast_to(rng.integers(0, 256, (40, 48, 3)), (num_frames, 40, 48, 3)).astype(np.uint8)
    for number, frame in enumerate(frames):
        frame[8:20, 2 * number : 2 * number + 12] = rng.integers(0, 256, 3)
    return frames


def write_frames(folder: Path, frames: np.ndarray) -> Path:
    """The same without loss."""
    folder.mkdir(parents=True)
    for number, frame in enumerate(frames):
        Image.fromarray(frame).save(folder / f"{number:03d}.png")
    return folder


def assert_all_is_in_the_picture(figure) -> None:
    """Titles, names and legends lie within a figure."""
    box, (width, height) = figure.get_tightbbox(), figure.get_size_inches()
    assert min(box.x0, box.y0) >= -0.01, box
    assert max(box.x1 - width, box.y1 - height) <= 0.01, (box, width, height)


# as long as those of Something-Something
LONG_NAMES = tuple(f"Pretending to put something number {n} next to something, and letting it fall" for n in range(30))
