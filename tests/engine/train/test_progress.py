"""What a run says while it trains and when it is done."""

import re
import sys

import pytest

from timm_video_psn.__main__ import train as train_main
from timm_video_psn.engine.train.progress import in_words


@pytest.mark.parametrize(
    ("seconds", "text"),
    [(7, "7 s"), (99, "99 s"), (130, "2 min"), (5900, "98 min"), (7260, "2 h 01 min"), (200_000, "2 d 8 h")],
)
def test_durations_have_the_units_that_matter(seconds, text):
    assert in_words(seconds) == text


def test_a_run_tells_its_numbers_and_ends_with_the_best_epoch_and_what_to_do_next(
    arguments, tiny_motion, tmp_path, monkeypatch, capsys
):
    monkeypatch.setattr(sys, "argv", ["/elsewhere/timm_video_psn/train_video.py"])
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
        f"next      python /elsewhere/timm_video_psn/validate_video.py --model {run} --data-dir {tiny_motion}",
        f"          python /elsewhere/timm_video_psn/predict_video.py VIDEO --model {run}",
    ]
