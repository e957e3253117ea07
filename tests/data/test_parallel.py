"""Work in several processes: in order, with an end that leaves nothing behind."""

import contextlib
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from timm_video_psn.data import parallel
from timm_video_psn.data.parallel import in_parallel

# A file of its own, whose processes import what they work with and nothing else: they begin in no time.
SCRIPT = """
import os, signal, sys, time
from pathlib import Path
from parallel import in_parallel

def double(number):
    return 2 * number

def die_at_three(number):
    os._exit(9) if number == 3 else time.sleep(0.01)

def let_the_idle_one_be_killed(number):
    if number:
        (Path(sys.argv[2]) / str(os.getpid())).touch()
    else:
        time.sleep(60)

def wait(number):
    path = Path(sys.argv[2]) / str(number)
    path.touch()
    try:
        for _ in range(600):
            time.sleep(0.1)
    finally:
        path.unlink()

if __name__ == "__main__":
    signal.signal(signal.SIGINT, signal.default_int_handler)  # shells have jobs in the background ignore it
    items = range(2 if sys.argv[1].startswith("let") else 70)
    print(*in_parallel(globals()[sys.argv[1]], items, 2, sys.argv[1]))
"""


@pytest.fixture
def begin(tmp_path):
    """Begins the script in a process group of its own, of which nothing is left after the test."""
    (tmp_path / "script.py").write_text(SCRIPT)
    environment = {**os.environ, "PYTHONPATH": str(Path(parallel.__file__).parent)}

    begun = []

    def start(*arguments):
        command = [sys.executable, str(tmp_path / "script.py"), *map(str, arguments)]
        pipes = {"stdout": subprocess.PIPE, "stderr": subprocess.PIPE, "text": True}
        begun.append(subprocess.Popen(command, env=environment, start_new_session=True, **pipes))
        return begun[-1]

    yield start
    for process in begun:
        with contextlib.suppress(ProcessLookupError):
            os.killpg(process.pid, signal.SIGKILL)
        process.wait()


@pytest.mark.parametrize("workers", [0, 1])
def test_one_process_needs_no_other(workers):
    assert list(in_parallel(os.getpgid, [os.getpid()], workers, "of this process")) == [os.getpgrp()]


def test_results_come_in_the_order_of_the_items(begin):
    said, _ = begin("double").communicate(timeout=120)
    assert said.split() == [str(2 * number) for number in range(70)]


def test_a_process_that_dies_is_an_error(begin):
    _, said = begin("die_at_three").communicate(timeout=120)
    assert "ChildProcessError: die_at_three: one of 2 worker processes died" in said


def test_a_process_that_dies_while_it_waits_for_work_is_an_error(begin, tmp_path):
    idle = tmp_path / "idle"
    idle.mkdir()
    process = begin("let_the_idle_one_be_killed", idle)
    deadline = time.monotonic() + 120
    while not list(idle.iterdir()):
        assert time.monotonic() < deadline
        time.sleep(0.05)
    time.sleep(0.5)  # it waits for work then, and holds the lock of the queue
    os.kill(int(next(idle.iterdir()).name), signal.SIGKILL)
    _, said = process.communicate(timeout=60)
    assert "one of 2 worker processes died" in said


@pytest.mark.parametrize("to_all", [True, False], ids=["a terminal's Ctrl-C", "a signal to the main process"])
def test_an_interrupt_ends_all_processes_at_once_and_they_clean_up(begin, tmp_path, to_all):
    begun = tmp_path / "begun"
    begun.mkdir()
    process = begin("wait", begun)
    deadline = time.monotonic() + 120
    while len(list(begun.iterdir())) < 2:
        assert time.monotonic() < deadline
        time.sleep(0.05)
    (os.killpg if to_all else os.kill)(process.pid, signal.SIGINT)
    _, said = process.communicate(timeout=30)
    assert (process.returncode, said.count("\nKeyboardInterrupt")) == (-signal.SIGINT, said.count("Traceback"))
    assert list(begun.iterdir()) == []
