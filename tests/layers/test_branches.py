"""The two banks of kernels, and how channels are split among them."""

import pytest
import torch
from torch import nn

from timm_video_psn.layers import SpatialBank, TemporalBank, group_widths
from timm_video_psn.layers.branches import centred_conv, odd_sizes

SQUARES = [(1, 1), (3, 3), (5, 5)]


@pytest.mark.parametrize(
    ("channels", "groups", "widths"),
    [
        (16, 4, (4, 4, 4, 4)),
        (10, 4, (4, 2, 2, 2)),
        (7, 5, (3, 1, 1, 1, 1)),
        (63, 4, (18, 15, 15, 15)),  # below 64 every width is welcome
        (64, 5, (16, 12, 12, 12, 12)),
        (64, 4, (16, 16, 16, 16)),
        (85, 4, (25, 20, 20, 20)),
        (128, 5, (32, 24, 24, 24, 24)),
        (5, 1, (5,)),
        (4, 4, (1, 1, 1, 1)),
    ],
)
def test_identity_takes_the_remainder_and_wide_groups_are_multiples_of_four(channels, groups, widths):
    assert group_widths(channels, groups) == widths


@pytest.mark.parametrize("groups", [1, 2, 4, 5, 7])
def test_widths_add_up_to_the_channels(groups):
    for channels in range(groups, 300):
        widths = group_widths(channels, groups)
        assert sum(widths) == channels
        assert min(widths) >= 1
        assert len(set(widths[1:])) <= 1
        assert channels < 64 or all(width % 4 == 0 for width in widths[1:])


def test_too_few_channels_are_named_with_a_remedy():
    with pytest.raises(
        ValueError, match=r"3 channels leave some of the 4 groups empty; at least 4 .* larger proportion"
    ):
        group_widths(3, 4)


def test_wide_groups_never_round_down_to_nothing():
    with pytest.raises(ValueError, match="64 channels leave some of the 20 groups empty"):
        group_widths(64, 20)


def test_sizes_are_odd_numbers_up_to_the_receptive_field():
    assert odd_sizes(7) == [1, 3, 5, 7]
    assert odd_sizes(1) == [1]


@pytest.mark.parametrize("size", [0, 2, 8, -3])
def test_an_even_receptive_field_is_refused(size):
    with pytest.raises(ValueError, match=f"receptive field {size} is not a positive odd number"):
        odd_sizes(size)


@pytest.mark.parametrize(
    ("size", "dilated", "kernel", "dilation"),
    [
        ((3, 3), True, (3, 3), (1, 1)),
        ((5, 5), True, (3, 3), (2, 2)),
        ((7, 3), True, (3, 3), (3, 1)),
        ((7, 1), True, (3, 1), (3, 1)),
        ((5, 7), False, (5, 7), (1, 1)),
    ],
)
def test_a_kernel_reaches_exactly_as_far_as_its_size(size, dilated, kernel, dilation):
    conv = centred_conv(1, size, dilated)
    assert (conv.kernel_size, conv.dilation) == (kernel, dilation)
    nn.init.ones_(conv.weight)
    point = torch.zeros(1, 1, 15, 15)
    point[..., 7, 7] = 1
    reached = conv(point)[0, 0].nonzero()
    extent = reached.amax(0) - reached.amin(0) + 1
    assert tuple(extent.tolist()) == size
    assert conv(point).shape == point.shape


def test_only_spatial_convolutions_have_a_norm_and_a_relu():
    bank = SpatialBank(8, SQUARES)
    assert [type(branch).__name__ for branch in bank.branches] == ["Identity", "Sequential", "Sequential", "MaxPool2d"]
    assert [type(layer).__name__ for layer in bank.branches[1]] == ["Conv2d", "BatchNorm2d", "ReLU"]
    temporal = TemporalBank(10, [1, 3, 5, 7])
    assert {type(m).__name__ for m in temporal.branches} == {"Identity", "Conv2d", "MaxPool2d"}


