"""STM against plain loops."""

import pytest
import torch
from torch import nn

from tests import reference
from timm_video_psn.layers import fold_clip, unfold_clip
from timm_video_psn.layers.baselines.stm import SpatiotemporalMotion
from timm_video_psn.layers.temporal_module import Position

BLOCK = Position(1, 0, (2, 2))


@pytest.mark.parametrize("stride", [1, 2])
@pytest.mark.parametrize("frames", [1, 2, 3])
def test_agrees_with_the_loops_in_values_and_gradients(frames, stride):
    conv = nn.Conv2d(4, 4, 3, stride, padding=1, bias=False).double()
    module = SpatiotemporalMotion.replacing((conv,), frames, BLOCK, reduction=2)
    assert module.spatial is conv
    for parameter in module.parameters():
        nn.init.normal_(parameter)
    clip = torch.randn(2, 4, frames, 4, 3, dtype=torch.float64, requires_grad=True)
    expected = reference.spatiotemporal_motion(
        clip,
        module.taps,
        conv.weight,
        module.reduce.weight[..., 0, 0],
        module.transform.weight[:, 0],
        module.expand.weight[..., 0, 0],
        stride,
    )
    found = unfold_clip(module(fold_clip(clip)), frames)
    torch.testing.assert_close(found, expected)
    probe, inputs = torch.randn_like(expected), (clip, *module.parameters())
    ours, theirs = (torch.autograd.grad(out, inputs, probe, materialize_grads=True) for out in (found, expected))
    for a, b in zip(ours, theirs, strict=True):
        torch.testing.assert_close(a, b)


def test_starts_as_the_convolution_that_it_replaces():
    conv = nn.Conv2d(8, 8, 3, padding=1, groups=2)
    x = torch.randn(6, 8, 5, 4)
    assert torch.equal(SpatiotemporalMotion.replacing((conv,), 3, BLOCK, reduction=4)(x), conv(x))


def test_what_does_not_fit_is_refused():
    with pytest.raises(ValueError, match="reduction=16 leaves no channel of 8; use 1 to 8"):
        SpatiotemporalMotion(8)
    with pytest.raises(ValueError, match="as many output as input channels, found Conv2d"):
        SpatiotemporalMotion.replacing((nn.Conv2d(16, 32, 3),), 3, BLOCK)
