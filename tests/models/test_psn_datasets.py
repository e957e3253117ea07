"""Names of data sets: their classes and frames, and what pretrained=True means for them."""

import json

import huggingface_hub.constants
import pytest
import timm
import torch
from safetensors.torch import save_file
from timm.data import resolve_model_data_config
from timm.models import save_for_hf
from torch import Tensor, nn

from tests.engine.runs import settled
from timm_video_psn import VideoNet
from timm_video_psn.engine.train.model import create_model

NAMES = sorted(timm.list_models(module="psn_datasets"))
NAME = "psn_resnet18_sthv1"
SMALL = {"sites": ("layer1",), "proportion": 0.5}
COMMIT = "0123456789abcdef0123456789abcdef01234567"


def build(name: str = NAME, **kwargs) -> VideoNet:
    """Evaluation mode, the synthesizers at work."""
    return timm.create_model(name, **{"expand_init": 1.0, **kwargs}).eval()


@pytest.fixture
def frames() -> Tensor:
    return torch.randn(1, 3, 3, 32, 32)


def test_there_is_a_name_for_each_backbone_and_data_set():
    datasets = ("sthv1", "sthv2", "k400", "diving48")
    assert set(NAMES) == {f"psn_resnet{depth}_{name}" for depth in (18, 50, 101) for name in datasets}


@pytest.mark.parametrize("name", NAMES)
def test_a_name_fixes_classes_and_frames_unless_others_are_asked_for(name):
    dataset = name.rsplit("_", 1)[1]
    with torch.device("meta"):
        model = timm.create_model(name)
        other = timm.create_model(name, num_classes=5, num_frames=4)
    assert model.num_classes == {"sthv1": 174, "sthv2": 174, "k400": 400, "diving48": 48}[dataset]
    assert model.num_frames == (16 if dataset == "diving48" else 8)
    assert (other.num_classes, other.num_frames) == (5, 4)
    assert model.pretrained_cfg["num_classes"] == model.num_classes
    assert model.pretrained_cfg["architecture"] == name
    assert model.pretrained_cfg["classifier"] == model.get_classifier(name_only=True)
    assert list(model.sites) == ["stem", "layer1", "layer2", "layer3"]


@pytest.mark.parametrize("name", NAMES)
def test_a_name_is_the_network_of_the_name_without_data_set(name, costly):
    with torch.device("meta"):
        model = timm.create_model(name, num_classes=5, num_frames=4)
        plain = timm.create_model(name.rpartition("_")[0], num_classes=5, num_frames=4)
    assert repr(model) == repr(plain)
    assert {n: t.shape for n, t in model.state_dict().items()} == {n: t.shape for n, t in plain.state_dict().items()}


def test_data_settings_are_those_of_the_backbone_and_of_another_tag_if_it_is_chosen():
    with torch.device("meta"):
        ours, stock = timm.create_model("psn_resnet50_k400"), timm.create_model("resnet50.tv_in1k")
        tagged, other = timm.create_model("psn_resnet50_k400", backbone="resnet50.a1_in1k"), "resnet50.a1_in1k"
        assert resolve_model_data_config(ours) == resolve_model_data_config(stock)
        assert resolve_model_data_config(tagged) == resolve_model_data_config(timm.create_model(other))
    assert resolve_model_data_config(ours) != resolve_model_data_config(tagged)
    assert tagged.num_classes == 400


@pytest.mark.parametrize("kwargs", [{}, {"backbone": "resnet18.a1_in1k"}, {"num_classes": 5}, {"features_only": True}])
def test_pretrained_without_weights_says_how_to_train_publish_and_load_them(kwargs):
    with pytest.raises(ValueError, match="needs weights trained on Something-Something V1, but none") as caught:
        timm.create_model(NAME, pretrained=True, **kwargs)
    text = str(caught.value)
    for part in (
        f"timm-video-psn train --model {NAME} --dataset sthv1",
        "--model-kwargs backbone_pretrained=true",
        f"create_model('local-dir:output/{NAME}-sthv1/best', pretrained=True)",
        "pretrained_cfg_overlay=dict(file=",
        "pretrained_cfg_overlay=dict(hf_hub_id=",
        "create_model('hf-hub:USER/NAME', pretrained=True)",
        "hub/README.md",
        f"create_model('{NAME}', backbone_pretrained=True)",
    ):
        assert part in text, part


def test_training_with_pretrained_fails_with_that_message():
    """A ValueError is what the command line prints in one piece, without a traceback."""
    options = settled("--model", NAME, "--pretrained")
    with pytest.raises(ValueError, match=f"{NAME} with pretrained=True needs weights trained on Something-Somethi"):
        create_model(options, 174)


@pytest.mark.parametrize("source", ["file", "state_dict"])
def test_weights_that_the_cfg_names_are_loaded(source, tmp_path, frames):
    trained = build(**SMALL)
    where = trained.state_dict()
    if source == "file":
        save_file(where, tmp_path / "model.safetensors")
        where = str(tmp_path / "model.safetensors")
    torch.manual_seed(1)
    model = build(**SMALL, pretrained=True, pretrained_cfg_overlay={source: where})
    for name, value in model.state_dict().items():
        assert torch.equal(value, trained.state_dict()[name]), name
    assert torch.equal(model(frames), trained(frames))


