"""What the scripts do with what a run says."""

import argparse
import logging
import os
import sys

from timm_video_psn.console import add_old_name, present_names, run_command


def test_reports_that_nobody_reads_any_more_disturb_nothing(monkeypatch, capsys):
    read, write = os.pipe()
    os.close(read)
    with os.fdopen(write, "w") as pipe:
        monkeypatch.setattr(sys, "stdout", pipe)
        said = [run_command("train_video.py", lambda: logging.getLogger("timm_video_psn").info("epoch"))] * 2
        pipe.flush()
    assert said == [0, 0]
    assert capsys.readouterr().err == ""


def test_an_option_is_taken_by_its_former_name_with_a_warning(capsys):
    parser = argparse.ArgumentParser("train")
    group = parser.add_argument_group("data")
    group.add_argument("--max-unreadable", type=float, default=0.1)
    group.add_argument("--debug", action="store_true")
    add_old_name(parser, "--max-broken", "--max-unreadable")
    add_old_name(parser, "--traceback", "--debug")
    assert vars(parser.parse_args([])) == {"max_unreadable": 0.1, "debug": False}
    assert capsys.readouterr().err == ""
    assert vars(parser.parse_args(["--max-broken", "0.2", "--traceback"])) == {"max_unreadable": 0.2, "debug": True}
    assert "train: warning: --max-broken is now --max-unreadable" in capsys.readouterr().err
    assert "--max-broken" not in parser.format_help()
    assert present_names(parser) == {"max_broken": "max_unreadable", "traceback": "debug"}
