"""Attaching modules to any model, and taking them off again."""

import copy
import pickle

import pytest
import timm
import torch
from torch import Tensor, nn

from timm_video_psn import Injection, NoTargetError, detach, inject
from timm_video_psn.surgery import disabled, injected


class Affine(nn.Module):
    """a * x + b."""

    def __init__(self, scale: float = 0.5, shift: float = 0.25):
        super().__init__()
        self.scale, self.shift = nn.Parameter(torch.tensor(scale)), nn.Parameter(torch.tensor(shift))

    def forward(self, x: Tensor) -> Tensor:
        return x * self.scale + self.shift


class PlainNet(nn.Module):
    """Neither of timm nor of a known family."""

    def __init__(self):
        super().__init__()
        self.stem = nn.Conv2d(3, 4, 3)
        self.body = nn.Sequential(nn.BatchNorm2d(4), nn.ReLU(), nn.Conv2d(4, 4, 1))
        self.head = nn.Linear(4, 5)

    def forward(self, x: Tensor) -> Tensor:
        return self.head(self.body(self.stem(x)).mean((2, 3)))


MODELS = {
    "plain": (PlainNet, ["stem", "body.?"]),
    "test_resnet": (lambda: timm.create_model("test_resnet"), "layer?.0"),
    "test_convnext": (lambda: timm.create_model("test_convnext"), ["stem", "stages.*"]),
    "test_vit": (lambda: timm.create_model("test_vit"), "blocks.*"),
    "test_efficientnet": (lambda: timm.create_model("test_efficientnet"), ["blocks.?.0", "classifier"]),
}
WHERE = ["after", "before"]


@pytest.fixture
def images() -> Tensor:
    return torch.randn(2, 3, 160, 160)


@pytest.fixture
def small() -> Tensor:
    return torch.randn(2, 3, 8, 8)


def attach(model: nn.Module, patterns, where: str = "after", **settings) -> Injection:
    return inject(model, patterns, lambda name, target: Affine(**settings), where)


@pytest.mark.parametrize("where", WHERE)
@pytest.mark.parametrize("name", MODELS)
def test_detach_restores_outputs_and_keys_bit_for_bit(name, where, images):
    create, patterns = MODELS[name]
    model = create().eval()
    plain, keys = model(images), list(model.state_dict())
    report = attach(model, patterns, where)
    assert len(report) > 1
    assert not torch.equal(model(images), plain)
    removed = detach(model)
    assert [(item.name, item.where) for item in removed.items] == [(item.name, item.where) for item in report.items]
    assert torch.equal(model(images), plain)
    assert list(model.state_dict()) == keys
    assert not any(hasattr(module, "temporal") for module in model.modules())


@pytest.mark.parametrize("name", MODELS)
def test_stock_keys_are_untouched_and_load(name):
    create, patterns = MODELS[name]
    model = create()
    stock = copy.deepcopy(model.state_dict())
    attach(model, patterns)
    added = set(model.state_dict()) - set(stock)
    assert set(stock) < set(model.state_dict())
    assert all(".temporal." in key for key in added)
    result = model.load_state_dict(stock, strict=False)
    assert set(result.missing_keys) == added
    assert result.unexpected_keys == []


def test_after_maps_the_output_of_the_target(small):
    model = PlainNet().eval()
    with torch.no_grad():
        stem = model.stem(small)
        expected = model.head(model.body(stem * 2 - 1).mean((2, 3)))
        attach(model, "stem", "after", scale=2.0, shift=-1.0)
        torch.testing.assert_close(model(small), expected)


def test_before_maps_the_first_input_of_the_target(small):
    model = PlainNet().eval()
    with torch.no_grad():
        expected = model(small * 2 - 1)
        attach(model, "stem", "before", scale=2.0, shift=-1.0)
        torch.testing.assert_close(model(small), expected)


def test_before_leaves_further_arguments_alone():
    class Sum(nn.Module):
        def forward(self, x, y, factor=1.0):
            return (x + y) * factor

    class Outer(nn.Module):
        def __init__(self):
            super().__init__()
            self.sum = Sum()

        def forward(self, x):
            return self.sum(x, x, factor=3.0)

    model = Outer()
    attach(model, "sum", "before", scale=10.0, shift=0.0)
    assert model(torch.tensor(1.0)).item() == 33


