"""The action perceptron synthesizer against Eq. 1 written as loops."""

import copy
import math
import pickle

import pytest
import torch
from torch import Tensor, nn

from tests import reference
from timm_video_psn.layers import ActionPerceptronSynthesizer, fold_clip, unfold_clip

SETTINGS = {
    "the best of the paper": {"receptive_field": (7, 5, 5), "channels": 20, "proportion": 0.45},
    "the ablations' 5x5x5": {"receptive_field": (5, 5, 5)},
    "3x3x3": {"receptive_field": (3, 3, 3)},
    "unequal sides": {"receptive_field": (5, 7, 3), "channels": 10},
    "average pool": {"receptive_field": (5, 5, 5), "pool": "avg"},
    "no pool": {"receptive_field": (7, 5, 5), "pool": "none"},
    "identity for the pool": {"receptive_field": (5, 5, 5), "pool": "identity"},
    "unit conv": {"receptive_field": (5, 5, 5), "unit": "conv"},
    "unit conv, 1+1d": {"receptive_field": (3, 3, 3), "unit": "conv", "spatial_conv": "1+1d", "inter_act": False},
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


@pytest.mark.parametrize("mode", MODES)
def test_zero_fusion_gives_exactly_its_input_and_all_weights_learn_from_the_second_step_on(mode):
    synthesizer = ActionPerceptronSynthesizer(64, 3, expand_init=1.0, fusion_init=0.0).train(MODES[mode])
    x = torch.randn(6, 64, 5, 4)
    assert torch.equal(synthesizer(x), x)
    learned = []
    for _ in range(2):
        synthesizer.zero_grad()
        (synthesizer(x) * torch.randn(6, 64, 5, 4)).sum().backward()
        assert all(p.grad.isfinite().all() for p in synthesizer.parameters())
        learned.append({name for name, p in synthesizer.named_parameters() if p.grad.any()})
        with torch.no_grad():
            synthesizer.fusion.weight.sub_(0.1 * synthesizer.fusion.weight.grad)
    assert learned[0] == {"fusion.weight"}
    assert learned[1] == {name for name, _ in synthesizer.named_parameters()}


def test_fusion_init_scales_the_ordinary_initialisation():
    weights = []
    for gain in (1.0, 0.5):
        torch.manual_seed(0)
        weights.append(ActionPerceptronSynthesizer(64, fusion_init=gain).fusion.weight.detach())
    torch.testing.assert_close(weights[1], weights[0] / 2)


@pytest.mark.parametrize(("proportion", "width"), [(1 / 4, 16), (1 / 16, 4), (1 / 32, 20), (1 / 100, 20)])
def test_a_proportion_that_starves_branches_gives_each_four_channels_and_says_so(proportion, width):
    synthesizer = ActionPerceptronSynthesizer(
        64, 2, proportion, receptive_field=(7, 5, 5) if width == 20 else (5, 5, 5)
    )
    assert synthesizer.reduce.out_channels == width
    assert bool(synthesizer.note) == (width == 20)
    assert synthesizer(torch.randn(2, 64, 4, 4)).shape == (2, 64, 4, 4)
    if synthesizer.note:
        assert synthesizer.note.startswith("64 channels * proportion leave ")
        assert synthesizer.temporal_bank.widths == (4, 4, 4, 4, 4)


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


# --- every variant of the paper (Tables 1 to 3)

FIELDS = [(1, 1, 1), (3, 3, 3), (5, 5, 5), (7, 5, 5), (9, 5, 5), (3, 7, 7), (7, 3, 5), (1, 5, 5), (5, 1, 1), (11, 1, 3)]
FUSIONS_OF_ANY_WIDTH = ("dense", "grouping")


def branches(receptive_field: tuple[int, int, int], pool: str) -> tuple[int, int]:
    """Temporal and spatial branches."""
    frames, rows, columns = receptive_field
    pools = int(pool != "none")
    return (frames + 1) // 2 + pools, (max(rows, columns) + 1) // 2 + pools


def weights_by_hand(channels, proportion, receptive_field, fusion, pool, dilated, spatial_conv) -> int:
    """The number of weights, from the sizes alone."""
    width = math.floor(channels * proportion)
    temporal, spatial = branches(receptive_field, pool)
    frames, rows, columns = receptive_field
    total = 2 * channels * width
    total += {"dense": width * width, "channelwise": temporal * spatial * (width // spatial)}.get(fusion, 0)
    c = reference.widths(width, spatial)[-1]
    for k in range(1, (max(rows, columns) + 1) // 2):
        high, wide = (len(reference.offsets(min(2 * k + 1, span), dilated)) for span in (rows, columns))
        total += c * c * (high * wide if spatial_conv == "2d" else high + wide) + 2 * c * (1 + (spatial_conv != "2d"))
    c = reference.widths(width, temporal)[-1]
    for k in range(1, (frames + 1) // 2):
        total += c * c * len(reference.offsets(2 * k + 1, dilated))
    return total


@pytest.mark.parametrize("pool", ["max", "avg", "none"])
@pytest.mark.parametrize("fusion", ["dense", "channelwise", "grouping", "shuffle", "dropout"])
@pytest.mark.parametrize("receptive_field", FIELDS)
def test_every_variant_runs_and_has_the_weights_that_its_sizes_say(receptive_field, fusion, pool):
    temporal, spatial = branches(receptive_field, pool)
    if fusion not in FUSIONS_OF_ANY_WIDTH and temporal != spatial:
        with pytest.raises(
            ValueError, match=f"fusion='{fusion}' needs spatial and temporal groups of one width, found"
        ):
            ActionPerceptronSynthesizer(256, receptive_field=receptive_field, fusion=fusion, pool=pool)
        return
    for proportion, dilated, spatial_conv, inter_act in [
        (1 / 4, True, "2d", True),
        (1 / 6, False, "2d", False),
        (1 / 8, True, "1+1d", True),
        (1 / 16, False, "1+1d", False),
    ]:
        groups = max(temporal, spatial)
        channels = 16 * (groups * groups if fusion not in FUSIONS_OF_ANY_WIDTH else 12)
        if proportion == 1 / 6:
            channels = 6 * channels // 16
        synthesizer = ActionPerceptronSynthesizer(
            channels, 2, proportion, receptive_field, fusion, pool, inter_act, dilated, spatial_conv, expand_init=1.0
        )
        counted = sum(parameter.numel() for parameter in synthesizer.parameters())
        settings = (channels, proportion, receptive_field, fusion, pool, dilated, spatial_conv)
        assert counted == weights_by_hand(*settings), settings
        x = torch.randn(2, channels, 3, 3)
        out = synthesizer(x)
        assert out.shape == x.shape
        assert out.isfinite().all()
        assert not torch.equal(out, x)
        assert sum(isinstance(module, nn.ReLU) for module in synthesizer.modules()) == inter_act * (
            spatial - 1 - (pool != "none")
        ) * (1 + (spatial_conv != "2d"))


@pytest.mark.parametrize("training", [True, False])
@pytest.mark.parametrize("fusion", ["shuffle", "grouping", "dropout"])
def test_dense_with_a_fixed_routing_is_exactly_that_fusion(fusion, training):
    """ "This layer covers most feature fusion techniques as special cases of it" (Eq. 4)."""
    fixed = ActionPerceptronSynthesizer(64, 3, 0.5, (5, 5, 5), fusion, expand_init=1.0).train(training)
    dense = ActionPerceptronSynthesizer(64, 3, 0.5, (5, 5, 5), "dense", expand_init=1.0).train(training)
    routing = {
        "shuffle": reference.shuffle_routing(4, 8),
        "grouping": torch.eye(32),
        "dropout": reference.dropout_routing(4, 8),
    }[fusion]
    dense.load_state_dict({**fixed.state_dict(), "fusion.weight": routing})
    x = torch.randn(6, 64, 5, 4)
    assert torch.equal(dense(x), fixed(x))
    if training:
        assert torch.equal(dense.fused_mean, fixed.fused_mean)


@pytest.mark.parametrize("fusion", ["dense", "grouping"])
def test_unequal_numbers_of_groups_are_welcome_where_nothing_pairs_them(fusion):
    synthesizer = build(20, 3, 0.5, receptive_field=(7, 5, 5), fusion=fusion)
    assert (synthesizer.spatial_bank.widths, synthesizer.temporal_bank.widths) == ((4, 2, 2, 2), (2, 2, 2, 2, 2))
    assert synthesizer(torch.randn(3, 20, 4, 4, dtype=torch.float64)).shape == (3, 20, 4, 4)


@pytest.mark.parametrize(
    ("settings", "text"),
    [
        ({"receptive_field": (5, 5, 4)}, "receptive field 4 is not a positive odd number"),
        ({"receptive_field": (4, 5, 5)}, "receptive field 4 is not a positive odd number"),
        ({"receptive_field": (5, 5, 0)}, "receptive field 0 is not a positive odd number"),
        ({"receptive_field": (-1, 5, 5)}, "receptive field -1 is not a positive odd number"),
        ({"receptive_field": (5, 5)}, r"receptive_field=\(5, 5\) must be three odd numbers \(T, H, W\)"),
        ({"proportion": 0}, r"proportion=0 is not in \(0, 1\]; the paper uses 1/4"),
        ({"proportion": 1.5}, r"proportion=1.5 is not in \(0, 1\]"),
        (
            {"fusion_init": 0, "fusion": "grouping"},
            "fusion_init=0 scales a learned T, .*fixed for fusion='grouping'",
        ),
        ({"unit": "conv2d"}, "unit='conv2d' is unknown; use one of 'identity', 'conv'; did you mean 'conv'"),
        ({"fusion": "densse"}, "fusion='densse' is unknown; use one of 'dense', .*did you mean 'dense'"),
        ({"fusion": "channel_wise"}, "did you mean 'channelwise'"),
        ({"pool": "mean"}, "pool='mean' is unknown; use one of 'max', 'avg', 'identity', 'none'"),
        ({"pool": None}, "pool=None is unknown; use one of 'max', 'avg', 'identity', 'none'"),
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
