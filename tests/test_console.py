"""What the scripts do with what a run says."""

import logging
import os
import sys

from timm_video_psn.console import run_command


def test_reports_that_nobody_reads_any_more_disturb_nothing(monkeypatch, capsys):
    read, write = os.pipe()
    os.close(read)
    with os.fdopen(write, "w") as pipe:
        monkeypatch.setattr(sys, "stdout", pipe)
        said = [run_command("train_video.py", lambda: logging.getLogger("timm_video_psn").info("epoch"))] * 2
        pipe.flush()
    assert said == [0, 0]
    assert capsys.readouterr().err == ""
