import math

import pytest
import timm
import torch
from timm.optim import create_optimizer_v2, muon
from timm.optim._param_groups import param_groups_layer_decay, param_groups_weight_decay
from timm.scheduler import create_scheduler_v2

import timm_video_psn  # noqa: F401  registers the models
from tests.engine.runs import settled
from timm_video_psn.engine.train.optim import (
    GradClipper,
    LearningRateMultipliers,
    base_learning_rate,
    check_coverage,
    create_optimizer,
    create_parameter_groups,
    create_scheduler,
    describe_groups,
    orthogonalize_in_float32,
)


def psn(**kwargs):
    return timm.create_model("psn_test_resnet", num_classes=5, proportion=0.5, zero_init_last=False, **kwargs)


def settings(model, groups):
    """(weight decay, factor of the learning rate) of every parameter, by name."""
    names = {id(parameter): name for name, parameter in model.named_parameters()}
    return {
        names[id(parameter)]: (group["weight_decay"], pytest.approx(group.get("lr_scale", 1.0)))
        for group in groups
        for parameter in group["params"]
    }


VIT = {"backbone": "test_vit", "temporal": "rf_s", "num_classes": 5, "img_size": 32}


@pytest.mark.parametrize(
    ("name", "kwargs"),
    [
        ("psn_test_resnet", {"proportion": 0.5}),
        ("tsm_test_resnet", {}),
        ("gst_resnet50", {}),
        ("video_net", VIT),
    ],
)
@pytest.mark.parametrize("layer_decay", [None, 0.7])
def test_without_multipliers_the_groups_decay_and_scale_as_timms(name, kwargs, layer_decay):
    model = timm.create_model(name, **kwargs)
    ours = create_parameter_groups(model, 0.05, layer_decay=layer_decay)
    if layer_decay is None:
        timms = param_groups_weight_decay(model, 0.05, no_weight_decay_list=model.no_weight_decay())
    else:
        timms = param_groups_layer_decay(model, 0.05, model.no_weight_decay(), layer_decay=layer_decay)
    assert settings(model, ours) == settings(model, timms)


def test_tsms_policy_is_expressed_by_two_multipliers():
    """Its get_optim_policies: weights 1 and biases 2, of the classifier 5 and 10; norms 1 and, as biases, no decay."""
    model = timm.create_model("video_net", backbone="vgg11_bn", temporal="tsn", num_classes=5)
    found = settings(model, create_parameter_groups(model, 5e-4, LearningRateMultipliers(head=5, bias=2)))
    assert found.pop("backbone.head.fc.weight") == (5e-4, 5)
    assert found.pop("backbone.head.fc.bias") == (0, 10)
    for name, value in found.items():
        owner = model.get_submodule(name.rpartition(".")[0])
        if isinstance(owner, torch.nn.BatchNorm2d):
            assert value == (0, 1), name
        else:
            assert value == ((0, 2) if name.endswith("bias") else (5e-4, 1)), name


def test_the_temporal_modules_learn_at_their_own_rate_and_the_fusion_matrix_decays_only_when_asked():
    model = psn()
    for asked in (False, True):
        groups = create_parameter_groups(model, 0.1, LearningRateMultipliers(temporal=3), decay_fusion=asked)
        for name, (decay, scale) in settings(model, groups).items():
            assert scale == (3 if ".temporal." in name else 1), name
            if name.endswith("fusion.weight"):
                assert decay == (0.1 if asked else 0), name
            elif model.get_parameter(name).ndim == 1:
                assert decay == 0, name
            else:
                assert decay == 0.1, name


def test_multipliers_and_layer_decay_multiply():
    model = psn()
    plain = settings(model, create_parameter_groups(model, 0.1, layer_decay=0.5))
    both = settings(model, create_parameter_groups(model, 0.1, LearningRateMultipliers(4, 5, 2), layer_decay=0.5))
    for name, (_, scale) in plain.items():
        factor = 5 if name.startswith("backbone.fc.") else 4 if ".temporal." in name else 1
        factor *= 2 if name == "backbone.fc.bias" else 1
        assert both[name][1] == scale.expected * factor, name


