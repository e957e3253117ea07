"""Several runs at a time on one machine, for as long as there is time; runs that are broken off resume."""

import os
import platform
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path


def run_packed(
    commands: Mapping[str, Sequence[str]],
    folder: Path,
    jobs: int = 1,
    threads: int = 1,
    minutes: float = float("inf"),
    finished: Callable[[], object] = lambda: None,
) -> int:
    """Run commands in processes of their own, each with its output in `<folder>/<name>/log.txt`.

    A command must save its state at SIGTERM and resume when it is started again, as the train command does.

    Args:
        commands: command line of each run, by the name of its folder, in the order in which they start.
        folder: where the runs' folders are.
        jobs: runs at a time.
        threads: CPU threads of a run.
        minutes: time after which the runs are stopped.
        finished: called after each run that succeeds.

    Returns:
        1 if a run failed, else 0; runs that are stopped are not failures.
    """
    waiting, running = dict(commands), {}
    failed, end = [], time.monotonic() + 60 * minutes
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))
    print(f"{len(waiting)} runs to train, {jobs} at a time", flush=True)
    try:
        while (waiting or running) and time.monotonic() < end:
            while waiting and len(running) < jobs:
                name = next(iter(waiting))
                running[name] = _start(waiting.pop(name), folder / name, threads)
            for name in [name for name, process in running.items() if process.poll() is not None]:
                if code := running.pop(name).returncode:
                    failed.append(name)
                else:
                    finished()
                print(f"{time.strftime('%F %T')} {name}: {f'failed, exit code {code}' if code else 'done'}", flush=True)
            time.sleep(0.2)
    finally:
        for process in running.values():
            process.terminate()
        for process in running.values():
            process.wait()
    if failed:
        print(f"failed: {', '.join(failed)}; see log.txt in their folders in {folder}", file=sys.stderr)
    return int(bool(failed))


def _start(command: Sequence[str], folder: Path, threads: int) -> subprocess.Popen:
    folder.mkdir(parents=True, exist_ok=True)
    environment = {**os.environ, "OMP_NUM_THREADS": str(threads), "MKL_NUM_THREADS": str(threads)}
    with (folder / "log.txt").open("a") as log:
        return subprocess.Popen(command, env=environment, stdout=log, stderr=subprocess.STDOUT)


def describe_device(device: str) -> str:
    """The processor or GPU and the numbers it computes with."""
    import torch

    if device != "cpu":
        return f"{torch.cuda.get_device_name()}, bfloat16"
    info = Path("/proc/cpuinfo")
    lines = info.read_text().splitlines() if info.exists() else []
    names = [line.partition(":")[2].strip() for line in lines if line.startswith("model name")]
    name = names[0] if names else platform.processor() or platform.machine()
    return f"{name}, {torch.get_num_threads()} thread, float32"
