"""Dropout and classifiers, wherever a family of timm keeps them."""

import pytest
import timm
import torch
from torch import nn

from tests.models.light_models import LIGHT, build

# A functional dropout, one in the head, one beside it, and two in two heads.
BACKBONES = {
    "test_resnet": 64,
    "test_convnext": 64,
    "test_vit": 160,
    "levit_128s": 224,
}


@pytest.mark.parametrize("label", LIGHT)
def test_dropout_acts_in_training_only(label, clip):
    model, plain = build(label, drop_rate=0.9), build(label)
    plain.load_state_dict(model.state_dict())
    assert (model.drop_rate, plain.drop_rate) == (0.9, 0)
    assert torch.equal(model(clip), plain(clip))
    for each in (model, plain):
        each.train()
    assert not torch.allclose(model(clip), plain(clip))


def net(backbone: str, **kwargs) -> nn.Module:
    return timm.create_model("video_net", backbone=backbone, temporal="tsn", num_classes=5, **kwargs)


@pytest.mark.parametrize("built_with", [0.0, 0.9])
@pytest.mark.parametrize("backbone", BACKBONES)
def test_the_drop_rate_can_be_changed_later(backbone, built_with):
    model = net(backbone, drop_rate=built_with).eval()
    assert model.drop_rate == built_with
    features = model.forward_features(torch.randn(4, 3, *2 * (BACKBONES[backbone],)))
    for module in model.modules():
        module.training = not isinstance(module, nn.modules.batchnorm._BatchNorm)
    for rate in (0.0, 0.5, 0.0):
        model.drop_rate = rate
        assert model.drop_rate == rate
        repeats = torch.equal(model.forward_head(features), model.forward_head(features))
        assert repeats == (rate == 0)


def test_a_drop_rate_outside_of_its_range_is_refused():
    model = build("psn_test_resnet")
    with pytest.raises(ValueError, match=r"drop_rate=1.5 is not in \[0, 1\)"):
        model.drop_rate = 1.5


def test_a_head_without_dropout_is_refused():
    model = net("cpubone_nano")
    with pytest.raises(ValueError, match=r"the head of .* was built without a dropout; build .* drop_rate=0.5"):
        model.drop_rate = 0.5


def test_a_backbone_with_two_classifiers_names_both():
    model = net("levit_128s")
    names = model.get_classifier(name_only=True)
    assert names == ("backbone.head", "backbone.head_dist")
    assert [model.get_submodule(name) for name in names] == list(model.get_classifier())
