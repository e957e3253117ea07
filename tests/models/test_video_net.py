"""The contract of every model that this package registers with timm, and what VideoNet adds to its backbone."""

import copy
import json
import os
import pickle
import subprocess
import sys
import threading
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import pytest
import timm
import torch
from safetensors.torch import save
from timm.data import resolve_model_data_config
from timm.layers import DropPath
from timm.models import group_parameters, save_for_hf
from timm.optim import param_groups_layer_decay, param_groups_weight_decay
from torch import nn

from timm_video_psn import VideoNet, inject
from timm_video_psn.layers import ActionPerceptronSynthesizer
from timm_video_psn.surgery import injected

NAMES = sorted([*timm.list_models(module="psn"), *timm.list_models(module="video_baselines")])
LIGHT = {
    "psn_test_resnet": {"model_name": "psn_test_resnet", "proportion": 0.5},
    "tsm_test_resnet": {"model_name": "tsm_test_resnet"},
    "tsn_test_resnet": {"model_name": "tsn_test_resnet"},
    "video_net on test_resnet": {"model_name": "video_net", "backbone": "test_resnet"},
    "video_net on test_convnext": {"model_name": "video_net", "backbone": "test_convnext", "proportion": 0.5},
    "video_net on test_efficientnet": {"model_name": "video_net", "backbone": "test_efficientnet", "proportion": 0.5},
}
RESNETS = [label for label in LIGHT if label.endswith("test_resnet")]


def build(label: str, **kwargs) -> VideoNet:
    """A light model of five classes, in evaluation mode; its synthesizers, if any, already act."""
    if has_synthesizers(label):
        kwargs.setdefault("expand_init", 1.0)
    return timm.create_model(**LIGHT[label], **{"num_classes": 5, "num_frames": 4, **kwargs}).eval()


def has_synthesizers(label: str) -> bool:
    return not label.startswith(("tsm", "tsn"))


@pytest.mark.parametrize("name", NAMES)
def test_every_name_classifies_clips(name):
    model = timm.create_model(name, num_frames=2).eval()
    clip = torch.randn(1, 3, 2, 32, 32)
    with torch.no_grad():
        logits = model(clip)
        assert torch.equal(model(clip), logits)
    assert logits.shape == (1, 1000)
    assert logits.isfinite().all()
    assert model.num_frames == 2
    assert isinstance(model, VideoNet)


@pytest.mark.parametrize("name", NAMES)
def test_every_name_names_its_classifier_and_its_first_convolution(name):
    with torch.device("meta"):
        model = timm.create_model(name, num_classes=3)
    classifier = model.get_classifier(name_only=True)
    assert model.get_submodule(classifier) is model.get_classifier()
    assert model.get_classifier().out_features == 3
    assert model.pretrained_cfg["classifier"] == classifier
    assert isinstance(model.get_submodule(model.pretrained_cfg["first_conv"]), nn.Conv2d)
    assert model.pretrained_cfg["architecture"] == name


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


@pytest.mark.parametrize("label", LIGHT)
def test_without_a_classifier_pooled_features_come_out(label, clip):
    model = build(label, num_classes=0)
    assert model.num_classes == 0
    assert model(clip).shape == (2, model.head_hidden_size)
    assert isinstance(model.get_classifier(), nn.Identity)


@pytest.mark.parametrize("label", RESNETS)
def test_without_pooling_maps_come_out(label, clip):
    model = build(label, num_classes=0, global_pool="")
    assert torch.equal(model(clip), model.forward_features(clip))
    images = clip[:, :, 0]
    assert torch.equal(model(images), model.forward_features(images))


@pytest.mark.parametrize("label", LIGHT)
def test_the_classifier_can_be_replaced(label, clip):
    model = build(label)
    model.reset_classifier(7)
    assert (model.num_classes, model(clip).shape) == (7, (2, 7))
    model.reset_classifier(0)
    assert (model.num_classes, model(clip).shape) == (0, (2, model.head_hidden_size))
    model.reset_classifier(3, global_pool="max")
    assert model(clip).shape == (2, 3)


