"""P3D and R(2+1)D against compositions of PyTorch's 3D convolutions, and the image networks that they start as."""

import pytest
import timm
import torch
from torch import Tensor, nn
from torchvision.models.video.resnet import Conv2Plus1D

from timm_video_psn import VideoNet
from timm_video_psn.layers import fold_clip, unfold_clip
from timm_video_psn.layers.baselines.factorised import PseudoThreeD, TwoPlusOneD
from timm_video_psn.layers.temporal_module import Position

DEPTHS = (3, 4, 6, 3)


def acting(module: nn.Module) -> nn.Module:
    """In float64, with nothing at its trivial initial value."""
    for part in module.modules():
        if isinstance(part, nn.BatchNorm2d):
            for tensor in (part.weight, part.bias, part.running_mean, part.running_var):
                nn.init.uniform_(tensor, 0.2, 1)
        elif isinstance(part, nn.Conv2d):
            nn.init.normal_(part.weight, std=0.2)
    return module.double()


def norm(x: Tensor, bn: nn.BatchNorm2d, training: bool) -> Tensor:
    """Of (B, C, T, H, W)."""
    return nn.functional.batch_norm(x, bn.running_mean.clone(), bn.running_var.clone(), bn.weight, bn.bias, training)


def check(module: nn.Module, clip: Tensor, expected: Tensor) -> None:
    """Values and gradients."""
    found = unfold_clip(module(fold_clip(clip)), expected.shape[2])
    torch.testing.assert_close(found, expected)
    probe, inputs = torch.randn_like(expected), (clip, *module.parameters())
    ours, theirs = (torch.autograd.grad(out, inputs, probe) for out in (found, expected))
    torch.testing.assert_close(ours, theirs)


def middle(channels: int, stride: int = 1) -> tuple[nn.Module, ...]:
    conv = nn.Conv2d(channels, channels, 3, stride, padding=1, bias=False)
    return conv, nn.BatchNorm2d(channels), nn.ReLU(inplace=True)


@pytest.mark.parametrize("training", [True, False])
@pytest.mark.parametrize("stride", [1, 2])
@pytest.mark.parametrize(("block", "kind"), [(0, "A"), (1, "B"), (2, "C")])
def test_p3d_agrees_with_3d_convolutions_in_values_and_gradients(block, kind, stride, training):
    module = acting(PseudoThreeD.replacing(middle(6, stride), 4, Position(0, block, DEPTHS))).train(training)
    assert module.kind == kind
    conv, bn, _ = module.spatial
    clip = torch.randn(2, 6, 4, 6, 5, dtype=torch.float64, requires_grad=True)
    spatial = nn.functional.conv3d(clip, conv.weight[:, :, None], None, (1, stride, stride), (0, 1, 1))
    spatial = norm(spatial, bn, training).relu()
    source = clip[..., ::stride, ::stride] if kind == "B" else spatial
    temporal = nn.functional.conv3d(source, module.temporal.weight[..., None], None, padding=(1, 0, 0))
    temporal = norm(temporal, module.norm, training).relu()
    check(module, clip, temporal if kind == "A" else spatial + temporal)


def test_the_blocks_of_p3d_take_turns_through_the_network():
    with torch.device("meta"):
        model = timm.create_model("p3d_resnet50")
    kinds = "".join(module.kind for module in model.modules() if isinstance(module, PseudoThreeD))
    assert kinds == "ABCABCABCABCABCA"


@pytest.mark.parametrize(("kind", "block"), [("A", 0), ("B", 1), ("C", 2)])
def test_p3d_starts_as_the_image_network_and_every_weight_learns(kind, block):
    old = middle(6)
    module = PseudoThreeD.replacing(old, 4, Position(0, block, DEPTHS)).eval()
    x = torch.randn(8, 6, 5, 5)
    torch.testing.assert_close(module(x), nn.Sequential(*old)(x), rtol=1e-4, atol=1e-5)
    module.train()(x).square().sum().backward()
    silent = {name for name, parameter in module.named_parameters() if not parameter.grad.any()}
    # With a gain of zero the kernel before it learns from the second step on.
    assert silent <= {"temporal.weight"}
    assert module.norm.weight.grad.any()


@pytest.mark.parametrize("training", [True, False])
@pytest.mark.parametrize(("inputs", "outputs", "stride"), [(8, 8, 1), (8, 16, 2), (4, 16, 1)])
def test_r2plus1d_agrees_with_3d_convolutions_in_values_and_gradients(inputs, outputs, stride, training):
    conv = nn.Conv2d(inputs, outputs, 3, stride, padding=1, bias=False)
    module = acting(TwoPlusOneD.replacing((conv,), 5, Position(1, 0, DEPTHS))).train(training)
    clip = torch.randn(2, inputs, 5, 6, 7, dtype=torch.float64, requires_grad=True)
    x = nn.functional.conv3d(clip, module.spatial.weight[:, :, None], None, (1, stride, stride), (0, 1, 1))
    x = norm(x, module.norm, training).relu()
    check(module, clip, nn.functional.conv3d(x, module.temporal.weight[..., None], None, (stride, 1, 1), (1, 0, 0)))


@pytest.mark.parametrize(("inputs", "outputs"), [(64, 64), (64, 128), (256, 512)])
def test_r2plus1d_has_the_channels_in_between_that_torchvision_has(inputs, outputs):
    with torch.device("meta"):
        module = TwoPlusOneD.replacing(
            (nn.Conv2d(inputs, outputs, 3, padding=1, bias=False),), 4, Position(0, 0, DEPTHS)
        )
        planes = inputs * outputs * 27 // (inputs * 9 + 3 * outputs)  # midplanes of torchvision's BasicBlock
        theirs = Conv2Plus1D(inputs, outputs, planes)
    assert [tuple(p.shape) for p in (module.spatial.weight, module.temporal.weight[..., 0])] == [
        tuple(p.squeeze().shape) for p in (theirs[0].weight, theirs[3].weight)
    ]


def test_r2plus1d_starts_as_the_convolution_that_it_splits():
    conv = nn.Conv2d(16, 16, 3, padding=1, bias=False)
    module = TwoPlusOneD.replacing((conv,), 4, Position(0, 0, DEPTHS)).eval()
    x = torch.randn(8, 16, 5, 5)
    torch.testing.assert_close(module(x), conv(x), rtol=1e-4, atol=1e-5)
    module.train()(x).square().sum().backward()
    assert all(parameter.grad.any() for parameter in module.parameters())


def test_r2plus1d_halves_the_frames_where_a_stage_halves_the_map():
    model = VideoNet("resnet18", "r2plus1d", num_frames=8, num_classes=3).eval()
    levels = model.forward_intermediates(torch.randn(1, 3, 8, 32, 32), intermediates_only=True)
    assert [level.shape[2] for level in levels] == [8, 8, 4, 2, 1]


def test_what_cannot_be_split_is_refused():
    with pytest.raises(ValueError, match="splits convolutions without groups and bias, found Conv2d"):
        TwoPlusOneD.replacing((nn.Conv2d(4, 4, 3, padding=1),), 4, Position(0, 0, DEPTHS))
    with pytest.raises(ValueError, match="kind='D' is unknown; use 'A', 'B' or 'C'"):
        PseudoThreeD(4, kind="D")