def test_each_convolution_of_1_1d_has_its_norm_and_relu():
    bank = SpatialBank(8, SQUARES, spatial_conv="1+1d")
    for branch, span in zip(bank.branches[1:3], (3, 5), strict=True):
        assert [type(layer).__name__ for layer in branch] == ["Conv2d", "BatchNorm2d", "ReLU"] * 2
        assert (branch[0].kernel_size, branch[3].kernel_size) == ((3, 1), (1, 3))
        assert (branch[0].padding, branch[3].padding) == ((span // 2, 0), (0, span // 2))


def test_no_relu_without_inter_act():
    bank = SpatialBank(8, SQUARES, inter_act=False)
    assert not any(isinstance(module, nn.ReLU) for module in bank.modules())
    assert sum(isinstance(module, nn.BatchNorm2d) for module in bank.modules()) == 2


def test_the_unit_may_be_a_convolution_like_the_others():
    bank = SpatialBank(8, SQUARES, unit="conv", spatial_conv="1+1d")
    assert [type(layer).__name__ for layer in bank.branches[0]] == ["Conv2d", "BatchNorm2d", "ReLU"]
    assert bank.branches[0][0].kernel_size == (1, 1)
    assert bank.labels[0] == "S-C-1"


def test_an_identity_in_the_place_of_the_pool_passes_its_group_on():
    x = torch.randn(4, 8, 3, 3)
    for bank, args in (
        (SpatialBank(8, SQUARES, pool="identity").eval(), ()),
        (TemporalBank(8, [1, 3, 5], "identity"), (2,)),
    ):
        assert torch.equal(bank(x, *args)[:, -2:], x[:, -2:])
        assert len(set(bank.labels)) == 4


def test_labels_name_domain_type_and_size_as_figure_5_does():
    assert SpatialBank(8, SQUARES).labels == ("S-I-1", "S-C-3", "S-C-5", "S-M-3")
    assert SpatialBank(9, [(1, 1), (3, 3), (5, 3)], pool="none").labels == ("S-I-1", "S-C-3", "S-C-5x3")
    assert TemporalBank(8, [1, 3, 5], pool="avg").labels == ("T-I-1", "T-C-3", "T-C-5", "T-A-3")


def test_each_group_sees_only_its_own_channels():
    bank = SpatialBank(8, SQUARES).eval()
    x = torch.randn(2, 8, 6, 6)
    changed = x.clone()
    changed[:, 2:4] += 1  # the 3x3 branch
    differs = (bank(x) != bank(changed)).any(dim=3).any(dim=2).any(dim=0)
    assert differs.nonzero().flatten().tolist() == [2, 3]


def test_temporal_bank_adds_no_copy_in_channels_last_memory():
    bank = TemporalBank(6, [1])  # an identity and a pool: the identity's channels come from the input untouched
    bank.branches, bank.widths = nn.ModuleList([nn.Identity()]), (6,)
    seen = []
    bank.branches[0].register_forward_hook(lambda module, args, out: seen.append(args[0]))
    x = torch.randn(6, 6, 4, 5).to(memory_format=torch.channels_last)
    out = bank(x, 3)
    assert seen[0].shape == (2, 6, 3, 20)
    assert seen[0].data_ptr() == x.data_ptr()
    assert torch.equal(out, x)
    assert out.is_contiguous(memory_format=torch.channels_last)


def test_temporal_bank_hands_its_convolutions_channels_last_maps():
    bank = TemporalBank(8, [1, 3, 5])
    layouts = []
    for branch in bank.branches:
        branch.register_forward_hook(lambda module, args, out: layouts.append((args[0].stride(1), out.stride(1))))
    bank(torch.randn(6, 8, 4, 5).to(memory_format=torch.channels_last), 3)
    assert layouts == [(1, 1)] * 4


def test_a_clip_is_padded_with_zeros_at_its_ends():
    bank = TemporalBank(2, [1, 3], pool="none")
    nn.init.ones_(bank.branches[1].weight)
    ones = torch.ones(8, 2, 1, 1)  # two clips of four frames
    assert bank(ones, 4)[:, 1].flatten().tolist() == [2, 3, 3, 2, 2, 3, 3, 2]


def test_pools_do_not_count_the_padding():
    average = TemporalBank(2, [1], pool="avg")
    assert torch.equal(average(torch.ones(4, 2, 3, 3), 4), torch.ones(4, 2, 3, 3))
    largest = TemporalBank(2, [1], pool="max")
    assert torch.equal(largest(-torch.ones(4, 2, 3, 3), 4), -torch.ones(4, 2, 3, 3))
    spatial = SpatialBank(2, [(1, 1)], pool="avg")
    assert torch.equal(spatial(torch.ones(1, 2, 3, 3)), torch.ones(1, 2, 3, 3))