def test_frozen_parameters_are_in_no_group():
    model = psn()
    model.backbone.layer1.requires_grad_(False)
    model.backbone.layer1[0].temporal.requires_grad_(True)
    trainable = {name for name, parameter in model.named_parameters() if parameter.requires_grad}
    assert settings(model, create_parameter_groups(model, 0.1)).keys() == trainable
    model.requires_grad_(False)
    with pytest.raises(ValueError, match="VideoNet has no trainable parameter"):
        create_parameter_groups(model, 0.1)


def test_what_is_in_no_group_or_in_two_is_named():
    model = torch.nn.Sequential(torch.nn.Linear(2, 3), torch.nn.Linear(3, 2))
    model[1].bias.requires_grad_(False)
    groups = [{"params": [model[0].weight, model[1].weight]}, {"params": [model[1].weight]}]
    with pytest.raises(ValueError, match=r"each of 3 .* in none: 0\.bias; in several: 1\.weight; .* model: 0$"):
        check_coverage(model, groups)
    with pytest.raises(ValueError, match="in none: none; in several: none; frozen or not of this model: 1"):
        check_coverage(model, [{"params": [model[0].weight, model[0].bias, model[1].weight, model[1].bias]}])
    check_coverage(model, [{"params": [model[0].weight, model[0].bias]}, {"params": [model[1].weight]}])


@pytest.mark.parametrize("opt", ["sgd", "adamw", "muon", "lookahead_sgd"])
@pytest.mark.parametrize("sched", ["multistep", "none"])
def test_an_update_of_any_optimizer_moves_parameters_by_their_own_rate(opt, sched, clip, monkeypatch):
    """A rate of zero for the classifier leaves it where it is; all others move."""
    monkeypatch.setattr(muon, "zeropower_via_newtonschulz", muon.zeropower_via_newtonschulz)  # undone afterwards
    argv = ["--opt", opt, "--sched", sched, "--head-lr-mult", "0", "--lr", "0.1", "--device", "cpu"]
    options = settled(*argv)
    model = psn(expand_init=1.0)
    before = {name: parameter.detach().clone() for name, parameter in model.named_parameters()}
    optimizer = create_optimizer(options, model)
    create_scheduler_v2(optimizer, sched=sched, num_epochs=3, decay_milestones=[1])
    model(clip).logsumexp(1).sum().backward()
    optimizer.step()
    still = {name for name, parameter in model.named_parameters() if torch.equal(parameter, before[name])}
    assert still == {"backbone.fc.weight", "backbone.fc.bias"}


def test_an_update_of_sgd_is_rate_times_multiplier_times_gradient(clip):
    argv = [
        "--sched",
        "none",
        "--lr",
        "0.1",
        "--opt",
        "momentum",
        "--momentum",
        "0",
        "--weight-decay",
        "0",
        "--device",
        "cpu",
    ]
    options = settled(*argv, "--temporal-lr-mult", "3", "--head-lr-mult", "5", "--bias-lr-mult", "2")
    model = psn(expand_init=1.0)
    optimizer = create_optimizer(options, model)
    assert base_learning_rate(optimizer.param_groups) == pytest.approx(0.1)
    before = {name: parameter.detach().clone() for name, parameter in model.named_parameters()}
    model(clip).logsumexp(1).sum().backward()
    optimizer.step()
    for name, parameter in model.named_parameters():
        factor = {"backbone.fc.weight": 5, "backbone.fc.bias": 10}.get(name, 3 if ".temporal." in name else 1)
        torch.testing.assert_close(parameter.detach(), before[name] - 0.1 * factor * parameter.grad, msg=name)


def test_the_rate_that_is_reported_is_that_before_multipliers():
    for scales in ((0.5, 1.0), (0.2, 5.0)):
        groups = [{"lr": 0.3 * scale, "lr_scale": scale} for scale in scales]
        assert base_learning_rate(groups) == pytest.approx(0.3)


