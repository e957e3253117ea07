"""The flags of training."""

import re

import pytest

from tests.command_line.test_recipes import fails_with, recipe
from timm_video_psn.command_line.flags import FLAGS
from timm_video_psn.command_line.train import build_parser, parse_options


def test_the_defaults_are_the_papers():
    options = parse_options([])
    assert (options.opt, options.momentum, options.lr_base, options.batch_size) == ("momentum", 0.9, 0.01, 64)
    assert (options.epochs, options.sched, options.decay_milestones) == (80, "multistep", (50, 60, 70))
    assert (options.drop, options.alpha, options.beta) == (0.3, 0.01, 0.001)
    assert options.crop_pct == 224 / 256
    assert options.config is None


def test_help_is_whole_phrases():
    for name, option in FLAGS.items():
        assert re.match(r"[A-Z]|timm", option.metadata["help"]), name
        assert not option.metadata["help"].endswith("."), name
    text = build_parser().format_help(whole=True)
    assert "--max-broken" not in text
    assert "(default: None)" not in text


@pytest.mark.parametrize(
    ("flag", "value", "accepted"),
    [
        ("--head-lr-mult", "-1", "0 or more"),
        ("--weight-decay", "-0.1", "0 or more"),
        ("--clip-grad", "nan", "0 or more"),
        ("--checkpoint-interval", "-3", "0 or more"),
        ("--layer-decay", "75", "0 to 1"),
        ("--drop", "1.5", "0 to 1"),
        ("--epochs", "0", "1 or more"),
        ("--batch-size", "0", "1 or more"),
        ("--num-frames", "0", "1 or more"),
        ("--grad-accum-steps", "0", "1 or more"),
        ("--val-interval", "0", "1 or more"),
    ],
)
def test_numbers_that_would_spoil_a_run_are_refused(flag, value, accepted, capsys, tmp_path):
    assert f"{flag} {float(value):g}" in (said := fails_with(capsys, flag, value)).replace(".0 ", " ")
    assert f"is out of range; use {accepted}" in said
    text = f"{flag.removeprefix('--')}: .nan" if value == "nan" else f"{flag.removeprefix('--')}: {value}"
    assert f"is out of range; use {accepted}" in fails_with(capsys, "--config", recipe(tmp_path, text))


def test_options_that_need_or_exclude_one_another_say_so(capsys, monkeypatch):
    assert "needs --decay-epochs N" in fails_with(capsys, "--sched", "step")
    assert "exclude each other" in fails_with(capsys, "--freeze-bn", "--partial-bn")
    assert "argument --batch-size" in fails_with(capsys, "--batch-size", "many")
    auto = ("--batch-size", "auto")
    assert "chooses --grad-accum-steps, too" in fails_with(capsys, *auto, "--grad-accum-steps", "2")
    monkeypatch.setenv("RANK", "0")
    monkeypatch.setenv("WORLD_SIZE", "4")
    assert "a single process" in fails_with(capsys, *auto)


def test_former_names_go_on_working_and_say_the_present_ones(capsys):
    options = parse_options(["--max-broken", "0.3", "--traceback"])
    assert (options.max_unreadable, options.debug) == (0.3, True)
    said = capsys.readouterr().err
    assert "--max-broken is now --max-unreadable" in said
    assert "--traceback is now --debug" in said
    assert parse_options(["--sampling", "tsn"]).sampling == "segments"


def test_key_value_pairs_are_literals_where_they_can_be(capsys):
    argv = ["--model-kwargs", "a=0.5", "b-c=true", "branches=5x5", "name=x=y", "none=None"]
    expected = {"a": 0.5, "b_c": True, "branches": "5x5", "name": "x=y", "none": None}
    assert parse_options(argv).model_kwargs == expected
    assert "'proportion' is not key=value" in fails_with(capsys, "--model-kwargs", "proportion")
