import os
from pathlib import Path

import pytest
import torch

from timm_video_psn.engine.cpu_memory import available_bytes, keep_freed_memory, measure_peak

linux = pytest.mark.skipif(not Path("/proc/self/clear_refs").exists(), reason="memory is measured on Linux")


def test_asking_malloc_to_keep_memory_is_harmless():
    keep_freed_memory()
    keep_freed_memory()


@linux
def test_what_is_free_lies_between_nothing_and_the_whole_machine():
    assert 0 < available_bytes() < os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")


@linux
@pytest.mark.parametrize("megabytes", [40, 80])
def test_the_peak_of_a_function_is_what_it_allocates_even_after_a_larger_one(megabytes):
    measure_peak(lambda: torch.ones(120 * 2**20, dtype=torch.uint8).sum())
    resting, peak = measure_peak(lambda: torch.ones(megabytes * 2**20, dtype=torch.uint8).max())
    assert (peak - resting) / 2**20 == pytest.approx(megabytes, abs=15)
