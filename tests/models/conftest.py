"""The cases of the contract: every registered name, and `video_net` on one backbone of each kind."""

import copy
import re
from dataclasses import dataclass

import pytest
import timm
import torch
from torch import Tensor, nn

from tests.models.light_models import NAMES, settle
from timm_video_psn import VideoNet

FRAMES, SIZE = 2, 32
DATASET_NAMES = timm.list_models(module="psn_datasets")


@dataclass(frozen=True)
class Case:
    """A model to be built as `timm.create_model(**settings)`."""

    label: str
    settings: dict

    def build(self, **kwargs) -> VideoNet:
        return timm.create_model(**{**self.settings, "num_frames": FRAMES, "num_classes": 5, **kwargs})

    @property
    def takes_any_length(self) -> bool:
        return "tam_" not in self.label

    def stock(self) -> nn.Module:
        """timm's own model, without memory for its parameters."""
        name = self.settings.get("backbone") or re.search(r"(test_)?resnet\d*", self.label)[0]
        with torch.device("meta"):
            return timm.create_model(name, num_classes=5, **{k: v for k, v in self.settings.items() if k == "layers"})


def _cases():
    for backbone in ("test_convnext", "test_efficientnet"):
        settings = {"model_name": "video_net", "backbone": backbone, "proportion": 0.5}
        yield pytest.param(Case(f"video_net on {backbone}", settings), id=f"video_net-{backbone}")
    for name in NAMES:
        if name != "video_net":
            marks = () if name.endswith("_test_resnet") else pytest.mark.contract
            settings = {"model_name": name}
            if name in DATASET_NAMES:  # the networks of other names, block for block, as test_psn_datasets.py shows
                settings["layers"] = (1, 1, 2, 1)
            yield pytest.param(Case(name, settings), id=name, marks=marks)


@pytest.fixture(scope="module", params=_cases())
def case(request) -> Case:
    return request.param


@pytest.fixture(scope="module")
def settled(case) -> VideoNet:
    """Built once for all tests of a case, which get copies of it."""
    torch.manual_seed(0)
    return settle(case.build(), torch.randn(4, 3, FRAMES, SIZE, SIZE))


@pytest.fixture
def model(settled) -> VideoNet:
    """The case's model in evaluation mode; its temporal modules act, and its norms know what comes."""
    return copy.deepcopy(settled)


@pytest.fixture
def short() -> Tensor:
    """Two clips as the cases take them, (B, C, T, H, W)."""
    return torch.randn(2, 3, FRAMES, SIZE, SIZE)
