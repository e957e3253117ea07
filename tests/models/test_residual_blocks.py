"""Places inside residual blocks, and VideoNet with each of the modules that go there."""

import copy
from pathlib import Path

import pytest
import timm
import torch
from safetensors.torch import save_file
from timm.models import group_parameters, save_for_hf
from timm.models.resnet import Bottleneck
from timm.optim import param_groups_layer_decay
from torch import Tensor, nn

from tests.models.light_models import settle
from timm_video_psn import VideoNet
from timm_video_psn.layers import TemporalModule
from timm_video_psn.layers.temporal_module import Position
from timm_video_psn.models.injection_point import InjectionPoint
from timm_video_psn.models.residual_blocks import block_points

KINDS = ["residual_branch", "before_conv2", "replace_conv2", "replace_conv2_norm_act", "after_last_conv"]
# Arguments of timm's test_resnet, which has basic blocks and, in layer3, a bottleneck.
BLOCKS: dict[str, dict] = {"gst": {}, "gsm": {}, "tea_16w": {"block": Bottleneck}, "tam": {}}
INJECTED, REPLACING = ("gsm", "tam"), ("gst", "tea_16w")


def build(temporal: str, **kwargs) -> VideoNet:
    """The smallest network with the blocks that a module needs; its residual branches act from the start."""
    defaults = {"num_classes": 5, "num_frames": 4, "zero_init_last": False, **BLOCKS[temporal]}
    return timm.create_model("video_net", backbone="test_resnet", temporal=temporal, **{**defaults, **kwargs}).eval()


def acting(model: VideoNet) -> VideoNet:
    """With gates that are open: GSM starts as an identity."""
    for name, parameter in model.named_parameters():
        if ".gate" in name:
            nn.init.normal_(parameter, std=0.3)
    return model


def temporal_modules(model: nn.Module) -> dict[str, TemporalModule]:
    return {name: module for name, module in model.named_modules() if isinstance(module, TemporalModule)}


# --- places


def test_bottlenecks_have_every_kind_of_place():
    with torch.device("meta"):
        backbone = timm.create_model("resnet50")
    second = {kind: block_points(backbone, kind)[4] for kind in KINDS}  # the second block of layer2
    where = Position(1, 1, (3, 4, 6, 3))
    assert second == {
        "residual_branch": InjectionPoint("layer2", "layer2.1.conv1", 512, mode="before", position=where),
        "before_conv2": InjectionPoint("layer2", "layer2.1.conv2", 128, mode="before", position=where),
        "replace_conv2": InjectionPoint("layer2", "layer2.1.conv2", 128, mode="instead", position=where),
        "replace_conv2_norm_act": InjectionPoint(
            "layer2", "layer2.1.conv2", 128, mode="instead", further=("layer2.1.bn2", "layer2.1.act2"), position=where
        ),
        "after_last_conv": InjectionPoint("layer2", "layer2.1.conv3", 512, mode="after", position=where),
    }
    for kind in KINDS:
        points = block_points(backbone, kind)
        assert len(points) == 3 + 4 + 6 + 3
        assert [i for i, point in enumerate(points) if point.position.opens_stage] == [0, 3, 7, 13]


def test_basic_blocks_have_those_that_do_not_need_a_middle():
    with torch.device("meta"):
        backbone = timm.create_model("resnet18")
    first = InjectionPoint("layer2", "layer2.0.conv1", 64, mode="before", position=Position(1, 0, (2, 2, 2, 2)))
    assert block_points(backbone, "residual_branch")[2] == first
    for kind, mode in (("before_conv2", "before"), ("replace_conv2", "instead"), ("after_last_conv", "after")):
        second = InjectionPoint("layer2", "layer2.0.conv2", 128, mode=mode, position=Position(1, 0, (2, 2, 2, 2)))
        assert block_points(backbone, kind)[2] == second
    with pytest.raises(
        ValueError, match=r"layer1\.0 is a BasicBlock, which has no norm and activation between .*resnet50"
    ):
        block_points(backbone, "replace_conv2_norm_act")


