"""Norms go into the layer before them where that changes nothing, and stay elsewhere."""

import copy

import pytest
import torch
import torch.nn.functional as F
from timm.layers import BatchNormAct2d
from torch import nn

from timm_video_psn.deploy.norms import fold_norms
from timm_video_psn.layers import GroupedSpatialTemporal
from timm_video_psn.surgery import inject


def trained(model: nn.Module, *shape: int) -> tuple[nn.Module, torch.Tensor]:
    """The model with norms that know their input, and have weights of their own; and an input."""
    torch.manual_seed(0)
    x = torch.randn(shape, dtype=torch.float64)
    model.double()
    for module in model.modules():
        if isinstance(module, nn.modules.batchnorm._BatchNorm):
            module.momentum = None
            nn.init.normal_(module.weight)
            nn.init.normal_(module.bias)
    model.train()(x)
    return model.eval(), x


def check(model: nn.Module, x: torch.Tensor, folded: dict[str, str], left: tuple[str, ...] = ()) -> nn.Module:
    result = copy.deepcopy(model)
    assert fold_norms(result, lambda: result(x)) == (folded, left)
    torch.testing.assert_close(result(x), model(x))
    return result


class Net(nn.Module):
    """A convolution and a norm, called as a test likes."""

    def __init__(self, forward, conv: nn.Module | None = None, norm: nn.Module | None = None):
        super().__init__()
        self.conv = conv or nn.Conv2d(3, 4, 3)
        self.norm = norm or nn.BatchNorm2d(4)
        self.how = forward

    def forward(self, x):
        return self.how(self, x)


@pytest.mark.parametrize(
    ("layer", "norm", "shape"),
    [
        (nn.Conv1d(3, 4, 3), nn.BatchNorm1d(4), (5, 3, 9)),
        (nn.Conv2d(3, 4, 3, bias=False, stride=2, dilation=2), nn.BatchNorm2d(4), (5, 3, 9, 8)),
        (nn.Conv2d(4, 4, 3, groups=2), nn.BatchNorm2d(4, eps=0.1), (5, 4, 9, 8)),
        (nn.Conv3d(3, 4, 3), nn.BatchNorm3d(4), (5, 3, 4, 9, 8)),
        (nn.Linear(3, 4), nn.BatchNorm1d(4), (5, 3)),
        (nn.Linear(3, 4, bias=False), nn.BatchNorm1d(4), (5, 3)),
    ],
)
def test_a_norm_goes_into_the_layer_before_it(layer, norm, shape):
    model, x = trained(nn.Sequential(layer, norm), *shape)
    assert isinstance(check(model, x, {"1": "0"})[1], nn.Identity)


def test_the_activation_of_timms_norms_stays():
    model, x = trained(nn.Sequential(nn.Conv2d(3, 4, 3), BatchNormAct2d(4)), 2, 3, 6, 5)
    assert check(model, x, {"1": "0"})(x).min() == 0


def test_grouped_convolutions_of_space_and_time_take_a_norm_as_one():
    module = GroupedSpatialTemporal(8, num_frames=3)
    model, x = trained(nn.Sequential(module, nn.BatchNorm2d(8)), 6, 8, 5, 4)
    check(model, x, {"1": "0"})


def test_a_norm_stays_where_something_else_sees_what_it_normalises():
    model, x = trained(Net(lambda net, x: net.norm(y := net.conv(x)) + y), 2, 3, 6, 5)
    check(model, x, {}, ("norm",))


def test_a_norm_stays_where_something_is_between():
    model, x = trained(Net(lambda net, x: net.norm(net.conv(x).relu())), 2, 3, 6, 5)
    check(model, x, {}, ("norm",))
    model, x = trained(Net(lambda net, x: net.norm(net.conv(x).mul_(2))), 2, 3, 6, 5)
    check(model, x, {}, ("norm",))


def test_an_attached_module_between_them_keeps_them_apart():
    model, x = trained(nn.Sequential(nn.Conv2d(3, 4, 3), nn.BatchNorm2d(4)), 2, 3, 6, 5)
    inject(model, "0", lambda *_: nn.ReLU())
    check(model, x, {}, ("1",))


def test_what_is_attached_to_a_norm_stays_there():
    model, x = trained(nn.Sequential(nn.Conv2d(3, 4, 3), nn.BatchNorm2d(4)), 2, 3, 6, 5)
    inject(model, "1", lambda *_: nn.ReLU())
    assert check(model, x, {"1": "0"})(x).min() == 0


@pytest.mark.parametrize(
    "forward",
    [
        lambda net, x: net.norm(net.conv(x)) + net.conv(x),  # the layer is called twice
        lambda net, x: net.norm(net.conv(x)) + net.norm(x[:, :1].expand(-1, 4, -1, -1)[..., 1:-1, 1:-1]),
        lambda net, x: net.norm(net.conv(x)) + F.conv2d(x, net.conv.weight),
        lambda net, x: net.norm(net.conv(x)) + net.conv.weight.sum(),
        lambda net, x: net.norm(F.conv2d(x, net.conv.weight * 2)),  # what is convolved with is not a parameter
    ],
)
def test_what_is_used_twice_or_in_another_way_stays(forward):
    model, x = trained(Net(forward), 2, 3, 6, 5)
    check(model, x, {}, ("norm",))


def test_a_weight_of_two_layers_stays():
    model, x = trained(nn.Sequential(nn.Conv2d(4, 4, 1), nn.BatchNorm2d(4), nn.Conv2d(4, 4, 1)), 2, 4, 6, 5)
    model[2].weight = model[0].weight
    check(model, x, {}, ("1",))


def test_a_norm_of_an_unknown_kind_stays():
    class Doubled(nn.BatchNorm2d):
        def forward(self, x):
            return 2 * super().forward(x)

    model, x = trained(nn.Sequential(nn.Conv2d(3, 4, 3), Doubled(4)), 2, 3, 6, 5)
    check(model, x, {}, ("1",))


def test_weights_are_rounded_once():
    model, x = trained(nn.Sequential(nn.Conv2d(64, 64, 3), nn.BatchNorm2d(64)), 4, 64, 9, 9)
    exact = copy.deepcopy(model.float()).double()
    fold_norms(exact, lambda: exact(x))
    fold_norms(model, lambda: model(x.float()))
    assert torch.equal(model[0].weight, exact[0].weight.float())
    assert torch.equal(model[0].bias, exact[0].bias.float())
