import argparse
from pathlib import Path

import pytest
import timm
import torch

import timm_video_psn
from timm_video_psn.engine.train.build import create_scheduler
from timm_video_psn.engine.train.options import build_parser, parse_options


def fails_with(capsys: pytest.CaptureFixture[str], *argv: str) -> str:
    with pytest.raises(SystemExit) as stop:
        parse_options(argv)
    assert stop.value.code == 2
    return capsys.readouterr().err


def recipe(tmp_path: Path, text: str) -> str:
    path = tmp_path / "recipe.yaml"
    path.write_text(text)
    return str(path)


def test_the_defaults_are_the_papers():
    options = parse_options([])
    assert (options.opt, options.momentum, options.lr, options.batch_size) == ("momentum", 0.9, 0.01, 64)
    assert (options.epochs, options.sched, options.decay_milestones) == (80, "multistep", [50, 60, 70])
    assert (options.drop, options.alpha, options.beta) == (0.3, 0.01, 0.001)
    assert options.crop_pct == 224 / 256
    assert options.config is None


def test_the_learning_rate_follows_the_clips_of_an_update():
    assert parse_options(["--batch-size", "16", "--grad-accum-steps", "2"]).lr == pytest.approx(0.005)
    assert parse_options(["--batch-size", "16", "--lr", "0.3"]).lr == 0.3


@pytest.mark.parametrize(
    ("flag", "value", "accepted"),
    [
        ("--head-lr-mult", "-1", "0 or more"),
        ("--weight-decay", "-0.1", "0 or more"),
        ("--clip-grad", "nan", "0 or more"),
        ("--checkpoint-interval", "-3", "0 or more"),
        ("--layer-decay", "75", "0 to 1"),
        ("--drop", "1.5", "0 to 1"),
    ],
)
def test_numbers_that_would_spoil_a_run_are_refused(flag, value, accepted, capsys, tmp_path):
    assert f"{flag} {float(value):g}" in (said := fails_with(capsys, flag, value))
    assert f"makes no sense; use {accepted}" in said
    text = f"{flag.removeprefix('--')}: .nan" if value == "nan" else f"{flag.removeprefix('--')}: {value}"
    assert f"makes no sense; use {accepted}" in fails_with(capsys, "--config", recipe(tmp_path, text))


def test_the_steps_of_a_schedule_must_be_given(capsys):
    assert "needs --decay-epochs N" in fails_with(capsys, "--sched", "step")
    options = parse_options(["--sched", "step", "--decay-epochs", "2", "--epochs", "5", "--lr", "1"])
    optimizer = torch.optim.SGD([torch.nn.Parameter(torch.zeros(1))], lr=options.lr)
    scheduler = create_scheduler(options, optimizer, updates_per_epoch=3)
    rates = []
    for update in range(1, 13):
        rates.append(round(optimizer.param_groups[0]["lr"], 6))
        scheduler.step_update(update)
    assert rates == [1.0] * 6 + [0.1] * 6


def test_adaptive_optimizers_scale_by_the_square_root_as_in_timm():
    assert parse_options(["--batch-size", "16", "--opt", "adamw"]).lr == pytest.approx(0.005)
    argv = ["--batch-size", "16", "--opt", "adamw", "--lr-base-scale", "linear"]
    assert parse_options(argv).lr == pytest.approx(0.0025)


def test_the_data_sets_recipe_gives_defaults_and_the_command_line_wins():
    options = parse_options(["--dataset", "motion", "--epochs", "3"])
    assert options.config == "timm_video_psn/recipes/motion.yaml"
    assert (options.model, options.opt, options.epochs) == ("psn_test_resnet", "muon", 3)
    assert isinstance(options.lr, float)


def test_settings_of_a_temporal_module_reach_only_its_own_models():
    psn = parse_options(["--dataset", "motion"]).model_kwargs
    tsn = parse_options(["--dataset", "motion", "--model", "tsn_test_resnet"]).model_kwargs
    assert psn["proportion"] == 0.5
    assert "proportion" not in tsn
    assert tsn["zero_init_last"] is False


