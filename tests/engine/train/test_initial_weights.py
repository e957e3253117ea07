import pytest
import timm
import torch
from safetensors.torch import save_file

from timm_video_psn.__main__ import train as train_main
from timm_video_psn.engine.train.build import create_model, create_optimizer
from timm_video_psn.engine.train.initial_weights import load_initial_weights
from timm_video_psn.engine.train.options import parse_options

SMALL = {"num_frames": 2, "proportion": 0.5}


def model(num_classes=3, **changes):
    return timm.create_model("psn_test_resnet", num_classes=num_classes, **{**SMALL, **changes})


@pytest.mark.parametrize("name", ["model.safetensors", "weights.pt", "last.pt"])
def test_all_weights_come_from_the_file(tmp_path, name):
    weights, file = model().state_dict(), tmp_path / name
    if name == "model.safetensors":
        save_file({key: value.contiguous() for key, value in weights.items()}, file)
    else:
        torch.save({"model": weights, "epoch": 3} if name == "last.pt" else weights, file)
    other = model()
    assert not torch.equal(other.state_dict()["backbone.conv1.0.weight"], weights["backbone.conv1.0.weight"])
    load_initial_weights(other, str(file))
    assert all(torch.equal(value, weights[key]) for key, value in other.state_dict().items())


def test_a_classifier_of_other_classes_begins_at_random_and_that_is_said(tmp_path, caplog):
    weights, file = model(5).state_dict(), tmp_path / "weights.pt"
    torch.save(weights, file)
    other = model(3)
    before = {key: value.clone() for key, value in other.state_dict().items()}
    with caplog.at_level("INFO"):
        load_initial_weights(other, str(file))
    assert "but for backbone.fc.weight, backbone.fc.bias: other classes" in caplog.text
    for key, value in other.state_dict().items():
        assert torch.equal(value, before[key] if key.startswith("backbone.fc.") else weights[key]), key


def test_weights_of_another_model_or_no_weights_are_refused(tmp_path):
    file = tmp_path / "weights.pt"
    torch.save(model(proportion=0.25).state_dict(), file)
    with pytest.raises(ValueError, match=r"does not fit the model: \d+ of another shape .*use the --model"):
        load_initial_weights(model(), str(file))
    torch.save(timm.create_model("tsn_test_resnet", num_classes=3, num_frames=2).state_dict(), file)
    with pytest.raises(ValueError, match=r"does not fit the model: \d+ missing"):
        load_initial_weights(model(), str(file))
    for name in ("junk.pt", "junk.safetensors"):
        (tmp_path / name).write_bytes(b"no weights at all")
        with pytest.raises(ValueError, match="holds no weights"):
            load_initial_weights(model(), str(tmp_path / name))
    with pytest.raises(FileNotFoundError, match=r"no such file; give the model\.safetensors"):
        load_initial_weights(model(), str(tmp_path / "nowhere.pt"))


def test_a_run_begins_with_the_weights_of_another(tmp_path, tiny_motion, capsys):
    common = ["--dataset", "motion", "--data-dir", str(tiny_motion), "--output", str(tmp_path), "--img-size", "32"]
    common += ["--num-frames", "4", "--batch-size", "12", "--epochs", "1", "--workers", "0"]
    assert train_main([*common, "--experiment", "first"]) == 0
    best = tmp_path / "first" / "best" / "model.safetensors"
    options = parse_options([*common, "--initial-checkpoint", str(best)])
    begun, trained = create_model(options, 12), timm.create_model(f"local-dir:{best.parent}", pretrained=True)
    assert all(torch.equal(value, trained.state_dict()[key]) for key, value in begun.state_dict().items())
    assert train_main([*common, "--experiment", "second", "--initial-checkpoint", str(tmp_path / "no.pt")]) == 2
    assert "--initial-checkpoint" in capsys.readouterr().err


def test_timms_flags_reach_the_model_and_the_optimizer():
    argv = ["--model", "psn_resnet18", "--opt", "adamw", "--opt-eps", "1e-6", "--opt-betas", "0.8", "0.95"]
    options = parse_options([*argv, "--drop-path", "0.3", "--num-frames", "2", "--device", "cpu"])
    built = create_model(options, 3)
    rates = [module.drop_prob for module in built.modules() if type(module).__name__ == "DropPath"]
    assert max(rates) == pytest.approx(0.3)
    group = create_optimizer(options, built).param_groups[0]
    assert (group["eps"], tuple(group["betas"])) == (1e-6, (0.8, 0.95))
    with pytest.raises(ValueError, match="drop_path_rate \\(--drop-path\\)"):
        create_model(parse_options([*argv, "--drop-path", "0.1", "--model-kwargs", "drop_path_rate=0.2"]), 3)