def test_a_saved_model_comes_back_by_its_folder_with_its_own_classes_and_frames(tmp_path, frames):
    trained = build("psn_resnet18_diving48", num_classes=7, num_frames=3, **SMALL)
    save_for_hf(trained, tmp_path, safe_serialization=True)
    torch.manual_seed(1)
    model = timm.create_model(f"local-dir:{tmp_path}", pretrained=True).eval()
    assert (model.num_classes, model.num_frames, list(model.sites)) == (7, 3, ["layer1"])
    assert torch.equal(model(frames), trained(frames))
    assert timm.create_model(f"local-dir:{tmp_path}").num_classes == 7

    tuned = timm.create_model(f"local-dir:{tmp_path}", pretrained=True, num_classes=9)
    assert tuned.num_classes == 9
    assert torch.equal(tuned.backbone.layer4[1].conv2.weight, trained.backbone.layer4[1].conv2.weight)
    assert torch.equal(
        tuned.backbone.layer1[1].temporal.expand.weight, trained.backbone.layer1[1].temporal.expand.weight
    )


@pytest.mark.parametrize("num_classes", [174, 5])
@pytest.mark.parametrize(
    ("change", "text"),
    [
        ("image weights", r"\d+ missing: backbone.conv1.weight, .* unknown: conv1.weight"),
        ("fewer", r"\d+ missing: backbone.layer1.1.temporal[^;]*; build.*local-dir:FOLDER"),
        ("more", "1 unknown: surplus; .*backbone_pretrained=True"),
    ],
)
def test_weights_that_do_not_fit_are_refused_whatever_the_classes(change, text, num_classes):
    state = build(**SMALL).state_dict()
    if change == "image weights":
        state = timm.create_model("resnet18").state_dict()
    elif change == "fewer":
        state = {name: value for name, value in state.items() if ".temporal." not in name}
    else:
        state["surplus"] = torch.zeros(1)
    with pytest.raises(ValueError, match=f"the weights do not fit {NAME}: .*{text}"):
        build(**SMALL, num_classes=num_classes, pretrained=True, pretrained_cfg_overlay={"state_dict": state})


@pytest.fixture
def imagenet(tmp_path, monkeypatch):
    """A folder in which the Hub's client, offline, finds weights for resnet18.tv_in1k, and these weights."""
    stock = timm.create_model("resnet18")
    folder = tmp_path / "models--timm--resnet18.tv_in1k"
    (folder / "snapshots" / COMMIT).mkdir(parents=True)
    (folder / "refs").mkdir()
    (folder / "refs" / "main").write_text(COMMIT)
    save_file(stock.state_dict(), folder / "snapshots" / COMMIT / "model.safetensors")
    monkeypatch.setattr(huggingface_hub.constants, "HF_HUB_OFFLINE", True)
    return str(tmp_path), stock.state_dict()


@pytest.mark.parametrize("start", ["create_model", "train_video.py"])
def test_training_can_start_from_imagenet_weights(start, imagenet):
    cache_dir, stock = imagenet
    if start == "create_model":
        model = timm.create_model(NAME, backbone_pretrained=True, cache_dir=cache_dir)
    else:
        settings = ["--model-kwargs", "backbone_pretrained=true", f"cache_dir={cache_dir}"]
        model = create_model(settled("--model", NAME, *settings), 174)
    ours = model.backbone.state_dict()
    assert model.num_classes == 174
    for name, value in stock.items():
        if not name.startswith("fc."):
            assert torch.equal(ours[name], value), name
    assert not any(value.any() for name, value in ours.items() if name.endswith("expand.weight"))


def test_a_saved_model_asks_for_imagenet_weights_no_more(imagenet, tmp_path, frames):
    cache_dir, stock = imagenet
    model = timm.create_model(NAME, backbone_pretrained=True, cache_dir=cache_dir).eval()
    nn.init.normal_(model.backbone.conv1.weight)
    save_for_hf(model, tmp_path / "saved", safe_serialization=True)
    assert json.loads((tmp_path / "saved" / "config.json").read_text())["model_args"]["backbone_pretrained"] is True
    loaded = timm.create_model(f"local-dir:{tmp_path / 'saved'}", pretrained=True, cache_dir="nowhere").eval()
    assert torch.equal(loaded(frames), model(frames))
    empty = timm.create_model(f"local-dir:{tmp_path / 'saved'}", cache_dir="nowhere")
    assert not torch.equal(empty.backbone.layer1[0].conv1.weight, stock["layer1.0.conv1.weight"])


def test_plain_names_go_on_taking_image_weights(imagenet):
    cache_dir, stock = imagenet
    for kwargs in ({"pretrained": True}, {"backbone_pretrained": True}):
        model = timm.create_model("psn_resnet18", cache_dir=cache_dir, num_classes=3, **kwargs)
        assert torch.equal(model.backbone.conv1.weight, stock["conv1.weight"])


def test_another_backbone_than_the_name_says_is_refused():
    with pytest.raises(ValueError, match="psn_resnet18_sthv1 is temporal='psn' on backbone='resnet18'"):
        timm.create_model(NAME, backbone="resnet34.tv_in1k")
