"""The paper's baselines of Fig. 4 against loops, and against what they are special cases of."""

import pytest
import timm
import torch
from torch import Tensor, nn

from tests import reference
from timm_video_psn import auxiliary_losses, interaction_map, ir_interactions
from timm_video_psn.layers import (
    ActionPerceptronSynthesizer,
    fold_clip,
    temporal_modules,
    temporal_settings,
    unfold_clip,
)
from timm_video_psn.layers.baselines.receptive_field import SingleScaleStage

NAMES = ("rf_s", "rf_l", "rf_l_inception", "rf_l_inception_t")
CASES = [
    ("rf_s", {}),
    ("rf_l", {}),
    ("rf_l", {"dilated": True}),
    ("rf_l_inception", {}),
    ("rf_l_inception", {"dilated": True, "pool": "avg"}),
    ("rf_l_inception", {"pool": "none"}),
    ("rf_l_inception_t", {}),
    ("rf_l_inception_t", {"dilated": True, "pool": "avg"}),
    ("rf_l_inception_t", {"pool": "none"}),
]
CHANNELS = 8


def build(name: str, channels: int = CHANNELS, proportion: float = 1.0, **settings) -> nn.Module:
    """A float64 baseline in which no weight and no statistic is at its trivial initial value."""
    module = temporal_modules(name)[0](channels, 3, proportion=proportion, expand_init=1.0, **settings).double()
    for part in module.modules():
        if isinstance(part, nn.BatchNorm2d):
            nn.init.uniform_(part.weight, 0.5, 1.5)
            nn.init.normal_(part.bias, std=0.3)
            nn.init.normal_(part.running_mean, std=0.3)
            nn.init.uniform_(part.running_var, 0.5, 1.5)
    return module


class Loops:
    """Fig. 4 in the loops of the reference, with leaves of their own for the weights of a module."""

    def __init__(self, module: nn.Module, pool: str = "max", dilated: bool = False):
        self.leaves = {name: p.detach().clone().requires_grad_() for name, p in module.named_parameters()}
        self.buffers = {name: buffer.clone() for name, buffer in module.named_buffers()}
        self.training, self.pool, self.dilated = module.training, pool, dilated

    def spatial(self, x: reference.Map, branch: str, span: int, dilated: bool) -> reference.Map:
        taps = reference.offsets(span, dilated)
        norm = reference.NormedConv(
            self.leaves[f"{branch}.0.weight"],
            self.leaves[f"{branch}.1.weight"],
            self.leaves[f"{branch}.1.bias"],
            self.buffers[f"{branch}.1.running_mean"],
            self.buffers[f"{branch}.1.running_var"],
        )
        x = reference.spatial_conv_2d(x, norm.kernel, taps, taps)
        return reference.relu(reference.batch_norm(x, norm, self.training))

    def temporal(self, x: reference.Map, branch: str, span: int, dilated: bool) -> reference.Map:
        return reference.temporal_conv(x, self.leaves[f"{branch}.weight"][..., 0], reference.offsets(span, dilated))

    def stage(self, x: reference.Map, name: str, span: int) -> reference.Map:
        x = self.spatial(x, f"{name}.spatial_bank.branches.0", span, dilated=True)
        return self.temporal(x, f"{name}.temporal_bank.branches.0", span, dilated=True)

    def groups(self, x: reference.Map) -> list[reference.Map]:
        count = 3 + (self.pool != "none")
        return reference.split(x, reference.widths(len(x[0]), count))

    def rf_s(self, x: reference.Map) -> reference.Map:
        return self.stage(x, "stage", 3)

    def rf_l(self, x: reference.Map) -> reference.Map:
        if self.dilated:
            return self.stage(x, "stages.0", 5)
        return self.stage(self.stage(x, "stages.0", 3), "stages.1", 3)

    def rf_l_inception(self, x: reference.Map) -> reference.Map:
        identity, small, large, *pooled = self.groups(x)
        small = self.spatial(small, "spatial_bank.branches.1", 3, self.dilated)
        large = self.spatial(large, "spatial_bank.branches.2", 5, self.dilated)
        pooled = [reference.spatial_pool(group, self.pool) for group in pooled]
        return self.rf_l_inception_t(reference.concatenate([identity, small, large, *pooled]))

    def rf_l_inception_t(self, x: reference.Map) -> reference.Map:
        identity, small, large, *pooled = self.groups(x)
        small = self.temporal(small, "temporal_bank.branches.1", 3, self.dilated)
        large = self.temporal(large, "temporal_bank.branches.2", 5, self.dilated)
        pooled = [reference.temporal_pool(group, self.pool) for group in pooled]
        return reference.concatenate([identity, small, large, *pooled])

    def __call__(self, name: str, clip: Tensor) -> Tensor:
        reduced = reference.mix_channels(reference.to_map(clip), self.leaves["reduce.weight"][..., 0, 0])
        enhanced = getattr(self, name)(reduced)
        return clip + reference.to_tensor(reference.mix_channels(enhanced, self.leaves["expand.weight"][..., 0, 0]))


