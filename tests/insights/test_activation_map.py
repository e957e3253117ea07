"""Class activation maps: what a linear toy and a ResNet's head must give, and other layouts against plain loops."""

import av
import numpy as np
import pytest
import timm
import torch
from PIL import Image
from torch import nn

from timm_video_psn.engine.trained_model import SampledClip
from timm_video_psn.insights.activation_map import (
    ActivationMap,
    activation_map,
    draw_activation_map,
    film_activation_map,
    overlay,
)


class Toy(nn.Module):
    """Features of a clip, their mean, a linear layer."""

    def __init__(self):
        super().__init__()
        self.features = nn.Conv3d(3, 2, 1)
        self.head = nn.Linear(2, 3)

    def forward(self, x):
        return self.head(self.features(x).mean((2, 3, 4)))


@pytest.mark.parametrize("method", ["gradcam", "hirescam"])
def test_a_linear_toy_gives_its_own_weights(method):
    toy, clip = Toy(), torch.randn(1, 3, 4, 6, 5)
    found = activation_map(toy, clip, label=1, layer="features", method=method)
    weights = toy.head.weight[1]
    expected = (weights[:, None, None, None] * toy.features(clip)[0]).sum(0).relu() / (4 * 6 * 5)
    assert found.maps == pytest.approx(expected.detach().numpy(), abs=1e-6)
    assert found.logit == pytest.approx(toy(clip)[0, 1].item(), abs=1e-6)


def test_the_weights_of_grad_cam_are_means_over_the_clip_and_those_of_hirescam_are_not():
    class Squares(Toy):
        def forward(self, x):
            return self.head(self.features(x).square().mean((2, 3, 4)))

    toy, clip = Squares(), torch.randn(1, 3, 4, 6, 5)
    maps = toy.features(clip)[0].detach()
    gradient = 2 * maps * toy.head.weight[2].detach()[:, None, None, None] / 120
    hires = activation_map(toy, clip, 2, "features", "hirescam").maps
    assert hires == pytest.approx((gradient * maps).sum(0).relu().numpy(), abs=1e-6)
    mean = gradient.mean((1, 2, 3))
    grad = activation_map(toy, clip, 2, "features", "gradcam").maps
    assert grad == pytest.approx((mean[:, None, None, None] * maps).sum(0).relu().numpy(), abs=1e-6)
    assert not np.allclose(hires, grad)


@pytest.mark.parametrize("name", ["psn_test_resnet", "tsm_test_resnet"])
def test_the_last_level_of_a_resnet_speaks_with_the_weights_of_the_classifier(name):
    model = timm.create_model(name, num_classes=5).eval()
    clip = torch.randn(1, 3, 4, 64, 64)
    found = activation_map(model, clip, label=3)
    features = model.forward_features(clip)[0]  # (C, T, h, w)
    weights = model.get_classifier().weight[3]
    expected = torch.einsum("c,cthw->thw", weights, features).relu() / features[0].numel()
    assert found.layer == "layer4"
    assert found.maps.shape == features.shape[1:]
    assert found.maps == pytest.approx(expected.detach().numpy(), abs=1e-5)


@pytest.mark.parametrize(
    ("backbone", "level"), [("test_vit", "blocks.3"), ("test_mambaout", "stages.1"), ("test_convnext", "stages.2")]
)
def test_maps_of_other_layouts_are_those_of_plain_hooks(backbone, level):
    model = timm.create_model("video_net", backbone=backbone, temporal="psn", proportion=0.5, expand_init=1.0).eval()
    size = model.pretrained_cfg["input_size"][-1]
    clip = torch.randn(1, 3, 2, size, size)
    found = activation_map(model, clip, label=0, layer=level)
    kept = []
    module = model.backbone.get_submodule(level)
    handle = module.register_forward_hook(lambda _, args, output: kept.append(output))
    logit = model(clip)[0, 0]
    handle.remove()
    (gradient,) = torch.autograd.grad(logit, kept[0])
    values = [kept[0].detach(), gradient]  # tokens after the class token, or maps
    if kept[0].ndim == 3:
        side = round((kept[0].shape[1] - 1) ** 0.5)
        values = [value[:, 1:].unflatten(1, (side, side)) for value in values]
    elif backbone == "test_convnext":
        values = [value.permute(0, 2, 3, 1) for value in values]
    maps, gradient = values  # (T, h, w, C)
    expected = (maps * gradient.mean((0, 1, 2))).sum(-1).relu()
    assert found.maps == pytest.approx(expected.numpy(), abs=1e-7 + 1e-4 * expected.max().item())
    assert found.maps.max() > 0


