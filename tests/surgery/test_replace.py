"""Putting modules in the place of others, and back."""

import copy
import pickle

import pytest
import timm
import torch
from torch import Tensor, nn

from timm_video_psn import NoTargetError, detach, inject
from timm_video_psn.surgery import put_back, replace


class Doubled(nn.Module):
    """Twice what a convolution of the same weights gives."""

    def __init__(self, old: nn.Conv2d):
        super().__init__()
        self.conv = nn.Conv2d(old.in_channels, old.out_channels, old.kernel_size, old.stride, old.padding)
        self.conv.weight, self.conv.bias = old.weight, old.bias

    def forward(self, x: Tensor) -> Tensor:
        return 2 * self.conv(x)


class Net(nn.Module):
    def __init__(self):
        super().__init__()
        self.first = nn.Conv2d(3, 4, 3, padding=1)
        self.body = nn.Sequential(nn.Conv2d(4, 4, 1), nn.ReLU(), nn.Conv2d(4, 4, 1))

    def forward(self, x: Tensor) -> Tensor:
        return self.body(self.first(x))


class Sink(list):
    """A hook that keeps what it saw."""

    def __call__(self, module, *args, **kwargs) -> None:
        self.append(module)


@pytest.fixture
def x() -> Tensor:
    return torch.randn(2, 3, 6, 6, requires_grad=True)


def double(model: nn.Module, patterns="first"):
    return replace(model, patterns, lambda name, old: Doubled(old))


def test_the_new_module_is_called_in_the_place_of_the_old(x):
    net = Net()
    expected = net.body(2 * net.first(x))
    double(net)
    assert torch.equal(net(x), expected)


def test_the_report_says_what_took_the_place_of_what():
    net = Net()
    olds = [net.body[0], net.body[2]]
    report = replace(net, "body.[02]", lambda name, old: nn.Conv2d(4, 4, 3, padding=1, bias=False))
    assert [item.old for item in report.items] == olds
    assert [item.new for item in report.items] == [net.body[0], net.body[2]]
    assert report.num_parameters == 2 * (4 * 4 * 9 - 4 * 4 - 4)
    assert str(report).splitlines()[1] == "body.2: Conv2d for Conv2d, +124 parameters"
    assert len(report) == 2
    assert str(replace(net, "body.1", lambda name, old: nn.Identity())) == "body.1: Identity for ReLU, +0 parameters"


def test_put_back_restores_outputs_keys_and_modules(x):
    net = timm.create_model("test_resnet", zero_init_last=False).eval()
    images = torch.randn(1, 3, 64, 64)
    expected, modules = net(images), dict(net.named_modules())
    report = double(net, "layer?.0.conv2")
    assert not torch.equal(net(images), expected)
    put_back(net, report)
    assert torch.equal(net(images), expected)
    assert dict(net.named_modules()) == modules


def test_put_back_knows_the_model_that_it_is_for():
    net = Net()
    report = double(net)
    with pytest.raises(
        ValueError, match=r"cannot put back first: the module there is not the one from .* not on copies"
    ):
        put_back(copy.deepcopy(net), report)
    put_back(net, report)
    with pytest.raises(ValueError, match="cannot put back first"):
        put_back(net, report)


@pytest.mark.parametrize("training", [True, False])
def test_the_new_module_is_in_the_mode_of_the_old(training):
    net = Net().train(training)
    double(net)
    assert {module.training for module in net.modules()} == {training}


def test_a_module_at_two_places_is_replaced_at_both(x):
    net = nn.Sequential(nn.Conv2d(3, 3, 1), nn.ReLU())
    net.append(net[0])
    double(net, "0")
    assert net[2] is net[0]
    assert isinstance(net[2], Doubled)


def test_the_new_module_may_hold_the_old_one(x):
    net = Net()
    expected = net.body(net.first(x).relu())
    seen = Sink()
    net.first.register_forward_hook(seen)
    replace(net, "first", lambda name, old: nn.Sequential(old, nn.ReLU()))
    assert torch.equal(net(x), expected)
    assert len(seen) == 1


