"""What VideoNet makes of clips, and what it passes on to its backbone; timm's whole API is in test_contract.py."""

import copy

import pytest
import timm
import torch
from timm.layers import DropPath
from timm.optim import param_groups_weight_decay

from tests.models.light_models import LIGHT, RESNETS, build
from timm_video_psn import inject
from timm_video_psn.layers import ActionPerceptronSynthesizer
from timm_video_psn.surgery import injected


@pytest.mark.parametrize("num_frames", [1, 2, 5])
@pytest.mark.parametrize("label", LIGHT)
def test_clips_of_any_length_give_logits_and_5d_features(label, num_frames):
    model = build(label)
    clip = torch.randn(2, 3, num_frames, 32, 32)
    features = model.forward_features(clip)
    assert features.shape[:3] == (2, model.num_features, num_frames)
    assert features.ndim == 5
    assert model(clip).shape == (2, 5)
    assert torch.equal(model.forward_head(features), model(clip))
    assert model.forward_head(features, pre_logits=True).shape == (2, model.head_hidden_size)
    assert model.num_frames == 4


@pytest.mark.parametrize("label", LIGHT)
def test_images_are_clips_of_one_frame(label):
    model = build(label)
    images = torch.randn(2, 3, 32, 32)
    assert torch.equal(model(images), model(images[:, :, None]))
    assert torch.equal(model.forward_features(images), model.forward_features(images[:, :, None])[:, :, 0])
    assert model.forward_features(images).ndim == 4


@pytest.mark.parametrize("label", LIGHT)
def test_lengths_may_change_from_call_to_call(label, clip):
    model = build(label)
    first = model(clip)
    model(clip[:, :, :3])
    model(clip[:, :, 0])
    assert torch.equal(model(clip), first)


@pytest.mark.parametrize("label", LIGHT)
def test_prediction_is_the_average_over_frames(label, clip):
    model = build(label)
    features = model.forward_features(clip)
    each = torch.stack([model.forward_head(features[:, :, t]) for t in range(4)])
    torch.testing.assert_close(model(clip), each.mean(0))


def test_only_tsn_does_not_look_at_the_order_of_frames(clip):
    same = {}
    for label in RESNETS:
        model = build(label, zero_init_last=False)  # else the shifted branches add nothing yet
        same[label] = torch.allclose(model(clip), model(clip.flip(2)), atol=1e-6)
    assert [label for label, equal in same.items() if equal] == ["tsn_test_resnet"]


def test_set_num_frames_changes_what_the_model_is_meant_for(clip):
    model = build("psn_test_resnet", num_frames=8)
    expected = model(clip)
    model.set_num_frames(4)
    assert model.num_frames == 4
    assert {item.module.num_frames for item in injected(model)} == {4}
    assert torch.equal(model(clip), expected)


def test_a_number_of_frames_below_one_is_refused_later_too():
    model = build("psn_test_resnet")
    with pytest.raises(ValueError, match="num_frames=0 must be a whole number, at least 1"):
        model.set_num_frames(0)
    assert model.num_frames == 4


def test_a_module_attached_later_learns_how_long_the_clips_are(clip):
    model = build("tsn_test_resnet", num_frames=8)
    model(clip)  # of four frames
    inject(model.backbone, "layer1.0", lambda name, target: ActionPerceptronSynthesizer(32, 8, expand_init=1.0).eval())
    together = model(clip)
    assert model.backbone.layer1[0].temporal.num_frames == 4
    torch.testing.assert_close(together, torch.cat([model(one[None]) for one in clip]))


@pytest.mark.parametrize("label", LIGHT)
def test_gradient_reaches_every_parameter(label, clip):
    # Blocks that start as an identity give their inner weights a gradient of zero.
    model = build(label, **({"zero_init_last": False} if label in RESNETS else {})).train()
    model(clip).square().sum().backward()
    silent = [n for n, p in model.named_parameters() if p.grad is None or not (label not in RESNETS or p.grad.any())]
    assert silent == []


@pytest.mark.parametrize("label", LIGHT)
def test_evaluation_repeats_itself_and_does_not_mix_clips(label, clip):
    model = build(label)
    first = model(clip)
    assert torch.equal(model(clip), first)
    torch.testing.assert_close(torch.cat([model(one[None]) for one in clip]), first)


@pytest.mark.parametrize("label", LIGHT)
def test_channels_last_equals_contiguous(label, clip):
    model = build(label)
    nested = copy.deepcopy(model).to(memory_format=torch.channels_last)
    torch.testing.assert_close(nested(clip.to(memory_format=torch.channels_last_3d)), model(clip))


@pytest.mark.parametrize("label", RESNETS)
def test_without_pooling_maps_come_out(label, clip):
    model = build(label, num_classes=0, global_pool="")
    assert torch.equal(model(clip), model.forward_features(clip))
    images = clip[:, :, 0]
    assert torch.equal(model(images), model.forward_features(images))


def test_arguments_that_only_the_backbone_knows_reach_it():
    default = build("psn_test_resnet")
    model = build("psn_test_resnet", zero_init_last=False, drop_path_rate=0.5)
    assert not default.backbone.layer1[0].bn2.weight.any()
    assert model.backbone.layer1[0].bn2.weight.all()
    rates = [module.drop_prob for module in model.modules() if isinstance(module, DropPath)]
    assert max(rates) == pytest.approx(0.5)
    assert not any(isinstance(module, DropPath) for module in default.modules())


