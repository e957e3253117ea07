"""timm's contract for every name that this package registers: what a timm ResNet does for images, for clips.

The graphs of such models (TorchScript, fx, compile, export) are in test_contract_graphs.py.
"""

import copy
import io
import json
import pickle

import pytest
import timm
import torch
from timm.data import resolve_data_config
from timm.models import group_parameters, load_checkpoint, save_for_hf
from timm.optim import create_optimizer_v2, param_groups_layer_decay
from timm.utils import ModelEmaV3, freeze, unfreeze
from timm.utils.model import avg_sq_ch_mean, extract_spp_stats
from torch import Tensor, nn

from tests.models.light_models import COMPARED, NAMES, temporal_modules
from timm_video_psn import VideoNet, auxiliary_losses


def train_step(model: VideoNet, clip: Tensor) -> tuple[Tensor, dict[str, Tensor | None]]:
    """Logits and gradients of a step on both auxiliary losses and a classification."""
    logits = model.train()(clip)
    loss = nn.functional.cross_entropy(logits, torch.arange(len(clip)))
    (loss + sum(auxiliary_losses(model).values())).backward()
    return logits.detach(), {name: parameter.grad for name, parameter in model.named_parameters()}


def test_every_name_is_among_the_cases():
    """By the files of the package, so that no new one is left out."""
    registered = {n for n in timm.list_models() if timm.models.model_entrypoint(n).__module__.startswith("timm_video")}
    assert {*NAMES, *COMPARED} == registered - {"external_video_net"}  # other libraries' networks take no images
    assert len(NAMES) + len(COMPARED) >= 50


def test_classifies(case, model, short):
    with torch.no_grad():
        logits = model(short)
        assert torch.equal(model(short), logits)
        torch.testing.assert_close(torch.cat([model(one[None]) for one in short]), logits)
    assert isinstance(model, VideoNet)
    assert logits.shape == (2, 5)
    assert logits.isfinite().all()
    assert model.num_frames == short.shape[2]


def test_takes_images_as_clips_of_one_frame(case, model, short):
    images = short[:, :, 0]
    if case.takes_any_length:
        assert torch.equal(model(images), model(images[:, :, None]))
        assert model.forward_features(images).ndim == 4
    else:
        with pytest.raises(ValueError, match=r"num_frames=1: .* clips of 2 frames"):
            model(images)


def test_every_parameter_gets_a_gradient(case, model, short):
    _, gradients = train_step(model, short)
    assert [name for name, gradient in gradients.items() if gradient is None or not gradient.any()] == []
    assert all(gradient.isfinite().all() for gradient in gradients.values())


def test_checkpointing_changes_neither_outputs_nor_gradients(case, model, short):
    expected, gradients = train_step(copy.deepcopy(model), short)
    model.set_grad_checkpointing()
    outputs, checkpointed = train_step(model, short)
    assert torch.equal(outputs, expected)
    torch.testing.assert_close(checkpointed, gradients)


def test_features_and_head_make_the_forward_pass(case, model, short):
    features = model.forward_features(short)
    assert features.shape[:3] == (2, model.num_features, 2)
    assert features.ndim == 5
    assert torch.equal(model.forward_head(features), model(short))
    assert model.forward_head(features, pre_logits=True).shape == (2, model.head_hidden_size)


def test_intermediates_agree_with_the_forward_pass(case, model, short):
    final, levels = model.forward_intermediates(short)
    assert torch.equal(final, model.forward_features(short))
    assert torch.equal(model.forward_head(final), model(short))
    for level, info in zip(levels, model.feature_info, strict=True):
        size = short.shape[-1] // info["reduction"]
        assert level.shape == (2, info["num_chs"], 2, size, size)
    for indices, wanted in ((2, levels[-2:]), ([1], levels[1:2]), ([-1, 0], [levels[0], levels[-1]])):
        found = model.forward_intermediates(
            short, indices=indices, norm=True, stop_early=True, output_fmt="NCHW", intermediates_only=True
        )
        torch.testing.assert_close(found, wanted)


def test_pruned_levels_leave_the_others_as_they_are(case, model, short):
    expected = model.forward_intermediates(short, indices=[0, 1], intermediates_only=True)
    assert list(model.prune_intermediate_layers([0, 1], prune_norm=True, prune_head=True)) == [0, 1]
    torch.testing.assert_close(model.forward_intermediates(short, indices=[0, 1], intermediates_only=True), expected)
    assert not any(name.startswith(("backbone.layer4", "backbone.stages.3")) for name in temporal_modules(model))


def test_features_only_gives_5d_maps_as_list_and_dict(case, model, short):
    expected = model.forward_intermediates(short, indices=[1, 3], intermediates_only=True)
    for feature_cls in ("getter", "dict"):  # list is the getter, as test_create.py shows
        net = case.build(features_only=True, out_indices=(1, 3), feature_cls=feature_cls).eval()
        assert net.model.load_state_dict(model.state_dict(), strict=False).missing_keys == []
        assert net.feature_info.channels() == [model.feature_info[i]["num_chs"] for i in (1, 3)]
        found = net(short)
        if feature_cls == "dict":
            assert list(found) == ["1", "3"]
            found = list(found.values())
        torch.testing.assert_close(found, expected)


def test_the_head_can_be_replaced_and_left_out(case, model, short):
    features = model.forward_features(short)
    model.reset_classifier(7)
    assert (model.num_classes, model(short).shape) == (7, (2, 7))
    model.reset_classifier(3, global_pool="max")
    assert model(short).shape == (2, 3)
    model.reset_classifier(0)
    assert (model.num_classes, model(short).shape) == (0, (2, model.head_hidden_size))
    assert isinstance(model.get_classifier(), nn.Identity)
    model.reset_classifier(0, "")
    assert model(short).shape == features.shape


