"""Eight-bit files answer as the model does, and are refused where they do not."""

import json
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from torch import Tensor

import timm_video_psn
from timm_video_psn import TrainedModel
from timm_video_psn.data.datasets import motion
from timm_video_psn.deploy.export import export
from timm_video_psn.deploy.formats import FORMATS

pytestmark = pytest.mark.usefixtures("compiler")


@pytest.fixture(scope="module")
def trained() -> TrainedModel:
    return timm_video_psn.load("psn_test_resnet.motion", "cpu")


@pytest.fixture(scope="module")
def clips(trained, tmp_path_factory) -> Tensor:
    """A clip of each class and more, of the data set that the model was trained on."""
    folder = tmp_path_factory.mktemp("data") / "motion"
    folder = motion.prepare_motion(folder, workers=1, progress=False, train_per_class=3, val_per_class=1)
    index = timm_video_psn.read_index("folder", folder, "train")
    return torch.stack([trained.prepare(index.decode(number, trained.frame_indices)) for number in range(len(index))])


@pytest.mark.parametrize(("format", "layout"), [("onnx", "clip"), ("onnx", "frames"), ("executorch", "clip")])
def test_an_eight_bit_file_is_small_and_answers_as_the_model(trained, clips, format, layout, tmp_path):
    side = trained.protocol.img_size
    small = export(
        trained.model, tmp_path / "int8", format, layout=layout, img_size=side, normalize=True, calibration=clips
    )
    assert small.file.stat().st_size < 2.5 * sum(parameter.numel() for parameter in trained.model.parameters())
    config = json.loads((small.folder / "config.json").read_text())
    assert config["int8"]["calibration_clips"] == len(clips)
    run = FORMATS[format].open(small.file)
    expected = torch.from_numpy(trained.probabilities(clips))
    found = torch.cat([run(clip if layout == "frames" else clip[None])[0] for clip in clips])
    assert (expected.argmax(1) == found.argmax(1)).float().mean() >= 0.9
    assert not torch.equal(found, expected)
    assert sorted(path.name for path in small.folder.iterdir()) == ["config.json", "example.py", small.file.name]


def test_a_file_without_normalisation_is_calibrated_with_normalised_clips(trained, clips, tmp_path):
    small = export(trained.model, tmp_path / "int8", "onnx", img_size=trained.protocol.img_size, calibration=clips)
    assert small.parity.share >= 0.9
    (logits,) = FORMATS["onnx"].open(small.file)(trained.precision.clip(clips))
    assert (logits.argmax(1).numpy() == trained.probabilities(clips).argmax(1)).mean() >= 0.9


def test_a_file_that_answers_otherwise_is_not_kept(trained, clips, tmp_path, monkeypatch):
    right = FORMATS["onnx"]

    def wrong(path: Path):
        run = right.open(path)
        return lambda x: (-run(x)[0],)

    monkeypatch.setitem(FORMATS, "onnx", replace(right, open=wrong))
    with pytest.raises(ValueError, match="the onnx file was discarded: int8: the class of the model for 0 of 4"):
        export(trained.model, tmp_path / "out", "onnx", img_size=64, calibration=clips[:4])
    assert list(tmp_path.iterdir()) == []


def test_what_has_no_eight_bits_is_refused(trained, clips, tmp_path):
    def fails(format: str, **options) -> None:
        export(trained.model, tmp_path / "out", format, img_size=64, calibration=clips, **options)

    with pytest.raises(ValueError, match="--int8 does not go with --format torch; use one of onnx, executorch"):
        fails("torch")
    with pytest.raises(ValueError, match="--int8 does not go with --layout stream"):
        fails("onnx", layout="stream")
    with pytest.raises(ValueError, match="--int8 fixes the number of clips in an executorch file"):
        fails("executorch", batch="1-4")
    with pytest.raises(ValueError, match="do not fill a batch of 500"):
        fails("onnx", batch="500")