@pytest.mark.parametrize("in_chans", [1, 4])
@pytest.mark.parametrize("label", LIGHT)
def test_other_numbers_of_input_channels_are_accepted(label, in_chans):
    model = build(label, in_chans=in_chans)
    assert model.in_chans == in_chans
    assert model(torch.randn(2, in_chans, 2, 32, 32)).shape == (2, 5)


@pytest.mark.parametrize("label", LIGHT)
def test_dropout_acts_in_training_only(label, clip):
    model, plain = build(label, drop_rate=0.9), build(label)
    plain.load_state_dict(model.state_dict())
    assert (model.drop_rate, plain.drop_rate) == (0.9, 0)
    assert torch.equal(model(clip), plain(clip))
    for each in (model, plain):
        each.train()
    assert not torch.allclose(model(clip), plain(clip))


def test_the_drop_rate_can_be_changed_later(clip):
    model = build("psn_test_resnet", drop_rate=0.9)
    features = model.forward_features(clip)
    model.train().drop_rate = 0.0
    assert torch.equal(model.forward_head(features), model.forward_head(features))
    model.drop_rate = 0.5
    assert not torch.equal(model.forward_head(features), model.forward_head(features))


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


@pytest.mark.parametrize("label", LIGHT)
def test_features_only_gives_5d_maps_of_the_wanted_levels(label, clip):
    whole = build(label)
    infos = [whole.feature_info[i] for i in (1, 3)]
    model = build(label, features_only=True, out_indices=(1, 3))
    assert model.feature_info.channels() == [info["num_chs"] for info in infos]
    assert model.feature_info.reduction() == [info["reduction"] for info in infos]
    for x, tail in ((clip, (4,)), (clip[:, :, 0], ())):
        for level, info in zip(model(x), infos, strict=True):
            size = 32 // info["reduction"]
            assert level.shape == (2, info["num_chs"], *tail, size, size)


@pytest.mark.parametrize("label", LIGHT)
def test_features_only_gives_the_features_of_the_whole_model(label, clip):
    whole = build(label)
    model = build(label, features_only=True, out_indices=(1, 2))
    result = model.model.load_state_dict(whole.state_dict(), strict=False)
    assert result.missing_keys == []
    expected = whole.forward_intermediates(clip, indices=[1, 2], intermediates_only=True)
    for ours, theirs in zip(model(clip), expected, strict=True):
        assert torch.equal(ours, theirs)


def test_pruned_levels_take_their_synthesizers_along():
    model = build("psn_test_resnet")
    model.prune_intermediate_layers([1], prune_head=True)
    assert list(model.sites) == ["stem", "layer1"]
    assert len(list(injected(model))) == 2


@pytest.mark.parametrize("label", LIGHT)
def test_intermediates_agree_with_the_forward_pass(label, clip):
    model = build(label)
    features = model.forward_features(clip)
    final, levels = model.forward_intermediates(clip)
    assert torch.equal(final, features)
    assert len(levels) == len(model.feature_info)
    for level, info in zip(levels, model.feature_info, strict=True):
        size = 32 // info["reduction"]
        assert level.shape == (2, info["num_chs"], 4, size, size)
    assert torch.equal(model.forward_head(final), model(clip))

    last = model.forward_intermediates(clip, indices=2, intermediates_only=True)
    assert [torch.equal(ours, theirs) for ours, theirs in zip(last, levels[-2:], strict=True)] == [True, True]
    early = model.forward_intermediates(clip, indices=[1], intermediates_only=True, stop_early=True)
    assert [torch.equal(ours, theirs) for ours, theirs in zip(early, levels[1:2], strict=True)] == [True]


