"""The code on docs/python.md runs, on a run and a folder of videos of the names that it uses."""

import re
import shutil
from pathlib import Path

import numpy as np
import pytest

import timm_video_psn
from timm_video_psn.data import EvalTransform, TrainTransform, write_video

PAGE = Path(__file__).parents[2] / "docs" / "python.md"


@pytest.fixture
def here(model_folder, tmp_path, monkeypatch) -> Path:
    """The folder that a reader is in."""
    shutil.copytree(model_folder, tmp_path / "output" / "my_run" / "best")
    rng = np.random.default_rng(0)
    folders = [tmp_path / "my_videos" / split / name for split in ("train", "val") for name in ("cut", "pour")]
    for path in (tmp_path / "clip.mp4", *(folder / f"{i}.mp4" for folder in folders for i in range(2))):
        path.parent.mkdir(parents=True, exist_ok=True)
        write_video(path, rng.integers(0, 256, (12, 180, 200, 3), dtype=np.uint8))
    monkeypatch.chdir(tmp_path)
    return tmp_path


@pytest.mark.usefixtures("here")
def test_the_code_runs_from_top_to_bottom(capsys):
    blocks = re.findall(r"```python\n(.*?)```", PAGE.read_text(encoding="utf-8"), re.DOTALL)
    assert len(blocks) == 7
    names: dict = {}
    for block in blocks:
        exec(block, names)
    *classes, best, one, other, by_hand = capsys.readouterr().out.splitlines()
    assert len(classes) == 5
    label, _, share = best.rpartition(" ")
    assert classes[0].split() == [f"{float(share):.2%}", *label.split()]
    assert [one, other, by_hand] == [
        f"clip.mp4 {label}",
        "missing.mp4 there is no such file or folder; check the name and the data folder",
        label,
    ]
    assert names["features"].shape[0] == 2


def test_transforms_follow_the_model():
    config = {"input_size": (3, 160, 160), "crop_pct": 0.8, "interpolation": "bicubic"}
    transform = timm_video_psn.create_transform(config)
    assert isinstance(transform, EvalTransform)
    assert (transform.img_size, transform.resize_size) == (160, 200)
    training = timm_video_psn.create_transform(config, is_training=True, hflip=0.0)
    assert isinstance(training, TrainTransform)
    assert (training.img_size, training.resize_size, training.hflip) == (160, 200, 0.0)
    with pytest.raises(TypeError, match="str is neither a model with a pretrained_cfg nor a config"):
        timm_video_psn.create_transform("psn_resnet50")
    with pytest.raises(TypeError, match="hflip belong to is_training=True"):
        timm_video_psn.create_transform(config, hflip=0.0)


def test_public_names_are_there_and_others_are_not():
    for name in timm_video_psn.__all__:
        assert getattr(timm_video_psn, name) is not None
        assert name in dir(timm_video_psn)
    with pytest.raises(AttributeError, match="has no attribute 'nothing'"):
        _ = timm_video_psn.nothing
