"""TEA on plain bottlenecks against plain loops after the official formulas."""

import pytest
import torch
from torch import nn

from tests.layers.baselines.tea_loops import official
from timm_video_psn.layers import fold_clip, unfold_clip
from timm_video_psn.layers.baselines.tea_bottleneck import BottleneckExcitationAggregation
from timm_video_psn.layers.temporal_module import Position

FIRST, SECOND = Position(0, 0, (2,)), Position(0, 1, (2,))


def middle_of_a_block(channels: int, stride: int = 1) -> tuple[nn.Module, ...]:
    conv = nn.Conv2d(channels, channels, 3, stride, padding=1, bias=False)
    bn = nn.BatchNorm2d(channels)
    for tensor in (bn.weight, bn.bias, bn.running_mean, bn.running_var):
        nn.init.uniform_(tensor, 0.2, 1)
    return conv, bn, nn.ReLU(inplace=True)


@pytest.mark.parametrize(("scale", "stride", "stage"), [(4, 1, False), (4, 1, True), (4, 2, True), (2, 1, False)])
@pytest.mark.parametrize("training", [False, True])
@pytest.mark.parametrize("num_frames", [1, 2, 4])
def test_agrees_with_the_loop_in_values_and_gradients(num_frames, training, scale, stride, stage):
    old = tuple(module.double() for module in middle_of_a_block(16, stride))
    where = FIRST if stage else SECOND
    module = BottleneckExcitationAggregation.replacing(old, num_frames, where, scale=scale, reduction=4)
    module.train(training)
    for name, parameter in module.named_parameters():
        if "temporal.weight" in name or "last" in name or "norm" in name:
            nn.init.uniform_(parameter, -1, 1.5)
    clip = torch.randn(2, 16, num_frames, 4, 6, dtype=torch.float64, requires_grad=True)
    values = {name: value.clone() for name, value in module.named_buffers()} | dict(module.named_parameters())
    expected = official(clip, values, training, scale, stride, stage)
    found = unfold_clip(module(fold_clip(clip)), num_frames)
    torch.testing.assert_close(found, expected)
    probe = torch.randn_like(expected)
    inputs = (clip, *module.parameters())
    # One frame has no neighbour to differ from: the loop then never touches some weights.
    ours, theirs = (torch.autograd.grad(out, inputs, probe, materialize_grads=True) for out in (found, expected))
    torch.testing.assert_close(ours, theirs)


def test_subsets_start_with_their_part_of_the_old_weights_and_norm():
    conv, bn, act = middle_of_a_block(16)
    module = BottleneckExcitationAggregation.replacing((conv, bn, act), 4, SECOND)
    for i, subset in enumerate(module.aggregation.convolved):
        part = slice(4 * i, 4 * i + 4)
        assert torch.equal(subset.conv.weight, conv.weight[part, part])
        for name in ("weight", "bias", "running_mean", "running_var"):
            assert torch.equal(getattr(subset.norm, name), getattr(bn, name)[part])
        assert torch.equal(subset.temporal.weight, torch.tensor([0.0, 1.0, 0.0]).expand(4, 3))
        assert subset.act is act
    shift = torch.tensor([[0.0, 0.0, 1.0], [1.0, 0.0, 0.0]])
    assert torch.equal(module.aggregation.last.weight, shift.repeat_interleave(2, 0))


def test_a_block_with_a_stride_has_the_form_that_opens_a_stage():
    module = BottleneckExcitationAggregation.replacing(middle_of_a_block(16, stride=2), 4, SECOND)
    assert module.aggregation.opens_stage
    assert module(torch.randn(4, 16, 7, 6)).shape == (4, 16, 4, 3)


def test_channels_last_memory_stays():
    module = BottleneckExcitationAggregation(32, 4)
    x = torch.randn(8, 32, 3, 5)
    nested = module(x.to(memory_format=torch.channels_last))
    assert nested.is_contiguous(memory_format=torch.channels_last)
    torch.testing.assert_close(nested, module(x))


@pytest.mark.parametrize(
    ("channels", "settings", "text"),
    [
        (8, {}, "reduction=16 leaves no channel of 8; use 1 to 8"),
        (36, {}, "scale=4 does not split channels=36 into two or more subsets of even width"),
        (32, {"scale": 1}, "scale=1 does not split channels=32"),
    ],
)
def test_wrong_parts_are_refused(channels, settings, text):
    with pytest.raises(ValueError, match=text):
        BottleneckExcitationAggregation(channels, **settings)


@pytest.mark.parametrize(
    ("conv", "bn"),
    [
        (nn.Conv2d(16, 16, 3, padding=1, groups=2, bias=False), nn.BatchNorm2d(16)),
        (nn.Conv2d(16, 16, 3, padding=2, dilation=2, bias=False), nn.BatchNorm2d(16)),
        (nn.Conv2d(16, 16, 3, padding=1, bias=False), nn.GroupNorm(4, 16)),
    ],
)
def test_other_convolutions_and_norms_are_not_replaced(conv, bn):
    with pytest.raises(ValueError, match=r"TEA replaces .* found Conv2d\(16, .* such as resnet50"):
        BottleneckExcitationAggregation.replacing((conv, bn, nn.ReLU()), 4, SECOND)