@pytest.mark.parametrize("label", LIGHT)
def test_intermediates_of_images_are_those_of_one_frame_clips(label, clip):
    model = build(label)
    images = clip[:, :, 0]
    final, levels = model.forward_intermediates(images)
    expected, expected_levels = model.forward_intermediates(images[:, :, None])
    for ours, theirs in zip([final, *levels], [expected, *expected_levels], strict=True):
        assert torch.equal(ours, theirs[:, :, 0])


@pytest.mark.parametrize("label", LIGHT)
def test_gradient_checkpointing_changes_neither_outputs_nor_gradients(label, clip):
    plain = build(label).train()
    checkpointed = copy.deepcopy(plain)
    checkpointed.set_grad_checkpointing()
    outputs, gradients = [], []
    for model in (plain, checkpointed):
        outputs.append(model(clip))
        outputs[-1].square().sum().backward()
        gradients.append({name: parameter.grad for name, parameter in model.named_parameters()})
    assert torch.equal(*outputs)
    torch.testing.assert_close(gradients[1], gradients[0])


@pytest.mark.parametrize("coarse", [False, True])
@pytest.mark.parametrize("label", LIGHT)
def test_temporal_modules_are_in_the_layer_group_of_their_targets(label, coarse):
    model = build(label)
    groups = group_parameters(model, model.group_matcher(coarse=coarse), reverse=True)
    stock = timm.create_model(LIGHT[label].get("backbone", "test_resnet"), num_classes=5)
    expected = group_parameters(stock, stock.group_matcher(coarse=coarse), reverse=True)
    for name, group in expected.items():
        assert groups[f"backbone.{name}"] == group
    for item in injected(model.backbone):
        # A target without parameters is the pool of the stem. One that spans groups ends in its last.
        owners = {group for name, group in expected.items() if name.startswith(f"{item.name}.")} or {0}
        found = {groups[name] for name, _ in item.module.named_parameters(prefix=f"backbone.{item.name}.temporal")}
        assert found <= {max(owners)}, item.name


@pytest.mark.parametrize("label", LIGHT)
def test_layer_decay_gives_every_parameter_a_rate_and_adds_no_layer(label):
    model = build(label)
    stock = timm.create_model(LIGHT[label].get("backbone", "test_resnet"), num_classes=5)
    rates = {}
    for group in param_groups_layer_decay(model, layer_decay=0.5):
        rates |= {id(parameter): group["lr_scale"] for parameter in group["params"]}
    assert rates.keys() == {id(parameter) for parameter in model.parameters()}
    assert set(rates.values()) == {group["lr_scale"] for group in param_groups_layer_decay(stock, layer_decay=0.5)}


def test_weight_decay_leaves_the_routing_alone():
    model = build("psn_test_resnet")
    names = dict(model.named_parameters())
    assert model.no_weight_decay() == {name for name in names if name.endswith("fusion.weight")}
    plain, decayed = param_groups_weight_decay(model, 0.1, no_weight_decay_list=model.no_weight_decay())
    assert (plain["weight_decay"], decayed["weight_decay"]) == (0, 0.1)
    assert {id(names[name]) for name in model.no_weight_decay()} <= {id(parameter) for parameter in plain["params"]}


@pytest.mark.parametrize(
    ("label", "kwargs"),
    [
        (
            "psn_test_resnet",
            {
                "num_frames": 3,
                "receptive_field": (5, 5, 5),
                "fusion": "channelwise",
                "pool": "avg",
                "sites": ("layer1", "layer3"),
            },
        ),
        ("video_net on test_resnet", {"num_frames": 6, "temporal": "psn", "proportion": 0.5, "spatial_conv": "1+1d"}),
        ("video_net on test_convnext", {"num_frames": 5}),
        ("tsm_test_resnet", {"num_frames": 2, "shift_div": 4}),
    ],
)
def test_a_saved_model_comes_back_by_its_folder(label, kwargs, clip, tmp_path):
    model = build(label, **kwargs)
    for module in model.modules():
        if isinstance(module, nn.BatchNorm2d):
            nn.init.uniform_(module.running_mean)
    args = {key: value for key, value in LIGHT[label].items() if key != "model_name"}
    save_for_hf(model, tmp_path, model_args={**args, **kwargs}, safe_serialization=True)
    loaded = timm.create_model(f"local-dir:{tmp_path}", pretrained=True).eval()
    assert torch.equal(loaded(clip), model(clip))
    assert loaded.num_frames == kwargs["num_frames"]
    assert loaded.num_classes == 5
    assert list(loaded.sites) == list(model.sites)
    tuned = timm.create_model(f"local-dir:{tmp_path}", pretrained=True, num_classes=9, in_chans=1).eval()
    assert tuned(clip[:, :1]).shape == (2, 9)
    assert torch.equal(tuned.state_dict()[_last_norm(model)], model.state_dict()[_last_norm(model)])


