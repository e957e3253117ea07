"""Eq. 2 and Eq. 3 against loops, and their gradients under everything that a training run may switch on."""

import copy
import pickle

import pytest
import timm
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from tests import reference
from timm_video_psn import auxiliary_losses
from timm_video_psn.layers import ActionPerceptronSynthesizer, fold_clip
from timm_video_psn.layers.fusion import DenseFusion
from timm_video_psn.losses import (
    ClassificationLoss,
    VideoClassificationTask,
    capacity_loss,
    distillation_loss,
    gradient_shares,
    interaction_loss,
    norm_scale,
)

WIDTHS = {"equal": ((2, 2, 2), (2, 2, 2)), "unequal": ((4, 2, 2), (3, 1, 2, 2)), "one group": ((5,), (5,))}
ALPHA, BETA = 10.0, 5.0  # large enough that a lost term shows in every gradient


def build(**settings) -> nn.Module:
    """A small PSN in training mode whose synthesizers already act."""
    return timm.create_model("psn_test_resnet", num_classes=5, expand_init=1.0, proportion=0.5, **settings).train()


def total_loss(model: nn.Module, logits: Tensor, target: Tensor) -> Tensor:
    losses = auxiliary_losses(model, norm="mean")  # under "sum" the interaction loss is flat at the start
    return F.cross_entropy(logits, target) + ALPHA * losses["interaction"] + BETA * losses["capacity"]


def train_step(model: nn.Module, clip: Tensor, run=None) -> dict[str, Tensor]:
    """Forward, all three losses, backward: the gradients by name."""
    logits = (model if run is None else run)(clip)
    total_loss(model, logits, torch.tensor([1, 3])).backward()
    return {name: parameter.grad.clone() for name, parameter in model.named_parameters()}


def synthesizers(model: nn.Module) -> list[ActionPerceptronSynthesizer]:
    return [module for module in model.modules() if isinstance(module, ActionPerceptronSynthesizer)]


@pytest.mark.parametrize("case", WIDTHS)
def test_interaction_loss_is_equation_2(case):
    in_widths, out_widths = WIDTHS[case]
    routing = (0.2 * torch.randn(sum(out_widths), sum(in_widths), dtype=torch.float64)).requires_grad_()
    expected_routing = routing.detach().clone().requires_grad_()
    loss = interaction_loss(routing, in_widths, out_widths)
    expected = reference.interaction_loss(expected_routing, list(in_widths), list(out_widths))
    loss.backward()
    expected.backward()
    torch.testing.assert_close(loss, expected)
    torch.testing.assert_close(routing.grad, expected_routing.grad)
    assert routing.grad.abs().min() > 0


def test_interaction_loss_of_no_routing_is_minus_a_half():
    assert interaction_loss(torch.zeros(4, 4), (2, 2), (2, 2)).item() == -0.5


def test_interaction_loss_of_large_routing_is_minus_one_and_flat():
    routing = torch.full((64, 64), 1.0, requires_grad=True)
    loss = interaction_loss(routing, (16,) * 4, (16,) * 4)
    loss.backward()
    assert loss.item() == -1
    assert not routing.grad.any()


def test_mean_norm_divides_each_block_by_its_outputs():
    fusion = DenseFusion((4, 2), (3, 1, 2)).double()
    scaled = fusion.routing() / torch.tensor([3, 3, 3, 1, 2, 2])[:, None]
    torch.testing.assert_close(
        interaction_loss(fusion.routing(), fusion.in_widths, fusion.out_widths, norm_scale(fusion, "mean")),
        reference.interaction_loss(scaled, [4, 2], [3, 1, 2]),
    )


def test_relative_norm_starts_near_one_in_every_block():
    fusion = DenseFusion((64, 32), (48, 48)).double()
    loss = interaction_loss(fusion.routing(), (64, 32), (48, 48), norm_scale(fusion, "relative"))
    assert loss.item() == pytest.approx(-torch.sigmoid(torch.ones(())).item(), abs=0.01)


def test_an_unknown_norm_is_named():
    with pytest.raises(ValueError, match="norm='max' is unknown; use 'sum', 'mean' or 'relative'"):
        norm_scale(DenseFusion((1, 1), (1, 1)), "max")


