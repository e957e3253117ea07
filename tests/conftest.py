"""What every test starts from: one seed, one thread, a small clip; and which tests `make test-fast` leaves out."""

import os

import numpy as np
import pytest
import torch
from torch import Tensor

from tests.browser import browser as browser

torch.set_num_threads(1)  # the tensors are tiny, and threads that wait for one another cost seconds on a busy machine

# What makes a test slow: another process, training, the Hub, a browser, a compiler, full-size networks. A test has it
# from its fixtures or from what its module imports.
HEAVY = {
    "browser",
    "compiler",
    "costly",
    "hub",
    "subprocess",
    "multiprocessing",
    "Processes",
    "clients",
    "train",
    "train_in",
    "train_main",
    "trainer_of",
}


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Marks as `heavy` each test whose fixtures, or whose module's names, are among `HEAVY`."""
    for item in items:
        if HEAVY & ({*getattr(item, "fixturenames", ())} | vars(getattr(item, "module", pytest)).keys()):
            item.add_marker("heavy")


@pytest.fixture(autouse=True)
def seed():
    """Every test draws the same numbers, alone or in company."""
    torch.manual_seed(0)
    np.random.seed(0)  # noqa: NPY002 - what we test may draw from the global generator


@pytest.fixture(autouse=True)
def ordinary_priority():
    """No test leaves this process with real-time priority, which would starve all others, children inheriting it."""
    yield
    if hasattr(os, "sched_getscheduler") and (policy := os.sched_getscheduler(0)) != os.SCHED_OTHER:
        os.sched_setscheduler(0, os.SCHED_OTHER, os.sched_param(0))
        pytest.fail(f"something in this test gave the process the scheduling policy {policy}")


@pytest.fixture(scope="session")
def costly():
    """For tests that compute for seconds: networks of full size, hundreds of videos."""


@pytest.fixture
def compiler():
    """For tests that compile or export models: nothing compiled, and no limit reached, outlives a test."""
    torch.compiler.reset()
    yield
    torch.compiler.reset()


@pytest.fixture
def clip() -> Tensor:
    """Two clips of four frames, (B, C, T, H, W)."""
    return torch.randn(2, 3, 4, 32, 32)
