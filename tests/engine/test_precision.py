import re

import pytest
import torch

from timm_video_psn.engine.precision import Precision, find_device, resolve_device

MEAN = STD = (0.5, 0.5, 0.5)


@pytest.mark.parametrize("name", ["auto", None])
def test_auto_is_the_gpu_or_the_cpu_where_there_is_none(monkeypatch, name):
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    assert resolve_device(name) == "cuda"
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    assert resolve_device(name) == "cpu"
    assert resolve_device("cuda:1") == "cuda:1"
    assert find_device(name) == torch.device("cpu")


def test_a_device_that_is_not_there_is_an_error_that_says_what_there_is():
    with pytest.raises(ValueError, match=r"device 'cuda:9' cannot be used here \(.+\); use auto, cpu"):
        find_device("cuda:9")


def test_device_and_numbers_are_told_in_one_line(monkeypatch):
    monkeypatch.setattr(torch.cuda, "get_device_name", lambda device: "NVIDIA H100")
    gpu = torch.device("cuda", 0)
    assert str(Precision(gpu, MEAN, STD, torch.bfloat16)) == "cuda:0 (NVIDIA H100), bfloat16"
    assert re.fullmatch("cpu, float32", str(Precision(torch.device("cpu"), MEAN, STD)))
