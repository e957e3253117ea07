import math

import pytest
import torch

from timm_video_psn.engine.train.gradients import GradientLimit


def layer(*gradients):
    """A parameter for each gradient, and one that has none."""
    parameters = [torch.nn.Parameter(torch.ones(len(gradient))) for gradient in gradients]
    for parameter, gradient in zip(parameters, gradients, strict=True):
        parameter.grad = torch.tensor(gradient)
    return [*parameters, torch.nn.Parameter(torch.zeros(3))]


def gradients(parameters):
    return [parameter.grad.tolist() for parameter in parameters if parameter.grad is not None]


@pytest.mark.parametrize(
    ("limit", "mode", "after"),
    [
        (0, "norm", [[3.0, 0.0], [-4.0]]),
        (10, "norm", [[3.0, 0.0], [-4.0]]),
        (2.5, "norm", [[1.5, 0.0], [-2.0]]),
        (1, "value", [[1.0, 0.0], [-1.0]]),
    ],
)
def test_the_norm_before_the_limit_is_noted_and_the_limit_holds(limit, mode, after):
    parameters = layer([3.0, 0.0], [-4.0])
    meter = GradientLimit(limit, mode)
    meter.apply(parameters)
    assert meter.average() == pytest.approx(5)
    for found, expected in zip(gradients(parameters), after, strict=True):
        assert found == pytest.approx(expected, abs=1e-5)


def test_adaptive_limits_follow_the_length_of_the_weights():
    parameters = layer([3.0, 4.0])
    meter = GradientLimit(0.1, "agc")
    meter.apply(parameters)
    assert meter.average() == pytest.approx(5)
    assert torch.tensor(gradients(parameters)[0]).norm() == pytest.approx(0.1 * math.sqrt(2), rel=1e-4)


def test_the_average_is_over_updates_with_a_finite_gradient_and_survives_a_resume():
    meter = GradientLimit(0)
    assert meter.average() is None
    for gradient in ([1.0], [math.inf], [math.nan], [4.0]):
        meter.apply(layer(gradient))
    other = GradientLimit(0)
    other.load_state_dict(meter.state_dict())
    for each in (meter, other):
        each.apply(layer([4.0]))
        assert each.average() == pytest.approx(3)
        each.reset()
        assert each.average() is None
