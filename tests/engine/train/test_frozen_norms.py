import copy
import pickle

import pytest
import timm
import torch

import timm_video_psn  # noqa: F401  registers the models
from timm_video_psn.engine.train.build import create_model
from timm_video_psn.engine.train.frozen_norms import freeze_backbone_norms
from timm_video_psn.engine.train.options import parse_options


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
    model = create_model(parse_options(argv), num_classes=5).train()
    training = sum(norm.training for norm in norms(model).values())
    assert training == (len(norms(model)) if free is None else free)


def test_a_backbone_without_batch_norms_and_both_options_at_once_are_refused(capsys):
    model = timm.create_model("video_net", backbone="test_vit", temporal="psn", proportion=0.5, img_size=32)
    with pytest.raises(ValueError, match=r"--freeze-bn: the backbone has 0 batch norms .* leave the option out"):
        freeze_backbone_norms(model)
    with pytest.raises(SystemExit):
        parse_options(["--freeze-bn", "--partial-bn"])
    assert "were both asked for" in capsys.readouterr().err