def test_arguments_of_the_synthesizer_reach_it():
    model = build("video_net on test_resnet", proportion=0.5, receptive_field=(5, 3, 3), pool="none", fusion="grouping")
    for item in injected(model):
        assert item.module.spatial_bank.labels == ("S-I-1", "S-C-3")
        assert item.module.temporal_bank.labels == ("T-I-1", "T-C-3", "T-C-5")
        assert item.module.reduce.out_channels == item.module.reduce.in_channels // 2


def test_pruned_levels_take_their_synthesizers_along():
    model = build("psn_test_resnet")
    model.prune_intermediate_layers([1], prune_head=True)
    assert list(model.sites) == ["stem", "layer1"]
    assert len(list(injected(model))) == 2


@pytest.mark.parametrize("label", LIGHT)
def test_intermediates_of_images_are_those_of_one_frame_clips(label, clip):
    model = build(label)
    images = clip[:, :, 0]
    final, levels = model.forward_intermediates(images)
    expected, expected_levels = model.forward_intermediates(images[:, :, None])
    for ours, theirs in zip([final, *levels], [expected, *expected_levels], strict=True):
        assert torch.equal(ours, theirs[:, :, 0])


def test_weight_decay_leaves_the_routing_alone():
    model = build("psn_test_resnet")
    names = dict(model.named_parameters())
    assert model.no_weight_decay() == {name for name in names if name.endswith("fusion.weight")}
    plain, decayed = param_groups_weight_decay(model, 0.1, no_weight_decay_list=model.no_weight_decay())
    assert (plain["weight_decay"], decayed["weight_decay"]) == (0, 0.1)
    assert {id(names[name]) for name in model.no_weight_decay()} <= {id(parameter) for parameter in plain["params"]}


@pytest.mark.parametrize("memory_format", [torch.contiguous_format, torch.channels_last])
@pytest.mark.parametrize("training", [False, True])
@pytest.mark.parametrize("backbone", ["test_resnet", "resnet18"])
def test_psn_starts_out_as_exactly_tsn(backbone, training, memory_format):
    psn = timm.create_model(f"psn_{backbone}", num_classes=5)
    tsn = timm.create_model(f"tsn_{backbone}", num_classes=5)
    psn.backbone.load_state_dict(tsn.backbone.state_dict(), strict=False)
    clip = torch.randn(2, 3, 4, 64, 64)
    if memory_format == torch.channels_last:
        clip = clip.to(memory_format=torch.channels_last_3d)
    for model in (psn, tsn):
        model.train(training).to(memory_format=memory_format)
    assert torch.equal(psn(clip), tsn(clip))


def test_synthesizers_follow_the_papers_conv1_to_conv4():
    with torch.device("meta"):
        model = timm.create_model("psn_resnet50")
    assert model.sites == {
        "stem": "backbone.maxpool",
        "layer1": "backbone.layer1.2",
        "layer2": "backbone.layer2.3",
        "layer3": "backbone.layer3.5",
    }
    assert [item.module.reduce.in_channels for item in injected(model)] == [64, 256, 512, 1024]


def test_shifts_precede_the_first_convolution_of_each_block():
    model = timm.create_model("tsm_test_resnet")
    assert [(item.name, item.where) for item in injected(model.backbone)] == [
        (f"layer{i}.0.conv1", "before") for i in (1, 2, 3, 4)
    ]


@pytest.mark.parametrize("backbone", ["test_vit", "test_mambaout"])
def test_tsn_works_on_every_backbone(backbone):
    model = timm.create_model("video_net", backbone=backbone, temporal="tsn", num_classes=5).eval()
    clip = torch.randn(2, 3, 2, 160, 160)
    logits = model(clip)
    assert logits.shape == (2, 5)
    each = torch.stack([model.backbone(clip[:, :, t]) for t in range(2)])
    torch.testing.assert_close(logits, each.mean(0))


@pytest.mark.parametrize("shape", [(3, 32, 32), (3, 2, 32, 32, 1, 1)])
def test_an_input_of_another_rank_is_named(shape):
    model = build("psn_test_resnet")
    with pytest.raises(
        ValueError, match=r"input of shape \[3, .*expected clips \(B, C, T, H, W\) or images .*clip\[None\]"
    ):
        model(torch.zeros(shape))


# --- forward_intermediates with the arguments of a transformer


@pytest.fixture(scope="module")
def vit():
    return timm.create_model("video_net", backbone="test_vit", proportion=0.5, num_classes=5).eval()


def test_prefix_tokens_come_in_the_form_of_clips(vit):
    clip = torch.randn(2, 3, 2, 160, 160)
    plain = vit.forward_intermediates(clip, indices=2, intermediates_only=True)
    each = [vit.backbone.num_prefix_tokens, vit.num_features]
    levels = vit.forward_intermediates(clip, indices=2, intermediates_only=True, return_prefix_tokens=True)
    for (level, prefix), expected in zip(levels, plain, strict=True):
        assert torch.equal(level, expected)
        assert prefix.shape == (2, 2, *each)
    result = vit.forward_intermediates(clip, indices=2, output_dict=True, return_prefix_tokens=True)
    torch.testing.assert_close(result["image_intermediates"], plain)
    torch.testing.assert_close(result["image_intermediates_prefix"], [prefix for _, prefix in levels])
    assert torch.equal(result["image_features"], vit.forward_features(clip))


def test_an_argument_that_the_backbone_does_not_take_is_named(vit, clip):
    text = "VisionTransformer does not take prefix_tokens; it takes x, indices, return_prefix_tokens"
    with pytest.raises(TypeError, match=text):
        vit.forward_intermediates(clip, prefix_tokens=True)
    with pytest.raises(TypeError, match="ResNet does not take return_prefix_tokens; it takes x, indices, norm"):
        build("tsn_test_resnet").forward_intermediates(clip, return_prefix_tokens=True)