@pytest.mark.parametrize(("temporal", "count"), [("tsm", 2 + 2 + 12 + 2), ("tam", 3 + 4 + 23 + 3)])
def test_only_tsm_leaves_out_every_second_block_of_deep_networks(temporal, count):
    with torch.device("meta"):
        model = timm.create_model("video_net", backbone="resnet101", temporal=temporal)
    assert len(temporal_modules(model.backbone)) == count


# What timm's classes call the three convolutions of a block; how many blocks have a place.
FAMILIES = {
    "mobilenetv2_100": (("conv_pw", "conv_dw", "conv_pwl"), 10),
    "tf_efficientnet_lite0": (("conv_pw", "conv_dw", "conv_pwl"), 9),
    "efficientnetv2_rw_t": (None, 32),  # also EdgeResidual, whose first convolution mixes space
    "mobilenetv3_small_100": (("conv_pw", "conv_dw", "conv_pwl"), 6),
    "regnety_002": (("conv1.conv", "conv2.conv", "conv3.conv"), 13),
    "regnetv_040": (("conv1", "conv2", "conv3"), 22),
    "convnext_tiny": (("conv_dw", "conv_dw", "mlp"), 18),
    "convnext_tiny_hnf": (("conv_dw", "conv_dw", "mlp"), 18),
    "seresnet50": (("conv1", "conv2", "conv3"), 16),
    "inception_v3": (("conv", "conv", "conv"), 10),
}


@pytest.mark.parametrize("name", FAMILIES)
def test_other_families_have_the_same_places(name):
    leaves, count = FAMILIES[name]
    with torch.device("meta"):
        backbone = timm.create_model(name)
    ends = {"residual_branch": 0, "before_conv2": 1, "replace_conv2": 1, "after_last_conv": 2}
    modes = dict(zip(ends, ("before", "before", "instead", "after"), strict=True))
    for kind, end in ends.items():
        points = block_points(backbone, kind)
        assert len(points) == (3 if name == "inception_v3" and end == 1 else count)
        assert {point.mode for point in points} == {modes[kind]}
        if leaves:
            assert all(point.target.endswith(f".{leaves[end]}") for point in points)


def test_res2net_splits_its_middle():
    with torch.device("meta"):
        backbone = timm.create_model("res2net50_26w_4s")
    replaced = [point.target for point in block_points(backbone, "replace_conv2")]
    assert replaced[:3] == [f"layer1.0.convs.{i}" for i in range(3)]
    assert len(replaced) == 3 * 16
    assert block_points(backbone, "before_conv2")[0] == InjectionPoint(
        "layer1", "layer1.0.bn1", 104, mode="after", position=Position(0, 0, (3, 4, 6, 3)), activated=True
    )


# Small backbones of each family, with what makes them act.
SMALL = {
    "mobilenetv2_050": {},
    "efficientnet_lite0": {},
    "test_convnext": {"ls_init_value": None},
    "regnetx_002": {},
    "res2net50_26w_4s": {"layers": (1, 1, 2, 1)},
    "inception_v3": {},
}


@pytest.mark.parametrize("backbone", SMALL)
@pytest.mark.parametrize("temporal", ["tsm", "gsm", "tam", "gst", "stm"])
def test_every_module_acts_in_every_family(backbone, temporal, costly):
    size = 75 if backbone == "inception_v3" else 64  # its smallest
    model = VideoNet(backbone, temporal, num_frames=3, num_classes=5, **SMALL[backbone]).double()
    clip = torch.randn(2, 3, 3, size, size, dtype=torch.float64)
    settle(model, clip)
    logits = model(clip)
    assert not torch.allclose(model(clip.flip(2)), logits, atol=1e-6)
    torch.testing.assert_close(torch.cat([model(one[None]) for one in clip]), logits)
    model.train()(clip).square().sum().backward()
    inside = {
        f"{name}.{leaf}": parameter
        for name, module in temporal_modules(model.backbone).items()
        for leaf, parameter in module.named_parameters()
    }
    assert temporal == "tsm" or inside
    assert [name for name, p in inside.items() if p.grad is None or not p.grad.any()] == []


