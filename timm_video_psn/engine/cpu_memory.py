"""Memory of a CPU run: how malloc keeps it, how much is free, how much a function takes."""

import ctypes
from collections.abc import Callable
from pathlib import Path

_M_TRIM_THRESHOLD, _M_MMAP_THRESHOLD = -1, -3  # of glibc's malloc.h
_LARGEST_THRESHOLD = 32 * 2**20  # the most that glibc accepts


def keep_freed_memory() -> None:
    """Makes malloc keep freed memory for the next step, where the C library is glibc.

    A training step allocates and frees maps of megabytes. glibc hands each of them back to the system and gets it anew,
    one page fault for every 4 kB: a fifth of the step of the tiny test_resnet. glibc's environment variables would do
    the same, but it reads them before Python starts.
    """
    try:
        mallopt = ctypes.CDLL(None).mallopt
    except (OSError, TypeError, AttributeError):  # another C library
        return
    mallopt(_M_MMAP_THRESHOLD, _LARGEST_THRESHOLD)
    mallopt(_M_TRIM_THRESHOLD, -1)  # never


def available_bytes() -> int:
    """Returns the memory that this process may still take, within the machine and within its container's limit.

    Raises:
        ValueError: This system does not tell.
    """
    return min(_proc_bytes("/proc/meminfo", "MemAvailable"), *_left_in_container())


def measure_peak(run: Callable[[], None]) -> tuple[int, int]:
    """Returns the bytes of memory in use before a function ran, and the most in use while it ran.

    Args:
        run: Function to measure.

    Raises:
        ValueError: This system does not tell.
    """
    _return_freed_memory()  # else the function would reuse it, and seem to need none
    resting = _proc_bytes("/proc/self/status", "VmRSS")
    Path("/proc/self/clear_refs").write_text("5")  # the peak starts anew
    run()
    return resting, _proc_bytes("/proc/self/status", "VmHWM")


def _return_freed_memory() -> None:
    """Makes malloc hand back to the system what is free now, where the C library is glibc."""
    try:
        ctypes.CDLL(None).malloc_trim(0)
    except (OSError, TypeError, AttributeError):  # another C library
        return


def _proc_bytes(path: str, name: str) -> int:
    """A value of one of Linux's files of `name: number kB`."""
    try:
        lines = Path(path).read_text().splitlines()
    except OSError as error:
        raise ValueError(
            f"free memory cannot be measured here ({error}); --batch-size auto needs a GPU or Linux: give a number"
        ) from error
    return next(int(line.split()[1]) * 1024 for line in lines if line.startswith(f"{name}:"))


def _left_in_container() -> list[int]:
    """What the control group leaves, version 2 or 1; nothing without a limit."""
    left = []
    for limit, usage in (
        ("memory.max", "memory.current"),
        ("memory/memory.limit_in_bytes", "memory/memory.usage_in_bytes"),
    ):
        try:
            most, used = (Path("/sys/fs/cgroup", name).read_text().strip() for name in (limit, usage))
        except OSError:
            continue
        if most != "max":
            left.append(max(int(most) - int(used), 0))
    return left
