import copy
import pickle

import pytest
import timm
import torch
from safetensors.torch import save_file

import timm_video_psn  # noqa: F401  registers the models
from tests.engine.runs import settled
from timm_video_psn.__main__ import train as train_main
from timm_video_psn.engine.train.model import create_model, freeze_backbone_norms, load_initial_weights
from timm_video_psn.engine.train.optim import create_optimizer

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
    assert "backbone.fc keeps its random weights, because its classes differ" in caplog.text
    for key, value in other.state_dict().items():
        assert torch.equal(value, before[key] if key.startswith("backbone.fc.") else weights[key]), key


def test_weights_of_another_model_or_no_weights_are_refused(tmp_path):
    file = tmp_path / "weights.pt"
    torch.save(model(proportion=0.25).state_dict(), file)
    with pytest.raises(ValueError, match=r"does not fit VideoNet: \d+ of another shape: .*and the --model"):
        load_initial_weights(model(), str(file))
    torch.save(timm.create_model("tsn_test_resnet", num_classes=3, num_frames=2).state_dict(), file)
    with pytest.raises(ValueError, match=r"does not fit VideoNet: \d+ missing"):
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
    options = settled(*common, "--initial-checkpoint", str(best))
    begun, trained = create_model(options, 12), timm.create_model(f"local-dir:{best.parent}", pretrained=True)
    assert all(torch.equal(value, trained.state_dict()[key]) for key, value in begun.state_dict().items())
    assert train_main([*common, "--experiment", "second", "--initial-checkpoint", str(tmp_path / "no.pt")]) == 2
    assert "--initial-checkpoint" in capsys.readouterr().err


def test_timms_flags_reach_the_model_and_the_optimizer():
    argv = ["--model", "psn_resnet18", "--opt", "adamw", "--opt-eps", "1e-6", "--opt-betas", "0.8", "0.95"]
    options = settled(*argv, "--drop-path", "0.3", "--num-frames", "2", "--device", "cpu")
    built = create_model(options, 3)
    rates = [module.drop_prob for module in built.modules() if type(module).__name__ == "DropPath"]
    assert max(rates) == pytest.approx(0.3)
    group = create_optimizer(options, built).param_groups[0]
    assert (group["eps"], tuple(group["betas"])) == (1e-6, (0.8, 0.95))
    with pytest.raises(ValueError, match="drop_path_rate \\(--drop-path\\)"):
        settled(*argv, "--drop-path", "0.1", "--model-kwargs", "drop_path_rate=0.2")


def psn():
    return timm.create_model("psn_test_resnet", num_classes=5, proportion=0.5, expand_init=1.0)


def norms(model):
    return {name: module for name, module in model.named_modules() if isinstance(module, torch.nn.BatchNorm2d)}


def trained(model, clip):
    """The names of the batch norms that a step in training mode changes, in statistics, weight or bias."""
    before = copy.deepcopy(model.state_dict())
    model.eval()
    model.train()
    optimizer = torch.optim.SGD([each for each in model.parameters() if each.requires_grad], lr=1.0)
    model(clip).logsumexp(1).sum().backward()
    optimizer.step()
    after = model.state_dict()
    changed = {name for name in after if not torch.equal(before[name], after[name])}
    kinds = ("running_mean", "running_var", "num_batches_tracked", "weight", "bias")
    return {name for name in norms(model) if any(f"{name}.{kind}" in changed for kind in kinds)}


@pytest.mark.parametrize("keep_first", [False, True])
@pytest.mark.parametrize(
    "copied", [lambda model: model, copy.deepcopy, lambda model: pickle.loads(pickle.dumps(model))]
)
def test_only_the_backbones_norms_are_kept_through_train_in_copies_too(clip, keep_first, copied):
    model = psn()
    everything = norms(model)
    of_backbone = [name for name in everything if ".temporal." not in name]
    assert len(of_backbone) < len(everything)
    expected = of_backbone[1:] if keep_first else of_backbone
    assert freeze_backbone_norms(model, keep_first) == tuple(expected)
    model = copied(model)
    assert trained(model, clip) == set(everything) - set(expected)
    assert [name for name, norm in norms(model).items() if not norm.training] == expected


def test_a_copy_freezes_its_own_norms_and_not_those_of_the_first():
    model = psn()
    name = freeze_backbone_norms(model)[0]
    other = copy.deepcopy(model)
    torch.nn.Module.train(other.get_submodule(name), True)
    other.train()
    assert not other.get_submodule(name).training
    assert other.get_submodule(name).train() is other.get_submodule(name)


def test_the_state_dict_is_that_of_a_model_that_is_not_frozen():
    model = psn()
    keys = list(model.state_dict())
    freeze_backbone_norms(model)
    assert list(model.state_dict()) == keys


@pytest.mark.parametrize(("flag", "free"), [("--freeze-bn", 0), ("--partial-bn", 1), ("--grad-checkpointing", None)])
def test_the_options_freeze_what_they_say(flag, free):
    argv = ["--model", "tsm_test_resnet", "--num-frames", "4", flag]
    model = create_model(settled(*argv), num_classes=5).train()
    training = sum(norm.training for norm in norms(model).values())
    assert training == (len(norms(model)) if free is None else free)


def test_a_backbone_without_batch_norms_is_refused():
    model = timm.create_model("video_net", backbone="test_vit", temporal="psn", proportion=0.5, img_size=32)
    with pytest.raises(ValueError, match=r"--freeze-bn: the backbone has 0 batch norms .* leave the option out"):
        freeze_backbone_norms(model)
