"""The names of the compared systems."""

import copy

import pytest
import timm
import torch
from timm.models import save_for_hf
from torch import nn

from tests.models.light_models import COMPARED, settle, temporal_modules
from timm_video_psn import VideoNet
from timm_video_psn.surgery import injected

NAMES = sorted(name for name in timm.list_models(module="video_baselines") if name.startswith("rf_"))


def test_there_is_a_name_for_each_baseline_of_figure_4():
    assert NAMES == ["rf_l_inception_resnet50", "rf_l_inception_t_resnet50", "rf_l_resnet50", "rf_s_resnet50"]


@pytest.mark.parametrize("name", NAMES)
def test_every_name_classifies_clips(name):
    model = timm.create_model(name, num_frames=2, num_classes=3, expand_init=1.0).eval()
    clip = torch.randn(1, 3, 2, 32, 32)
    with torch.no_grad():
        logits = model(clip)
        assert not torch.allclose(model(clip.flip(2)), logits)
    assert logits.shape == (1, 3)
    assert isinstance(model.get_submodule(model.pretrained_cfg["first_conv"]), nn.Conv2d)
    assert model.pretrained_cfg["architecture"] == name


@pytest.mark.parametrize("name", NAMES)
def test_sites_are_those_of_psn_unless_others_are_given(name):
    with torch.device("meta"):
        model, psn = timm.create_model(name), timm.create_model("psn_resnet50")
        table = timm.create_model(name, sites=("layer1", "layer2", "layer3", "layer4"))
    assert model.sites == psn.sites
    assert list(table.sites) == ["layer1", "layer2", "layer3", "layer4"]
    assert {type(item.module) for item in injected(model)} == {type(item.module) for item in injected(table)}


def test_another_temporal_module_than_the_name_says_is_refused():
    with pytest.raises(ValueError, match="rf_s_resnet50 is temporal='rf_s' on backbone='resnet50'"):
        timm.create_model("rf_s_resnet50", temporal="rf_l")


# --- the contract of the compared systems, on small networks of their kinds

FRAMES = 4
ONE_LENGTH = ("trn_resnet50",)


def build(name: str, **kwargs) -> VideoNet:
    return timm.create_model(name, **{"num_frames": FRAMES, "num_classes": 5, **COMPARED[name], **kwargs})


@pytest.fixture(scope="module", params=sorted(COMPARED))
def settled(request, costly) -> tuple[str, VideoNet]:
    """In float64: the smallest differences count."""
    torch.manual_seed(0)
    return request.param, settle(build(request.param).double(), clips(request.param, 3))


@pytest.fixture
def name(settled) -> str:
    return settled[0]


@pytest.fixture
def model(settled) -> VideoNet:
    return copy.deepcopy(settled[1])


def clips(name: str, count: int = 2) -> torch.Tensor:
    size = 75 if "inception" in name else 32  # its smallest
    return torch.randn(count, 3, FRAMES, size, size, dtype=torch.float64)


def test_it_classifies_clips_by_their_order_and_keeps_them_apart(name, model):
    clip = clips(name)
    with torch.no_grad():
        logits = model(clip)
        assert torch.equal(model(clip), logits)
        torch.testing.assert_close(torch.cat([model(one[None]) for one in clip]), logits)
        assert not torch.allclose(model(clip.flip(2)), logits, atol=1e-9)
        features = model.forward_features(clip)
        torch.testing.assert_close(model.forward_head(features), logits)
        assert features.shape[:2] == (2, model.num_features)
        assert model.forward_head(features, pre_logits=True).shape == (2, model.head_hidden_size)
        if name not in ONE_LENGTH:
            assert torch.equal(model(clip[:, :, 0]), model(clip[:, :, :1]))
            assert model(clip[:, :, :3]).shape == (2, 5)
    assert logits.shape == (2, 5)
    assert temporal_modules(model) or model.consensus is not None


def test_all_of_it_learns_also_with_checkpointing(name, model):
    checkpointed, clip = copy.deepcopy(model), clips(name)
    if "inception" not in name:  # timm's has none
        checkpointed.set_grad_checkpointing()
    gradients = []
    for each in (model, checkpointed):
        torch.manual_seed(0)  # relations are drawn
        each.train()(clip).square().sum().backward()
        gradients.append({key: parameter.grad for key, parameter in each.named_parameters()})
    assert [key for key, gradient in gradients[0].items() if gradient is None or not gradient.any()] == []
    torch.testing.assert_close(gradients[1], gradients[0])


def test_it_is_saved_and_comes_back_also_for_other_classes_and_channels(name, model, tmp_path):
    clip = clips(name).float()
    save_for_hf(model.float(), tmp_path, model_args={**COMPARED[name], "num_frames": FRAMES}, safe_serialization=True)
    loaded = timm.create_model(f"local-dir:{tmp_path}", pretrained=True).eval()
    assert torch.equal(loaded(clip), model(clip))
    if name not in ONE_LENGTH:
        tuned = timm.create_model(f"local-dir:{tmp_path}", pretrained=True, num_classes=9, in_chans=1).eval()
        assert tuned(clip[:, :1]).shape == (2, 9)
    assert isinstance(model.get_submodule(model.pretrained_cfg["first_conv"]), nn.Conv2d)


def test_it_compiles_in_one_graph_and_exports_with_any_number_of_clips(name, model, compiler):
    clip = clips(name)
    expected = model(clip)
    compiled = torch.compile(copy.deepcopy(model), fullgraph=True, backend="eager")
    torch.testing.assert_close(compiled(clip), expected)
    batch = {0: torch.export.Dim("batch", min=1, max=64)}
    exported = torch.export.export(model, (clip,), dynamic_shapes=(batch,)).module()
    for some in (clip, clips(name, 5)):
        torch.testing.assert_close(exported(some), model(some))


def test_stock_weights_load_into_what_is_left_of_the_backbone(name, model):
    with torch.device("meta"):
        backbone = name.split("_", 1)[1].removeprefix("16w_").removeprefix("nl_")
        stock = timm.create_model(backbone, num_classes=5, **COMPARED[name])
    ours = {key.removeprefix("backbone."): value.shape for key, value in model.state_dict().items()}
    kept = {key for key, value in stock.state_dict().items() if ours.get(key) == value.shape}
    changed = {key.rpartition(".")[0] for key in stock.state_dict().keys() - kept}
    heads = {"fc"} if name in ONE_LENGTH else set()
    replaced = ("conv1", "conv2", "bn2")
    assert all(key in heads or key.rpartition(".")[2] in replaced for key in changed), changed


def test_torchscript_says_what_it_cannot_compile():
    with pytest.raises(NotImplementedError, match=r"TorchScript cannot compile InflatedStem; use torch\.compile"):
        torch.jit.script(build("i3d_resnet50"))
