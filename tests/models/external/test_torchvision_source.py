"""torchvision's video networks behind the adapter."""

import pytest
import torch
from torchvision.models import get_model, get_model_weights

from timm_video_psn.models import create_model

FAMILIES = ["r3d_18", "mc3_18", "r2plus1d_18", "s3d", "swin3d_t"]


@pytest.mark.parametrize("name", [*FAMILIES, "mvit_v2_s"])
def test_the_weights_give_the_logits_of_the_library(name):
    torch.manual_seed(0)
    theirs = get_model(name).eval()
    ours = create_model(f"torchvision:{name}").eval()
    state = dict(ours.state_dict())
    head = next(key for key in theirs.state_dict() if key.startswith(("fc", "head", "classifier")) and "weight" in key)
    for key, value in theirs.state_dict().items():
        stem = head.removesuffix("weight")
        own = f"classifier.{key.removeprefix(stem)}" if key.startswith(stem) else f"network.{key}"
        state[own] = value.reshape(state[own].shape)
    ours.load_state_dict(state)
    frames, size = {"s3d": (16, 224), "mvit_v2_s": (16, 224)}.get(name, (4, 64))
    clip = torch.randn(1, 3, frames, size, size)
    with torch.inference_mode():
        torch.testing.assert_close(ours(clip), theirs(clip))


@pytest.mark.parametrize("name", FAMILIES)
def test_preprocessing_and_classes_are_the_published_weights(name):
    model, weights = create_model(f"torchvision:{name}"), get_model_weights(name).DEFAULT
    cfg, preset = model.pretrained_cfg, weights.transforms()
    assert (list(cfg["mean"]), list(cfg["std"])) == (list(preset.mean), list(preset.std))
    assert cfg["input_size"] == (3, preset.crop_size[0], preset.crop_size[0])
    assert round(cfg["input_size"][1] / cfg["crop_pct"]) == min(preset.resize_size)
    assert list(cfg["label_names"]) == weights.meta["categories"]


def test_s3d_takes_small_and_short_clips():
    """As it comes from torchvision, it fails below 224 pixels and 14 frames."""
    model = create_model("torchvision:s3d", num_classes=12).eval()
    assert model(torch.randn(2, 3, 8, 64, 96)).shape == (2, 12)


def test_unknown_names_and_sizes_are_refused():
    with pytest.raises(ValueError, match="torchvision has no such video model; nearest: s3d"):
        create_model("torchvision:s3dd")
    with pytest.raises(ValueError, match="takes 16 frames of 224 x 224 pixels only; asked for 8"):
        create_model("torchvision:mvit_v1_b", num_frames=8)