def test_the_table_has_a_line_for_each_role_and_kind_and_adds_up():
    model = psn()
    groups = create_parameter_groups(model, 0.05, LearningRateMultipliers(head=5, bias=2), layer_decay=0.5)
    head, *lines = describe_groups(groups, lr=0.01)
    assert head.split() == ["group", "tensors", "parameters", "lr", "decay"]
    assert len(lines) <= 8
    table = {" ".join(line.split()[:2]): line.split()[2:] for line in lines}
    assert table["head weights"] == ["1", str(model.backbone.fc.weight.numel()), "0.05", "0.05"]
    assert table["head biases"] == ["1", "5", "0.1", "0"]
    assert table["temporal fusion"][-1] == "0"
    assert table["backbone weights"][3] == "to"
    sizes = [int(values[1].replace(",", "")) for values in table.values()]
    assert sum(sizes) == sum(parameter.numel() for parameter in model.parameters())


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
    meter = GradClipper(limit, mode)
    meter.clip(parameters)
    assert meter.average_norm() == pytest.approx(5)
    for found, expected in zip(gradients(parameters), after, strict=True):
        assert found == pytest.approx(expected, abs=1e-5)


def test_adaptive_limits_follow_the_length_of_the_weights():
    parameters = layer([3.0, 4.0])
    meter = GradClipper(0.1, "agc")
    meter.clip(parameters)
    assert meter.average_norm() == pytest.approx(5)
    assert torch.tensor(gradients(parameters)[0]).norm() == pytest.approx(0.1 * math.sqrt(2), rel=1e-4)


def test_the_average_is_over_updates_with_a_finite_gradient_and_survives_a_resume():
    meter = GradClipper(0)
    assert meter.average_norm() is None
    for gradient in ([1.0], [math.inf], [math.nan], [4.0]):
        meter.clip(layer(gradient))
    other = GradClipper(0)
    other.load_state_dict(meter.state_dict())
    for each in (meter, other):
        each.clip(layer([4.0]))
        assert each.average_norm() == pytest.approx(3)
        each.reset()
        assert each.average_norm() is None


def test_updates_are_orthogonalised_in_float32_and_are_the_same_ones(monkeypatch):
    current = muon.zeropower_via_newtonschulz  # a training in this process may have replaced timm's own
    monkeypatch.setattr(muon, "zeropower_via_newtonschulz", getattr(current, "__wrapped__", current))

    def updated() -> torch.Tensor:
        torch.manual_seed(0)
        layer = torch.nn.Linear(16, 8, bias=False)
        optimizer = create_optimizer_v2(layer, opt="muon", lr=0.1)
        layer(torch.randn(64, 16)).square().sum().backward()
        before = layer.weight.detach().clone()
        optimizer.step()
        return before - layer.weight.detach()

    rough = updated()
    orthogonalize_in_float32()
    orthogonalize_in_float32()
    exact = updated()
    assert not torch.equal(rough, exact)
    torch.testing.assert_close(rough, exact, rtol=0.05, atol=0.02 * exact.abs().max().item())


def test_the_steps_of_a_schedule_come_after_the_epochs_that_were_asked_for():
    options = settled("--sched", "step", "--decay-epochs", "2", "--epochs", "5", "--lr", "1")
    optimizer = torch.optim.SGD([torch.nn.Parameter(torch.zeros(1))], lr=options.lr)
    scheduler = create_scheduler(options, optimizer, updates_per_epoch=3)
    rates = []
    for update in range(1, 13):
        rates.append(round(optimizer.param_groups[0]["lr"], 6))
        scheduler.step_update(update)
    assert rates == [1.0] * 6 + [0.1] * 6


def test_the_papers_sgd_is_the_plain_one():
    """The paper says SGD; timm's optimizer of that name is Nesterov's."""
    optimizer = create_optimizer(settled("--dataset", "sthv1", "--device", "cpu"), psn())
    assert type(optimizer) is torch.optim.SGD
    for group in optimizer.param_groups:
        assert (group["lr"], group["momentum"], group["nesterov"]) == (0.01, 0.9, False)
        assert group["weight_decay"] == (5e-4 if group["name"].endswith(" weights") else 0)
