"""The action perceptron synthesizer against Eq. 1 written as loops."""

import copy
import pickle

import pytest
import reference
import torch
from torch import Tensor, nn

from timm_video_psn.layers import ActionPerceptronSynthesizer, fold_clip, unfold_clip

SETTINGS = {
    "the best of the paper": {"receptive_field": (7, 5, 5), "channels": 20, "proportion": 0.45},
    "the ablations' 5x5x5": {"receptive_field": (5, 5, 5)},
    "3x3x3": {"receptive_field": (3, 3, 3)},
    "unequal sides": {"receptive_field": (5, 7, 3), "channels": 10},
    "average pool": {"receptive_field": (5, 5, 5), "pool": "avg"},
    "no pool": {"receptive_field": (7, 5, 5), "pool": "none"},
    "no inter-act": {"receptive_field": (5, 5, 5), "inter_act": False},
    "plain kernels": {"receptive_field": (7, 5, 5), "dilated": False, "channels": 10},
    "1+1d": {"receptive_field": (5, 5, 5), "spatial_conv": "1+1d"},
    "1+1d, plain, no inter-act": {
        "receptive_field": (3, 5, 7),
        "spatial_conv": "1+1d",
        "dilated": False,
        "inter_act": False,
    },
    "shuffle": {"receptive_field": (5, 5, 5), "fusion": "shuffle", "channels": 16},
    "grouping": {"receptive_field": (7, 5, 5), "fusion": "grouping", "channels": 11},
    "dropout": {"receptive_field": (5, 5, 5), "fusion": "dropout", "channels": 16},
    "channelwise": {"receptive_field": (5, 5, 5), "fusion": "channelwise"},
}
MODES = {"train": True, "eval": False}
CASES = [(name, "train") for name in SETTINGS] + [
    (name, "eval") for name in ("the ablations' 5x5x5", "unequal sides", "1+1d")
]


def build(channels: int = 8, num_frames: int = 3, proportion: float = 1.0, **settings) -> ActionPerceptronSynthesizer:
    """A float64 synthesizer in which no weight and no statistic is at its trivial initial value."""
    synthesizer = ActionPerceptronSynthesizer(channels, num_frames, proportion, expand_init=1.0, **settings).double()
    for module in synthesizer.modules():
        if isinstance(module, nn.BatchNorm2d):
            nn.init.uniform_(module.weight, 0.5, 1.5)
            nn.init.normal_(module.bias, std=0.3)
            nn.init.normal_(module.running_mean, std=0.3)
            nn.init.uniform_(module.running_var, 0.5, 1.5)
    return synthesizer


def weights_of(synthesizer: ActionPerceptronSynthesizer, leaves: dict[str, Tensor]) -> reference.Weights:
    """The leaves, copies of the module's parameters by name, in the reference's order."""
    names = {id(parameter): name for name, parameter in synthesizer.named_parameters()}

    def leaf(parameter: Tensor) -> Tensor:
        return leaves[names[id(parameter)]]

    spatial = []
    for branch in synthesizer.spatial_bank.branches:
        convs = [module for module in branch.modules() if isinstance(module, nn.Conv2d)]
        norms = [module for module in branch.modules() if isinstance(module, nn.BatchNorm2d)]
        if convs:
            spatial.append(
                [
                    reference.NormedConv(
                        leaf(conv.weight),
                        leaf(bn.weight),
                        leaf(bn.bias),
                        bn.running_mean.clone(),
                        bn.running_var.clone(),
                    )
                    for conv, bn in zip(convs, norms, strict=True)
                ]
            )
    temporal = [leaf(m.weight)[..., 0] for m in synthesizer.temporal_bank.branches if isinstance(m, nn.Conv2d)]
    reduce, expand = leaf(synthesizer.reduce.weight)[..., 0, 0], leaf(synthesizer.expand.weight)[..., 0, 0]
    fusion = synthesizer.fusion
    groups, width = len(fusion.in_widths), fusion.in_widths[-1]
    routing = {
        "DenseFusion": lambda: leaf(fusion.weight),
        "ChannelwiseFusion": lambda: reference.channelwise_routing(leaf(fusion.weight)),
        "GroupingFusion": lambda: torch.eye(len(reduce)),
        "ShuffleFusion": lambda: reference.shuffle_routing(groups, width),
        "DropoutFusion": lambda: reference.dropout_routing(groups, width),
    }[type(fusion).__name__]()
    return reference.Weights(reduce, spatial, routing.double(), temporal, expand)