@pytest.mark.parametrize("start", ["expand_init=0", "fusion_init=0"])
def test_equation_2_reaches_every_site_after_three_steps_unless_its_sigmoid_is_flat(start):
    """With the printed norm a random T of ResNet-50's widths is flat; from T = 0 it is alive, as is `relative`."""
    settings = {"fusion_init": 0.0, "expand_init": 1.0} if start == "fusion_init=0" else {}
    widths = {"stem": 64, "layer1": 256, "layer2": 512, "layer3": 1024}  # of ResNet-50
    model = nn.ModuleDict({name: ActionPerceptronSynthesizer(width, 2, **settings) for name, width in widths.items()})
    optimizer = torch.optim.SGD(model.parameters(), lr=0.01, momentum=0.9)
    found = {}
    for step in range(4):
        optimizer.zero_grad()
        loss = sum(module(torch.randn(8, widths[name], 3, 3)).square().mean() for name, module in model.items())
        for norm in ("sum", "relative"):
            interaction = auxiliary_losses(model, norm)["interaction"]
            for name, module in model.items():
                (gradient,) = torch.autograd.grad(interaction, module.fusion.weight, retain_graph=True)
                assert gradient.isfinite().all()
                found[norm, step, name] = float(gradient.norm())
        (loss + 0.01 * auxiliary_losses(model, "relative")["interaction"]).backward()
        optimizer.step()
    if start == "fusion_init=0":
        assert {found[norm, 0, name] for norm in ("sum", "relative") for name in widths} == {
            0.0
        }  # the kink of |T| at 0
        assert min(found["sum", 3, name] for name in widths) > 1e-3
    else:
        assert max(found["sum", step, name] for step in (0, 3) for name in ("layer1", "layer2", "layer3")) < 1e-6
        assert min(found["relative", 0, name] for name in widths) > 1e-4
    assert min(found["relative", 3, name] for name in widths) > 1e-4


def test_gradient_shares_are_the_gradients_of_the_terms_in_the_routings(clip):
    model = build()
    logits = model(clip)
    terms = {"ce": F.cross_entropy(logits, torch.tensor([1, 3]))}
    terms |= {name: ALPHA * loss for name, loss in auxiliary_losses(model, "relative").items()}
    terms["nothing"] = 0 * logits.sum()
    shares = gradient_shares(terms, model)
    assert all(parameter.grad is None for parameter in model.parameters())
    lengths = {}
    for name, term in terms.items():
        model.zero_grad()
        term.backward(retain_graph=True)
        gradients = [synthesizer.fusion.weight.grad for synthesizer in synthesizers(model)]
        lengths[name] = sum(float(g.square().sum()) for g in gradients) ** 0.5
    assert shares == pytest.approx({name: length / sum(lengths.values()) for name, length in lengths.items()}, rel=1e-4)
    assert (shares["nothing"], sum(shares.values())) == (0, pytest.approx(1))
    assert min(shares[name] for name in ("ce", "interaction", "capacity")) > 0


def test_a_model_without_learned_routing_has_no_gradient_shares(clip):
    model = build(fusion="grouping")
    assert gradient_shares({"ce": model(clip).sum()}, model) == {}


@pytest.mark.parametrize("case", WIDTHS)
def test_capacity_loss_is_equation_3(case):
    out_widths = WIDTHS[case][1]
    fused = torch.randn(2, sum(out_widths), 3, 4, 2, dtype=torch.float64, requires_grad=True)
    expected_fused = fused.detach().clone().requires_grad_()
    loss = capacity_loss(fused.mean((2, 3, 4)), out_widths)
    expected = reference.capacity_loss(expected_fused, list(out_widths))
    loss.backward()
    expected.backward()
    torch.testing.assert_close(loss, expected)
    torch.testing.assert_close(fused.grad, expected_fused.grad)


def test_capacity_loss_of_equal_groups_is_one_and_of_orthogonal_groups_one_over_g():
    assert capacity_loss(torch.tensor([[1.0, 2.0, 1.0, 2.0]]), (2, 2)).item() == pytest.approx(1)
    assert capacity_loss(torch.tensor([[1.0, 0.0, 0.0, 3.0]]), (2, 2)).item() == pytest.approx(0.5)


def test_capacity_loss_of_a_group_of_zeros_is_finite_in_value_and_gradient():
    means = torch.randn(2, 6, dtype=torch.float64)
    means[0, 2:4] = 0
    means[1] = 0
    means.requires_grad_()
    loss = capacity_loss(means, (2, 2, 2))
    loss.backward()
    expected = reference.capacity_loss(means.detach()[:, :, None, None, None], [2, 2, 2])
    torch.testing.assert_close(loss.detach(), expected)
    assert means.grad.isfinite().all()
    assert means.grad[0, :2].any()
    assert not means.grad[1].any()