@pytest.mark.parametrize(
    ("backbone", "kind", "text"),
    [
        ("vgg11", "replace_conv2", "VGG is not known to have residual branches.* timm's classes .*ConvNeXt.*ResNet"),
        ("lcnet_050", "residual_branch", "MobileNetV3 has no block for placement='residual_branch'"),
        ("convnext_atto", "replace_conv2_norm_act", r"stages\.0\.blocks\.0 is a ConvNeXtBlock, which has no norm"),
        ("skresnet18", "residual_branch", r"layer1\.0 is a SelectiveKernelBasic, which has no plain convolution conv1"),
        ("res2net50_26w_4s", "replace_conv2_norm_act", r"layer1\.0 is a Bottle2neck, which has no norm"),
        ("resnest14d", "replace_conv2", r"layer1\.0 is a ResNestBottleneck, which has no plain convolution conv2"),
    ],
)
def test_backbones_without_a_place_are_named(backbone, kind, text):
    with torch.device("meta"):
        model = timm.create_model(backbone)
    with pytest.raises(ValueError, match=text):
        block_points(model, kind)


# --- where the modules go


@pytest.mark.parametrize(
    ("name", "target", "kind"),
    [
        ("gst_resnet50", "layer1.0.conv2", "GroupedSpatialTemporal"),
        ("gsm_resnet50", "layer1.0.conv3.temporal", "GateShift"),
        ("tea_16w_resnet50", "layer1.0.conv2", "BottleneckExcitationAggregation"),
        ("tam_resnet50", "layer1.0.conv2.temporal", "TemporalAdaptive"),
    ],
)
def test_every_block_of_the_named_models_has_its_module(name, target, kind):
    with torch.device("meta"):
        model = timm.create_model(name)
    found = {name: module for name, module in temporal_modules(model.backbone).items() if type(module).__name__ == kind}
    assert len(found) == 16
    assert next(iter(found)) == target


def test_tea_takes_the_norm_and_the_activation_along():
    block = build("tea_16w").backbone.layer1[0]
    assert isinstance(block.bn2, nn.Identity)
    assert isinstance(block.act2, nn.Identity)
    assert isinstance(block.conv2.aggregation.convolved[0].act, nn.ReLU)


@pytest.mark.parametrize("temporal", BLOCKS)
def test_sites_choose_stages(temporal):
    model = build(temporal, sites=("layer2", "layer4"))
    assert {name.split(".")[0] for name in temporal_modules(model.backbone)} == {"layer2", "layer4"}


def test_settings_reach_the_modules_and_a_wrong_one_is_said_with_its_place():
    model = build("gst", alpha=8, beta=1)
    assert model.backbone.layer1[0].conv2.temporal.weight.shape == (3 * 4, 32, 3, 3)
    with pytest.raises(ValueError, match=r"at layer1 \(32 channels\): alpha=1 cannot split channels=32"):
        build("gst", alpha=1)
    with pytest.raises(TypeError, match=r"'alfa' belongs neither to temporal='gst' .*mean 'alpha'"):
        build("gst", alfa=4)


# --- weights


@pytest.mark.parametrize("temporal", INJECTED)
def test_stock_weights_load_with_nothing_missing(temporal):
    with torch.device("meta"):
        model, stock = timm.create_model(f"{temporal}_resnet50"), timm.create_model("resnet50")
    result = model.backbone.load_state_dict(stock.state_dict(), strict=False, assign=True)
    assert result.unexpected_keys == []
    assert all(".temporal." in key for key in result.missing_keys)