def check_against_reference(synthesizer: ActionPerceptronSynthesizer, clip: Tensor, **settings) -> None:
    """Outputs, recorded means, and all gradients, to float64 precision."""
    leaves = {name: p.detach().clone().requires_grad_() for name, p in synthesizer.named_parameters()}
    expected_input = clip.clone().requires_grad_()
    expected, fused = reference.synthesize(
        expected_input, weights_of(synthesizer, leaves), training=synthesizer.training, **settings
    )
    direction = torch.randn_like(expected)
    (expected * direction).sum().backward()

    given = clip.clone().requires_grad_()
    synthesizer.num_frames = clip.shape[2]
    out = unfold_clip(synthesizer(fold_clip(given)), clip.shape[2])
    (out * direction).sum().backward()

    torch.testing.assert_close(out, expected)
    torch.testing.assert_close(given.grad, expected_input.grad)
    for name, parameter in synthesizer.named_parameters():
        torch.testing.assert_close(parameter.grad, leaves[name].grad, msg=lambda text, name=name: f"{name}: {text}")
    if synthesizer.training:
        torch.testing.assert_close(synthesizer.fused_mean, fused.mean((2, 3, 4)))


@pytest.mark.parametrize(("setting", "mode"), CASES)
def test_agrees_with_equation_1_in_outputs_and_gradients(setting, mode):
    settings = dict(SETTINGS[setting])
    channels = settings.pop("channels", 8)
    proportion = settings.pop("proportion", 1.0)
    synthesizer = build(channels, proportion=proportion, **settings).train(MODES[mode])
    settings.pop("fusion", None)
    height, width = (5, 4) if channels <= 8 else (3, 3)
    check_against_reference(synthesizer, torch.randn(1, channels, 3, height, width, dtype=torch.float64), **settings)


@pytest.mark.parametrize("num_frames", [1, 2, 5])
def test_takes_clips_of_another_length_than_it_was_built_for(num_frames):
    synthesizer = build(num_frames=8, receptive_field=(7, 5, 5), pool="none").train()
    clip = torch.randn(2, 8, num_frames, 3, 3, dtype=torch.float64)
    check_against_reference(synthesizer, clip, receptive_field=(7, 5, 5), pool="none")


def test_clips_of_a_batch_do_not_mix():
    synthesizer = build().eval()
    clips = torch.randn(3, 8, 3, 5, 4, dtype=torch.float64)
    together = unfold_clip(synthesizer(fold_clip(clips)), 3)
    alone = torch.cat([unfold_clip(synthesizer(fold_clip(one[None])), 3) for one in clips])
    torch.testing.assert_close(together, alone)


def test_frames_of_a_clip_do_mix():
    synthesizer = build().eval()
    clip = torch.randn(1, 8, 3, 5, 4, dtype=torch.float64)
    changed = clip.clone()
    changed[:, :, 2] += 1
    before, after = (unfold_clip(synthesizer(fold_clip(x)), 3) for x in (clip, changed))
    assert (before[:, :, 0] - after[:, :, 0]).abs().max() > 1e-3


@pytest.mark.parametrize("fusion", ["dense", "channelwise", "grouping", "shuffle", "dropout"])
def test_channels_last_equals_contiguous_and_stays_channels_last(fusion):
    synthesizer = build(16, receptive_field=(5, 5, 5), fusion=fusion).train()
    x = torch.randn(6, 16, 5, 4, dtype=torch.float64)
    nested = copy.deepcopy(synthesizer).to(memory_format=torch.channels_last)
    out = nested(x.to(memory_format=torch.channels_last))
    torch.testing.assert_close(out, synthesizer(x))
    assert out.is_contiguous(memory_format=torch.channels_last)


@pytest.mark.parametrize("memory_format", [torch.contiguous_format, torch.channels_last])
@pytest.mark.parametrize("mode", MODES)
def test_zero_expand_gives_exactly_its_input_in_the_same_memory_layout(mode, memory_format):
    """Another layout would send the layers that follow through other kernels, which round differently."""
    synthesizer = ActionPerceptronSynthesizer(64, num_frames=3).train(MODES[mode])
    x = torch.randn(6, 64, 5, 4).to(memory_format=memory_format)
    out = synthesizer(x)
    assert torch.equal(out, x)
    assert out.stride() == x.stride()