def test_at_no_routing_the_capacity_loss_is_zero_and_its_gradient_finite():
    synthesizer = ActionPerceptronSynthesizer(16, 2, 1.0, expand_init=1.0, fusion_init=0.0).train()
    synthesizer(torch.randn(4, 16, 4, 4))
    loss = auxiliary_losses(synthesizer)["capacity"]
    loss.backward()
    assert loss.item() == 0
    assert all(p.grad is None or p.grad.isfinite().all() for p in synthesizer.parameters())


def test_both_losses_are_averaged_over_synthesizers_and_batch():
    settings = [{"receptive_field": (3, 3, 3)}, {"receptive_field": (5, 5, 5), "fusion": "shuffle"}]
    model = nn.Sequential(*(ActionPerceptronSynthesizer(16, 2, 1.0, **each) for each in settings)).double().train()
    fused = []
    for synthesizer in model:
        synthesizer.fusion.register_forward_hook(lambda module, args, out: fused.append(out))
    model(fold_clip(torch.randn(3, 16, 2, 4, 3, dtype=torch.float64)))
    interaction = capacity = 0.0
    for synthesizer, y in zip(model, fused, strict=True):
        widths = synthesizer.spatial_bank.widths, synthesizer.temporal_bank.widths
        interaction += reference.interaction_loss(synthesizer.fusion.routing(), *map(list, widths)) / 2
        y = y.reshape(3, 2, 16, 4, 3).transpose(1, 2)
        capacity += reference.capacity_loss(y, list(widths[1])) / 2
    losses = auxiliary_losses(model)
    assert list(losses) == ["interaction", "capacity"]
    torch.testing.assert_close(losses["interaction"], interaction)
    torch.testing.assert_close(losses["capacity"], capacity)


def test_every_synthesizer_gets_both_gradients():
    model = build()
    model(torch.randn(2, 3, 4, 32, 32))
    for term, inputs in (("interaction", "fusion"), ("capacity", "reduce")):
        loss = auxiliary_losses(model, norm="mean")[term]
        for synthesizer in synthesizers(model):
            (gradient,) = torch.autograd.grad(loss, getattr(synthesizer, inputs).weight, retain_graph=True)
            assert gradient.abs().max() > 0


def test_models_without_synthesizers_have_no_losses(clip):
    model = timm.create_model("tsm_test_resnet", num_classes=5).train()
    model(clip)
    assert auxiliary_losses(model) == {}


@pytest.mark.parametrize("mode", [True, False])
def test_losses_before_a_forward_are_an_error(mode):
    with pytest.raises(RuntimeError, match="auxiliary_losses needs the fusion outputs of a forward in training mode"):
        auxiliary_losses(build().train(mode))


@pytest.mark.parametrize("switch", ["train", "eval"])
def test_a_record_of_before_a_change_of_mode_is_an_error(clip, switch):
    model = build()
    model(clip)
    auxiliary_losses(model)
    getattr(model, switch)()
    with pytest.raises(RuntimeError, match=r"found none since the last model.train\(\) or model.eval\(\)"):
        auxiliary_losses(model)


def test_an_evaluation_forward_leaves_no_record(clip):
    model = build().eval()
    model(clip)
    with pytest.raises(RuntimeError, match=r"call model.train\(\), then model\(clip\)"):
        auxiliary_losses(model)


@pytest.mark.parametrize("clone", [copy.deepcopy, lambda model: pickle.loads(pickle.dumps(model))])
def test_models_can_be_copied_right_after_a_training_forward(clip, clone):
    model = build()
    logits = model(clip)
    other = clone(model)
    with pytest.raises(RuntimeError, match="found none since"):
        auxiliary_losses(other)
    total_loss(model, logits, torch.tensor([1, 3])).backward()
    model.eval()
    assert torch.equal(other.load_state_dict(model.state_dict()) and other.eval()(clip), model(clip))