@pytest.mark.parametrize("training", [True, False])
@pytest.mark.parametrize(("name", "settings"), CASES)
def test_agrees_with_figure_4_in_outputs_and_gradients(name, settings, training):
    channels = 4 if name in ("rf_s", "rf_l") else CHANNELS
    module = build(name, channels, **settings).train(training)
    clip = torch.randn(2, channels, 3, 4, 5, dtype=torch.float64)
    loops = Loops(module, **settings)
    expected_input, given = clip.clone().requires_grad_(), clip.clone().requires_grad_()
    expected = loops(name, expected_input)
    direction = torch.randn_like(expected)
    (expected * direction).sum().backward()
    out = unfold_clip(module(fold_clip(given)), 3)
    (out * direction).sum().backward()
    torch.testing.assert_close(out, expected)
    torch.testing.assert_close(given.grad, expected_input.grad)
    for parameter, value in module.named_parameters():
        torch.testing.assert_close(
            value.grad, loops.leaves[parameter].grad, msg=lambda text, p=parameter: f"{p}: {text}"
        )


@pytest.mark.parametrize("settings", [{}, {"pool": "avg", "dilated": True}, {"pool": "none"}])
def test_rf_l_inception_is_the_synthesizer_with_channel_grouping(settings):
    """ "When utilizing plain channel grouping ... our method degenerates to the RF-L-Inception baseline"."""
    module = build("rf_l_inception", 64, 0.5, **settings).eval()
    ours = {"dilated": False, "receptive_field": (5, 5, 5), "fusion": "grouping", **settings}
    synthesizer = ActionPerceptronSynthesizer(64, 3, 0.5, **ours).double().eval()
    assert synthesizer.load_state_dict(module.state_dict()).missing_keys == []
    x = torch.randn(6, 64, 5, 4, dtype=torch.float64)
    assert torch.equal(module(x), synthesizer(x))


@pytest.mark.parametrize("name", NAMES)
def test_starts_with_the_weights_of_the_same_rule_as_the_synthesizer(name):
    module = temporal_modules(name)[0](1024, expand_init=1.0)
    for label, weight in module.named_parameters():
        if weight.ndim != 4:
            continue
        taps = weight.shape[2]
        fan_in = weight[0].numel()
        gain = 2 if "spatial" in label else 1
        assert float(weight.detach().square().mean()) == pytest.approx(gain / fan_in, rel=0.15), label
        if "temporal" in label:
            assert taps in (3, 5)
            torch.testing.assert_close(weight.sum(2), torch.zeros_like(weight.sum(2)), atol=1e-5, rtol=0)


@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize("training", [True, False])
def test_starts_as_exactly_the_identity(name, training):
    x = torch.randn(6, 64, 5, 4).to(memory_format=torch.channels_last)
    out = temporal_modules(name)[0](64, 3).train(training)(x)
    assert torch.equal(out, x)
    assert out.stride() == x.stride()


@pytest.mark.parametrize("training", [True, False])
@pytest.mark.parametrize("name", NAMES)
def test_logits_start_as_exactly_those_of_tsn(name, training, clip):
    kwargs = {"backbone": "test_resnet", "num_classes": 5, "sites": ("layer1", "layer2", "layer3", "layer4")}
    model = timm.create_model("video_net", temporal=name, **kwargs).train(training)
    tsn = timm.create_model("tsn_test_resnet", num_classes=5).train(training)
    model.backbone.load_state_dict(tsn.backbone.state_dict(), strict=False)
    assert len(model.sites) == 4
    assert torch.equal(model(clip), tsn(clip))


@pytest.mark.parametrize("name", NAMES)
def test_has_neither_auxiliary_losses_nor_interactions(name, clip):
    model = timm.create_model("video_net", backbone="test_resnet", temporal=name, num_classes=5).train()
    model(clip)
    assert auxiliary_losses(model) == {}
    assert interaction_map(model) == {}
    assert ir_interactions(model) == (0, 0)


