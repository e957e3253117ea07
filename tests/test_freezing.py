"""Frozen synthesizers: nothing in them moves, everything else learns, and it can be undone."""

import copy
import pickle

import pytest
import timm
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from timm_video_psn import auxiliary_losses, freeze_synthesizers, unfreeze_synthesizers
from timm_video_psn.layers import ActionPerceptronSynthesizer
from timm_video_psn.losses import VideoClassificationTask
from timm_video_psn.surgery import injected

COPIES = [copy.deepcopy, lambda model: pickle.loads(pickle.dumps(model))]


def build(**settings) -> nn.Module:
    """A small PSN in training mode whose synthesizers already act."""
    settings = {"num_classes": 5, "proportion": 0.5, "expand_init": 1.0, "zero_init_last": False, **settings}
    return timm.create_model("psn_test_resnet", **settings).train()


def state(model: nn.Module, frozen: bool) -> dict[str, Tensor]:
    """Copies of what is in the synthesizers, or of all the rest."""
    return {name: value.clone() for name, value in model.state_dict().items() if (".temporal." in name) == frozen}


def train(model: nn.Module, clip: Tensor, steps: int = 2, optimizer: torch.optim.Optimizer | None = None) -> None:
    """As a training loop does it: train(), forward, the three losses, backward, step."""
    optimizer = optimizer or torch.optim.SGD(model.parameters(), lr=0.1, momentum=0.9, weight_decay=0.1)
    task = VideoClassificationTask(model, alpha=1.0, beta=1.0)
    for _ in range(steps):
        task.train()
        optimizer.zero_grad(set_to_none=False)
        task(clip, torch.tensor([1, 3]))[0]["loss"].backward()
        optimizer.step()
        model.eval()


def differs(before: dict[str, Tensor], after: dict[str, Tensor]) -> list[str]:
    return [name for name in before if not torch.equal(before[name], after[name])]


def test_nothing_in_a_frozen_synthesizer_moves_and_the_rest_learns(clip):
    model = build()
    assert freeze_synthesizers(model) == tuple(
        f"backbone.{name}.temporal" for name in ("maxpool", "layer1.0", "layer2.0", "layer3.0")
    )
    inside, outside = state(model, frozen=True), state(model, frozen=False)
    assert any("running_mean" in name for name in inside)
    train(model, clip)
    assert differs(inside, state(model, frozen=True)) == []
    assert set(differs(outside, state(model, frozen=False))) == outside.keys()


def test_an_optimizer_made_before_with_momentum_and_weight_decay_moves_nothing_either(clip):
    model = build()
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1, momentum=0.9, weight_decay=0.1)
    train(model, clip, 1, optimizer)
    freeze_synthesizers(model)
    inside = state(model, frozen=True)
    train(model, clip, 2, optimizer)
    assert differs(inside, state(model, frozen=True)) == []


def test_gradient_passes_through_to_the_layers_before(clip):
    model = build()
    twin = copy.deepcopy(model)
    freeze_synthesizers(model)
    for item in injected(twin):
        item.module.eval()
    for each in (model, twin):
        F.cross_entropy(each(clip), torch.tensor([1, 3])).backward()
    assert torch.equal(model.backbone.conv1[0].weight.grad, twin.backbone.conv1[0].weight.grad)
    assert model.backbone.conv1[0].weight.grad.any()
    assert {name for name, p in model.named_parameters() if p.grad is None} == {
        name for name, _ in model.named_parameters() if ".temporal." in name
    }


@pytest.mark.parametrize("clone", COPIES)
def test_copies_are_frozen_too_and_can_be_unfrozen_alone(clone, clip):
    model = build()
    freeze_synthesizers(model)
    other = clone(model)
    inside = state(model, frozen=True)
    train(other, clip)
    assert differs(inside, state(other, frozen=True)) == []
    assert len(unfreeze_synthesizers(other)) == 4
    train(other, clip)
    assert differs(inside, state(other, frozen=True))
    train(model, clip)
    assert differs(inside, state(model, frozen=True)) == []


