"""What a run says while it trains and when it is done."""

import logging
import re
import sys

import pytest

from timm_video_psn.__main__ import train as train_main
from timm_video_psn.engine.train.progress import Progress, in_words


class Terminal:
    """A stream that says whether it is a terminal, and keeps what it gets."""

    def __init__(self, is_terminal):
        self.text, self.isatty = "", lambda: is_terminal

    def write(self, text):
        self.text += text

    def flush(self):
        """Nothing is held back."""


@pytest.fixture
def said(caplog):
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


@pytest.mark.parametrize(
    ("seconds", "text"),
    [(7, "7 s"), (99, "99 s"), (130, "2 min"), (5900, "98 min"), (7260, "2 h 01 min"), (200_000, "2 d 8 h")],
)
def test_durations_have_the_units_that_matter(seconds, text):
    assert in_words(seconds) == text


def test_a_run_tells_its_numbers_and_ends_with_the_best_epoch_and_what_to_do_next(
    arguments, tiny_motion, tmp_path, monkeypatch, capsys
):
    monkeypatch.setattr(sys, "argv", ["/home/me/timm_video_psn/train_video.py"])
    assert train_main([*arguments, "--val-interval", "1", "--log-interval", "2"]) == 0
    lines = capsys.readouterr().out.splitlines()
    batches = [line for line in lines if " batch " in line]
    assert [line.partition("  ")[0] for line in batches] == ["epoch 1/2"] * 2 + ["epoch 2/2"] * 2
    number = r"\d+(\.\d+)?"
    form = rf"epoch ./2  batch [24] of 6  {number} s left, loss {number}, top-1 {number}, lr \d\.\de-\d\d"
    assert all(re.fullmatch(form, line) for line in batches)
    accuracies = [float(match[1]) for line in lines if (match := re.search(r"val top-1 ([\d.]+)[, (]", line))][:2]
    best = 1 + accuracies.index(max(accuracies)) if accuracies[0] != accuracies[1] else None
    (told,) = [line for line in lines if line.startswith("best ")]
    assert re.search(rf"epoch {best or '[12]'} of 2: val top-1 {max(accuracies)} % \(95 % interval", told)
    end = lines.index(told)
    run = tmp_path / "run"
    assert lines[end + 1].startswith(f"folder    {run}: best/")
    assert re.match(r"time +\d+ s$", lines[end + 2])
    assert lines[end + 3 :] == [
        f"next      python /home/me/timm_video_psn/validate_video.py --model {run} --data-dir {tiny_motion}",
        f"          python /home/me/timm_video_psn/predict_video.py VIDEO --model {run}",
    ]
