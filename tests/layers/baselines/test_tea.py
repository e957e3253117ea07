"""TEA in the blocks of a Res2Net against plain loops after the official formulas."""

import pytest
import timm
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from tests.layers.baselines.tea_loops import norm, official
from timm_video_psn import VideoNet
from timm_video_psn.layers.baselines.tea import ChannelwiseTemporal, MotionExcitation, ShiftedTemporal

FRAMES = 3


def tea(**kwargs) -> VideoNet:
    """A Res2Net of three small blocks in two stages, in float64, in which nothing is at its trivial initial value."""
    model = timm.create_model(
        "tea_res2net50_26w_4s", layers=(1, 2, 0, 0), num_classes=3, num_frames=FRAMES, reduction=8, **kwargs
    )
    for module in model.modules():
        if isinstance(module, (nn.BatchNorm1d, nn.BatchNorm2d)):
            for tensor in (module.weight, module.bias, module.running_mean, module.running_var):
                nn.init.uniform_(tensor, 0.2, 1)
        elif isinstance(module, ChannelwiseTemporal):
            nn.init.uniform_(module.weight, -1, 1.5)
    return model.double()


def block_by_loops(clip: Tensor, block: nn.Module, p: dict[str, Tensor], training: bool) -> Tensor:
    """`Bottle2neckShift.forward`, clip (B, C, T, H, W); `p` are the block's tensors by timm's names and ours."""
    count, stride, opens = len(block.convs), block.convs[0].stride[0], block.is_first
    middle = {f"excitation.{name.removeprefix('bn1.temporal.1.')}": p[name] for name in p if ".temporal.1." in name}
    for i in range(count):
        middle[f"aggregation.convolved.{i}.temporal.weight"] = p[f"convs.{i}.temporal.weight"]
        middle[f"aggregation.convolved.{i}.conv.weight"] = p[f"convs.{i}.weight"]
        for name in ("weight", "bias", "running_mean", "running_var"):
            middle[f"aggregation.convolved.{i}.norm.{name}"] = p[f"bns.{i}.{name}"]
    middle["aggregation.last.weight"] = p["conv3.temporal.module.weight"]
    frames = clip.transpose(1, 2).flatten(0, 1)
    x = norm(F.conv2d(frames, p["conv1.weight"]), p, "bn1", training).clamp(min=0)
    x = x.unflatten(0, (-1, clip.shape[2])).transpose(1, 2)
    x = official(x, middle, training, count + 1, stride, opens).transpose(1, 2).flatten(0, 1)
    x = norm(F.conv2d(x, p["conv3.weight"]), p, "bn3", training)
    shortcut = frames
    if block.downsample is not None:
        shortcut = norm(F.conv2d(frames, p["downsample.0.weight"], stride=stride), p, "downsample.1", training)
    return (x + shortcut).clamp(min=0).unflatten(0, (-1, clip.shape[2])).transpose(1, 2)


@pytest.mark.parametrize("training", [False, True])
@pytest.mark.parametrize("name", ["layer1.0", "layer2.0", "layer2.1"])
def test_agrees_with_the_loops_in_values_and_gradients(name, training):
    block = tea().train(training).backbone.get_submodule(name)
    values = {key: value.clone() for key, value in block.named_buffers()} | dict(block.named_parameters())
    clip = torch.randn(2, block.conv1.in_channels, FRAMES, 4, 4, dtype=torch.float64, requires_grad=True)
    expected = block_by_loops(clip, block, values, training)
    found = block(clip.transpose(1, 2).flatten(0, 1)).unflatten(0, (2, FRAMES)).transpose(1, 2)
    torch.testing.assert_close(found, expected)
    probe = torch.randn_like(expected)
    inputs = (clip, *block.parameters())
    ours, theirs = (torch.autograd.grad(out, inputs, probe) for out in (found, expected))
    torch.testing.assert_close(ours, theirs)


def test_every_block_has_its_excitation_and_a_temporal_convolution_for_each_subset():
    with torch.device("meta"):
        model = timm.create_model("tea_res2net50_26w_4s")
    counts = dict.fromkeys((MotionExcitation, ChannelwiseTemporal, ShiftedTemporal), 0)
    for module in model.modules():
        if type(module) in counts:
            counts[type(module)] += 1
    assert list(counts.values()) == [16, 48, 16]


def test_starts_with_the_identity_before_convolutions_and_a_shift_on_the_last_subset():
    x = torch.randn(4, 6, 2, 2)
    assert torch.equal(ChannelwiseTemporal(6, 4)(x), x)
    shifted = ShiftedTemporal(6, 4)(x)
    assert torch.equal(shifted[:-1, :3], x[1:, :3])
    assert torch.equal(shifted[1:, 3:], x[:-1, 3:])
    assert not shifted[-1, :3].any()


def test_a_res2net_keeps_its_weights():
    with torch.device("meta"):
        model, stock = timm.create_model("tea_res2net50_26w_4s"), timm.create_model("res2net50_26w_4s")
    result = model.backbone.load_state_dict(stock.state_dict(), strict=False, assign=True)
    assert result.unexpected_keys == []
    assert all(".temporal." in key for key in result.missing_keys)


def test_without_subsets_the_name_stands_for_the_form_on_plain_bottlenecks(caplog):
    with torch.device("meta"), caplog.at_level("WARNING"):
        former, current = timm.create_model("tea_resnet50"), timm.create_model("tea_16w_resnet50")
    assert "it builds 'tea_16w', the form for plain bottlenecks: use that name" in caplog.text
    assert former.state_dict().keys() == current.state_dict().keys()


def test_a_reduction_that_leaves_nothing_is_named():
    with pytest.raises(ValueError, match="reduction=16 leaves no channel of 8; use 1 to 8"):
        MotionExcitation(8)