@pytest.mark.parametrize(
    "register",
    [
        "register_forward_hook",
        "register_forward_pre_hook",
        "register_full_backward_hook",
        "register_full_backward_pre_hook",
    ],
)
def test_hooks_move_to_the_new_module_and_their_handles_still_remove_them(register, x):
    net, seen = Net(), Sink()
    handle = getattr(net.first, register)(seen)
    old = net.first
    report = double(net)
    net(x).sum().backward()
    assert seen == [net.first]
    put_back(net, report)
    net(x).sum().backward()
    assert seen[1:] == [old]
    double(net)
    handle.remove()
    net(x).sum().backward()
    assert len(seen) == 2


def test_a_hook_that_wants_keyword_arguments_keeps_getting_them(x):
    net, seen = Net(), []
    net.first.register_forward_hook(lambda module, args, kwargs, output: seen.append(kwargs), with_kwargs=True)
    double(net)
    net(x)
    assert seen == [{}]


@pytest.mark.parametrize("where", ["before", "after"])
def test_an_attached_module_stays_attached(where, x):
    net = Net()
    inject(net, "first", lambda name, target: nn.Softplus(), where)
    expected = net.body(2 * net.first(x)) if where == "before" else None
    plain = copy.deepcopy(net)
    detach(plain)
    if where == "after":
        expected = net.body(nn.functional.softplus(2 * plain.first(x)))
    replace(net, "first", lambda name, old: Doubled(plain.first))
    torch.testing.assert_close(net(x), expected)
    assert len(detach(net)) == 1
    assert torch.equal(net(x), net.body(2 * plain.first(x)))


@pytest.mark.parametrize("clone", [copy.deepcopy, lambda model: pickle.loads(pickle.dumps(model))])
def test_copies_compute_the_same_with_modules_of_their_own(clone, x):
    net, x = Net(), x.detach()
    double(net)
    other = clone(net)
    assert torch.equal(other(x), net(x))
    with torch.no_grad():
        other.first.conv.weight.zero_()
    assert not torch.equal(other(x), net(x))


@pytest.mark.usefixtures("compiler")
def test_compiles_in_one_graph(x):
    net = Net().eval()
    double(net)
    inject(net, "first", lambda name, target: nn.Softplus())
    torch._dynamo.reset()
    compiled = torch.compile(net, fullgraph=True, backend="eager")
    torch.testing.assert_close(compiled(x), net(x))


@pytest.mark.usefixtures("compiler")
def test_exports(x):
    net = Net().eval()
    double(net, ["first", "body.0"])
    exported = torch.export.export(net, (x,)).module()
    torch.testing.assert_close(exported(x), net(x))


# --- refusals, after which the model is as it was


def shared(name: str, old: nn.Module, one=nn.Identity()) -> nn.Module:  # noqa: B008 - one for all calls
    return one


def hooked(name: str, old: nn.Module) -> nn.Module:
    new = Doubled(old)
    new.register_forward_hook(Sink())
    return new


@pytest.mark.parametrize(
    ("patterns", "build", "error", "text"),
    [
        ("second", hooked, NoTargetError, "pattern 'second' names no child of Net"),
        ("first", lambda name, old: "conv", TypeError, "must return an nn.Module.*found first: build returned str"),
        (["body", "body.0"], lambda name, old: nn.ReLU(), ValueError, r"body holds body\.0; name only one"),
        ("body.[02]", shared, ValueError, "one module for several targets"),
        ("first", hooked, ValueError, "cannot replace first: hooks .* register its own after"),
    ],
)
def test_a_refusal_leaves_the_model_untouched(patterns, build, error, text, x):
    net, seen = Net(), Sink()
    net.first.register_forward_hook(seen)
    modules = dict(net.named_modules())
    with pytest.raises(error, match=text):
        replace(net, patterns, build)
    assert dict(net.named_modules()) == modules
    net(x)
    assert seen == [net.first]
