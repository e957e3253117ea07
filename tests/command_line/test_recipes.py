"""Recipes: shipped ones, files, and what is wrong with a file."""

from pathlib import Path

import numpy as np
import pytest
import torch

import timm_video_psn
from timm_video_psn.command_line.train import parse_options
from timm_video_psn.data import TrainTransform

PAPERS = ("sthv1", "sthv2", "k400", "diving48")


def fails_with(capsys: pytest.CaptureFixture[str], *argv: str) -> str:
    with pytest.raises(SystemExit) as stop:
        parse_options(argv)
    assert stop.value.code == 2
    return capsys.readouterr().err


def recipe(tmp_path: Path, text: str) -> str:
    path = tmp_path / "recipe.yaml"
    path.write_text(text)
    return str(path)


def test_the_data_sets_recipe_gives_defaults_and_the_command_line_wins(tmp_path):
    options = parse_options(["--dataset", "motion", "--epochs", "3"])
    assert options.config == "timm_video_psn/recipes/motion.yaml"
    assert (options.model, options.opt, options.epochs) == ("psn_test_resnet", "muon", 3)
    assert isinstance(options.lr, float)
    assert parse_options(["--config", recipe(tmp_path, "amp: true"), "--no-amp"]).amp is False


def test_a_recipe_is_chosen_by_name_by_file_or_by_the_data_set(tmp_path, monkeypatch):
    named = parse_options(["--recipe", "diving48"])
    assert (named.dataset, named.num_frames) == ("diving48", 16)
    assert named == parse_options(["--dataset", "diving48"]) == parse_options(["--config", "diving48"])
    own = parse_options(["--recipe", "diving48", "--dataset", "folder", "--epochs", "3"])
    assert (own.dataset, own.num_frames, own.epochs) == ("folder", 16, 3)
    monkeypatch.chdir(tmp_path)
    Path("diving48").write_text("epochs: 7")  # a file goes by a path, a shipped recipe by its name
    assert parse_options(["--recipe", "diving48"]).epochs == 80
    assert parse_options(["--recipe", "./diving48"]).epochs == 7


def test_settings_of_a_temporal_module_reach_only_its_own_models():
    psn = parse_options(["--dataset", "motion"]).model_kwargs
    tsn = parse_options(["--dataset", "motion", "--model", "tsn_test_resnet"]).model_kwargs
    assert psn["proportion"] == 0.5
    assert "proportion" not in tsn
    assert tsn["zero_init_last"] is False


def test_model_kwargs_of_the_command_line_join_those_of_the_recipe():
    argv = ["--dataset", "motion", "--model-kwargs", "proportion=0.25", "sites=('layer1',)"]
    kwargs = parse_options(argv).model_kwargs
    assert (kwargs["proportion"], kwargs["sites"], kwargs["zero_init_last"]) == (0.25, ("layer1",), False)


def test_values_are_read_as_the_command_line_reads_them(tmp_path):
    text = "lr: 1e-3\nbatch-size: 8\namp: true\nchannels-last: false\ndecay_milestones: [3, 5]\nsampling: tsn\n"
    text += "model-kwargs: {sites: [layer1], branches: 5x5, dilated: true}\nlayer_decay: null\nlog: []\n"
    options = parse_options(["--config", recipe(tmp_path, text)])
    assert (options.lr, options.batch_size, options.amp, options.channels_last) == (1e-3, 8, True, False)
    assert (options.decay_milestones, options.sampling, options.layer_decay) == ([3, 5], "segments", None)
    assert options.model_kwargs == {"sites": ["layer1"], "branches": "5x5", "dilated": True}


