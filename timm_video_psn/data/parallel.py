"""One function over many videos in processes of their own, which end with the process that started them."""

from __future__ import annotations

import os
import signal
import threading
import time
from collections import deque
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import Future, ProcessPoolExecutor, wait
from concurrent.futures.process import BrokenProcessPool
from functools import partial
from multiprocessing import active_children, get_context
from multiprocessing.process import BaseProcess
from types import FrameType
from typing import Any

from tqdm import tqdm

_CLEAN_UP_SEC = 5  # for processes that are to end, before they are killed
_AHEAD = 16  # items for each process that are handed out before the first result is taken


def in_parallel(work: Callable[[Any], Any], items: Sequence[Any], workers: int, what: str) -> Iterator[Any]:
    """Results in the order of the items, with a progress bar on a terminal.

    After Ctrl-C or an error, the processes stop within their item and run its `finally` clauses.

    Args:
        work: Function applied to each item; it and the items are sent to other processes.
        items: Items to work on.
        workers: Processes; this one alone for less than 2.
        what: Name of the work, for the progress bar.

    Raises:
        ChildProcessError: A process died.
    """
    bar = partial(tqdm, total=len(items), desc=what, unit="video", disable=None)
    if workers < 2:
        yield from bar(map(work, items))
        return
    before = set(active_children())
    with ProcessPoolExecutor(workers, get_context("spawn"), _begin_worker, (os.getpid(),)) as pool:
        try:
            yield from bar(_in_order(pool, work, items, _AHEAD * workers))
        except BaseException as error:
            others = set(active_children()) - before
            for process in others:
                process.terminate()
            if isinstance(error, BrokenProcessPool):
                _kill_in_time(others)
                raise ChildProcessError(
                    f"{what}: one of {workers} worker processes died, perhaps for want of memory; use fewer --workers"
                ) from error
            raise


def _kill_in_time(processes: set[BaseProcess]) -> None:
    """Ends processes that have been told to; they may wait for ever for a lock that a dead one held."""
    until = time.monotonic() + _CLEAN_UP_SEC
    for process in processes:
        process.join(max(0, until - time.monotonic()))
        process.kill()


def _in_order(pool: ProcessPoolExecutor, work: Callable[[Any], Any], items: Sequence[Any], ahead: int) -> Iterator[Any]:
    """Results as of `pool.map`, which cancels what it leaves: a pool whose processes end trips over that."""
    handed_out: deque[Future[Any]] = deque()
    for item in items:
        handed_out.append(pool.submit(_within_worker, work, item))
        if len(handed_out) > ahead:
            yield _result(handed_out.popleft())
    while handed_out:
        yield _result(handed_out.popleft())


def _result(future: Future[Any]) -> Any:
    """The result, when it is there; Ctrl-C is seen while it is not, whichever thread the system gives the signal to."""
    while not wait([future], timeout=1).done:
        pass
    return future.result()


def end_with_parent(parent: int) -> None:
    """Ends this process when the one that started it is gone: it would wait for work for ever.

    Args:
        parent: Number of the process that started this one.
    """

    def watch() -> None:
        while os.getppid() == parent:
            time.sleep(1)
        os._exit(1)

    threading.Thread(target=watch, daemon=True).start()


def _begin_worker(parent: int) -> None:
    end_with_parent(parent)
    stop = _Stop()
    signal.signal(signal.SIGTERM, stop)
    if signal.getsignal(signal.SIGINT) is not signal.SIG_IGN:  # as it is in a script's jobs in the background
        signal.signal(signal.SIGINT, stop)  # Ctrl-C reaches every process of a terminal's job


class _Stop:
    """Answers signals in a worker: the item that is worked on is broken off, and no other one is begun.

    The worker itself goes on, and hands its pool an interrupt for each item: if it ended, that would look like a death.
    """

    working = False
    noted = False

    def __call__(self, number: int, frame: FrameType | None) -> None:
        first, self.noted = not self.noted, True
        if first and self.working:  # a second signal does not break off what cleans up after the first
            raise KeyboardInterrupt


def _within_worker(work: Callable[[Any], Any], item: Any) -> Any:
    """The result for an item, unless this process has been asked to stop."""
    stop = signal.getsignal(signal.SIGTERM)
    assert isinstance(stop, _Stop)
    stop.working = True
    try:
        if stop.noted:
            raise KeyboardInterrupt
        return work(item)
    finally:
        stop.working = False