@pytest.mark.parametrize(
    ("name", "settings", "reach"),
    [
        ("rf_s", {}, (3, 3, 3)),
        ("rf_l", {}, (5, 5, 5)),
        ("rf_l", {"dilated": True}, (5, 5, 5)),
        ("rf_l_inception", {}, (5, 5, 5)),
        ("rf_l_inception", {"dilated": True}, (5, 5, 5)),
        ("rf_l_inception_t", {}, (5, 1, 1)),
    ],
)
def test_reaches_exactly_as_far_as_its_name_says(name, settings, reach):
    module = build(name, **settings).eval()
    clip = torch.randn(1, CHANNELS, 9, 9, 9, dtype=torch.float64, requires_grad=True)
    module.num_frames = 9
    out = unfold_clip(module(fold_clip(clip)), 9)
    out[:, :, 4, 4, 4].square().sum().backward()
    seen = clip.grad[0].abs().sum(0).nonzero()
    assert tuple((seen.amax(0) - seen.amin(0) + 1).tolist()) == reach


@pytest.mark.parametrize(
    ("name", "channels"), [("rf_s", 42), ("rf_l", 32), ("rf_l_inception", 64), ("rf_l_inception_t", 64)]
)
def test_enhances_the_papers_share_of_the_channels(name, channels):
    assert temporal_modules(name)[0](256).reduce.out_channels == channels


@pytest.mark.parametrize(
    ("name", "channels"), [("rf_s", 4), ("rf_l", 4), ("rf_l_inception", 16), ("rf_l_inception_t", 16)]
)
def test_narrow_levels_get_four_channels_a_branch_and_say_so(name, channels):
    module = temporal_modules(name)[0](64, 3, proportion=1 / 65)
    assert module.reduce.out_channels == channels
    assert module.note == f"64 channels * proportion leave 0 for {channels // 4} branches, which get 4 each"


def test_takes_the_settings_that_mean_something_for_it():
    assert temporal_settings("rf_s") == ("proportion", "expand_init", "causal")
    assert temporal_settings("rf_l") == ("proportion", "dilated", "expand_init", "causal")
    assert temporal_settings("rf_l_inception") == ("proportion", "pool", "dilated", "expand_init", "causal")
    assert temporal_settings("rf_l_inception_t") == temporal_settings("rf_l_inception")


@pytest.mark.parametrize("name", NAMES)
def test_frames_of_a_clip_mix_and_clips_of_a_batch_do_not(name):
    module = build(name).eval()
    clips = torch.randn(2, CHANNELS, 3, 5, 4, dtype=torch.float64)
    before = unfold_clip(module(fold_clip(clips)), 3)
    clips[0, :, 2] += 1
    after = unfold_clip(module(fold_clip(clips)), 3)
    assert (before[0, :, 1] - after[0, :, 1]).abs().max() > 1e-3
    torch.testing.assert_close(before[1], after[1])


@pytest.mark.parametrize(
    ("name", "settings", "text"),
    [
        ("rf_s", {"proportion": 0}, r"proportion=0 is not in \(0, 1\]; the paper uses 1/4, 1/6"),
        ("rf_l", {"proportion": 2}, r"proportion=2 is not in \(0, 1\]"),
        ("rf_l_inception_t", {"pool": "maxx"}, "pool='maxx' is unknown; use one of .*did you mean 'max'"),
        ("rf_l_inception", {"pool": None}, "pool=None is unknown; use one of 'max', 'avg', 'identity', 'none'"),
    ],
)
def test_a_wrong_setting_is_named_with_what_is_accepted(name, settings, text):
    with pytest.raises(ValueError, match=text):
        temporal_modules(name)[0](64, **settings)


def test_a_setting_of_another_module_is_named_with_those_it_takes():
    with pytest.raises(
        TypeError, match=r"'fusion' belongs neither to temporal='rf_s' \(.*proportion, expand_init, causal\)"
    ):
        timm.create_model("video_net", backbone="test_resnet", temporal="rf_s", fusion="dense")


def test_a_stage_is_a_spatial_convolution_with_norm_and_relu_and_a_bare_temporal_one():
    leaves = [type(part).__name__ for part in SingleScaleStage(4, 3).modules() if not list(part.children())]
    assert leaves == ["Conv2d", "BatchNorm2d", "ReLU", "Conv2d"]