def test_model_kwargs_of_the_command_line_join_those_of_the_recipe():
    kwargs = parse_options(
        ["--dataset", "motion", "--model-kwargs", "proportion=0.25", "sites=('layer1',)"]
    ).model_kwargs
    assert kwargs["proportion"] == 0.25
    assert kwargs["sites"] == ("layer1",)
    assert kwargs["zero_init_last"] is False


def test_values_of_a_recipe_are_read_as_the_command_line_reads_them(tmp_path):
    options = parse_options(
        ["--config", recipe(tmp_path, "lr: 1e-3\nbatch-size: 8\namp: true\ndecay_milestones: [3, 5]")]
    )
    assert (options.lr, options.batch_size, options.amp, options.decay_milestones) == (1e-3, 8, True, [3, 5])


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("epoch: 3", "option 'epoch' is unknown; nearest: epochs"),
        ("epochs: many", "epochs='many' is no positive_integer"),
        ("crop: centre", "crop='centre' is unknown; use one of random, multiscale"),
        ("epochs: null", "epochs=None: expected a value"),
        ("lr: [1, 2]", "lr=[1, 2]: expected a value"),
        ("amp: 'off'", "amp='off': expected a bool"),
        ("model-kwargs: 5", "model_kwargs=5: expected a dict"),
        ("decay_milestones: 3", "decay_milestones=3: expected a list"),
        ("temporal_kwargs: 3", "temporal_kwargs=3: expected settings by temporal module"),
        ("- 1", "expected lines of `option: value`, found a list"),
        ("lr: [", "is not valid YAML"),
        ("temporal_kwargs: {psn: {proportoin: 1}}", "temporal_kwargs of 'psn' has unknown entries"),
        ("temporal_kwargs: {pns: {}}", "temporal_kwargs of 'pns' has unknown entries"),
    ],
)
def test_a_recipe_that_is_wrong_says_where(tmp_path, capsys, text, message):
    assert message in fails_with(capsys, "--config", recipe(tmp_path, text), "--model", "psn_resnet18")


def test_tsn_is_another_name_of_segments(tmp_path):
    assert parse_options(["--sampling", "tsn"]).sampling == "segments"
    assert parse_options(["--config", recipe(tmp_path, "sampling: tsn")]).sampling == "segments"


def test_an_option_of_an_earlier_version_is_read_from_its_args_yaml(tmp_path):
    assert parse_options(["--config", recipe(tmp_path, "max_broken: 0.3")]).max_unreadable == 0.3


def test_a_missing_recipe_and_a_malformed_model_argument_are_named(capsys):
    assert "no such file" in fails_with(capsys, "--config", "nowhere.yaml")
    assert "'proportion' is not key=value" in fails_with(capsys, "--model-kwargs", "proportion")


def test_every_option_has_a_help_text_or_needs_none():
    silent = {"opt", "momentum", "clip_mode", "epochs", "decay_rate", "warmup_epochs", "warmup_lr", "min_lr", "seed"}
    actions = [action for action in build_parser()._actions if action.help is None]
    assert {action.dest for action in actions} <= {*silent, "amp_dtype"}
    assert all(not isinstance(action, argparse._HelpAction) for action in actions)


@pytest.mark.parametrize("flag", ["--epochs", "--batch-size", "--num-frames", "--grad-accum-steps", "--val-interval"])
def test_counts_below_one_are_refused(flag, capsys):
    with pytest.raises(SystemExit):
        parse_options([flag, "0"])
    assert f"argument {flag}" in capsys.readouterr().err


