"""Layer groups against timm's own of the image model, on backbones of every kind of matcher."""

import pytest
import timm
from timm.models import group_parameters
from timm.optim import param_groups_layer_decay
from timm.optim._param_groups import auto_group_layers

from timm_video_psn.surgery import CHILD, injected

BACKBONES = {
    "patterns": ("test_resnet", 0.5),
    "patterns that fit a stage as well": ("fasternet_t0", 0.25),
    "a function": ("cait_xxs24_224", 0.25),
    "no matcher": ("pit_ti_224", 0.25),
    "targets without parameters": ("hrnet_w18_small", 0.5),
    "windows": ("swin_tiny_patch4_window7_224", 0.25),
}


def build(label: str):
    backbone, proportion = BACKBONES[label]
    model = timm.create_model("video_net", backbone=backbone, temporal="psn", num_frames=2, proportion=proportion)
    return model, timm.create_model(backbone)


@pytest.mark.parametrize("coarse", [False, True])
@pytest.mark.parametrize("label", BACKBONES)
def test_the_backbones_own_parameters_are_in_timms_groups(label, coarse, costly):
    model, stock = build(label)
    if hasattr(stock, "group_matcher"):
        expected = group_parameters(stock, stock.group_matcher(coarse=coarse), reverse=True)
    else:
        expected = auto_group_layers(stock)
    groups = group_parameters(model, model.group_matcher(coarse=coarse), reverse=True)
    own = {name: group for name, group in groups.items() if CHILD not in name.split(".")}
    assert own == {f"backbone.{name}": group for name, group in expected.items()}


@pytest.mark.parametrize("label", BACKBONES)
def test_a_temporal_module_is_with_the_last_layer_of_its_target_or_with_the_layer_before(label):
    model, _ = build(label)
    groups = group_parameters(model, model.group_matcher(), reverse=True)
    for item in injected(model.backbone):
        members = {groups[f"backbone.{item.name}.{CHILD}.{name}"] for name, _ in item.module.named_parameters()}
        own = [name for name, _ in item.target.named_parameters() if not name.startswith(f"{CHILD}.")]
        if own:
            assert members == {groups[f"backbone.{item.name}.{own[-1]}"]}, item.name
        else:
            assert max(members) < max(groups.values()), item.name  # never with the head


@pytest.mark.parametrize("label", BACKBONES)
def test_layer_decay_takes_every_backbone(label, costly):
    model, _ = build(label)
    groups = param_groups_layer_decay(model, weight_decay=0.05, layer_decay=0.7)
    assert sum(len(group["params"]) for group in groups) == len(list(model.parameters()))
    assert len({group["lr_scale"] for group in groups}) > 2