@pytest.mark.parametrize("training", [True, False])
def test_unfreezing_restores_what_took_a_gradient_and_the_mode(training):
    model = build().train(training)
    model.backbone.layer1[0].temporal.fusion.requires_grad_(False)
    model.backbone.conv1.requires_grad_(False)
    before = {name: parameter.requires_grad for name, parameter in model.named_parameters()}
    modes = {name: module.training for name, module in model.named_modules()}
    names = freeze_synthesizers(model)
    assert freeze_synthesizers(model) == names  # twice is once
    assert not any(p.requires_grad for name, p in model.named_parameters() if ".temporal." in name)
    assert unfreeze_synthesizers(model) == names
    assert {name: parameter.requires_grad for name, parameter in model.named_parameters()} == before
    assert {name: module.training for name, module in model.named_modules()} == modes
    assert unfreeze_synthesizers(model) == ()


def test_after_unfreezing_training_goes_on_as_if_nothing_had_been(clip):
    model = build()
    twin = copy.deepcopy(model)
    freeze_synthesizers(model)
    unfreeze_synthesizers(model)
    for each in (model, twin):
        train(each, clip)
    assert differs(model.state_dict(), twin.state_dict()) == []


def test_train_and_eval_leave_the_output_of_a_frozen_synthesizer_alone():
    synthesizer = ActionPerceptronSynthesizer(64, 2, expand_init=1.0)
    freeze_synthesizers(synthesizer)
    x = torch.randn(4, 64, 5, 4)
    expected = synthesizer.eval()(x)
    assert torch.equal(synthesizer.train()(x), expected)
    assert not any(module.training for module in synthesizer.modules())


def test_auxiliary_losses_are_empty_once_all_are_frozen(clip):
    model = build()
    freeze_synthesizers(model)
    assert auxiliary_losses(model) == {}
    model.train()
    terms, _ = VideoClassificationTask(model)(clip, torch.tensor([1, 3]))
    assert set(terms) == {"loss", "ce"}
    assert auxiliary_losses(model) == {}
    unfreeze_synthesizers(model)
    with pytest.raises(RuntimeError, match="needs the fusion outputs of a forward in training mode"):
        auxiliary_losses(model)
    model(clip)
    assert set(auxiliary_losses(model)) == {"interaction", "capacity"}


def test_auxiliary_losses_are_those_of_the_synthesizers_that_still_learn(clip):
    model = build()
    freeze_synthesizers(model.backbone.layer1)
    model.train()
    model(clip)
    assert model.backbone.layer1[0].temporal.fused_mean is None
    losses = auxiliary_losses(model)
    rest = nn.ModuleList(item.module for item in injected(model) if not item.module.frozen)
    assert len(rest) == 3
    assert losses == auxiliary_losses(rest)
    sum(losses.values()).backward()
    assert model.backbone.layer1[0].temporal.fusion.weight.grad is None
    assert model.backbone.layer2[0].temporal.fusion.weight.grad.any()


def test_a_state_dict_holds_the_numbers_and_not_the_freezing():
    model = build()
    keys = list(model.state_dict())
    freeze_synthesizers(model)
    assert list(model.state_dict()) == keys
    other = build()
    other.load_state_dict(model.state_dict())
    assert other.backbone.layer1[0].temporal.fusion.weight.requires_grad


@pytest.mark.usefixtures("compiler")
def test_a_frozen_model_compiles_and_checkpoints_gradients(clip):
    model = build()
    freeze_synthesizers(model)
    twin = copy.deepcopy(model)
    twin.set_grad_checkpointing()
    for each in (model, twin):
        F.cross_entropy(each(clip), torch.tensor([1, 3])).backward()
    gradients = [{n: p.grad for n, p in each.named_parameters() if p.grad is not None} for each in (model, twin)]
    torch.testing.assert_close(gradients[1], gradients[0])
    torch._dynamo.reset()
    compiled = torch.compile(copy.deepcopy(model).eval(), backend="eager", fullgraph=True)
    torch.testing.assert_close(compiled(clip), model.eval()(clip))


def test_a_model_without_synthesizers_is_named():
    model = timm.create_model("tsm_test_resnet")
    with pytest.raises(ValueError, match=r"VideoNet holds no synthesizer to freeze; use a psn model"):
        freeze_synthesizers(model)
    assert unfreeze_synthesizers(model) == ()
