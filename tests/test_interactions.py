"""The interaction map and the count of interactions, on routings whose answers are known."""

import numpy as np
import pytest
import timm
import torch
from torch import nn

from timm_video_psn import inject, interaction_map, ir_interactions
from timm_video_psn.layers import ActionPerceptronSynthesizer


def build(channels: int = 8, **settings) -> ActionPerceptronSynthesizer:
    return ActionPerceptronSynthesizer(channels, 2, 1.0, **{"receptive_field": (5, 5, 5), **settings})


def test_norms_are_those_of_a_routing_made_by_hand():
    synthesizer = build(8, receptive_field=(3, 3, 3), pool="none")  # 2 x 2 blocks of 4 x 4
    with torch.no_grad():
        synthesizer.fusion.weight.zero_()
        synthesizer.fusion.weight[0, 0] = -2  # from spatial group 0 to temporal group 0
        synthesizer.fusion.weight[3, 4:] = 0.5  # from 1 to 0
        synthesizer.fusion.weight[4:, 7] = -1  # from 1 to 1
    found = interaction_map(nn.Sequential(synthesizer))
    (site,) = found.values()
    assert isinstance(site.norms, np.ndarray)
    assert site.norms.tolist() == [[2, 2], [0, 4]]


def test_rows_are_temporal_and_columns_spatial_kernels():
    site = interaction_map(nn.Sequential(build(10, receptive_field=(7, 5, 5))))["0"]
    assert site.norms.shape == (5, 4)
    assert site.temporal_labels == ("T-I-1", "T-C-3", "T-C-5", "T-C-7", "T-M-3")
    assert site.spatial_labels == ("S-I-1", "S-C-3", "S-C-5", "S-M-3")


def test_sites_of_a_video_net_come_in_its_order_under_their_names():
    model = timm.create_model("psn_test_resnet", sites=("layer3", "stem", "layer4"))
    assert list(interaction_map(model)) == ["stem", "layer3", "layer4"]
    assert list(interaction_map(timm.create_model("psn_test_resnet"))) == ["stem", "layer1", "layer2", "layer3"]


def test_sites_of_any_other_model_are_what_the_synthesizers_follow_or_their_own_names():
    model = nn.ModuleDict({"first": nn.Sequential(build()), "second": nn.Conv2d(3, 8, 1)})
    inject(model, "second", lambda name, target: build())
    assert list(interaction_map(model)) == ["first.0", "second"]


def test_synthesizers_that_share_a_parent_are_all_found():
    assert len(interaction_map(nn.Sequential(build(), build()))) == 2


def test_a_model_without_synthesizers_has_no_map_and_no_interactions():
    model = timm.create_model("tsm_test_resnet")
    assert interaction_map(model) == {}
    assert ir_interactions(model) == (0, 0)


@pytest.mark.parametrize(
    ("fusion", "irregular", "total"),
    [
        ("dense", 4 * 3 * 4, 4 * 4 * 4),
        ("channelwise", 48, 64),
        ("grouping", 0, 16),
        ("shuffle", 12, 16),
        ("dropout", 12, 16),
    ],
)
def test_interactions_count_the_channels_that_flow_between_groups(fusion, irregular, total):
    """Four groups of four channels: G^2 c = 64 in all, where nothing is cut."""
    assert ir_interactions(nn.Sequential(build(16, fusion=fusion))) == (irregular, total)


def test_a_channel_counts_once_for_each_group_that_it_hears_of():
    synthesizer = build(8, receptive_field=(3, 3, 3), pool="none")
    with torch.no_grad():
        synthesizer.fusion.weight.zero_()
        synthesizer.fusion.weight[0, :2] = 1  # two inputs, one channel, regular
        synthesizer.fusion.weight[1:3, 5] = 1  # two channels, irregular
    found = ir_interactions(nn.Sequential(synthesizer))
    assert (found.irregular, found.total) == (2, 3)


def test_interactions_add_up_over_synthesizers():
    one, two = build(16), build(8)
    assert ir_interactions(nn.Sequential(one, two)).total == ir_interactions(one).total + ir_interactions(two).total


def test_resnet50_has_the_1856_interactions_of_the_paper():
    model = timm.create_model("psn_resnet50", receptive_field=(5, 5, 5))
    assert ir_interactions(model).total == 1856
    assert ir_interactions(model).irregular == 1856 * 3 // 4
