import pickle

import pytest
import timm
import torch
import torchvision
from safetensors.torch import save_file
from timm.models import save_for_hf
from torch import nn

from tests.engine.runs import settled
from tests.models.light_models import LIGHT, build
from timm_video_psn.engine.train.model import create_model
from timm_video_psn.models.image_backbone import load_image_weights


@pytest.fixture
def image_weights(tmp_path):
    """A file of image weights of 1000 classes, and what it holds."""
    weights = timm.create_model("test_efficientnet").state_dict()
    save_file(weights, tmp_path / "image.safetensors")
    return str(tmp_path / "image.safetensors"), weights


def test_every_tensor_but_the_classifier_of_other_classes_comes_from_the_file(image_weights, caplog):
    file, weights = image_weights
    with caplog.at_level("INFO"):
        model = timm.create_model(
            "video_net", backbone="test_efficientnet", proportion=0.5, num_classes=3, backbone_checkpoint=file
        )
    own = model.backbone.state_dict()
    assert own["classifier.weight"].shape[0] == 3
    assert all(torch.equal(own[name], weights[name]) for name in weights if not name.startswith("classifier"))
    assert "classifier keeps its random weights" in caplog.text


def test_a_classifier_of_the_same_shape_comes_from_the_file(image_weights):
    file, weights = image_weights
    model = timm.create_model(
        "video_net", backbone="test_efficientnet", proportion=0.5, num_classes=1000, backbone_checkpoint=file
    )
    assert torch.equal(model.backbone.classifier.weight, weights["classifier.weight"])


def test_a_module_that_replaces_a_convolution_starts_from_the_files_weights(tmp_path):
    weights = timm.create_model("resnet26", num_classes=4).state_dict()
    torch.save(weights, tmp_path / "image.pt")
    model = timm.create_model(
        "video_net", backbone="resnet26", temporal="gst", num_classes=4, backbone_checkpoint=str(tmp_path / "image.pt")
    )
    old, new = weights["layer1.0.conv2.weight"], model.backbone.layer1[0].conv2.spatial.weight
    assert torch.equal(new, old[: new.shape[0], : new.shape[1]])


def test_torchvisions_resnet_fits(tmp_path):
    weights = torchvision.models.resnet18(num_classes=4).state_dict()
    torch.save(weights, tmp_path / "resnet18.pth")
    model = timm.create_model("psn_resnet18", num_classes=4, backbone_checkpoint=str(tmp_path / "resnet18.pth"))
    own = model.backbone.state_dict()
    assert all(torch.equal(own[name], value) for name, value in weights.items())


def test_what_does_not_fit_is_refused(image_weights, tmp_path):
    file, weights = image_weights
    with pytest.raises(ValueError, match=r"does not fit ResNet: \d+ missing.*\d+ unknown"):
        load_image_weights(timm.create_model("test_resnet"), file)
    torch.save({**weights, "surplus": torch.ones(1)}, tmp_path / "surplus.pt")
    with pytest.raises(ValueError, match="1 unknown: surplus"):
        load_image_weights(timm.create_model("test_efficientnet"), str(tmp_path / "surplus.pt"))
    (tmp_path / "code.pt").write_bytes(pickle.dumps(print))
    with pytest.raises(ValueError, match="holds no weights"):
        load_image_weights(timm.create_model("test_efficientnet"), str(tmp_path / "code.pt"))
    with pytest.raises(FileNotFoundError, match="no such file; give image weights"):
        timm.create_model("psn_test_resnet", backbone_checkpoint=str(tmp_path / "none.pt"))
    with pytest.raises(ValueError, match="both give weights"):
        timm.create_model("psn_test_resnet", pretrained=True, backbone_checkpoint=file)


def test_a_saved_model_needs_the_file_no_more(image_weights, tmp_path):
    file, _ = image_weights
    model = timm.create_model(
        "video_net", backbone="test_efficientnet", proportion=0.5, num_classes=3, backbone_checkpoint=file, num_frames=2
    )
    save_for_hf(model, tmp_path / "saved", safe_serialization=True)
    (tmp_path / "image.safetensors").unlink()
    again = timm.create_model(f"local-dir:{tmp_path / 'saved'}", pretrained=True)
    assert all(torch.equal(value, model.state_dict()[name]) for name, value in again.state_dict().items())