def test_gradient_checkpointing_gives_the_same_gradients_and_keeps_the_record(clip):
    plain = build()
    checkpointed = copy.deepcopy(plain)
    checkpointed.set_grad_checkpointing()
    expected = train_step(plain, clip)

    logits = checkpointed(clip)
    records = [synthesizer.fused_mean for synthesizer in synthesizers(checkpointed)]
    again = []
    for synthesizer in synthesizers(checkpointed):
        synthesizer.register_forward_pre_hook(lambda module, args: again.append(module))
    total_loss(checkpointed, logits, torch.tensor([1, 3])).backward()
    assert len(again) == 3  # those of the stages; the stem is not checkpointed
    for synthesizer, record in zip(synthesizers(checkpointed), records, strict=True):
        assert synthesizer.fused_mean is record
    gradients = {name: parameter.grad for name, parameter in checkpointed.named_parameters()}
    torch.testing.assert_close(gradients, expected)


@pytest.mark.usefixtures("compiler")
def test_compiled_training_gives_the_same_gradients(clip):
    model = build().to(memory_format=torch.channels_last)
    twin = copy.deepcopy(model)
    expected = train_step(model, clip)
    torch._dynamo.reset()
    gradients = train_step(twin, clip, torch.compile(twin, backend="aot_eager", fullgraph=True))
    torch.testing.assert_close(gradients, expected, rtol=1e-4, atol=1e-4)
    for ours, theirs in zip(synthesizers(twin), synthesizers(model), strict=True):
        torch.testing.assert_close(ours.fused_mean, theirs.fused_mean)


@pytest.mark.usefixtures("compiler")
def test_compiled_training_with_gradient_checkpointing_gives_the_same_gradients(clip):
    model = build()
    twin = copy.deepcopy(model)
    expected = train_step(model, clip)
    twin.set_grad_checkpointing()
    torch._dynamo.reset()
    gradients = train_step(twin, clip, torch.compile(twin, backend="aot_eager"))
    torch.testing.assert_close(gradients, expected, rtol=1e-4, atol=1e-4)


@pytest.mark.usefixtures("compiler")
@pytest.mark.slow
def test_inductor_gives_the_same_gradients():
    synthesizer = ActionPerceptronSynthesizer(16, 2, 1.0, receptive_field=(5, 5, 5), expand_init=1.0).train()
    twin = copy.deepcopy(synthesizer)
    x = torch.randn(4, 16, 4, 4)
    torch._dynamo.reset()
    gradients = []
    for module, run in ((synthesizer, synthesizer), (twin, torch.compile(twin, backend="inductor", fullgraph=True))):
        out = run(x)
        losses = auxiliary_losses(module, norm="mean")
        (out.square().mean() + ALPHA * losses["interaction"] + BETA * losses["capacity"]).backward()
        gradients.append({name: parameter.grad for name, parameter in module.named_parameters()})
    torch.testing.assert_close(gradients[1], gradients[0], rtol=1e-4, atol=1e-4)


def test_bfloat16_autocast_stays_near_float32(clip):
    model = build()
    twin = copy.deepcopy(model)
    train_step(model, clip)
    with torch.autocast("cpu", torch.bfloat16):
        logits = twin(clip)
        losses = auxiliary_losses(twin)
        total_loss(twin, logits, torch.tensor([1, 3])).backward()
    for name, value in auxiliary_losses(model).items():
        assert losses[name].dtype == torch.float32
        torch.testing.assert_close(losses[name], value, rtol=0.02, atol=0.02)
    for synthesizer, other in zip(synthesizers(model), synthesizers(twin), strict=True):
        near = F.cosine_similarity(synthesizer.fusion.weight.grad.flatten(), other.fusion.weight.grad.flatten(), dim=0)
        assert near > 0.95


def test_the_total_is_the_weighted_sum_of_its_named_terms():
    model = timm.create_model("psn_test_resnet", num_classes=3, proportion=0.5).train()
    clip, label = torch.randn(2, 3, 4, 32, 32), torch.tensor([0, 2])
    terms, logits = VideoClassificationTask(model, alpha=0.5, beta=0.25)(clip, label)
    expected = torch.nn.functional.cross_entropy(logits, label)
    auxiliary = auxiliary_losses(model)
    assert terms["ce"] == expected
    torch.testing.assert_close(terms["loss"], expected + 0.5 * auxiliary["interaction"] + 0.25 * auxiliary["capacity"])


def test_a_model_without_synthesizers_or_weights_of_zero_leave_the_classification_loss_alone():
    clip, label = torch.randn(2, 3, 4, 32, 32), torch.tensor([0, 2])
    for name, alpha in (("tsn_test_resnet", 0.01), ("psn_test_resnet", 0.0)):
        model = timm.create_model(name, num_classes=3).train()
        terms, _ = VideoClassificationTask(model, alpha=alpha, beta=0.0)(clip, label)
        assert set(terms) == {"loss", "ce"}
        assert terms["loss"] == terms["ce"]