def _last_norm(model: nn.Module) -> str:
    return [name for name in model.state_dict() if name.endswith("weight") and ("norm" in name or "bn" in name)][-1]


@pytest.mark.parametrize("clone", [copy.deepcopy, lambda model: pickle.loads(pickle.dumps(model))])
@pytest.mark.parametrize("label", LIGHT)
def test_copies_compute_the_same(label, clone, clip):
    model = build(label)
    other = clone(model)
    assert torch.equal(other(clip), model(clip))
    assert torch.equal(other(clip[:, :, :2]), model(clip[:, :, :2]))


@pytest.mark.parametrize(("label", "num_frames"), [("psn_test_resnet", 8), ("tsm_test_resnet", 4)])
def test_compiles_in_one_graph(label, num_frames, clip):
    model = build(label, num_frames=num_frames)
    expected = model(clip)
    torch._dynamo.reset()
    compiled = torch.compile(copy.deepcopy(model), fullgraph=True, backend="eager")
    torch.testing.assert_close(compiled(clip), expected)
    torch.testing.assert_close(compiled(clip[:, :, :3]), model(clip[:, :, :3]))


@pytest.mark.parametrize("label", ["psn_test_resnet", "tsm_test_resnet", "video_net on test_convnext"])
def test_exports_with_any_number_of_clips(label, clip):
    model = build(label)
    batch = {0: torch.export.Dim("batch", min=1, max=64)}
    exported = torch.export.export(model, (clip,), dynamic_shapes=(batch,)).module()
    for clips in (clip, torch.randn(5, 3, 4, 32, 32)):
        torch.testing.assert_close(exported(clips), model(clips))


@pytest.mark.parametrize("label", LIGHT)
def test_data_settings_are_those_of_the_backbone(label):
    model = build(label)
    stock = timm.create_model(LIGHT[label].get("backbone", "test_resnet"))
    ours, theirs = resolve_model_data_config(model), resolve_model_data_config(stock)
    assert {key: ours[key] for key in ("mean", "std", "interpolation")} == {
        key: theirs[key] for key in ("mean", "std", "interpolation")
    }


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


@pytest.mark.parametrize(
    ("name", "modules"), [("psn_resnet50", 4), ("tsm_resnet50", 16), ("tsm_resnet101", 18), ("tsn_resnet50", 0)]
)
def test_stock_weights_load_with_nothing_missing(name, modules):
    backbone = name.partition("_")[2]
    with torch.device("meta"):
        model, stock = timm.create_model(name), timm.create_model(backbone)
    result = model.backbone.load_state_dict(stock.state_dict(), strict=False, assign=True)
    assert result.unexpected_keys == []
    assert all(".temporal." in key for key in result.missing_keys)
    assert len(list(injected(model))) == modules


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


# --- backbones whose features are no (B, C, h, w) maps


