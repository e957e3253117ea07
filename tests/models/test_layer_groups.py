import timm
from timm.models import group_parameters
from torch import nn

from timm_video_psn.models.layer_groups import with_members, with_prefix


def net_with(*names: str) -> nn.Module:
    """A module with one parameter under each dotted name."""
    net = nn.Module()
    for name in names:
        *path, leaf = name.split(".")
        module = net
        for part in path:
            if part not in module._modules:
                module.add_module(part, nn.Module())
            module = module.get_submodule(part)
        module.register_parameter(leaf, nn.Parameter(nn.Linear(1, 1).weight.detach().clone()))
    return net


def test_a_prefix_changes_no_group():
    plain = timm.create_model("test_resnet")
    wrapped = nn.ModuleDict({"inner": plain})
    for coarse in (False, True):
        matcher = plain.group_matcher(coarse=coarse)
        groups = group_parameters(plain, matcher, reverse=True)
        prefixed = group_parameters(wrapped, with_prefix(matcher, "inner."), reverse=True)
        assert {f"inner.{name}": group for name, group in groups.items()} == prefixed


def test_anchors_go_but_negated_character_classes_stay():
    net = net_with("a.stem.w", "a.blocks.0.w", "a.blocks.1.w", "a.head.w")
    matcher = with_prefix({"stem": r"^stem|^patch", "blocks": [(r"^blocks\.([^.]+)", None), (r"^norm", (99,))]}, "a.")
    groups = group_parameters(net, matcher, reverse=True)
    assert groups == {"a.stem.w": 0, "a.blocks.0.w": 1, "a.blocks.1.w": 2, "a.head.w": 3}


def test_a_member_joins_the_group_of_its_companion_and_only_if_it_has_none():
    net = net_with("stages.0.blocks.0.w", "stages.0.blocks.1.w", "stages.0.extra.w", "stages.1.blocks.0.w", "head.w")
    matcher = {"blocks": r"^stages\.(\d+)\.blocks\.(\d+)"}
    alone = group_parameters(net, matcher, reverse=True)
    assert alone["stages.0.extra.w"] == alone["head.w"]
    joined = with_members(matcher, {"stages.0.extra.": "stages.0.blocks.1.w", "stages.1.blocks.0.": "head.w"})
    groups = group_parameters(net, joined, reverse=True)
    assert groups["stages.0.extra.w"] == groups["stages.0.blocks.1.w"] == 1
    assert groups["stages.1.blocks.0.w"] == 2
    assert groups["head.w"] == 3
