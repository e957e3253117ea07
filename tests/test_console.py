"""What the scripts do with what a run says."""

import argparse
import io
import logging
import os
import sys

import pytest

from timm_video_psn.console import Progress, add_old_name, command_name, printable, run_command


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
    group.add_argument("--output", required=True)
    group.add_argument("--debug", action="store_true")
    add_old_name(parser, "--max-broken", "--max-unreadable")
    add_old_name(parser, "--traceback", "--debug")
    add_old_name(parser, "--out", "--output")
    present = {"max_unreadable": 0.1, "debug": False, "output": "a"}
    assert vars(parser.parse_args(["--output", "a"])) == present
    assert capsys.readouterr().err == ""
    former = {"max_unreadable": 0.2, "debug": True, "output": "b"}
    assert vars(parser.parse_args(["--max-broken", "0.2", "--traceback", "--out", "b"])) == former
    assert "train: warning: --max-broken is now --max-unreadable" in capsys.readouterr().err
    assert "--max-broken" not in parser.format_help()


@pytest.mark.parametrize(
    ("text", "shown"),
    [
        ("Straße, дом, 家, بيت, 집 \N{GRINNING FACE}", "Straße, дом, 家, بيت, 집 \N{GRINNING FACE}"),
        ("\x1b[2K\x1b[1Arun 100 %", "\\x1b[2K\\x1b[1Arun 100 %"),
        ("one\ntop-1 99.9 %\r", "one\\ntop-1 99.9 %\\r"),
        ("\x9b31m \x7f \u202egnp.exe \u2028", "\\x9b31m \\x7f \\u202egnp.exe \\u2028"),
        ("d\udce4.mp4", "d\\udce4.mp4"),
    ],
)
def test_text_of_strangers_moves_no_cursor_and_forges_no_line(text, shown):
    assert printable(text) == shown


def test_messages_keep_their_lines_and_lose_all_other_controls(capsys):
    logger = logging.getLogger("timm_video_psn")

    def run():
        logger.info("class \x1b[31mred\nsecond")
        logger.warning("file \x07a.mp4")
        raise ValueError("label \x1b]0;title\x07\n  line 2")

    assert run_command("predict", run) == 2
    output = capsys.readouterr()
    assert output.out == "class \\x1b[31mred\nsecond\n"
    assert output.err.splitlines() == [
        "predict: WARNING: file \\x07a.mp4",
        "predict: error: label \\x1b]0;title\\x07",
        "  line 2",
    ]


def test_a_warning_of_the_hub_comes_once(capsys):
    from huggingface_hub.utils import logging as hub_logging

    root = logging.getLogger("huggingface_hub")
    printed = io.StringIO()
    hub_logging.get_logger("huggingface_hub")  # gives the library's logger a handler of its own
    (own,) = [handler for handler in root.handlers if type(handler) is logging.StreamHandler]
    own.setStream(printed)
    try:
        assert run_command("predict", lambda: root.warning("no token")) == 0
    finally:
        own.setStream(sys.stderr)
    assert (printed.getvalue() + capsys.readouterr().err).count("no token") == 1


@pytest.mark.parametrize(
    ("program", "command"),
    [
        ("/usr/bin/timm-video-psn", "timm-video-psn validate"),
        ("train_video.py", "python validate_video.py"),
        ("../psn/train_video.py", "python ../psn/validate_video.py"),
        ("/site-packages/timm_video_psn/__main__.py", "python -m timm_video_psn validate"),
        ("notebook.py", "timm-video-psn validate"),
    ],
)
def test_commands_are_told_as_the_user_would_start_them(program, command, monkeypatch):
    monkeypatch.setattr(sys, "argv", [program])
    assert command_name("validate") == command


class Terminal:
    """A stream that says whether it is a terminal, and keeps what it gets."""

    def __init__(self, is_terminal):
        self.text, self.isatty = "", lambda: is_terminal

    def write(self, text):
        self.text += text

    def flush(self):
        """Nothing is held back."""


@pytest.fixture
def said(caplog, monkeypatch):
    monkeypatch.setattr(logging.getLogger("timm_video_psn"), "handlers", [])  # earlier commands left some
    caplog.set_level(logging.INFO, "timm_video_psn")
    return caplog


def test_a_terminal_gets_a_bar_and_no_lines(monkeypatch, said):
    monkeypatch.setattr(sys, "stderr", Terminal(True))
    with Progress(range(40), "epoch 1/2", 40, describe=lambda done: f"loss {done}.5") as batches:
        batches._bar.mininterval = 0
        assert list(batches) == list(range(40))
    assert "epoch 1/2  50%|" in sys.stderr.text
    assert "20/40, loss 20.5" in sys.stderr.text
    assert said.messages == []


def test_a_file_gets_a_line_every_so_many_batches(monkeypatch, said):
    monkeypatch.setattr(sys, "stderr", Terminal(False))
    with Progress(range(7, 20), "epoch 1/2", 20, 7, 5, lambda done: f"loss {done}.5") as batches:
        list(batches)
    assert said.messages == ["epoch 1/2  batch 10 of 20  loss 10.5", "epoch 1/2  batch 15 of 20  loss 15.5"]
    assert sys.stderr.text == ""


def test_a_file_gets_a_line_every_thirty_seconds(monkeypatch, said):
    clock = iter(range(0, 1000, 8))  # 8 s from one look to the next
    monkeypatch.setattr(sys, "stderr", Terminal(False))
    monkeypatch.setattr("time.monotonic", lambda: next(clock))
    with Progress(range(12), "validation", 12) as batches:
        list(batches)
    assert said.messages == ["validation  batch 4 of 12", "validation  batch 8 of 12"]
