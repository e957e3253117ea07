"""The contract of every temporal module that the registry names, and the names."""

import copy
import pickle
from typing import get_args

import pytest
import torch

from timm_video_psn import TEMPORAL_MODULES
from timm_video_psn.layers import Placement, temporal_modules, temporal_settings
from timm_video_psn.layers.registry import check_settings

MODULES = {cls.__name__: cls for classes in TEMPORAL_MODULES.values() for cls in classes}
ONE_LENGTH = ("TemporalAdaptive",)  # their weights depend on the number of frames
CHANNELS = 32


def build(name: str, num_frames: int = 4) -> torch.nn.Module:
    return MODULES[name](CHANNELS, num_frames)


@pytest.mark.parametrize("name", MODULES)
@pytest.mark.parametrize(("clips", "num_frames"), [(2, 4), (1, 4), (2, 1), (1, 1), (3, 5)])
def test_shape_out_is_shape_in(name, clips, num_frames):
    x = torch.randn(clips * num_frames, CHANNELS, 6, 5)
    for mode in (True, False):
        module = build(name, num_frames).train(mode)
        frames = clips * -(-num_frames // module.time_stride)
        assert module(x).shape == (frames, *x.shape[1:])


@pytest.mark.parametrize("name", MODULES)
def test_number_of_frames_may_be_changed_later_unless_the_module_refuses(name):
    module = build(name, num_frames=4).eval()
    if name in ONE_LENGTH:
        with pytest.raises(ValueError, match=r"num_frames=3: .* built for clips of 4 frames"):
            module.num_frames = 3
        module = build(name, num_frames=3)
    module.num_frames = 3
    assert module(torch.randn(6, CHANNELS, 6, 5)).shape == (2 * -(-3 // module.time_stride), CHANNELS, 6, 5)
    with pytest.raises(ValueError, match="folded batch of 4 frames does not hold whole clips of num_frames=3"):
        module(torch.randn(4, CHANNELS, 6, 5))


@pytest.mark.parametrize("name", MODULES)
def test_gradient_reaches_every_parameter_and_the_input(name):
    module = build(name)
    x = torch.randn(8, CHANNELS, 6, 5, requires_grad=True)
    module(x).square().sum().backward()
    assert x.grad.abs().max() > 0
    assert [n for n, p in module.named_parameters() if p.grad is None] == []


@pytest.mark.parametrize("name", MODULES)
def test_evaluation_repeats_itself_and_does_not_mix_clips(name):
    module = build(name).eval()
    x = torch.randn(8, CHANNELS, 6, 5)
    first = module(x)
    assert torch.equal(first, module(x))
    torch.testing.assert_close(module(x[:4]), first[: len(first) // 2])


@pytest.mark.parametrize("name", MODULES)
@pytest.mark.parametrize("clone", [copy.deepcopy, lambda module: pickle.loads(pickle.dumps(module))])
def test_copies_compute_the_same(name, clone):
    module = build(name).eval()
    x = torch.randn(8, CHANNELS, 6, 5)
    assert torch.equal(clone(module)(x), module(x))


@pytest.mark.parametrize("name", MODULES)
def test_weights_load_into_a_new_one(name):
    torch.manual_seed(1)
    module = build(name).eval()
    other = build(name).eval()
    other.load_state_dict(module.state_dict())
    x = torch.randn(8, CHANNELS, 6, 5)
    assert torch.equal(other(x), module(x))


@pytest.mark.usefixtures("compiler")
@pytest.mark.parametrize("name", MODULES)
def test_compiles_in_one_graph(name):
    module = build(name).eval()
    x = torch.randn(8, CHANNELS, 6, 5)
    torch._dynamo.reset()
    compiled = torch.compile(module, fullgraph=True, backend="eager")
    torch.testing.assert_close(compiled(x), module(x))


@pytest.mark.usefixtures("compiler")
@pytest.mark.parametrize("name", MODULES)
def test_torchscript_compiles_it(name):
    module = build(name).eval()
    x = torch.randn(8, CHANNELS, 6, 5)
    if module.scriptable:
        torch.testing.assert_close(torch.jit.script(module)(x), module(x))


@pytest.mark.parametrize("name", MODULES)
def test_says_where_it_belongs(name):
    assert MODULES[name].placement in get_args(Placement)


def test_settings_are_what_a_module_takes_beside_channels_and_frames():
    assert temporal_settings("tsm") == ("shift_div", "causal")
    assert temporal_settings("tsn") == ()
    assert {"proportion", "receptive_field", "fusion", "expand_init"} <= set(temporal_settings("psn"))
    assert not {"channels", "num_frames"} & set(temporal_settings("psn"))


def test_tsn_has_no_module():
    assert temporal_modules("tsn") == ()


def test_an_unknown_name_lists_those_known_nearest_first():
    with pytest.raises(ValueError, match="temporal='tsmm' is unknown; use one of tsm, tsn, "):
        temporal_modules("tsmm")


@pytest.mark.parametrize(
    ("settings", "text"),
    [
        ({"dilated": "no"}, "dilated='no' must be True or False"),
        ({"inter_act": 1}, "inter_act=1 must be True or False"),
        ({"expand_init": "foo"}, "expand_init='foo' must be a number"),
        ({"proportion": True}, "proportion=True must be a number"),
        ({"receptive_field": 5}, r"receptive_field=5 must be whole numbers, as \(7, 5, 5\)"),
        ({"fusion": None, "dilated": 0}, "fusion=None must be a string; dilated=0 must be True or False"),
    ],
)
def test_settings_of_another_type_are_refused_together(settings, text):
    with pytest.raises(ValueError, match=text):
        check_settings("psn", settings)


def test_settings_of_the_types_declared_pass():
    check_settings("psn", {"receptive_field": [5, 5, 5], "expand_init": 1, "proportion": 0.5, "pool": "none"})
    check_settings("tsn", {})
