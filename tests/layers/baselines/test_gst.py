"""Grouped spatial-temporal aggregation against plain loops and against a 3D convolution."""

import pytest
import torch
from torch import Tensor, nn

from timm_video_psn.layers import GroupedSpatialTemporal, fold_clip, unfold_clip
from timm_video_psn.layers.baselines.gst import temporal_kernel
from timm_video_psn.layers.temporal_module import Position

BLOCK = Position(0, 0, (1,))


def conv_loop(clip: Tensor, weight: Tensor, stride: int) -> Tensor:
    """A convolution over time and space, zeros around, as loops over taps and outputs; weight (O, I, kT, 3, 3)."""
    batch, _, frames, height, width = clip.shape
    reach = weight.shape[2] // 2
    rows = []
    for t in range(frames):
        for y in range(0, height, stride):
            for x in range(0, width, stride):
                total = torch.zeros(batch, weight.shape[0], dtype=clip.dtype)
                for k in range(weight.shape[2]):
                    for i in range(3):
                        for j in range(3):
                            s, v, u = t + k - reach, y + i - 1, x + j - 1
                            if 0 <= s < frames and 0 <= v < height and 0 <= u < width:
                                total = total + clip[:, :, s, v, u] @ weight[:, :, k, i, j].T
                rows.append(total)
    grid = (frames, (height + stride - 1) // stride, (width + stride - 1) // stride)
    return torch.stack(rows, -1).unflatten(-1, grid)


def official(clip: Tensor, spatial: Tensor, temporal: Tensor, beta: int, stride: int = 1) -> Tensor:
    """Bottleneck.conv2 and .Tconv of chenxuluo/GST-video; spatial (O, I, 1, 3, 3), temporal (O, I, 3, 3, 3)."""
    half = clip.shape[1] // 2
    left, right = (clip[:, :half], clip[:, half:]) if beta == 2 else (clip, clip)
    return torch.cat([conv_loop(left, spatial, stride), conv_loop(right, temporal, stride)], 1)


def with_weights(module: GroupedSpatialTemporal, spatial: Tensor, temporal: Tensor) -> dict[str, Tensor]:
    return {"spatial.weight": spatial[:, :, 0], "temporal.weight": temporal_kernel(temporal)}


@pytest.mark.parametrize(("alpha", "beta"), [(4, 2), (4, 1), (2, 2), (8, 2)])
@pytest.mark.parametrize(("num_frames", "stride"), [(1, 1), (2, 2), (4, 1)])
def test_agrees_with_the_loop_in_values_and_gradients(num_frames, stride, alpha, beta):
    channels = 8
    conv = nn.Conv2d(channels, channels, 3, stride, padding=1, bias=False).double()
    module = GroupedSpatialTemporal.replacing((conv,), num_frames, BLOCK, alpha=alpha, beta=beta)
    spatial = torch.randn(channels - channels // alpha, channels // beta, 1, 3, 3).double().requires_grad_()
    temporal = torch.randn(channels // alpha, channels // beta, 3, 3, 3).double().requires_grad_()
    clip = torch.randn(2, channels, num_frames, 4, 3, dtype=torch.float64, requires_grad=True)

    expected = official(clip, spatial, temporal, beta, stride)
    found = torch.func.functional_call(module, with_weights(module, spatial, temporal), fold_clip(clip))
    found = unfold_clip(found, num_frames)
    torch.testing.assert_close(found, expected)
    probe = torch.randn_like(expected)
    inputs = (clip, spatial, temporal)
    ours, theirs = (torch.autograd.grad(out, inputs, probe) for out in (found, expected))
    torch.testing.assert_close(ours, theirs)


def test_the_temporal_kernel_is_that_of_a_3d_convolution():
    module = GroupedSpatialTemporal(16, num_frames=5)
    conv = nn.Conv3d(8, 4, 3, padding=1, bias=False)
    module.temporal.weight.data = temporal_kernel(conv.weight.data)
    clip = torch.randn(2, 16, 5, 6, 6)
    found = unfold_clip(module(fold_clip(clip)), 5)
    torch.testing.assert_close(found[:, 12:], conv(clip[:, 8:]))


def test_takes_the_first_outputs_and_inputs_of_the_old_weight_as_the_official_loader_does():
    conv = nn.Conv2d(16, 16, 3, 2, padding=2, dilation=2, bias=False).double()
    module = GroupedSpatialTemporal.replacing((conv,), 4, BLOCK)
    assert torch.equal(module.spatial.weight, conv.weight[:12, :8])
    assert module.temporal.weight.dtype == torch.float64
    assert module.temporal.weight.std() > 0
    x = torch.randn(4, 16, 9, 9).double()
    assert module(x).shape == conv(x).shape
    x[:, 8:] = 0
    plain = nn.functional.conv2d(x, conv.weight, stride=2, padding=2, dilation=2)
    torch.testing.assert_close(module(x)[:, :12], plain[:, :12])


def test_channels_last_memory_stays():
    module = GroupedSpatialTemporal(16, 4)
    x = torch.randn(8, 16, 6, 5)
    nested = module(x.to(memory_format=torch.channels_last))
    assert nested.is_contiguous(memory_format=torch.channels_last)
    torch.testing.assert_close(nested, module(x))


@pytest.mark.parametrize(("channels", "groups", "size"), [(12, 12, 3), (24, 3, 3), (16, 2, 5)])
def test_grouped_convolutions_part_by_groups(channels, groups, size):
    conv = nn.Conv2d(channels, channels, size, padding=size // 2, groups=groups).double()
    module = GroupedSpatialTemporal.replacing((conv,), 3, BLOCK)
    temporal = channels // groups * max(1, groups // 4)
    clip = torch.randn(2, channels, 3, 6, 6).double()
    found = unfold_clip(module(fold_clip(clip)), 3)
    plain = unfold_clip(conv(fold_clip(clip)), 3)
    torch.testing.assert_close(found[:, :-temporal], plain[:, :-temporal])
    three = nn.Conv3d(
        temporal, temporal, (3, size, size), padding=(1, size // 2, size // 2), groups=max(1, groups // 4), bias=False
    ).double()
    width = channels // groups
    weight = three.weight.unflatten(0, (-1, width)).movedim(3, 1)  # (groups, 3, width, I, k, k)
    module.temporal.weight.data = weight.flatten(0, 2).contiguous()
    found = unfold_clip(module(fold_clip(clip)), 3)
    torch.testing.assert_close(found[:, -temporal:], three(clip[:, -temporal:]))


@pytest.mark.parametrize("channels", [9, 26])
def test_channels_that_nothing_divides_are_parted_by_rounding_down(channels):
    module = GroupedSpatialTemporal(channels, num_frames=2)
    assert module(torch.randn(4, channels, 5, 5)).shape == (4, channels, 5, 5)
    assert module.temporal.out_channels == 3 * (channels // 4)


@pytest.mark.parametrize(
    ("channels", "settings", "text"),
    [
        (64, {"alpha": 1}, "alpha=1 cannot split channels=64; use 2 to 64, for example 4"),
        (3, {}, "alpha=4 cannot split channels=3"),
        (64, {"beta": 4}, "beta=4 is not supported for channels=64; use 2 or 1"),
    ],
)
def test_wrong_parts_are_refused(channels, settings, text):
    with pytest.raises(ValueError, match=text):
        GroupedSpatialTemporal(channels, **settings)


@pytest.mark.parametrize(
    "conv",
    [
        nn.Conv2d(16, 32, 3, padding=1, bias=False),
        nn.Conv2d(16, 16, 3, padding=1, padding_mode="reflect"),
    ],
)
def test_other_convolutions_are_not_replaced(conv):
    with pytest.raises(ValueError, match=r"GST replaces convolutions .* found Conv2d\(16, .* such as resnet50"):
        GroupedSpatialTemporal.replacing((conv,), 4, BLOCK)