def test_expand_init_scales_the_ordinary_initialisation():
    half, whole = (_expand_weight(gain) for gain in (0.5, 1.0))
    assert whole.abs().max() > 0
    torch.testing.assert_close(half, whole / 2)


def _expand_weight(gain: float) -> Tensor:
    torch.manual_seed(0)
    return ActionPerceptronSynthesizer(64, expand_init=gain).expand.weight.detach()


def test_input_is_left_as_it_was():
    synthesizer = build().train()
    x = torch.randn(3, 8, 5, 4, dtype=torch.float64)
    before = x.clone()
    synthesizer(x)
    assert torch.equal(x, before)


def test_every_parameter_gets_a_gradient():
    synthesizer = build(20, proportion=0.5).train()
    synthesizer(torch.randn(6, 20, 5, 4, dtype=torch.float64)).square().sum().backward()
    silent = [name for name, p in synthesizer.named_parameters() if p.grad is None or not p.grad.abs().max() > 0]
    assert silent == []


def test_enhances_the_whole_part_of_channels_times_proportion():
    assert ActionPerceptronSynthesizer(256, proportion=1 / 6).reduce.out_channels == 42


def test_records_only_in_training_mode():
    synthesizer = build()
    x = torch.randn(3, 8, 5, 4, dtype=torch.float64)
    synthesizer.eval()(x)
    assert synthesizer.fused_mean is None
    synthesizer.train()(x)
    assert synthesizer.fused_mean.shape == (1, 8)
    synthesizer.eval()
    assert synthesizer.fused_mean is None


@pytest.mark.parametrize("clone", [copy.deepcopy, lambda module: pickle.loads(pickle.dumps(module))])
def test_copies_start_without_a_record(clone):
    synthesizer = build().train()
    x = torch.randn(3, 8, 5, 4, dtype=torch.float64)
    synthesizer(x)
    other = clone(synthesizer)
    assert other.fused_mean is None
    assert synthesizer.fused_mean is not None
    torch.testing.assert_close(other(x), synthesizer(x))


@pytest.mark.parametrize(
    ("settings", "text"),
    [
        ({"receptive_field": (4, 5, 5)}, "receptive field 4 is not an odd number"),
        ({"receptive_field": (5, 5, 0)}, "receptive field 0 is not an odd number"),
        ({"receptive_field": (-1, 5, 5)}, "receptive field -1 is not an odd number"),
        ({"receptive_field": (5, 5)}, r"receptive_field=\(5, 5\) must be three odd numbers \(T, H, W\)"),
        ({"proportion": 0}, r"proportion=0 is not in \(0, 1\]; the paper uses 1/4"),
        ({"proportion": 1.5}, r"proportion=1.5 is not in \(0, 1\]"),
        (
            {"proportion": 1 / 16},
            "4 channels leave some of the 5 groups empty; at least 5 channels.*larger proportion",
        ),
        ({"proportion": 1 / 100}, "proportion=0.01 of 64 channels leaves none to enhance; use at least 1/64"),
        ({"fusion": "densse"}, "fusion='densse' is unknown; use one of 'dense', .*did you mean 'dense'"),
        ({"fusion": "channel_wise"}, "did you mean 'channelwise'"),
        ({"pool": "mean"}, "pool='mean' is unknown; use one of 'max', 'avg', 'none'"),
        ({"pool": None}, "pool=None is unknown; use one of 'max', 'avg', 'none'"),
        ({"spatial_conv": "1+1D"}, "spatial_conv='1[+]1D' is unknown.*did you mean '1[+]1d'"),
        ({"fusion": "shuffle"}, r"fusion='shuffle' needs spatial and temporal groups of one width.*fusion='dense'"),
    ],
)
def test_a_wrong_setting_is_named_with_what_is_accepted(settings, text):
    with pytest.raises(ValueError, match=text):
        ActionPerceptronSynthesizer(64, **settings)


@pytest.mark.parametrize("mode", MODES)
def test_a_batch_of_no_whole_clips_is_named(mode):
    synthesizer = ActionPerceptronSynthesizer(64, num_frames=4).train(MODES[mode])
    with pytest.raises(ValueError, match="folded batch of 6 frames does not hold whole clips of num_frames=4"):
        synthesizer(torch.zeros(6, 64, 3, 3))
