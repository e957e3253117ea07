"""How a worker process of a loader begins and ends."""

from __future__ import annotations

import gc
import os
import signal
import threading
from multiprocessing import parent_process

import torch


def init_worker(worker: int) -> None:
    """One thread, since workers are the parallelism; and no signals but the main process's, which answers for all.

    What a forked worker inherits is never collected: to free a frame whose scaler has threads waits for ever, since the
    threads have stayed in the process that it was forked from.
    """
    gc.freeze()
    torch.set_num_threads(1)
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # it may be sent to the whole process group, and so may SIGTERM
    if hasattr(signal, "sigwaitinfo"):
        # One thread takes it and looks whose it is; a forked worker has no other one that could get it. Where the
        # system does not tell, torch's own handler stays: a worker that is sent one ends, whoever has sent it.
        signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGTERM})
        threading.Thread(target=_end_if_told_by, args=(_main_process(),), daemon=True).start()


def _main_process() -> int:
    """The process that this worker serves; its parent may be a server that forks workers."""
    main = parent_process()
    return os.getppid() if main is None or main.pid is None else main.pid


def _end_if_told_by(parent: int) -> None:
    """Ends this worker when its main process does, which first stops every process of its own with a SIGTERM."""
    while signal.sigwaitinfo({signal.SIGTERM}).si_pid != parent:
        pass
    os._exit(0)