def test_where_only_the_class_token_is_read_the_level_before_is_shown():
    model = timm.create_model("video_net", backbone="test_vit", temporal="tsn", global_pool="token").eval()
    size = model.pretrained_cfg["input_size"][-1]
    levels = [info["module"].removeprefix("backbone.") for info in model.feature_info]
    clip = torch.randn(1, 3, 2, size, size)
    assert activation_map(model, clip).layer == levels[-2]
    with pytest.raises(ValueError, match=f"does not depend on layer {levels[-1]}.*use an earlier layer"):
        activation_map(model, clip, layer=levels[-1])


def test_the_model_is_left_as_it_was():
    model = timm.create_model("psn_test_resnet").eval().requires_grad_(False)
    clip = torch.randn(1, 3, 4, 32, 32)
    before = model(clip)
    hooks = [len(module._forward_hooks) for module in model.modules()]
    assert activation_map(model, clip, layer="layer2").maps.any()  # though no parameter takes a gradient
    assert hooks == [len(module._forward_hooks) for module in model.modules()]
    assert torch.equal(model(clip), before)
    assert all(parameter.grad is None for parameter in model.parameters())


def test_what_cannot_be_shown_is_said():
    model, clip = timm.create_model("psn_test_resnet", num_classes=5), torch.randn(1, 3, 4, 32, 32)
    with pytest.raises(ValueError, match=r"layer='layer9' is neither a feature level .*layer1, .*layer4"):
        activation_map(model, clip, layer="layer9")
    with pytest.raises(ValueError, match="class 5 asked for; the model has 5"):
        activation_map(model, clip, label=5)
    with pytest.raises(ValueError, match=r"\(1, C, T, H, W\)"):
        activation_map(model, clip[0])
    with pytest.raises(ValueError, match=r"output of this layer, .* is not a map"):
        activation_map(model, clip, layer="backbone.fc")
    with pytest.raises(ValueError, match="method='cam' is unknown"):
        activation_map(model, clip, method="cam")


def test_a_map_never_covers_more_than_two_thirds_of_a_picture():
    found = ActivationMap(np.linspace(0, 1, 16, dtype=np.float32).reshape(1, 4, 4), 0, 1.0, "layer")
    dark, light = (
        overlay(SampledClip(torch.full((1, 16, 16, 3), grey, dtype=torch.uint8), np.array([0]), 1, None), found)
        for grey in (0, 255)
    )
    seen = (light.astype(int) - dark) / 255  # what is left of the picture
    assert seen.min() == pytest.approx(0.35, abs=0.01)
    assert seen.max() == pytest.approx(1, abs=0.01)


def test_the_picture_and_the_film(trained, video, tmp_path):
    sampled = trained.read(video)
    found = activation_map(trained.model, trained.precision.clip(sampled.frames[None]), layer="layer2")
    covered = overlay(sampled, found)
    shares = found.enlarged(32, 32)
    assert covered.shape == (4, 32, 32, 3)
    assert shares.max() <= 1
    red, green, blue = np.moveaxis(sampled.frames.numpy()[shares == 0].astype(float), -1, 0)
    grey = 0.299 * red + 0.587 * green + 0.114 * blue
    assert len(grey) > 0
    assert np.abs(covered[shares == 0] - grey[:, None]).max() <= 0.501  # nothing covers nothing
    hottest = covered[shares == shares.max()].astype(int)
    assert (hottest[:, 0] > hottest[:, 2]).all()  # red
    with Image.open(draw_activation_map(sampled, found, tmp_path / "cam.png")) as picture:
        assert picture.size == (580, 310)
    with av.open(str(film_activation_map(sampled, found, tmp_path / "cam.mp4"))) as film:
        frames = [frame.to_ndarray(format="rgb24") for frame in film.decode(video=0)]
    assert len(frames) == 4
    assert frames[0].shape == (256, 512, 3)