def test_an_option_of_an_earlier_version_is_read_from_its_args_yaml(tmp_path):
    options = parse_options(["--config", recipe(tmp_path, "max_broken: 0.3\ntraceback: true\nconfig: null")])
    assert (options.max_unreadable, options.debug) == (0.3, True)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("epoch: 3", "option 'epoch' is unknown; nearest: epochs"),
        ("epochs: many", "argument --epochs: invalid int value: 'many'"),
        ("epochs: 0", "--epochs 0 is out of range; use 1 or more"),
        ("crop: centre", "argument --crop: 'centre' is not one of random"),
        ("epochs: null", "epochs=None: expected a single value"),
        ("lr: [1, 2]", "lr=[1, 2]: expected a single value"),
        ("amp: 'off'", "amp='off': expected true or false"),
        ("model-kwargs: 5", "model_kwargs=5: expected a mapping"),
        ("decay_milestones: 3", "decay_milestones=3: expected a list"),
        ("decay_milestones: []", "argument --decay-milestones: expected at least one argument"),
        ("temporal_kwargs: 3", "temporal_kwargs=3: expected settings by module"),
        ("- 1", "expected lines of `option: value`, found a list"),
        ("lr: [", "is not valid YAML"),
        ("temporal_kwargs: {psn: {proportoin: 1}}", "temporal_kwargs of 'psn' has unknown entries"),
        ("temporal_kwargs: {pns: {}}", "temporal_kwargs of 'pns' has unknown entries"),
    ],
)
def test_a_recipe_that_is_wrong_says_where(tmp_path, capsys, text, message):
    said = fails_with(capsys, "--config", recipe(tmp_path, text), "--model", "psn_resnet18")
    assert message in said
    assert "recipe.yaml" in said or "is out of range" in said


def test_a_missing_recipe_is_told_the_shipped_ones(capsys):
    message = fails_with(capsys, "--recipe", "sthv3")
    assert "--recipe sthv3: no such file, and none of the shipped recipes (diving48, k400, motion, small" in message
    assert "no such file" in fails_with(capsys, "--config", "nowhere.yaml")


@pytest.mark.parametrize("dataset", PAPERS)
def test_the_papers_data_sets_have_recipes_with_its_settings(dataset):
    options = parse_options(["--dataset", dataset])
    assert options.config == f"timm_video_psn/recipes/{dataset}.yaml"
    frames = 16 if dataset == "diving48" else 8
    assert (options.model, options.pretrained, options.num_frames) == ("psn_resnet50", True, frames)
    assert (options.batch_size, options.lr_base, options.epochs) == (64, 0.01, 80)
    assert tuple(options.decay_milestones) == (50, 60, 70)
    assert (options.opt, options.drop, options.alpha, options.beta) == ("momentum", 0.3, 0.01, 0.001)
    assert (options.sampling, options.hflip, options.crop_pct) == ("segments", 0.5, 224 / 256)
    assert parse_options(["--dataset", dataset, "--no-pretrained"]).pretrained is False


@pytest.mark.parametrize("dataset", PAPERS)
def test_every_setting_of_a_papers_recipe_says_whether_it_is_the_papers(dataset):
    text = (Path(timm_video_psn.__file__).parent / "recipes" / f"{dataset}.yaml").read_text()
    settings = [line for line in text.splitlines() if not line.startswith("#")]
    marks = [line.partition(" # ")[2].split()[0].rstrip(":;,") for line in settings if not line.startswith("dataset:")]
    assert len(marks) > 20
    assert set(marks) == {"paper", "silent"}


def test_the_recipe_for_small_data_keeps_the_whole_height_and_never_a_small_part_of_the_frame():
    options = parse_options(["--recipe", "small", "--data-dir", "videos"])
    assert (options.crop, options.crop_pct, options.dataset, options.pretrained) == ("random", 1.0, "folder", True)
    assert options.early_stopping < options.epochs
    rng = np.random.default_rng(0)
    transform = TrainTransform(32, options.crop_pct, options.crop)
    for _ in range(50):  # a white actor as high as the frame, in its middle
        clip = torch.zeros(2, 48, 84, 3, dtype=torch.uint8)
        clip[:, :, 40:44] = 255
        assert (transform(clip, rng)[0][0, :, :, 0] > 128).any(1).all()
