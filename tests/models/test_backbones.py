"""PSN on every layout that timm's backbones have, against timm's own image models."""

import pytest
import timm
import torch
from torch import nn

from timm_video_psn import VideoNet, auxiliary_losses, interaction_map
from timm_video_psn.layers import ActionPerceptronSynthesizer
from timm_video_psn.layers.views import EachItem, MapView
from timm_video_psn.models.backbones import feature_levels, gives_tokens
from timm_video_psn.surgery import CHILD, disabled, injected

# A name of each kind, with arguments that make it small; all numbers are those that timm takes.
TINY = {"embed_dim": 48, "num_heads": 3, "depth": 3, "img_size": 32}
BACKBONES = {
    "maps": ("test_convnext", {}),
    "maps with channels last": ("test_mambaout", {}),
    "windows": ("swin_tiny_patch4_window7_224", {"embed_dim": 32, "depths": (1, 1, 1, 1), "img_size": 56}),
    "tokens and a class token": ("test_vit", {}),
    "tokens and registers": ("vit_tiny_patch16_dinov3_qkvb", {**TINY, "img_size": 64}),
    "tokens, class token comes late": ("cait_xxs24_224", {**TINY, "patch_size": 8}),
    "tokens, class token comes midway": ("convit_tiny", {**TINY, "patch_size": 8, "local_up_to_layer": 1}),
    "tokens in mask units": ("hiera_tiny_224", {"embed_dim": 48, "stages": (1, 1, 1, 1), "img_size": 224}),
    "tokens beside their size": ("mvitv2_tiny", {"img_size": 64}),
    "tokens of two scales": ("crossvit_tiny_240", {"embed_dim": (48, 96)}),
    "a map beside a class token": ("pit_ti_224", {"depth": (1, 1, 1)}),
    "several maps": ("hrnet_w18_small", {}),
    "layers that are concatenated": ("densenet121", {"block_config": (1, 1, 1, 1)}),
    "blocks within blocks": ("selecsls42", {}),
}
# Wide enough for 7 branches in the narrowest of them.
WIDE = {"tokens and a class token": 0.5, "several maps": 0.5, "maps with channels last": 0.5, "maps": 0.5}


def build(label: str, **kwargs) -> nn.Module:
    name, arguments = BACKBONES[label]
    proportion = WIDE.get(label, 0.25)
    settings = {"num_classes": 5, "num_frames": 2, "proportion": proportion, **arguments, **kwargs}
    torch.manual_seed(0)
    return timm.create_model("video_net", backbone=name, temporal="psn", **settings).eval()


def clip_for(label: str) -> torch.Tensor:
    """Two clips of two frames, of the size that the backbone was built for, or small."""
    name, arguments = BACKBONES[label]
    cfg = timm.get_pretrained_cfg(name)
    own = cfg.input_size[1] if cfg.fixed_input_size else 96
    return torch.randn(2, 3, 2, *2 * (arguments.get("img_size", own),))


@pytest.mark.parametrize("label", BACKBONES)
def test_psn_starts_as_the_average_of_the_image_model_over_frames(label):
    model = build(label)
    name, arguments = BACKBONES[label]
    plain = timm.create_model(name, num_classes=5, **arguments).eval()
    state = model.backbone.state_dict()
    plain.load_state_dict({key: value for key, value in state.items() if CHILD not in key.split(".")})
    clip = clip_for(label)
    with torch.no_grad():
        assert torch.equal(model(clip), plain(clip.transpose(1, 2).flatten(0, 1)).unflatten(0, (2, 2)).mean(1))


@pytest.mark.parametrize("label", BACKBONES)
def test_psn_sees_the_order_of_frames_and_learns(label):
    model = build(label, expand_init=1.0)
    clip = clip_for(label)
    with torch.no_grad():
        for module in model.modules():  # some heads start at zero
            if isinstance(module, nn.Linear) and module.out_features == 5:
                nn.init.normal_(module.weight)
        seen = (model(clip) - model(clip.flip(2))).abs().max()
        with disabled(model):
            noise = (model(clip) - model(clip.flip(2))).abs().max()
    assert seen > 10 * noise
    model.train()
    loss = model(clip).square().mean() + sum(auxiliary_losses(model).values())
    loss.backward()
    for name, parameter in model.named_parameters():
        if f".{CHILD}." in name:
            assert parameter.grad is not None, name
            assert parameter.grad.isfinite().all(), name


