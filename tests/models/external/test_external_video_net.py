"""The methods that training, tests and insights call, on other libraries' networks."""

import pytest
import timm
import torch
from timm.models import group_parameters

from tests.models.external.tiny_transformers import save_network
from timm_video_psn.engine.checkpoint import export_model
from timm_video_psn.engine.train.optim import create_parameter_groups
from timm_video_psn.insights.activation_map import activation_map
from timm_video_psn.models import create_model

CLIP = torch.randn(1, 3, 4, 32, 32)


@pytest.fixture(params=["torchvision:r3d_18", "transformers"])
def name(request, tmp_path):
    if request.param == "transformers":
        pytest.importorskip("transformers")
        save_network(tmp_path, "videomae")
        return f"transformers:{tmp_path}"
    return request.param


def test_it_is_saved_and_comes_back_also_for_other_classes(name, tmp_path):
    model = create_model(name, num_classes=5).eval()
    export_model(model, tmp_path / "saved", {"label_names": list("abcde")}, {"num_frames": 4})
    again = timm.create_model(f"local-dir:{tmp_path / 'saved'}", pretrained=True).eval()
    assert torch.equal(again(CLIP), model(CLIP))
    assert tuple(again.pretrained_cfg["mean"]) == model.pretrained_cfg["mean"]
    assert timm.create_model(f"local-dir:{tmp_path / 'saved'}", pretrained=True, num_classes=2)(CLIP).shape == (1, 2)


def test_every_parameter_learns_and_is_in_one_layer_and_one_group(name):
    model = create_model(name, num_classes=5, drop_rate=0.1)
    model(CLIP.repeat(2, 1, 1, 1, 1)).square().sum().backward()
    assert [key for key, value in model.named_parameters() if value.grad is None] == []
    layers = group_parameters(model, model.group_matcher(), reverse=True)
    assert sorted(layers) == sorted(key for key, _ in model.named_parameters())
    assert max(layers.values()) == layers["classifier.weight"] > 3
    groups = create_parameter_groups(model, 0.1, layer_decay=0.5)  # raises unless each is in one
    assert {group["name"].split()[0] for group in groups} == {"backbone", "head"}


def test_dropout_is_before_the_classifier(name):
    model = create_model(name, num_classes=5, drop_rate=1.0).train()
    assert torch.equal(model(CLIP.repeat(2, 1, 1, 1, 1)), model.classifier.bias.expand(2, 5))


def test_activation_maps_have_a_map_for_every_frame(name):
    found = activation_map(create_model(name, num_classes=5), CLIP)
    assert len(found.maps) == 4
    assert found.maps.max() > 0


def test_what_it_cannot_do_is_said():
    model = create_model("torchvision:r3d_18", num_classes=5)
    with pytest.raises(ValueError, match="torchvision:r3d_18 has no gradient checkpointing"):
        model.set_grad_checkpointing()
    with pytest.raises(ValueError, match=r"clips are \(B, 3, T, H, W\); got \(1, 4, 3, 32, 32\)"):
        model(CLIP.transpose(1, 2))
    with pytest.raises(ValueError, match="names no library; use torchvision:NAME or transformers:NAME"):
        timm.create_model("external_video_net", source="keras:x")


def test_gradient_checkpointing_gives_the_same_gradients(tmp_path):
    pytest.importorskip("transformers")
    save_network(tmp_path, "videomae")
    model = create_model(f"transformers:{tmp_path}")
    plain = torch.autograd.grad(model(CLIP).sum(), list(model.parameters()))
    model.set_grad_checkpointing()
    for a, b in zip(torch.autograd.grad(model(CLIP).sum(), list(model.parameters())), plain, strict=True):
        torch.testing.assert_close(a, b)