@pytest.mark.parametrize("backbone", ["test_vit", "test_mambaout"])
def test_tsn_works_on_every_backbone(backbone):
    model = timm.create_model("video_net", backbone=backbone, temporal="tsn", num_classes=5).eval()
    clip = torch.randn(2, 3, 2, 160, 160)
    logits = model(clip)
    assert logits.shape == (2, 5)
    each = torch.stack([model.backbone(clip[:, :, t]) for t in range(2)])
    torch.testing.assert_close(logits, each.mean(0))


# --- errors


@pytest.mark.parametrize(
    ("name", "kwargs", "error", "text"),
    [
        (
            "psn_test_resnet",
            {"proportoin": 0.5},
            TypeError,
            "'proportoin' is taken neither by temporal='psn' .* nor by the backbone 'test_resnet.*mean 'proportion'",
        ),
        ("tsn_test_resnet", {"proportion": 0.5}, TypeError, "'proportion' is taken neither by temporal='tsn'"),
        ("tsm_test_resnet", {"num_frame": 8}, TypeError, "'num_frame' is taken neither .*did you mean 'num_frames'"),
        (
            "video_net",
            {"backbone": "test_resnett"},
            ValueError,
            "backbone .test_resnett. is unknown to timm",
        ),
        (
            "video_net",
            {},
            ValueError,
            r"needs to know its backbone.*create_model\('video_net', backbone='resnet50'",
        ),
        (
            "video_net",
            {"backbone": "test_resnet", "temporal": "psm"},
            ValueError,
            "temporal='psm' is unknown; use one of",
        ),
        (
            "psn_test_resnet",
            {"sites": ("layer1", "layer5")},
            ValueError,
            r"sites=.* of ResNet: \['layer5'\] not found; use some of stem, layer1, layer2, layer3, layer4",
        ),
        ("psn_test_resnet", {"sites": ()}, ValueError, "an empty list not found; use some of stem, layer1"),
        ("tsn_test_resnet", {"sites": ("layer1",)}, ValueError, "temporal='tsn' has no module to put there"),
        ("psn_test_resnet", {"num_frames": 0}, ValueError, "num_frames=0 must be at least 1"),
        ("psn_test_resnet", {"temporal": "tsm"}, ValueError, "psn_test_resnet is temporal='psn' on backbone="),
        (
            "psn_resnet50",
            {"backbone": "resnet18"},
            ValueError,
            "found backbone='resnet18'; another tag of resnet50 is",
        ),
        ("psn_test_resnet", {"fusion": "shuffel"}, ValueError, "fusion='shuffel' is unknown.*did you mean 'shuffle'"),
        ("psn_test_resnet", {"proportion": 0}, ValueError, r"proportion=0 is not in \(0, 1\]"),
        (
            "video_net",
            {"backbone": "test_convnext", "temporal": "tsm"},
            ValueError,
            "ConvNeXt is not known to have residual branches.* use a ResNet of timm.*temporal='psn'",
        ),
    ],
)
def test_a_wrong_argument_is_named_with_what_is_accepted(name, kwargs, error, text):
    with pytest.raises(error, match=text):
        timm.create_model(name, **kwargs)


@pytest.mark.parametrize("shape", [(3, 32, 32), (3, 2, 32, 32, 1, 1)])
def test_an_input_of_another_rank_is_named(shape):
    model = build("psn_test_resnet")
    with pytest.raises(
        ValueError, match=r"input of shape \(3, .*expected clips \(B, C, T, H, W\) or images .*clip\[None\]"
    ):
        model(torch.zeros(shape))


def test_a_number_of_frames_below_one_is_refused_later_too():
    model = build("psn_test_resnet")
    with pytest.raises(ValueError, match="num_frames=0 must be at least 1"):
        model.set_num_frames(0)
    assert model.num_frames == 4


# --- pretrained=True, against a Hub of our own

COMMIT = "0123456789abcdef0123456789abcdef01234567"

CLIENT = """
import sys, timm, timm_video_psn, torch
psn = timm.create_model("psn_test_resnet", pretrained=True, num_classes=7)
gray = timm.create_model("psn_test_resnet", pretrained=True, in_chans=1)
tagged = timm.create_model("video_net", backbone="test_resnet.r160_in1k", temporal="tsm", pretrained=True)
torch.save([model.state_dict() for model in (psn, gray, tagged)], sys.argv[1])
"""