def test_the_default_weights_are_the_papers():
    task = VideoClassificationTask(torch.nn.Identity())
    assert task.weights == pytest.approx({"interaction": 0.01, "capacity": 0.001})


def test_mixed_clips_have_the_shares_of_their_losses_and_the_auxiliary_ones_as_ever():
    model = timm.create_model("psn_test_resnet", num_classes=3, proportion=0.5).train()
    clip, shares = torch.randn(2, 3, 4, 32, 32), torch.tensor([[0.7, 0.3, 0.0], [0.0, 0.25, 0.75]])
    terms, logits = VideoClassificationTask(model, alpha=0.5, beta=0.25)(clip, shares)
    losses = -logits.log_softmax(1)
    expected = sum(shares[row, k] * losses[row, k] for row in range(2) for k in range(3)) / 2
    torch.testing.assert_close(terms["ce"], expected)
    auxiliary = auxiliary_losses(model)
    torch.testing.assert_close(terms["loss"], expected + 0.5 * auxiliary["interaction"] + 0.25 * auxiliary["capacity"])


def test_class_weights_multiply_the_terms_and_not_the_number_of_clips():
    logits, label, weights = torch.randn(4, 3), torch.tensor([0, 2, 2, 1]), torch.tensor([1.0, 0.5, 4.0])
    terms = [-weights[k] * logits[row].log_softmax(0)[k] for row, k in enumerate(label.tolist())]
    loss = ClassificationLoss(class_weights=weights)
    torch.testing.assert_close(loss(logits, label), sum(terms) / 4)
    halves = (loss(logits[:2], label[:2]) + loss(logits[2:], label[2:])) / 2  # two processes, or two accumulated steps
    torch.testing.assert_close(loss(logits, label), halves)


def test_the_binary_loss_is_the_sum_over_its_yes_and_no_questions():
    logits, target, weights = torch.randn(2, 3), torch.tensor([[1.0, 0, 1], [0, 0, 1]]), torch.tensor([2.0, 1.0, 3.0])
    total = 0.0
    for row in range(2):
        for k in range(3):
            share = torch.sigmoid(logits[row, k])
            total = total - (weights[k] * share.log() if target[row, k] else (1 - share).log())
    torch.testing.assert_close(ClassificationLoss("bce", class_weights=weights)(logits, target), total / 6)
    one_hot = F.one_hot(torch.tensor([0, 2]), 3).float()
    loss = ClassificationLoss("bce", smoothing=0.3)
    torch.testing.assert_close(loss(logits, torch.tensor([0, 2])), loss(logits, one_hot))
    judge = F.binary_cross_entropy_with_logits(logits, one_hot * 0.7 + 0.1)
    torch.testing.assert_close(loss(logits, one_hot), judge)


@pytest.mark.parametrize("kind", ["ce", "bce"])
def test_distillation_is_zero_at_the_teacher_and_pulls_towards_it(kind):
    teacher, logits = torch.randn(4, 5), torch.randn(4, 5, requires_grad=True)
    assert distillation_loss(teacher.clone(), teacher, 4.0, kind).abs() < 1e-5
    for _ in range(300):
        (gradient,) = torch.autograd.grad(distillation_loss(logits, teacher, 4.0, kind), logits)
        logits = (logits - 2 * gradient).detach().requires_grad_()
    found, wanted = (x.softmax(1) if kind == "ce" else x.sigmoid() for x in (logits, teacher))
    torch.testing.assert_close(found, wanted, atol=0.05, rtol=0)


def test_distillation_takes_its_share_of_the_classification_loss():
    clip, label, teacher = torch.randn(2, 3, 4, 32, 32), torch.tensor([0, 2]), torch.randn(2, 3)
    model = timm.create_model("tsn_test_resnet", num_classes=3).train()
    terms, logits = VideoClassificationTask(model, kd_alpha=0.25, kd_temperature=2.0)(clip, label, teacher)
    judge = F.kl_div((logits / 2).log_softmax(1), (teacher / 2).softmax(1), reduction="batchmean") * 4
    torch.testing.assert_close(terms["kd"], judge)
    torch.testing.assert_close(terms["loss"], 0.75 * F.cross_entropy(logits, label) + 0.25 * judge)
