import pickle

import pytest
import timm
import torch
import torchvision
from safetensors.torch import save_file
from timm.models import save_for_hf

from timm_video_psn.engine.train.model import create_model
from timm_video_psn.engine.train.options import parse_options
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
    assert "classifier. stays random" in caplog.text


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
    with pytest.raises(FileNotFoundError, match="no such file; give a file of image weights"):
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
    model = create_model(parse_options(argv), 3)
    assert torch.equal(model.backbone.conv_stem.weight, weights["conv_stem.weight"])