@pytest.mark.parametrize("where", WHERE)
@pytest.mark.parametrize("pattern", ["body", "head"])
def test_the_attached_module_is_called_once_also_on_a_sequential(small, where, pattern):
    model = PlainNet().eval()
    (item,) = attach(model, pattern, where).items
    calls = []
    item.module.register_forward_hook(lambda module, args, out: calls.append(out))
    model(small)
    assert len(calls) == 1


def test_a_sequential_hands_what_is_attached_to_its_outermost_step():
    model = nn.Sequential(nn.Sequential(nn.Linear(2, 2), nn.Sequential(nn.ReLU(), nn.Tanh())))
    assert [item.name for item in inject(model, "0", lambda name, target: nn.Identity()).items] == ["0.1.1"]
    assert [item.name for item in inject(model, "0", lambda name, target: nn.Identity(), "before").items] == ["0.0"]


@pytest.mark.parametrize("container", [nn.ModuleList([nn.ReLU()]), nn.ModuleDict({"a": nn.ReLU()}), nn.Sequential()])
def test_a_container_that_is_never_called_is_refused(container):
    model = nn.ModuleDict({"parts": container})
    with pytest.raises(ValueError, match=r"cannot attach to parts: .* is never called; use its children"):
        inject(model, "parts", lambda name, target: nn.Identity())


def test_gradient_reaches_the_attached_modules(small):
    model = PlainNet()
    attach(model, ["stem", "head"])
    model(small).square().sum().backward()
    for item in injected(model):
        assert item.module.scale.grad.abs() > 0


@pytest.mark.parametrize("where", WHERE)
@pytest.mark.parametrize("clone", [copy.deepcopy, lambda model: pickle.loads(pickle.dumps(model))])
def test_a_copy_calls_its_own_child(small, clone, where):
    model = PlainNet().eval()
    attach(model, "stem", where)
    before = model(small)
    other = clone(model)
    assert torch.equal(other(small), before)
    with torch.no_grad():
        other.stem.temporal.scale.fill_(3)
    assert torch.equal(model(small), before)
    assert not torch.equal(other(small), before)


@pytest.mark.parametrize("where", WHERE)
def test_a_copy_can_be_detached_alone(small, where):
    model = PlainNet().eval()
    plain = model(small)
    attach(model, "stem", where)
    changed = model(small)
    other = copy.deepcopy(model)
    detach(other)
    assert torch.equal(other(small), plain)
    assert torch.equal(model(small), changed)


@pytest.mark.usefixtures("compiler")
@pytest.mark.parametrize("where", WHERE)
def test_compiles_in_one_graph(small, where):
    model = PlainNet().eval()
    attach(model, ["stem", "head"], where)
    torch._dynamo.reset()
    compiled = torch.compile(model, fullgraph=True, backend="eager")
    assert torch.equal(compiled(small), model(small))


@pytest.mark.usefixtures("compiler")
@pytest.mark.parametrize("where", WHERE)
def test_exports_and_runs(small, where):
    model = PlainNet().eval()
    attach(model, ["stem", "head"], where)
    exported = torch.export.export(model, (small,)).module()
    torch.testing.assert_close(exported(small), model(small))
    detach(model)
    assert not torch.equal(exported(small), model(small))


@pytest.mark.usefixtures("compiler")
@pytest.mark.parametrize("where", ["before", "after"])
def test_torchscript_compiles_and_calls_what_is_attached(where):
    model = nn.Sequential(nn.Linear(4, 4), nn.ReLU())
    inject(model, ["0", "1"], lambda name, target: nn.Linear(4, 4), where)
    x = torch.randn(2, 4)
    torch.testing.assert_close(torch.jit.script(model)(x), model(x))


@pytest.mark.parametrize("where", WHERE)
def test_disabled_runs_the_model_as_if_nothing_were_attached(small, where):
    model = PlainNet().eval()
    plain = model(small)
    attach(model, ["stem", "body.2"], where)
    changed = model(small)
    with disabled(model):
        assert torch.equal(model(small), plain)
        assert "stem.temporal.scale" in model.state_dict()
    assert torch.equal(model(small), changed)


