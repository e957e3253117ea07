"""psn_test_resnet.motion, whose weights come with the package: no network, no training, no cache."""

import json

import pytest
import timm
import torch

import timm_video_psn
from timm_video_psn.__main__ import predict, validate
from timm_video_psn.data import prepare_motion, read_index
from timm_video_psn.files import file_sha256
from timm_video_psn.models.published_weights import SHIPPED, shipped_folder

NAME = "psn_test_resnet.motion"
# what the published folder's test_io.safetensors says of torch's normal noise with seed 0
LOGITS = [2.7225, -0.1491, 2.7952, -2.4441, 2.1754, -0.7324, -3.8219, -1.8914, -1.5791, 5.9128, -1.0136, -2.9314]


@pytest.fixture(autouse=True)
def offline(monkeypatch):
    def refuse(*_, **__):
        raise AssertionError("something asked for the network")

    monkeypatch.setattr("socket.getaddrinfo", refuse)


def test_the_logits_are_those_of_the_published_folder():
    model = timm.create_model(NAME, pretrained=True).eval()
    folder = timm.create_model(f"local-dir:{shipped_folder(NAME)}", pretrained=True).eval()
    clip = torch.randn(1, 3, 8, 64, 64, generator=torch.Generator().manual_seed(0))
    with torch.inference_mode():
        logits = model(clip)
        assert torch.equal(logits, folder(clip))
    torch.testing.assert_close(logits[0], torch.tensor(LOGITS), rtol=1e-3, atol=1e-3)


def test_the_folder_is_small_and_states_its_checksum():
    folder = SHIPPED / NAME
    assert sum(path.stat().st_size for path in SHIPPED.rglob("*")) < 2e6
    config = json.loads((folder / "config.json").read_text())
    assert config["weights"]["sha256"] == file_sha256(folder / "model.safetensors")


def test_the_tag_alone_stands_for_these_weights(tmp_path):
    assert timm.list_pretrained("psn_test_resnet*") == [NAME]
    assert timm.create_model("psn_test_resnet").num_classes == 1000
    assert timm.create_model(NAME).num_classes == 12  # the same network, at random
    with pytest.raises(AssertionError, match="asked for the network"):  # image weights, as the other names
        timm.create_model("psn_test_resnet", pretrained=True, cache_dir=str(tmp_path))
    assert shipped_folder("psn_test_resnet") is shipped_folder("psn_resnet50.motion") is shipped_folder("..") is None


def test_the_classifier_may_have_other_classes():
    whole, other = (timm.create_model(NAME, pretrained=True, **kwargs) for kwargs in ({}, {"num_classes": 3}))
    assert other.get_classifier().out_features == 3
    assert torch.equal(whole.backbone.conv1[0].weight, other.backbone.conv1[0].weight)


def test_a_video_is_labelled_by_name(tmp_path, capsys):
    folder = prepare_motion(tmp_path / "motion", workers=1, progress=False, train_per_class=1, val_per_class=1)
    index = read_index("motion", folder, "val")
    number = index.class_names.index("slide_left")
    video = str(index.root / index.paths[index.labels.tolist().index(number)])
    assert timm_video_psn.load(NAME, "cpu").predict(video).label == "slide_left"
    assert predict([video, "--model", NAME, "--device", "cpu"]) == 0
    assert "slide_left" in capsys.readouterr().out


@pytest.mark.slow
def test_validation_reproduces_the_accuracy_that_the_card_states(tmp_path):
    argv = ["--model", NAME, "--dataset", "motion", "--data-dir", str(prepare_motion(None)), "--device", "cpu"]
    assert validate([*argv, "--output", str(tmp_path)]) == 0
    (result,) = json.loads((tmp_path / "results.json").read_text())["results"]
    stated = json.loads((SHIPPED / NAME / "config.json").read_text())["metrics"]["val_top1"]
    assert result["metrics"]["top1"]["value"] == pytest.approx(stated, abs=0.35)  # two of 600 videos: rounding