@pytest.mark.parametrize("label", BACKBONES)
def test_every_level_but_the_last_has_its_synthesizer(label):
    model = build(label)
    levels = feature_levels(model.backbone)
    assert list(model.sites) == [level.site for level in levels[:-1]]
    assert len(injected_synthesizers(model)) == len(interaction_map(model))
    per_level = 2 if label == "tokens of two scales" else 1
    if label != "several maps":
        assert len(injected_synthesizers(model)) == per_level * (len(levels) - 1)


def injected_synthesizers(model: nn.Module) -> list[nn.Module]:
    return [module for module in model.modules() if isinstance(module, ActionPerceptronSynthesizer)]


def test_synthesizers_of_one_site_are_named_apart():
    assert list(interaction_map(build("tokens of two scales"))) == [
        "blocks.0.0",
        "blocks.0.1",
        "blocks.1.0",
        "blocks.1.1",
    ]


@pytest.mark.parametrize("label", ["maps with channels last", "windows"])
def test_features_of_clips_are_maps_whatever_the_backbone_has(label):
    model = build(label)
    clip = clip_for(label)
    features = model.forward_features(clip)
    assert features.shape[:3] == (2, model.num_features, 2)
    torch.testing.assert_close(model.forward_head(features), model(clip))
    final, levels = model.forward_intermediates(clip)
    assert torch.equal(final, features)
    assert [level.shape[1:3] for level in levels] == [(info["num_chs"], 2) for info in model.feature_info]


@pytest.mark.parametrize("label", ["tokens and a class token", "tokens and registers", "tokens in mask units"])
def test_features_of_clips_are_tokens_of_each_frame_where_the_backbone_ends_in_tokens(label):
    model = build(label)
    clip = clip_for(label)
    features = model.forward_features(clip)
    assert gives_tokens(model.backbone)
    assert features.shape[:2] == (2, 2)
    assert features.shape[3] == model.num_features
    torch.testing.assert_close(model.forward_head(features), model(clip))
    levels = model.forward_intermediates(clip, intermediates_only=True)
    assert all(level.ndim == 5 and level.shape[2] == 2 for level in levels)
    images = model.forward_features(clip[:, :, 0])
    torch.testing.assert_close(model.forward_head(images), model(clip[:, :, 0]))


def test_features_of_several_scales_come_as_a_list_and_go_into_the_head():
    model, clip = build("tokens of two scales"), clip_for("tokens of two scales")
    features = model.forward_features(clip)
    assert [each.shape[:2] for each in features] == [(2, 2), (2, 2)]
    torch.testing.assert_close(model.forward_head(features), model(clip))


def test_tokens_of_frames_that_are_not_square_keep_their_places():
    """A frame twice as wide as high: the synthesizer's map has its aspect."""
    model = build("tokens and a class token", dynamic_img_size=True)
    seen = []
    for module in injected_synthesizers(model):
        module.register_forward_hook(lambda _, args, __: seen.append(tuple(args[0].shape[2:])))
    assert model(torch.randn(1, 3, 2, 64, 128)).shape == (1, 5)
    assert set(seen) == {(4, 8)}


def test_synthesizers_on_plain_maps_are_not_wrapped():
    kinds = {type(item.module) for item in injected(build("maps").backbone)}
    assert kinds == {ActionPerceptronSynthesizer}
    assert {type(item.module) for item in injected(build("windows").backbone)} == {MapView}
    assert EachItem in {type(item.module) for item in injected(build("several maps").backbone)}


def test_a_backbone_that_drops_tokens_is_refused():
    with pytest.raises(ValueError, match=r"patch_drop_rate > 0 drops tokens.*leave patch_drop_rate at 0"):
        build("tokens and a class token", patch_drop_rate=0.5)


def test_a_backbone_without_levels_is_refused_with_what_to_do():
    with pytest.raises(ValueError, match=r"Sequential has no feature_info.*timm_video_psn.inject"):
        feature_levels(nn.Sequential(nn.Conv2d(3, 4, 1)))


def test_unknown_sites_are_refused_with_those_that_there_are():
    with pytest.raises(ValueError, match=r"sites=\('layer1',\) of VisionTransformer.*use some of blocks.0, blocks.1"):
        VideoNet("test_vit", "psn", sites="layer1")
    with pytest.raises(ValueError, match=r"sites=\(\) of ResNet: an empty list not found; use some of layer1, layer2"):
        VideoNet("test_resnet", "tsm", sites=())