@pytest.mark.parametrize("dataset", ["sthv1", "sthv2", "k400", "diving48"])
def test_the_papers_data_sets_have_recipes_with_its_settings(dataset):
    options = parse_options(["--dataset", dataset])
    assert options.config == f"timm_video_psn/recipes/{dataset}.yaml"
    assert (options.model, options.pretrained, options.num_frames) == (
        "psn_resnet50",
        True,
        16 if dataset == "diving48" else 8,
    )
    assert (options.batch_size, options.lr, options.epochs, options.decay_milestones) == (64, 0.01, 80, [50, 60, 70])
    assert (options.opt, options.drop, options.alpha, options.beta) == ("momentum", 0.3, 0.01, 0.001)
    assert (options.sampling, options.hflip, options.crop_pct) == ("segments", 0.5, 224 / 256)
    assert parse_options(["--dataset", dataset, "--no-pretrained"]).pretrained is False


@pytest.mark.parametrize("dataset", ["sthv1", "sthv2", "k400", "diving48"])
def test_every_setting_of_a_papers_recipe_says_whether_it_is_the_papers(dataset):
    text = (Path(timm_video_psn.__file__).parent / "recipes" / f"{dataset}.yaml").read_text()
    settings = [line for line in text.splitlines() if not line.startswith("#")]
    marks = [line.partition(" # ")[2].split()[0].rstrip(":;,") for line in settings if not line.startswith("dataset:")]
    assert len(marks) > 20
    assert set(marks) == {"paper", "silent"}


def test_the_papers_sgd_is_the_plain_one():
    """The paper says SGD; timm's optimizer of that name is Nesterov's."""
    from timm_video_psn.engine.train.build import create_optimizer

    model = timm.create_model("psn_test_resnet", num_classes=5, proportion=0.5)
    optimizer = create_optimizer(parse_options(["--dataset", "sthv1", "--device", "cpu"]), model)
    assert type(optimizer) is torch.optim.SGD
    for group in optimizer.param_groups:
        assert (group["lr"], group["momentum"], group["nesterov"]) == (0.01, 0.9, False)
        assert group["weight_decay"] == (5e-4 if group["name"].endswith(" weights") else 0)


def test_a_recipe_is_chosen_by_name_by_file_or_by_the_data_set(tmp_path, monkeypatch):
    named = parse_options(["--recipe", "diving48"])
    assert (named.dataset, named.num_frames) == ("diving48", 16)
    assert (
        vars(named) == vars(parse_options(["--dataset", "diving48"])) == vars(parse_options(["--config", "diving48"]))
    )
    own = parse_options(["--recipe", "diving48", "--dataset", "folder", "--epochs", "3"])
    assert (own.dataset, own.num_frames, own.epochs) == ("folder", 16, 3)
    monkeypatch.chdir(tmp_path)
    Path("diving48").write_text("epochs: 7")  # a file goes by a path, a shipped recipe by its name
    assert parse_options(["--recipe", "diving48"]).epochs == 80
    assert parse_options(["--recipe", "./diving48"]).epochs == 7


def test_an_unknown_recipe_is_told_the_shipped_ones(capsys):
    message = fails_with(capsys, "--recipe", "sthv3")
    assert (
        "--recipe sthv3: no such file, and none of the shipped recipes (diving48, k400, motion, sthv1, sthv2)"
        in message
    )


def test_the_learning_rate_follows_the_processes(monkeypatch):
    monkeypatch.setenv("RANK", "0")
    monkeypatch.setenv("WORLD_SIZE", "8")
    monkeypatch.setenv("RANK", "0")
    assert parse_options(["--batch-size", "8", "--grad-accum-steps", "1"]).lr == pytest.approx(0.01)
    assert parse_options(["--batch-size", "16", "--grad-accum-steps", "2"]).lr == pytest.approx(0.04)
    assert parse_options(["--batch-size", "8", "--opt", "adamw", "--lr-base-size", "16"]).lr == pytest.approx(0.02)
    assert parse_options(["--batch-size", "16", "--lr", "0.3"]).lr == 0.3