@pytest.mark.parametrize("temporal", REPLACING)
def test_pretrained_weights_go_into_the_replacement(temporal, tmp_path: Path):
    stock = timm.create_model("test_resnet", num_classes=5, **BLOCKS[temporal])
    for tensor in stock.state_dict().values():
        if tensor.is_floating_point():
            nn.init.uniform_(tensor)
    state = stock.state_dict()
    save_file(state, tmp_path / "model.safetensors")
    model = VideoNet(
        "test_resnet",
        temporal,
        backbone_pretrained=True,
        num_classes=5,
        pretrained_cfg_overlay={"file": str(tmp_path / "model.safetensors"), "num_classes": 5},
        **BLOCKS[temporal],
    )
    ours = model.backbone.state_dict()
    for name, value in state.items():
        if name in ours:
            assert torch.equal(ours[name], value), name
    block, old = model.backbone.layer2[0].conv2, state["layer2.0.conv2.weight"]
    if temporal == "gst":
        outputs, inputs = len(old) // 4 * 3, len(old) // 2
        assert torch.equal(block.spatial.weight, old[:outputs, :inputs])
        assert set(state) - set(ours) == {f"layer{i}.0.conv2.weight" for i in (1, 2, 3, 4)}
    else:
        width, second = len(old) // 4, block.aggregation.convolved[1]
        part = slice(width, 2 * width)
        assert torch.equal(second.conv.weight, old[part, part])
        assert torch.equal(second.norm.running_var, state["layer2.0.bn2.running_var"][part])


@pytest.mark.parametrize("training", [False, True])
def test_gsm_starts_out_as_exactly_tsn(training, clip):
    gsm = build("gsm").train(training)
    tsn = timm.create_model("video_net", backbone="test_resnet", temporal="tsn", num_classes=5, zero_init_last=False)
    tsn.backbone.load_state_dict(gsm.backbone.state_dict(), strict=False)
    assert torch.equal(gsm(clip), tsn.train(training)(clip))


# --- VideoNet as a whole


@pytest.mark.parametrize("temporal", BLOCKS)
def test_looks_at_the_order_of_frames_and_keeps_clips_apart(temporal, clip):
    model = acting(build(temporal))
    logits = model(clip)
    assert logits.shape == (2, 5)
    assert not torch.allclose(model(clip.flip(2)), logits, atol=1e-6)
    torch.testing.assert_close(torch.cat([model(one[None]) for one in clip]), logits)


@pytest.mark.parametrize("temporal", ["gst", "gsm", "tea_16w"])
@pytest.mark.parametrize("num_frames", [1, 3])
def test_takes_clips_of_any_length_and_images(temporal, num_frames, clip):
    model = acting(build(temporal))
    logits = model(clip)
    short = clip[:, :, :num_frames]
    assert model(short).shape == (2, 5)
    assert torch.equal(model(clip[:, :, 0]), model(clip[:, :, :1]))
    assert torch.equal(model(clip), logits)


def test_tam_says_that_it_is_for_one_length(clip):
    model = build("tam", num_frames=4)
    assert model(clip).shape == (2, 5)
    for attempt in (lambda: model(clip[:, :, :3]), lambda: model(clip[:, :, 0]), lambda: model.set_num_frames(8)):
        with pytest.raises(ValueError, match="is built for clips of 4 frames; use"):
            attempt()
    assert model.num_frames == 4
    assert model(clip).shape == (2, 5)
    assert build("tam", num_frames=1)(clip[:, :, 0]).shape == (2, 5)


@pytest.mark.parametrize("temporal", BLOCKS)
def test_gradient_reaches_every_parameter_also_with_checkpointing(temporal, clip):
    plain = acting(build(temporal)).train()
    checkpointed = copy.deepcopy(plain)
    checkpointed.set_grad_checkpointing()
    gradients = []
    for model in (plain, checkpointed):
        model(clip).square().sum().backward()
        gradients.append({name: parameter.grad for name, parameter in model.named_parameters()})
    assert [name for name, gradient in gradients[0].items() if gradient is None or not gradient.any()] == []
    torch.testing.assert_close(gradients[1], gradients[0])


@pytest.mark.parametrize("temporal", BLOCKS)
def test_channels_last_equals_contiguous(temporal, clip):
    model = acting(build(temporal))
    nested = copy.deepcopy(model).to(memory_format=torch.channels_last)
    torch.testing.assert_close(nested(clip.to(memory_format=torch.channels_last_3d)), model(clip))


