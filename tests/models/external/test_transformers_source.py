"""Video classifiers of transformers, built from tiny configs: nothing is downloaded."""

import json
import shutil

import numpy as np
import pytest
import torch

from tests.models.external.tiny_transformers import CONFIGS, PROCESSOR, save_network
from timm_video_psn.models import create_model
from timm_video_psn.models.external.transformers_source import preprocessing

transformers = pytest.importorskip("transformers")


@pytest.mark.parametrize("kind", CONFIGS)
def test_the_weights_give_the_logits_of_the_library(kind, tmp_path):
    network = save_network(tmp_path, kind)
    model = create_model(f"transformers:{tmp_path}", pretrained=True).eval()
    clip = torch.randn(2, 3, 4, 32, 32)
    expected = network(**{network.main_input_name: clip.transpose(1, 2)}).logits
    assert torch.equal(model(clip), expected)
    assert torch.equal(model.forward_head(model.forward_features(clip)), expected)
    assert (model.num_frames, model.pretrained_cfg["label_names"]) == (4, ("left", "right", "up"))


@pytest.mark.parametrize("kind", CONFIGS)
def test_it_is_rebuilt_without_the_folder(kind, tmp_path):
    save_network(tmp_path / "network", kind)
    model = create_model(f"transformers:{tmp_path / 'network'}", pretrained=True, num_classes=5).eval()
    shutil.rmtree(tmp_path / "network")
    assert str(tmp_path) not in json.dumps(model.rebuild_args)
    other = create_model("transformers:network", num_classes=5, config=model.rebuild_args["config"]).eval()
    other.load_state_dict(model.state_dict())
    clip = torch.randn(1, 3, 4, 32, 32)
    torch.testing.assert_close(model(clip), other(clip))


@pytest.mark.parametrize("kind", CONFIGS)
def test_tokens_become_maps_in_their_places(kind, tmp_path):
    """A token embedding that shows one patch of one time leaves its mark at this place of the maps."""
    save_network(tmp_path, kind)
    model = create_model(f"transformers:{tmp_path}").eval()
    clip = torch.randn(1, 3, 4, 32, 32)
    changed = clip.clone()
    changed[0, :, 2:, 16:, :16] += 1  # the second half of the time, below, on the left
    name, to_maps = next(iter(model.levels.items()))
    found = []
    model.get_submodule(name).register_forward_pre_hook(lambda module, args: found.append(args[0]))
    with torch.no_grad():
        model(clip), model(changed)
    before, after = (to_maps(each, clip.shape) for each in found)
    difference = (after - before).abs().sum(1)[0]  # (t, h, w)
    times = 2 if kind != "timesformer" else 4
    assert difference.shape == (times, 2, 2)
    expected = np.zeros((times, 2, 2), dtype=bool)
    expected[times // 2 :, 1, 0] = True
    np.testing.assert_array_equal(difference.numpy() > 1e-6, expected)


def test_frames_and_size_change_the_config(tmp_path):
    save_network(tmp_path, "videomae")
    model = create_model(f"transformers:{tmp_path}", num_frames=8, img_size=48, num_hidden_layers=1).eval()
    assert model(torch.randn(1, 3, 8, 48, 48)).shape == (1, 3)
    with pytest.raises(ValueError, match="takes clips of 8 frames, and was given 4; build it with num_frames=4"):
        model(torch.randn(1, 3, 4, 48, 48))
    with pytest.raises(TypeError, match="videomae has no setting 'proportion'"):
        create_model(f"transformers:{tmp_path}", proportion=0.5)


def test_preprocessing_equals_the_librarys_arithmetic():
    """From bytes, as its image processors compute it: rescale, offset, mean, deviation."""
    image = np.arange(256, dtype=np.float64)
    for changed in ({}, {"rescale_factor": 1 / 127.5, "offset": True}, {"do_rescale": False}, {"do_normalize": False}):
        entries = {**PROCESSOR, **changed}
        x = image * entries.get("rescale_factor", 1 / 255) if entries.get("do_rescale", True) else image
        x = x - 1 if entries.get("offset") else x
        if entries.get("do_normalize", True):
            x = (x - entries["image_mean"][1]) / entries["image_std"][1]
        cfg = preprocessing(entries, 32)
        np.testing.assert_allclose((image / 255 - cfg["mean"][1]) / cfg["std"][1], x, rtol=1e-12)
    assert (preprocessing(PROCESSOR, 32)["crop_pct"], preprocessing(PROCESSOR, 32)["interpolation"]) == (0.8, "bicubic")


def test_what_is_no_video_classifier_is_refused(tmp_path):
    transformers.ViTConfig(hidden_size=16).save_pretrained(tmp_path)
    with pytest.raises(ValueError, match="is a vit, no video classifier; transformers has timesformer, videomae"):
        create_model(f"transformers:{tmp_path}")


def test_a_folder_without_preprocessing_says_what_is_assumed(tmp_path, caplog):
    save_network(tmp_path, "videomae")
    (tmp_path / "preprocessor_config.json").unlink()
    create_model(f"transformers:{tmp_path}")
    assert "ImageNet's mean and deviation are assumed" in caplog.text
