"""From a name to a model: what timm's create_model makes of our names, their weights and wrong arguments."""

import json
import os
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
from timm.models import FeatureDictNet, FeatureGraphNet, FeatureHookNet, FeatureListNet, save_for_hf
from timm.models._features import FeatureGetterNet
from torch import nn

import timm_video_psn
from tests.models.light_models import LIGHT, NAMES, build
from timm_video_psn import VideoNet
from timm_video_psn.layers.clip import fold_clip
from timm_video_psn.models.create import FeatureDictGetter
from timm_video_psn.surgery import injected


@pytest.mark.parametrize("name", NAMES)
def test_every_name_classifies_clips(name):
    model = timm.create_model(name, num_frames=2, **({"backbone": "test_resnet"} if name == "video_net" else {})).eval()
    size = 75 if "inception_v3" in name else 32  # the smallest that it takes
    with torch.no_grad():
        logits = model(torch.randn(1, 3, 2, size, size))
    assert logits.shape == (1, model.pretrained_cfg.get("num_classes", 1000))
    assert logits.isfinite().all()


def test_names_are_listed_by_timm():
    assert {"psn_resnet50", "tsn_resnet50", "tsm_resnet50", "video_net"} <= set(timm.list_models())
    assert len(NAMES) == len(set(NAMES)) >= 39


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


@pytest.mark.parametrize(
    ("feature_cls", "net", "folded"),
    [
        (None, FeatureGetterNet, False),
        ("getter", FeatureGetterNet, False),
        ("list", FeatureGetterNet, False),
        (FeatureListNet, FeatureGetterNet, False),
        ("dict", FeatureDictGetter, False),
        (FeatureDictNet, FeatureDictGetter, False),
        ("fx", FeatureGraphNet, True),
        ("hook", FeatureHookNet, True),
    ],
)
def test_features_come_in_each_of_timms_forms(feature_cls, net, folded, clip):
    whole = build("psn_test_resnet")
    kwargs = {} if feature_cls is None else {"feature_cls": feature_cls}
    model = build("psn_test_resnet", features_only=True, out_indices=(1, -2), **kwargs)
    assert type(model) is net
    inner = next(m for m in model.modules() if isinstance(m, VideoNet)) if net is not FeatureGraphNet else None
    assert model.feature_info.channels() == [32, 192]
    found = model(clip)
    if net is FeatureDictGetter:
        assert list(found) == ["1", "3"]
        found = list(found.values())
    assert [level.shape[:2] for level in found] == [(8, 32), (8, 192)] if folded else [(2, 32), (2, 192)]
    if inner is not None:
        whole.load_state_dict(inner.state_dict(), strict=False)
        expected = whole.forward_intermediates(clip, indices=[1, 3], intermediates_only=True)
        torch.testing.assert_close(found, [fold_clip(level) for level in expected] if folded else expected)


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


def test_saved_settings_are_plain_json(tmp_path: Path):
    model = build("psn_test_resnet", receptive_field=(5, 5, 5))
    save_for_hf(model, tmp_path, model_args={"receptive_field": (5, 5, 5)}, safe_serialization=True)
    config = json.loads((tmp_path / "config.json").read_text())
    assert config["architecture"] == "psn_test_resnet"
    assert config["model_args"]["receptive_field"] == [5, 5, 5]
    assert config["pretrained_cfg"]["first_conv"] == "backbone.conv1.0"


@pytest.mark.parametrize("label", LIGHT)
def test_data_settings_are_those_of_the_backbone(label):
    model = build(label)
    stock = timm.create_model(LIGHT[label].get("backbone", "test_resnet"))
    ours, theirs = resolve_model_data_config(model), resolve_model_data_config(stock)
    assert {key: ours[key] for key in ("mean", "std", "interpolation")} == {
        key: theirs[key] for key in ("mean", "std", "interpolation")
    }


@pytest.mark.parametrize(
    ("name", "kwargs", "error", "text"),
    [
        (
            "psn_test_resnet",
            {"proportoin": 0.5},
            TypeError,
            "'proportoin' belongs neither to temporal='psn' .* nor to the backbone 'test_resnet.*mean 'proportion'",
        ),
        ("tsn_test_resnet", {"proportion": 0.5}, TypeError, "'proportion' belongs neither to temporal='tsn'"),
        ("tsm_test_resnet", {"num_frame": 8}, TypeError, "'num_frame' belongs neither .*did you mean 'num_frames'"),
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
            r"needs a backbone, any timm name: create_model\('video_net', backbone='resnet50'",
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
        ("tsn_test_resnet", {"sites": ("layer1",)}, ValueError, "temporal='tsn' attaches no modules"),
        ("psn_test_resnet", {"num_frames": 0}, ValueError, "num_frames=0 must be a whole number, at least 1"),
        ("psn_test_resnet", {"temporal": "tsm"}, ValueError, "psn_test_resnet is temporal='psn' on backbone="),
        (
            "psn_resnet50",
            {"backbone": "resnet18"},
            ValueError,
            "found backbone='resnet18'; other tags of resnet50 are",
        ),
        ("psn_test_resnet", {"fusion": "shuffel"}, ValueError, "fusion='shuffel' is unknown.*did you mean 'shuffle'"),
        ("psn_test_resnet", {"proportion": 0}, ValueError, r"proportion=0 is not in \(0, 1\]"),
        (
            "video_net",
            {"backbone": "vgg11", "temporal": "tsm"},
            ValueError,
            "VGG is not known to have residual branches.* timm's classes .*ResNet.*temporal='psn'",
        ),
    ],
)
def test_a_wrong_argument_is_named_with_what_is_accepted(name, kwargs, error, text):
    with pytest.raises(error, match=text):
        timm.create_model(name, **kwargs)


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


@pytest.mark.parametrize("name", ["psn_test_resnet", "psn_resnet50", "tsm_resnet101"])
def test_a_cfg_keeps_what_timm_says_of_the_network_and_its_input(name):
    with torch.device("meta"):
        model = timm.create_model(name)
        size = model.default_cfg["input_size"]
        features = model.forward_features(torch.empty(1, *size))
    tag = {"psn_test_resnet": "test_resnet.r160_in1k"}.get(name, f"{name.partition('_')[2]}.tv_in1k")
    stock = timm.get_pretrained_cfg(tag).to_dict()
    of_weights = {"url", "hf_hub_id", "hf_hub_filename", "architecture", "tag", "license", "origin_url", "notes"}
    named = {"first_conv", "classifier"}
    kept = {key: value for key, value in stock.items() if key not in of_weights | named | {"custom_load", "paper_ids"}}
    assert kept.items() <= model.default_cfg.items()
    assert {f"backbone.{stock[key]}" for key in named} == {model.default_cfg[key] for key in named}
    assert features.shape[-2:] == model.default_cfg["pool_size"]
    assert not of_weights - {"architecture", "tag"} & model.default_cfg.keys()


def test_an_unknown_name_comes_with_the_nearest():
    with pytest.raises(ValueError, match=r"'psn_resnet5' is unknown; nearest video models: psn_resnet50, "):
        timm_video_psn.create_model("psn_resnet5")
    with pytest.raises(FileNotFoundError, match=r"not a model folder: .*; did you mean psn_resnet50 or"):
        timm_video_psn.load("psn_resnet5")
    assert timm_video_psn.create_model("psn_test_resnet", num_classes=7).num_classes == 7
