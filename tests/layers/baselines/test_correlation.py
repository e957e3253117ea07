"""CorrNet's correlation against plain loops."""

import pytest
import timm
import torch
from torch import Tensor, nn

from timm_video_psn.layers.baselines.correlation import WeightedCorrelation


def by_loops(a: Tensor, b: Tensor, weight: Tensor, groups: int, window: int) -> Tensor:
    """S_g(i, j, k, l) = sum_{c in g} W_c(k, l) A_c(i, j) B_c(i + k, j + l); a, b (N, C, H, W)."""
    count, channels, height, width = a.shape
    reach, each = window // 2, channels // groups
    out = torch.zeros(count, groups * window * window, height, width, dtype=a.dtype)
    for g in range(groups):
        for k in range(window):
            for j in range(window):
                for y in range(height):
                    for x in range(width):
                        v, u = y + k - reach, x + j - reach
                        if 0 <= v < height and 0 <= u < width:
                            for c in range(g * each, (g + 1) * each):
                                place = g * window * window + k * window + j
                                value = weight[c, k * window + j] * a[:, c, y, x] * b[:, c, v, u]
                                out[:, place, y, x] = out[:, place, y, x] + value
    return out


def test_correlates_as_the_loops_do_in_values_and_gradients():
    module = WeightedCorrelation(16, 2, window=3, group_width=2).double()
    a, b = (torch.randn(2, 4, 3, 4, dtype=torch.float64, requires_grad=True) for _ in range(2))
    expected = by_loops(a, b, module.weight, 2, 3)
    found = module.correlate(a, b)
    torch.testing.assert_close(found, expected)
    probe, inputs = torch.randn_like(expected), (a, b, module.weight)
    ours, theirs = (torch.autograd.grad(out, inputs, probe) for out in (found, expected))
    torch.testing.assert_close(ours, theirs)


def test_each_frame_is_compared_with_the_one_before_it_and_the_first_with_itself():
    module = WeightedCorrelation(16, 3, window=3, group_width=4).eval()
    seen = []
    module.correlate = lambda a, b: seen.append((a, b)) or torch.zeros(len(a), 9, *a.shape[2:])
    module(torch.randn(6, 16, 2, 2))
    (a, b), *_ = seen
    assert torch.equal(b, a[[0, 0, 1, 3, 3, 4]])


def test_starts_as_the_identity_after_the_first_three_stages():
    x = torch.randn(4, 16, 5, 5)
    assert torch.equal(WeightedCorrelation(16, 2)(x), x)
    with torch.device("meta"):
        model = timm.create_model("video_net", backbone="resnet50", temporal="corr")
    names = [name for name, module in model.named_modules() if isinstance(module, WeightedCorrelation)]
    assert names == ["backbone.layer1.2.temporal", "backbone.layer2.3.temporal", "backbone.layer3.5.temporal"]


@pytest.mark.parametrize(
    ("settings", "text"), [({"window": 4}, "window=4 must be odd"), ({"group_width": 0}, "use at least 4 channels")]
)
def test_wrong_settings_are_named(settings, text):
    with pytest.raises(ValueError, match=text):
        WeightedCorrelation(16, **settings)


def test_gradient_reaches_every_parameter_once_the_gain_is_open():
    module = WeightedCorrelation(16, 2)
    nn.init.ones_(module.expand_norm.weight)
    module(torch.randn(4, 16, 5, 5)).square().sum().backward()
    assert all(parameter.grad.any() for parameter in module.parameters())
