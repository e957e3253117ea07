"""Memory of a CPU run."""

import ctypes

_M_TRIM_THRESHOLD, _M_MMAP_THRESHOLD = -1, -3  # of glibc's malloc.h
_LARGEST_THRESHOLD = 32 * 2**20  # the most that glibc accepts


def keep_freed_memory() -> None:
    """Have malloc keep what is freed for the next step, where the C library is glibc.

    A training step allocates and frees maps of megabytes. glibc hands each of them back to the system and gets it anew,
    one page fault for every 4 kB: a fifth of the step of the tiny test_resnet.
    """
    try:
        mallopt = ctypes.CDLL(None).mallopt
    except (OSError, TypeError, AttributeError):  # another C library
        return
    mallopt(_M_MMAP_THRESHOLD, _LARGEST_THRESHOLD)
    mallopt(_M_TRIM_THRESHOLD, -1)  # never