def test_training_starts_from_the_file(image_weights):
    file, weights = image_weights
    argv = [
        "--model",
        "video_net",
        "--model-kwargs",
        "backbone=test_efficientnet",
        "proportion=0.5",
        "--backbone-checkpoint",
        file,
    ]
    model = create_model(settled(*argv), 3)
    assert torch.equal(model.backbone.conv_stem.weight, weights["conv_stem.weight"])


# --- dropout and classifiers, wherever a family of timm keeps them

# A functional dropout, one in the head, one beside it, and two in two heads.
BACKBONES = {
    "test_resnet": 64,
    "test_convnext": 64,
    "test_vit": 160,
    "levit_128s": 224,
}


@pytest.mark.parametrize("label", LIGHT)
def test_dropout_acts_in_training_only(label, clip):
    model, plain = build(label, drop_rate=0.9), build(label)
    plain.load_state_dict(model.state_dict())
    assert (model.drop_rate, plain.drop_rate) == (0.9, 0)
    assert torch.equal(model(clip), plain(clip))
    for each in (model, plain):
        each.train()
    assert not torch.allclose(model(clip), plain(clip))


def net(backbone: str, **kwargs) -> nn.Module:
    return timm.create_model("video_net", backbone=backbone, temporal="tsn", num_classes=5, **kwargs)


@pytest.mark.parametrize("built_with", [0.0, 0.9])
@pytest.mark.parametrize("backbone", BACKBONES)
def test_the_drop_rate_can_be_changed_later(backbone, built_with):
    model = net(backbone, drop_rate=built_with).eval()
    assert model.drop_rate == built_with
    features = model.forward_features(torch.randn(4, 3, *2 * (BACKBONES[backbone],)))
    for module in model.modules():
        module.training = not isinstance(module, nn.modules.batchnorm._BatchNorm)
    for rate in (0.0, 0.5, 0.0):
        model.drop_rate = rate
        assert model.drop_rate == rate
        repeats = torch.equal(model.forward_head(features), model.forward_head(features))
        assert repeats == (rate == 0)


def test_a_drop_rate_outside_of_its_range_is_refused():
    model = build("psn_test_resnet")
    with pytest.raises(ValueError, match=r"drop_rate=1.5 is not in \[0, 1\)"):
        model.drop_rate = 1.5


def test_a_head_without_dropout_is_refused():
    model = net("cpubone_nano")
    with pytest.raises(ValueError, match=r"the head of .* was built without a dropout; build .* drop_rate=0.5"):
        model.drop_rate = 0.5


def test_a_backbone_with_two_classifiers_names_both():
    model = net("levit_128s")
    names = model.get_classifier(name_only=True)
    assert names == ("backbone.head", "backbone.head_dist")
    assert [model.get_submodule(name) for name in names] == list(model.get_classifier())


@pytest.mark.parametrize("name", ["test_resnet", "test_convnext", "levit_128s"])
def test_a_classifier_starts_from_the_standard_deviation_that_is_asked_for(name):
    model = timm.create_model("video_net", backbone=name, temporal="tsn", num_classes=500, classifier_std=0.001)
    layers = model.get_classifier()
    for layer in layers if isinstance(layers, tuple) else [layers]:
        weight, bias = (
            (layer.linear.weight, layer.linear.bias) if hasattr(layer, "linear") else (layer.weight, layer.bias)
        )
        assert float(weight.detach().std()) == pytest.approx(0.001, rel=0.1)
        assert not bias.any()


def test_a_wrong_start_of_the_classifier_is_named():
    for settings, text in (({"num_classes": 0}, "ResNet has no classifier"), ({"num_classes": 3}, "is negative")):
        std = 0.001 if settings["num_classes"] == 0 else -1
        with pytest.raises(ValueError, match=text):
            timm.create_model("tsn_test_resnet", classifier_std=std, **settings)
