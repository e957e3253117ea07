"""Patterns and the modules that they name."""

import pytest
import timm
from torch import nn

from timm_video_psn import NoTargetError
from timm_video_psn.surgery import match


@pytest.fixture(scope="module")
def resnet() -> nn.Module:
    return timm.create_model("test_resnet")


def names(model: nn.Module, patterns) -> list[str]:
    return [name for name, _ in match(model, patterns)]


def test_a_dotted_name_finds_its_module(resnet):
    assert match(resnet, "layer2.0.conv1") == [("layer2.0.conv1", resnet.layer2[0].conv1)]


def test_wildcards_stay_within_a_part(resnet):
    assert names(resnet, "layer?") == ["layer1", "layer2", "layer3", "layer4"]
    assert names(resnet, "layer[12].0") == ["layer1.0", "layer2.0"]
    assert names(resnet, "*.0.conv1") == [f"layer{i}.0.conv1" for i in (1, 2, 3, 4)]
    assert all(name.count(".") == 0 for name in names(resnet, "*"))


def test_several_patterns_give_the_models_order_without_repeats(resnet):
    assert names(resnet, ["layer3", "layer?", "layer1", "fc"]) == ["layer1", "layer2", "layer3", "layer4", "fc"]


def test_a_pattern_that_fits_nothing_shows_near_names(resnet):
    with pytest.raises(
        NoTargetError, match=r"pattern 'layr2' names no child of ResNet, which has \d+; nearest.*layer2"
    ):
        match(resnet, ["layer1", "layr2"])


def test_all_patterns_that_fit_nothing_are_named_at_once(resnet):
    with pytest.raises(NoTargetError, match=r"(?s)'stage1'.*\n.*'fcc'.*nearest names: fc"):
        match(resnet, ["stage1", "layer1", "fcc"])


def test_no_near_name_shows_the_first_ones():
    with pytest.raises(NoTargetError, match="nearest names: 0, 1;"):
        match(nn.Sequential(nn.ReLU(), nn.ReLU()), "zzzzzz")


def test_a_model_without_children_is_said_to_have_none():
    with pytest.raises(NoTargetError, match="names no child of ReLU, which has 0; nearest names: none; use a dotted"):
        match(nn.ReLU(), "*")


def test_an_empty_list_is_an_error(resnet):
    with pytest.raises(NoTargetError, match="pattern '' names no child"):
        match(resnet, [])


def test_the_error_is_a_value_error():
    assert issubclass(NoTargetError, ValueError)
