import os
import subprocess
import sys
from pathlib import Path

import pytest
import torch

from timm_video_psn.engine.cpu_memory import available_bytes, measure_peak

linux = pytest.mark.skipif(not Path("/proc/self/clear_refs").exists(), reason="memory is measured on Linux")


@linux
def test_freed_memory_is_kept_once_it_was_asked_for():
    """In a process of its own: whether the pages of an array that was freed are still the process's."""
    program = (
        "import sys, torch; from timm_video_psn.engine import cpu_memory\n"
        "resident = lambda: cpu_memory._proc_bytes('/proc/self/status', 'VmRSS')\n"
        "if sys.argv[1] == 'kept': cpu_memory.keep_freed_memory()\n"
        "before = resident(); block = torch.ones(16 * 2**20, dtype=torch.uint8); del block; print(resident() - before)"
    )
    kept, freed = (
        int(subprocess.run([sys.executable, "-c", program, mode], capture_output=True, check=True).stdout)
        for mode in ("kept", "freed")
    )
    assert freed < 8 * 2**20 < kept


@linux
def test_what_is_free_lies_between_nothing_and_the_whole_machine():
    assert 0 < available_bytes() < os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")


@linux
@pytest.mark.parametrize("megabytes", [40, 80])
def test_the_peak_of_a_function_is_what_it_allocates_even_after_a_larger_one(megabytes):
    measure_peak(lambda: torch.ones(120 * 2**20, dtype=torch.uint8).sum())
    resting, peak = measure_peak(lambda: torch.ones(megabytes * 2**20, dtype=torch.uint8).max())
    assert (peak - resting) / 2**20 == pytest.approx(megabytes, abs=15)
