"""Inflated convolutions, pools and shortcuts against PyTorch's 3D ones; which blocks of a network get them."""

import pytest
import timm
import torch
from torch import Tensor, nn

from timm_video_psn import VideoNet
from timm_video_psn.layers import fold_clip, unfold_clip
from timm_video_psn.layers.baselines.inflated import (
    EveryOtherFrame,
    HeadConv,
    InflatedConv,
    InflatedStem,
    TemporalMaxPool,
)
from timm_video_psn.layers.temporal_module import Position, TemporalModule

BLOCK = Position(2, 0, (2, 2, 2, 2))


def kernel_3d(module: InflatedConv) -> Tensor:
    """The weight as nn.Conv3d has it."""
    groups, taps = module.conv.groups, module.taps
    return module.conv.weight.unflatten(0, (groups, taps, -1)).movedim(1, 3).flatten(0, 1)  # (O, I, K, k, k)


@pytest.mark.parametrize("frames", [1, 2, 5])
@pytest.mark.parametrize(
    ("kind", "conv"),
    [
        (InflatedConv, nn.Conv2d(6, 4, 3, 2, padding=1, bias=False)),
        (InflatedConv, nn.Conv2d(6, 8, 3, padding=2, dilation=2, groups=2)),
        (InflatedConv, nn.Conv2d(6, 4, 1)),
        (InflatedStem, nn.Conv2d(3, 4, 7, 2, padding=3, bias=False)),
        (HeadConv, nn.Conv2d(6, 4, 3, 2, padding=1, bias=False)),
        (HeadConv, nn.Conv2d(6, 8, 3, 2, padding=1, groups=2)),
        (HeadConv, nn.Conv2d(6, 4, 3, padding=1)),
    ],
)
def test_agrees_with_a_3d_convolution_in_values_and_gradients(kind, conv, frames):
    module = kind.replacing((conv,), frames, BLOCK).double()
    nn.init.normal_(module.conv.weight)
    time_stride = 2 if kind is HeadConv and conv.stride == (2, 2) else 1
    assert module.time_stride == time_stride
    clip = torch.randn(2, conv.in_channels, frames, 8, 6, dtype=torch.float64, requires_grad=True)
    expected = nn.functional.conv3d(
        clip,
        kernel_3d(module),
        module.bias,
        (time_stride, *conv.stride),
        (module.taps // 2, *conv.padding),
        (1, *conv.dilation),
        conv.groups,
    )
    found = unfold_clip(module(fold_clip(clip)), expected.shape[2])
    torch.testing.assert_close(found, expected)
    probe, inputs = torch.randn_like(expected), (clip, *module.parameters())
    ours, theirs = (torch.autograd.grad(out, inputs, probe) for out in (found, expected))
    torch.testing.assert_close(ours, theirs)


@pytest.mark.parametrize("kind", [InflatedConv, InflatedStem])
def test_away_from_its_ends_a_still_video_gives_what_the_image_gave(kind):
    conv = nn.Conv2d(6, 4, 3, padding=1, groups=2).double()
    module = kind.replacing((conv,), 7, BLOCK)
    image = torch.randn(2, 6, 8, 6, dtype=torch.float64)
    found = unfold_clip(module(fold_clip(image[:, :, None].expand(-1, -1, 7, -1, -1))), 7)
    for t in range(2, 5):
        torch.testing.assert_close(found[:, :, t], conv(image))


@pytest.mark.parametrize("frames", [1, 4, 5])
def test_pool_and_shortcut_take_every_second_frame(frames):
    clip = torch.randn(2, 3, frames, 4, 5)
    count = (frames + 1) // 2
    pooled = unfold_clip(TemporalMaxPool(3, frames)(fold_clip(clip)), count)
    assert torch.equal(pooled, nn.functional.max_pool3d(clip, (2, 1, 1), ceil_mode=True))
    assert torch.equal(unfold_clip(EveryOtherFrame(3, frames)(fold_clip(clip)), count), clip[:, :, ::2])


def blocks_of(temporal: str, backbone: str, kind: str) -> list[list[int]]:
    """For each stage, which blocks have a module of a kind."""
    with torch.device("meta"):
        model = timm.create_model("video_net", backbone=backbone, temporal=temporal)
    names = [name.split(".") for name, module in model.named_modules() if type(module).__name__ == kind]
    return [[int(name[2]) for name in names if name[1] == f"layer{stage}"] for stage in (1, 2, 3, 4)]


def test_i3d_inflates_the_blocks_of_the_non_local_networks_and_pools_after_the_first_stage():
    assert blocks_of("i3d", "resnet50", "InflatedFirst") == [[0, 1, 2], [0, 2], [0, 2, 4], [1]]
    assert blocks_of("i3d", "resnet101", "InflatedFirst") == [[0, 1, 2], [0, 2], list(range(0, 23, 2)), [1]]
    assert blocks_of("i3d", "resnet50", "TemporalMaxPool") == [[2], [], [], []]
    with torch.device("meta"):
        stem = timm.create_model("i3d_resnet50").backbone.conv1
    assert (type(stem).__name__, stem.conv.weight.shape) == ("InflatedStem", (5 * 64, 3, 7, 7))


def test_slow_and_eco_inflate_the_late_stages():
    assert blocks_of("slow", "resnet50", "SlowFirst") == [[], [], [*range(6)], [*range(3)]]
    assert blocks_of("eco", "resnet18", "HeadConv") == [[], [0, 0, 1, 1], [0, 0, 1, 1], [0, 0, 1, 1]]
    assert blocks_of("eco", "resnet18", "HeadShortcut") == [[], [], [0], [0]]


@pytest.mark.parametrize(
    ("temporal", "divisors"), [("i3d", (1, 2, 2, 2, 2)), ("eco", (1, 1, 1, 2, 4)), ("slow", (1,) * 5)]
)
@pytest.mark.parametrize("frames", [8, 5, 1])
def test_strides_in_time_leave_fewer_frames_to_all_that_follows(temporal, divisors, frames):
    model = VideoNet("resnet18", temporal, num_frames=8, num_classes=3).eval()
    clip = torch.randn(2, 3, frames, 32, 32)
    levels = model.forward_intermediates(clip, intermediates_only=True)
    assert [level.shape[2] for level in levels] == [-(-frames // divisor) for divisor in divisors]
    assert model.forward_features(clip).shape[2] == -(-frames // divisors[-1])
    logits = model(clip)
    torch.testing.assert_close(model.forward_head(model.forward_features(clip)), logits)
    torch.testing.assert_close(torch.cat([model(one[None]) for one in clip]), logits)


def test_every_module_knows_how_many_frames_are_left():
    model = VideoNet("resnet18", "eco", num_frames=8, num_classes=3)
    model(torch.randn(1, 3, 8, 32, 32))
    left = {
        name.removeprefix("backbone."): module.num_frames
        for name, module in model.named_modules()
        if isinstance(module, TemporalModule)
    }
    assert left["layer2.0.conv1"] == left["layer3.0.conv1"] == left["layer3.0.downsample.0.temporal"] == 8
    assert left["layer3.0.conv2"] == left["layer4.0.conv1"] == left["layer4.0.downsample.0.temporal"] == 4
    assert left["layer4.1.conv2"] == 2


def test_a_convolution_padded_in_another_way_is_refused():
    with pytest.raises(ValueError, match="only convolutions padded with zeros can be inflated, found Conv2d"):
        InflatedConv.replacing((nn.Conv2d(4, 4, 3, padding=1, padding_mode="reflect"),), 4, BLOCK)
