"""The fusion layer, and the special cases of it that the paper names (Eq. 4, Table 2)."""

import pytest
import torch

from tests import reference
from timm_video_psn.layers import FUSIONS, block_norms

EQUAL = [(4, 6), (2, 4), (3, 6), (4, 4), (4, 16)]  # G, c


def widths(groups: int, width: int) -> tuple[int, ...]:
    return (width,) * groups


def dense_with(routing: torch.Tensor, groups: tuple[int, ...]) -> torch.nn.Module:
    """The learned layer, loaded with a routing."""
    dense = FUSIONS["dense"](groups, groups)
    with torch.no_grad():
        dense.weight.copy_(routing)
    return dense


def test_dense_is_a_matrix_on_the_channels_of_every_pixel():
    dense = FUSIONS["dense"]((3, 2), (1, 4)).double()
    x = torch.randn(2, 5, 3, 4, dtype=torch.float64)
    expected = torch.zeros_like(x)
    for c in range(5):
        for k in range(5):
            expected[:, c] += dense.weight[c, k].detach() * x[:, k]
    torch.testing.assert_close(dense(x), expected)


@pytest.mark.parametrize(("groups", "width"), EQUAL)
def test_dense_with_the_routing_of_equation_4_is_channel_shuffle(groups, width):
    split = widths(groups, width)
    x = torch.randn(2, groups * width, 3, 4)
    expected = torch.nn.ChannelShuffle(groups)(x)
    shuffle = FUSIONS["shuffle"](split, split)
    assert torch.equal(shuffle.routing(), reference.shuffle_routing(groups, width))
    assert torch.equal(shuffle(x), expected)
    assert torch.equal(dense_with(shuffle.routing(), split)(x), expected)
    assert not torch.equal(expected, x)


def test_dense_with_the_identity_is_grouping():
    split = (4, 3, 3)
    x = torch.randn(2, 10, 3, 4)
    grouping = FUSIONS["grouping"](split, split)
    assert torch.equal(grouping.routing(), torch.eye(10))
    assert torch.equal(grouping(x), x)
    assert torch.equal(dense_with(grouping.routing(), split)(x), x)


@pytest.mark.parametrize(("groups", "width"), EQUAL)
def test_dense_with_the_mask_is_dropout(groups, width):
    split = widths(groups, width)
    x = torch.randn(2, groups * width, 3, 4)
    dropout = FUSIONS["dropout"](split, split)
    assert torch.equal(dropout.routing(), reference.dropout_routing(groups, width))
    assert torch.equal(dense_with(dropout.routing(), split)(x), dropout(x))


def test_dropout_keeps_a_quarter_of_every_group_and_reaches_every_block():
    split = widths(4, 8)
    routing = FUSIONS["dropout"](split, split).routing()
    kept = (routing != 0).any(dim=0).view(4, 8)  # spatial groups, channels
    assert (1 - kept.float().mean(1)).tolist() == [0.75] * 4
    assert (block_norms(routing, split, split) == 2).all()
    assert set(routing.unique().tolist()) == {0.0, 1.0}


def test_channelwise_is_a_sum_over_spatial_groups_channel_by_channel():
    split = widths(3, 2)
    fusion = FUSIONS["channelwise"](split, split).double()
    x = torch.randn(2, 6, 3, 4, dtype=torch.float64)
    expected = torch.zeros_like(x)
    for i in range(3):
        for j in range(3):
            for n in range(2):
                expected[:, 2 * i + n] += fusion.weight[i, j, n].detach() * x[:, 2 * j + n]
    torch.testing.assert_close(fusion(x), expected)
    torch.testing.assert_close(fusion.routing(), reference.channelwise_routing(fusion.weight))


def test_channelwise_learns_one_vector_for_each_pair_of_groups():
    split = widths(3, 2)
    fusion = FUSIONS["channelwise"](split, split)
    assert [p.shape for p in fusion.parameters()] == [(3, 3, 2)]
    fusion(torch.randn(2, 6, 3, 4)).square().sum().backward()
    assert (fusion.weight.grad != 0).all()


@pytest.mark.parametrize("name", ["grouping", "shuffle", "dropout"])
def test_fixed_fusions_learn_and_store_nothing(name):
    split = widths(4, 4)
    fusion = FUSIONS[name](split, split)
    assert list(fusion.parameters()) == []
    assert fusion.state_dict() == {}


@pytest.mark.parametrize("name", FUSIONS)
def test_forward_applies_the_routing(name):
    split = widths(4, 4)
    fusion = FUSIONS[name](split, split).double()
    x = torch.randn(2, 16, 3, 4, dtype=torch.float64)
    torch.testing.assert_close(fusion(x), torch.einsum("ck,bkhw->bchw", fusion.routing(), x))


@pytest.mark.parametrize("name", FUSIONS)
def test_routing_follows_its_module_to_another_type(name):
    split = widths(4, 4)
    fusion = FUSIONS[name](split, split).to(torch.bfloat16)
    assert fusion.routing().dtype == torch.bfloat16
    assert fusion(torch.randn(1, 16, 2, 2, dtype=torch.bfloat16)).dtype == torch.bfloat16


def test_block_norms_are_sums_of_absolute_values():
    routing = torch.randn(7, 6, dtype=torch.float64)
    norms = block_norms(routing, (4, 2), (1, 3, 3))
    assert norms.shape == (3, 2)
    for i, rows in enumerate((range(1), range(1, 4), range(4, 7))):
        for j, columns in enumerate((range(4), range(4, 6))):
            expected = sum(abs(float(routing[r, c])) for r in rows for c in columns)
            assert float(norms[i, j]) == pytest.approx(expected, abs=1e-12)


@pytest.mark.parametrize("name", ["dense", "channelwise"])
def test_initial_norms_are_what_a_random_start_gives_on_average(name):
    split = (24, 16, 8) if name == "dense" else widths(3, 40)
    made = [FUSIONS[name](split, split) for _ in range(30)]
    mean = torch.stack([block_norms(fusion.routing().detach(), split, split) for fusion in made]).mean(0)
    torch.testing.assert_close(made[0].initial_norms(), mean, rtol=0.1, atol=0)


@pytest.mark.parametrize("name", ["channelwise", "shuffle", "dropout"])
def test_unequal_groups_are_named_with_a_remedy(name):
    text = rf"fusion='{name}' needs .*one width, found \(4, 3, 3\) and \(5, 5\); use fusion='dense' or 'grouping'"
    with pytest.raises(ValueError, match=text):
        FUSIONS[name]((4, 3, 3), (5, 5))


@pytest.mark.parametrize("name", ["shuffle", "dropout"])
def test_groups_that_leave_a_rest_still_reach_every_block_and_keep_the_drop_rate(name):
    split = widths(4, 6)
    routing = FUSIONS[name](split, split).routing()
    norms = block_norms(routing, split, split)
    assert norms.unique().tolist() == [1.0, 2.0]
    assert norms.sum(0).tolist() == ([8, 8, 4, 4] if name == "dropout" else [6] * 4)
    assert routing.sum(1).unique().tolist() == [1.0]
    assert (routing.sum(0) > 0).float().mean() == (0.25 if name == "dropout" else 1.0)


@pytest.mark.parametrize("name", ["shuffle", "dropout"])
def test_groups_too_narrow_for_a_channel_of_every_other_are_named_with_a_remedy(name):
    text = f"fusion='{name}' divides groups of 3 channels into 4 sub-groups.*at least 16 channels"
    with pytest.raises(ValueError, match=text):
        FUSIONS[name](widths(4, 3), widths(4, 3))
