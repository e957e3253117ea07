"""The interaction map and the count of interactions, on routings whose answers are known."""

import numpy as np
import pytest
import timm
import torch
from torch import nn

from timm_video_psn import drop_rate, flow_map, inject, interaction_map, ir_interactions
from timm_video_psn.interactions import path_flows
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


def trained_by_hand() -> ActionPerceptronSynthesizer:
    """Two groups of four: strong regular paths, weak irregular ones, and a channel that reaches next to nothing."""
    synthesizer = build(8, receptive_field=(3, 3, 3), pool="none")
    with torch.no_grad():
        synthesizer.fusion.weight.copy_(torch.block_diag(torch.full((4, 4), 1.0), torch.full((4, 4), 0.8)))
        synthesizer.fusion.weight[:4, 4:] = 0.05  # from spatial group 1 to temporal group 0
        synthesizer.fusion.weight[4:, 0] = -0.5  # from one channel of group 0: a mean of 0.125 in its rows
        synthesizer.fusion.weight[:, 7] = 1e-4
    return synthesizer


@pytest.mark.parametrize(("threshold", "irregular", "total"), [(0, 8, 16), (0.1, 4, 12), (0.2, 0, 8), (0.7, 0, 4)])
def test_a_threshold_counts_rows_by_their_share_of_the_strongest_block(threshold, irregular, total):
    assert ir_interactions(nn.Sequential(trained_by_hand()), threshold) == (irregular, total)


@pytest.mark.parametrize(("threshold", "rate"), [(0, 0), (0.01, 1 / 8), (0.9, 4 / 8)])
def test_the_drop_rate_is_the_share_of_spatial_channels_that_reach_no_kernel(threshold, rate):
    assert drop_rate(nn.Sequential(trained_by_hand()), threshold) == rate


@pytest.mark.parametrize(("fusion", "rate"), [("dense", 0), ("grouping", 0), ("shuffle", 0), ("dropout", 0.75)])
def test_drop_rates_of_table_2(fusion, rate):
    assert drop_rate(nn.Sequential(build(16, fusion=fusion))) == rate


@pytest.mark.parametrize("function", [ir_interactions, drop_rate])
def test_a_threshold_out_of_range_is_named(function):
    with pytest.raises(ValueError, match=r"threshold=1.5 is not in \[0, 1\): it is a share of the strongest block"):
        function(nn.Sequential(build()), threshold=1.5)


@pytest.mark.parametrize("settings", [{}, {"pool": "avg"}, {"fusion": "channelwise"}, {"causal": True}])
def test_the_flows_of_all_paths_add_up_to_v(settings):
    synthesizer = build(16, expand_init=1.0, **settings).double().eval()
    u = torch.randn(6, 16, 5, 4, dtype=torch.float64)
    seen = []
    synthesizer.fusion.register_forward_pre_hook(lambda module, args: seen.append(args[0]))
    v = synthesizer(u) - u
    flows = {(i, j): flow for i, j, flow in path_flows(synthesizer, seen[0])}
    assert len(flows) == 16
    torch.testing.assert_close(sum(flows.values()), v)


def test_the_flow_map_is_the_root_mean_square_over_all_clips():
    model = timm.create_model("psn_test_resnet", expand_init=1.0, sites=("stem", "layer2")).eval()
    with torch.no_grad():
        model.backbone.layer2[-1].temporal.expand.weight.mul_(10)
    clips = [torch.randn(2, 3, 4, 32, 32) for _ in range(2)]
    found = flow_map(model, clips)
    each = [flow_map(model, [clip]) for clip in clips]
    for site, whole in interaction_map(model).items():
        assert found[site].temporal_labels == whole.temporal_labels
        mean_square = (each[0][site].norms ** 2 + each[1][site].norms ** 2) / 2
        np.testing.assert_allclose(found[site].norms, mean_square**0.5, rtol=1e-5)
        assert found[site].norms.min() > 0
    assert found["layer2"].norms.mean() > 3 * found["stem"].norms.mean()


def test_a_flow_map_needs_a_model_in_evaluation_mode_and_clips():
    model = timm.create_model("psn_test_resnet")
    with pytest.raises(ValueError, match=r"call model\.eval"):
        flow_map(model.train(), [])
    with pytest.raises(ValueError, match="was given none"):
        flow_map(model.eval(), [])
