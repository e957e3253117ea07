"""--batch-size auto, against brute force, a process whose memory really is limited, and real training steps."""

import os
import subprocess
import sys
from pathlib import Path

import pytest
import torch
import yaml

from tests.engine.runs import settled
from timm_video_psn.__main__ import train as train_main
from timm_video_psn.engine.cpu_memory import measure_peak
from timm_video_psn.engine.train import auto_batch_size
from timm_video_psn.engine.train.auto_batch_size import create_trial, largest_that_fits, settle_batch_size

linux = pytest.mark.skipif(not Path("/proc/self/clear_refs").exists(), reason="memory is measured on Linux")


@pytest.mark.parametrize("limit", [1, 2, 3, 24, 64, 100])
def test_doubling_and_bisecting_finds_what_trying_all_finds(limit):
    for memory in range(limit + 3):
        tried = []

        def fits(batch, memory=memory, tried=tried):
            tried.append(batch)
            return batch <= memory

        assert largest_that_fits(fits, limit) == max([0, *(size for size in range(1, limit + 1) if size <= memory)])
        assert max(tried) <= limit
        assert len(tried) == len(set(tried)) <= 2 * limit.bit_length()


LIMITED = """
import resource, sys
import torch
from timm_video_psn.engine.train.auto_batch_size import largest_that_fits
torch.set_num_threads(1)
net = torch.nn.Sequential(torch.nn.Conv2d(3, 16, 3, padding=1), torch.nn.BatchNorm2d(16), torch.nn.Conv2d(16, 8, 3))
optimizer = torch.optim.SGD(net.parameters(), lr=0.1, momentum=0.9)

def step(batch):
    net(torch.randn(batch, 3, 64, 64)).square().mean().backward()
    optimizer.step()
    optimizer.zero_grad()

def fits(batch):
    try:
        step(batch)
    except RuntimeError as error:
        if "can't allocate memory" in str(error) or "memory" in str(error):
            return False
        raise
    return True

step(1)
used = int(open("/proc/self/statm").read().split()[0]) * resource.getpagesize()
resource.setrlimit(resource.RLIMIT_AS, (used + 50 * 2**20, resource.RLIM_INFINITY))
found = largest_that_fits(fits, 4096)
print(found, fits(found * 3 // 4), fits(found * 4 // 3), fits(found * 3 // 4))
"""


@linux
def test_in_a_process_of_limited_memory_real_steps_fit_up_to_what_was_found():
    # Every tensor in pages of its own, so that what is freed is free for tensors of any size. Not judged to the very
    # clip: oneDNN keeps a little for every shape that it has seen.
    env = {**os.environ, "MALLOC_MMAP_THRESHOLD_": "16384"}
    output = subprocess.run([sys.executable, "-c", LIMITED], capture_output=True, text=True, check=True, env=env).stdout
    found, *fit = output.split()
    assert 4 < int(found) < 80  # an image takes at least 0.65 MB of the 50: two maps of 16 channels, one of 8
    assert fit == ["True", "False", "True"]


def auto(tiny_motion, *more):
    argv = ["--dataset", "motion", "--data-dir", str(tiny_motion), "--device", "cpu", "--workers", "0"]
    return settled(*argv, "--img-size", "32", "--num-frames", "4", "--batch-size", "auto", *more)


def test_the_recipes_clips_an_update_and_its_learning_rate_are_kept(tiny_motion):
    assert auto(tiny_motion).grad_accum_steps == 24
    assert settled("--recipe", "sthv1", "--batch-size", "auto").lr == 0.01
    options = settle_batch_size(auto(tiny_motion))
    assert (options.batch_size, options.grad_accum_steps) == (24, 1)


@linux
def test_the_batch_of_a_small_memory_divides_the_recipes_and_its_real_step_fits(tiny_motion, monkeypatch):
    step = create_trial(auto(tiny_motion))
    for batch in (1, 8):
        step(batch)
    resting, peak = measure_peak(lambda: step(8))
    budget = int((peak - resting) / 0.8)  # about 8 clips in the share that may be taken
    monkeypatch.setattr(auto_batch_size, "available_bytes", lambda: budget)
    options = settle_batch_size(auto(tiny_motion))
    assert options.batch_size * options.grad_accum_steps == 24
    assert 2 <= options.batch_size <= 12
    resting, peak = measure_peak(lambda: step(options.batch_size))
    assert peak - resting < 1.5 * budget


@linux
def test_what_cannot_fit_and_what_cannot_be_measured_is_said_with_a_way_out(tiny_motion, monkeypatch):
    monkeypatch.setattr(auto_batch_size, "available_bytes", lambda: 1)
    with pytest.raises(ValueError, match=r"not even one clip of psn_test_resnet fits .* --grad-checkpointing"):
        settle_batch_size(auto(tiny_motion))
    monkeypatch.undo()
    monkeypatch.setattr(Path, "read_text", lambda self, *_: (_ for _ in ()).throw(FileNotFoundError("no " + str(self))))
    with pytest.raises(ValueError, match=r"no /proc/meminfo.*give a number"):
        auto_batch_size.available_bytes()


@linux
def test_a_run_keeps_the_batch_it_was_begun_with(arguments, tmp_path, monkeypatch, capsys):
    argv = [*arguments, "--batch-size", "auto", "--epochs", "1"]
    assert train_main(argv) == 0
    assert "batch     auto: at least 24 clips fit; 24 clips a step and 1 steps an update" in capsys.readouterr().out
    written = yaml.safe_load((tmp_path / "run" / "args.yaml").read_text())
    assert (written["batch_size"], written["grad_accum_steps"]) == (24, 1)
    monkeypatch.setattr(auto_batch_size, "create_trial", lambda options: pytest.fail("measured again"))
    assert train_main([*argv, "--resume", "auto"]) == 0
    assert "finished  all 1 epochs" in capsys.readouterr().out
    elsewhere = [*argv, "--experiment", "copy", "--resume", str(tmp_path / "run" / "last.pt")]
    assert train_main(elsewhere) == 0
    assert "finished  all 1 epochs" in capsys.readouterr().out


@pytest.mark.parametrize("device", ["cuda", "cuda:0"])
def test_a_gpu_is_measured_by_either_of_its_names(device, monkeypatch):
    """Torch's own check of the device, without a GPU: what would reach the driver is noted instead."""
    shares = []
    monkeypatch.setattr(torch.cuda.memory, "_lazy_init", lambda: None)
    monkeypatch.setattr(torch.cuda, "current_device", lambda: 0)
    monkeypatch.setattr(torch.cuda, "synchronize", lambda device: None)
    monkeypatch.setattr(torch._C, "_cuda_setMemoryFraction", lambda *share: shares.append(share), raising=False)

    def step(batch):
        if batch > 5:
            raise torch.OutOfMemoryError

    fits = auto_batch_size._gpu_check(step, torch.device(device))
    assert largest_that_fits(fits, 64) == 5
    assert set(shares) == {(0.92, 0), (1.0, 0)}
    assert shares[-1] == (1.0, 0)