def test_it_can_be_built_without_head_and_pooling(case, model, short):
    assert case.build(num_classes=0).eval()(short).shape == (2, model.head_hidden_size)
    if "convnext" in case.label:  # takes no global_pool="" with its norm in the head
        return
    bare = case.build(num_classes=0, global_pool="").eval()
    assert torch.equal(bare(short), bare.forward_features(short))


@pytest.mark.parametrize("in_chans", [1, 4])
def test_takes_other_numbers_of_channels(case, in_chans, short):
    model = case.build(in_chans=in_chans).eval()
    assert model.in_chans == in_chans
    assert model(short[:, [0] * in_chans]).shape == (2, 5)


def test_names_its_classifier_and_its_first_convolution(case, model):
    classifier = model.get_classifier(name_only=True)
    assert model.get_submodule(classifier) is model.get_classifier()
    assert model.get_classifier().out_features == 5
    assert model.pretrained_cfg["classifier"] == classifier
    assert isinstance(model.get_submodule(model.pretrained_cfg["first_conv"]), nn.Conv2d)
    assert model.pretrained_cfg["architecture"] == case.settings["model_name"]


@pytest.mark.parametrize("coarse", [False, True])
def test_layer_groups_are_those_of_the_backbone_and_temporal_modules_join_their_block(case, model, coarse):
    groups = group_parameters(model, model.group_matcher(coarse=coarse), reverse=True)
    stock = case.stock()
    expected = group_parameters(stock, stock.group_matcher(coarse=coarse), reverse=True)
    common = {name: group for name, group in expected.items() if f"backbone.{name}" in groups}
    assert {name: groups[f"backbone.{name}"] for name in common} == common
    for name in temporal_modules(model):
        # A target without parameters is the pool of the stem. One that spans groups ends in its last.
        target = name.removeprefix("backbone.").removesuffix("temporal").removesuffix(".")
        wanted = max({group for own, group in expected.items() if own.startswith(f"{target}.")} or {0})
        assert {group for own, group in groups.items() if own.startswith(f"{name}.")} <= {wanted}, name


def test_timms_optimizer_factory_takes_layer_decay(case, model):
    rates = {}
    for group in param_groups_layer_decay(model, layer_decay=0.5):
        rates |= {id(parameter): group["lr_scale"] for parameter in group["params"]}
    assert rates.keys() == {id(parameter) for parameter in model.parameters()}
    stock = param_groups_layer_decay(case.stock(), layer_decay=0.5)
    assert set(rates.values()) == {group["lr_scale"] for group in stock}  # and no layer more
    optimizer = create_optimizer_v2(model, "adamw", lr=0.1, weight_decay=0.1, layer_decay=0.5)
    decay = {id(p): group["weight_decay"] for group in optimizer.param_groups for p in group["params"]}
    names = dict(model.named_parameters())
    assert {decay[id(names[name])] for name in model.no_weight_decay()} <= {0.0}


def test_timms_tools_take_it_as_they_take_its_backbone(case, model, short):
    keys = ("mean", "std", "interpolation", "crop_pct")
    ours, theirs = resolve_data_config(model=model), resolve_data_config(model=case.stock())
    if "test_resnet" in case.label or case.settings["model_name"] == "video_net":  # the others have torchvision's cfg
        assert {key: ours[key] for key in keys} == {key: theirs[key] for key in keys}
    assert ours["input_size"] == theirs["input_size"]

    if case.takes_any_length:
        first = model.pretrained_cfg["first_conv"]
        stats = extract_spp_stats(copy.deepcopy(model), [first], [avg_sq_ch_mean], input_shape=[2, 3, 32, 32])
        assert len(stats["avg_sq_ch_mean"]) == 1

    freeze(model, ["backbone"])
    assert not any(parameter.requires_grad for parameter in model.parameters())
    unfreeze(model, ["backbone"])
    assert all(parameter.requires_grad for parameter in model.parameters())


def test_copies_and_pickles_compute_the_same(case, model, short):
    expected = model(short)
    model.train()(short)  # leaves the record of the auxiliary losses
    model.eval()
    model.load_state_dict(state := copy.deepcopy(model.state_dict()))
    expected = model(short)
    file = io.BytesIO()
    torch.save(model, file)
    file.seek(0)
    ema = ModelEmaV3(model)
    for other in (pickle.loads(pickle.dumps(model)), torch.load(file, weights_only=False), ema.module):
        assert torch.equal(other.eval()(short), expected)
        assert other.state_dict().keys() == state.keys()


def test_it_is_saved_for_the_hub_and_loaded_from_its_folder(case, model, short, tmp_path):
    args = {key: value for key, value in case.settings.items() if key != "model_name"} | {"num_frames": 2}
    save_for_hf(model, tmp_path, model_args=args, safe_serialization=True)
    assert json.loads((tmp_path / "config.json").read_text())["architecture"] == case.settings["model_name"]
    loaded = timm.create_model(f"local-dir:{tmp_path}", pretrained=True).eval()
    assert torch.equal(loaded(short), model(short))
    assert (loaded.num_frames, loaded.num_classes) == (2, 5)
    tuned = timm.create_model(f"local-dir:{tmp_path}", pretrained=True, num_classes=9, in_chans=1).eval()
    assert tuned(short[:, :1]).shape == (2, 9)
    again = case.build()
    load_checkpoint(again, str(tmp_path / "model.safetensors"))
    assert torch.equal(again.eval()(short), model(short))
