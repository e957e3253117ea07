import os

import pytest

from timm_video_psn.engine.train.data_wait import advise
from timm_video_psn.engine.train.options import parse_options


def test_up_to_thirty_percent_nothing_is_said():
    assert advise(0.30, parse_options([])) is None


def test_the_remedies_are_commands_that_fit_the_run(monkeypatch):
    monkeypatch.setattr(os, "cpu_count", lambda: 16)
    advice = advise(0.42, parse_options(["--workers", "4", "--img-size", "112"]))
    assert advice is not None
    assert advice.startswith("42% of the epoch")
    for remedy in (
        "--workers 8 (now 4, and this machine has 16 cores)",
        "timm-video-psn prepare resize",
        "--short-side 128",
    ):
        assert remedy in advice
    assert "--decoder torchcodec" in advice


def test_what_is_done_already_is_not_advised(monkeypatch):
    monkeypatch.setattr(os, "cpu_count", lambda: 4)
    advice = advise(0.9, parse_options(["--dataset", "motion", "--workers", "4", "--decoder", "torchcodec"]))
    assert advice is not None
    for remedy in ("--workers", "resize", "torchcodec"):
        assert remedy not in advice


def test_what_shards_cannot_do_is_not_advised():
    advice = advise(0.9, parse_options(["--dataset", "shards", "--data-dir", "https://host/shards"]))
    assert advice is not None
    assert "resize" not in advice
    assert "torchcodec" not in advice


@pytest.mark.parametrize(("workers", "more"), [("0", "1"), ("3", "4")])
def test_workers_are_doubled_up_to_the_cores(monkeypatch, workers, more):
    monkeypatch.setattr(os, "cpu_count", lambda: 4)
    assert f"--workers {more} " in (advise(0.5, parse_options(["--workers", workers])) or "")