def test_disabled_ends_after_an_error_too(small):
    model = PlainNet().eval()
    attach(model, "stem")
    changed = model(small)
    with pytest.raises(RuntimeError, match="on purpose"), disabled(model):
        raise RuntimeError("on purpose")
    assert torch.equal(model(small), changed)


def test_hooks_of_others_survive(small):
    model = PlainNet().eval()
    seen = []
    model.stem.register_forward_hook(lambda module, args, out: seen.append("after"))
    model.stem.register_forward_pre_hook(lambda module, args: seen.append("before"))
    attach(model, "stem")
    with disabled(model):
        model(small)
    detach(model)
    model(small)
    assert seen == ["before", "after"] * 2


def test_nothing_is_touched_when_a_build_fails(small):
    model = PlainNet().eval()
    plain, keys = model(small), list(model.state_dict())

    def build(name, target):
        if name == "head":
            raise ArithmeticError("no head today")
        return Affine()

    with pytest.raises(ArithmeticError, match="no head today"):
        inject(model, ["stem", "head"], build)
    assert torch.equal(model(small), plain)
    assert list(model.state_dict()) == keys


def test_nothing_is_touched_when_a_pattern_fits_nothing(small):
    model = PlainNet().eval()
    plain = model(small)
    with pytest.raises(NoTargetError, match=r"pattern 'stemm' names no child of PlainNet.*nearest names: stem"):
        attach(model, ["head", "stemm"])
    assert torch.equal(model(small), plain)


def test_a_second_injection_is_an_error_and_changes_nothing(small):
    model = PlainNet().eval()
    attach(model, "stem")
    once = model(small)
    with pytest.raises(
        ValueError, match=r"cannot attach to stem: there is a child 'temporal' already; detach\(model\)"
    ):
        attach(model, ["head", "stem"])
    assert torch.equal(model(small), once)
    assert len(list(injected(model))) == 1


def test_a_target_with_a_child_of_that_name_is_refused():
    block = PlainNet()
    block.add_module("temporal", nn.ReLU())
    model = nn.ModuleDict({"block": block})
    with pytest.raises(ValueError, match="cannot attach to block: there is a child 'temporal' already"):
        attach(model, "block")


def test_what_build_returns_must_be_a_module():
    model = PlainNet()
    with pytest.raises(
        TypeError, match=r"build must return an nn\.Module for every target; found head: build returned int"
    ):
        inject(model, ["stem", "head"], lambda name, target: 3 if name == "head" else Affine())
    assert list(injected(model)) == []


def test_an_unknown_place_is_named():
    with pytest.raises(ValueError, match="where='inside' is unknown; use 'before' or 'after'"):
        attach(PlainNet(), "stem", "inside")


def test_build_gets_the_name_and_the_module_of_each_target():
    model = PlainNet()
    seen = []
    inject(model, ["head", "stem"], lambda name, target: seen.append((name, target)) or Affine())
    assert seen == [("stem", model.stem), ("head", model.head)]


def test_detach_of_a_plain_model_removes_nothing():
    removed = detach(PlainNet())
    assert len(removed) == 0
    assert str(removed) == "nothing attached"


def test_after_detach_modules_can_be_attached_again(small):
    model = PlainNet().eval()
    attach(model, "stem", "after")
    changed = model(small)
    detach(model)
    attach(model, "stem", "after")
    assert torch.equal(model(small), changed)


def test_the_report_says_what_sits_where():
    model = PlainNet()
    attach(model, "head", "before")
    report = attach(model, ["stem", "body.0"])
    assert str(report) == ("stem: Affine after Conv2d, 2 parameters\nbody.0: Affine after BatchNorm2d, 2 parameters")
    assert report.num_parameters == 4
    assert [item.module for item in report.items] == [model.stem.temporal, model.body[0].temporal]
    assert (
        str(next(item for item in injected(model) if item.name == "head")) == "head: Affine before Linear, 2 parameters"
    )


def test_large_numbers_of_parameters_are_written_with_commas():
    model = PlainNet()
    report = inject(model, "stem", lambda name, target: nn.Linear(1000, 10))
    assert str(report) == "stem: Linear after Conv2d, 10,010 parameters"