@pytest.mark.parametrize("temporal", BLOCKS)
def test_autocast_keeps_maps_in_its_precision(temporal, clip):
    model, seen = acting(build(temporal)), []
    for module in temporal_modules(model).values():
        module.register_forward_hook(lambda module, args, output: seen.append((args[0].dtype, output.dtype)))
    expected = model(clip)
    seen.clear()
    with torch.autocast("cpu", torch.bfloat16):
        logits = model(clip)
    assert set(seen) == {(torch.bfloat16, torch.bfloat16)}
    torch.testing.assert_close(logits.float(), expected, rtol=0.1, atol=0.1)


@pytest.mark.parametrize("temporal", BLOCKS)
def test_features_only_gives_the_features_of_the_whole_model(temporal, clip):
    whole = acting(build(temporal))
    model = build(temporal, features_only=True, out_indices=(1, 2))
    assert model.model.load_state_dict(whole.state_dict(), strict=False).missing_keys == []
    expected = whole.forward_intermediates(clip, indices=[1, 2], intermediates_only=True)
    for ours, theirs in zip(model(clip), expected, strict=True):
        assert torch.equal(ours, theirs)


@pytest.mark.parametrize("coarse", [False, True])
@pytest.mark.parametrize("temporal", BLOCKS)
def test_every_module_is_in_the_layer_group_of_its_block(temporal, coarse):
    model = build(temporal)
    groups = group_parameters(model, model.group_matcher(coarse=coarse), reverse=True)
    assert groups.keys() == {name for name, _ in model.named_parameters()}
    for name, module in temporal_modules(model).items():
        block = ".".join(name.split(".")[:3])  # backbone.layer1.0
        found = {groups[f"{name}.{leaf}"] for leaf, _ in module.named_parameters()}
        assert found == {groups[f"{block}.conv1.weight"]}
    rates = [group["lr_scale"] for group in param_groups_layer_decay(model, layer_decay=0.5)]
    stock = timm.create_model("test_resnet", **BLOCKS[temporal])
    assert set(rates) == {group["lr_scale"] for group in param_groups_layer_decay(stock, layer_decay=0.5)}


@pytest.mark.usefixtures("compiler")
@pytest.mark.parametrize("temporal", BLOCKS)
def test_compiles_in_one_graph_and_exports_with_any_number_of_clips(temporal, clip):
    model = acting(build(temporal, sites="layer3"))
    expected = model(clip)
    torch._dynamo.reset()
    compiled = torch.compile(copy.deepcopy(model), fullgraph=True, backend="eager")
    torch.testing.assert_close(compiled(clip), expected)
    batch = {0: torch.export.Dim("batch", min=1, max=64)}
    exported = torch.export.export(model, (clip,), dynamic_shapes=(batch,)).module()
    for clips in (clip, torch.randn(5, 3, 4, 32, 32)):
        torch.testing.assert_close(exported(clips), model(clips))


@pytest.mark.parametrize("temporal", ["gst", "gsm", "tam"])
def test_a_saved_model_comes_back_by_its_folder(temporal, clip: Tensor, tmp_path: Path):
    model = acting(
        timm.create_model("video_net", backbone="test_resnet", temporal=temporal, num_frames=4, num_classes=5)
    )
    model.eval()
    args = {"backbone": "test_resnet", "temporal": temporal, "num_frames": 4}
    save_for_hf(model, tmp_path, model_args=args, safe_serialization=True)
    loaded = timm.create_model(f"local-dir:{tmp_path}", pretrained=True).eval()
    assert torch.equal(loaded(clip), model(clip))


def test_the_names_are_registered():
    names = {
        "gst_resnet50",
        "gst_resnet101",
        "gsm_resnet50",
        "gsm_inception_v3",
        "tea_res2net50_26w_4s",
        "tam_resnet50",
    }
    assert names <= set(timm.list_models(module="video_baselines"))
