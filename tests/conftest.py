"""What every test starts from: one seed, one thread, a small clip."""

import numpy as np
import pytest
import torch
from browser import browser as browser
from torch import Tensor

torch.set_num_threads(1)  # the tensors are tiny, and threads that wait for one another cost seconds on a busy machine


@pytest.fixture(autouse=True)
def seed():
    """Every test draws the same numbers, alone or in company."""
    torch.manual_seed(0)
    np.random.seed(0)  # noqa: NPY002 - what we test may draw from the global generator


@pytest.fixture
def clip() -> Tensor:
    """Two clips of four frames, (B, C, T, H, W)."""
    return torch.randn(2, 3, 4, 32, 32)
