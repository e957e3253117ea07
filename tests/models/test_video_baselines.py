"""The names of the compared systems."""

import pytest
import timm
import torch
from torch import nn

from timm_video_psn.surgery import injected

NAMES = sorted(name for name in timm.list_models(module="video_baselines") if name.startswith("rf_"))


def test_there_is_a_name_for_each_baseline_of_figure_4():
    assert NAMES == ["rf_l_inception_resnet50", "rf_l_inception_t_resnet50", "rf_l_resnet50", "rf_s_resnet50"]


@pytest.mark.parametrize("name", NAMES)
def test_every_name_classifies_clips(name):
    model = timm.create_model(name, num_frames=2, num_classes=3, expand_init=1.0).eval()
    clip = torch.randn(1, 3, 2, 32, 32)
    with torch.no_grad():
        logits = model(clip)
        assert not torch.allclose(model(clip.flip(2)), logits)
    assert logits.shape == (1, 3)
    assert isinstance(model.get_submodule(model.pretrained_cfg["first_conv"]), nn.Conv2d)
    assert model.pretrained_cfg["architecture"] == name


@pytest.mark.parametrize("name", NAMES)
def test_sites_are_those_of_psn_unless_others_are_given(name):
    with torch.device("meta"):
        model, psn = timm.create_model(name), timm.create_model("psn_resnet50")
        table = timm.create_model(name, sites=("layer1", "layer2", "layer3", "layer4"))
    assert model.sites == psn.sites
    assert list(table.sites) == ["layer1", "layer2", "layer3", "layer4"]
    assert {type(item.module) for item in injected(model)} == {type(item.module) for item in injected(table)}


def test_another_temporal_module_than_the_name_says_is_refused():
    with pytest.raises(ValueError, match="rf_s_resnet50 is temporal='rf_s' on backbone='resnet50'"):
        timm.create_model("rf_s_resnet50", temporal="rf_l")