@pytest.fixture
def hub():
    """A Hub on the loopback that holds one repository with timm's weights for test_resnet, and its address."""
    state = timm.create_model("test_resnet").state_dict()
    for value in state.values():
        if value.is_floating_point():
            value.copy_(torch.rand_like(value))
    files = {"/timm/test_resnet.r160_in1k/resolve/main/model.safetensors": save(state)}

    class Hub(BaseHTTPRequestHandler):
        def do_HEAD(self):
            self.answer(with_body=False)

        def do_GET(self):
            self.answer(with_body=True)

        def answer(self, with_body):
            body = files.get(self.path.replace(COMMIT, "main"))
            self.send_response(404 if body is None else 200)
            self.send_header("X-Repo-Commit", COMMIT)
            if body is None:
                self.send_header("X-Error-Code", "EntryNotFound")
            else:
                self.send_header("ETag", '"weights"')
            self.send_header("Content-Length", str(len(body or b"")))
            self.end_headers()
            if with_body and body is not None:
                self.wfile.write(body)

        def log_message(self, *args):
            """Quiet."""

    server = ThreadingHTTPServer(("127.0.0.1", 0), Hub)
    thread = threading.Thread(target=server.serve_forever)
    thread.start()
    yield f"http://127.0.0.1:{server.server_port}", state
    server.shutdown()
    thread.join()
    server.server_close()


def test_pretrained_gives_the_backbone_timms_weights(hub, tmp_path):
    address, state = hub
    settings = {"HF_ENDPOINT": address, "HF_HOME": str(tmp_path), "HF_HUB_DISABLE_XET": "1", "no_proxy": "127.0.0.1"}
    saved = tmp_path / "models.pt"
    run = subprocess.run(
        [sys.executable, "-c", CLIENT, str(saved)],
        env={key: value for key, value in os.environ.items() if not key.startswith("HF_")} | settings,
        capture_output=True,
        text=True,
        timeout=120,
    )
    assert run.returncode == 0, run.stderr
    psn, gray, tagged = torch.load(saved)

    for name, value in state.items():
        if not name.startswith("fc."):
            assert torch.equal(psn[f"backbone.{name}"], value), name
    assert psn["backbone.fc.weight"].shape == (7, 96)
    expands = [value for name, value in psn.items() if name.endswith("expand.weight")]
    assert len(expands) == 4
    assert not any(value.any() for value in expands)
    assert all(value.any() for name, value in psn.items() if name.endswith("reduce.weight"))

    assert gray["backbone.conv1.0.weight"].shape[1] == 1
    torch.testing.assert_close(gray["backbone.conv1.0.weight"], state["conv1.0.weight"].sum(1, keepdim=True))
    assert torch.equal(gray["backbone.fc.weight"], state["fc.weight"])
    assert tagged.keys() == {f"backbone.{name}" for name in state}
    assert all(torch.equal(tagged[f"backbone.{name}"], value) for name, value in state.items())


def test_saved_settings_are_plain_json(tmp_path: Path):
    model = build("psn_test_resnet", receptive_field=(5, 5, 5))
    save_for_hf(model, tmp_path, model_args={"receptive_field": (5, 5, 5)}, safe_serialization=True)
    config = json.loads((tmp_path / "config.json").read_text())
    assert config["architecture"] == "psn_test_resnet"
    assert config["model_args"]["receptive_field"] == [5, 5, 5]
    assert config["pretrained_cfg"]["first_conv"] == "backbone.conv1.0"


def test_names_are_listed_by_timm():
    assert {"psn_resnet50", "tsn_resnet50", "tsm_resnet50", "video_net"} <= set(timm.list_models())
    assert len(NAMES) == len(set(NAMES)) >= 18
