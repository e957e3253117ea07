import errno
import pickle
import random
import shutil
import subprocess
from pathlib import Path

import numpy as np
import pytest
import timm
import torch

from timm_video_psn.engine.checkpoint import (
    export_model,
    load_checkpoint,
    random_state,
    save_checkpoint,
    set_random_state,
)
from timm_video_psn.files import atomic_path


def test_a_checkpoint_comes_back_as_it_was_saved(tmp_path):
    state = {"options": {"lr": 0.1}, "model": {"w": torch.randn(3)}, "random": random_state()}
    save_checkpoint(tmp_path / "last.pt", state)
    loaded = load_checkpoint(tmp_path / "last.pt")
    assert loaded["options"] == state["options"]
    assert torch.equal(loaded["model"]["w"], state["model"]["w"])
    assert [path.name for path in tmp_path.iterdir()] == ["last.pt"]


def test_a_write_that_dies_leaves_the_older_file_whole(tmp_path):
    path = tmp_path / "last.pt"
    path.write_text("old")

    def fill_the_disk():
        with atomic_path(path) as new:
            new.write_text("half")
            raise OSError(errno.ENOSPC, "No space left on device")

    with pytest.raises(OSError, match=r"could not write .*last\.pt.*No space left.*untouched"):
        fill_the_disk()
    assert path.read_text() == "old"
    assert [path.name for path in tmp_path.iterdir()] == ["last.pt"]


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="needs a device that is always full")
def test_a_full_disk_is_an_error_that_names_the_file(tmp_path):
    path = tmp_path / "last.pt"
    save_checkpoint(path, {"options": {}})
    (tmp_path / f".last.pt.{__import__('os').getpid()}.tmp").symlink_to("/dev/full")
    with pytest.raises(OSError, match=r"could not write .*last\.pt"):
        save_checkpoint(path, {"options": {}, "model": torch.zeros(10**6)})
    assert load_checkpoint(path) == {"options": {}}


@pytest.fixture
def small_disk(tmp_path):
    """A file system of one megabyte."""
    folder = tmp_path / "disk"
    folder.mkdir()
    mount = ["mount", "-t", "tmpfs", "-o", "size=1m", "tmpfs", str(folder)]
    if shutil.which("mount") is None or subprocess.run(mount, capture_output=True).returncode:
        pytest.skip("this user may not mount a file system")
    yield folder
    subprocess.run(["umount", str(folder)], check=True)


def test_a_disk_that_runs_full_is_an_error_and_what_it_held_stays_whole(small_disk):
    path = small_disk / "last.pt"
    save_checkpoint(path, {"options": {}, "model": torch.zeros(10**5)})
    with pytest.raises(OSError, match=r"could not write .*last\.pt: .*No space left on device"):
        save_checkpoint(path, {"options": {}, "model": torch.zeros(2 * 10**5)})
    assert len(load_checkpoint(path)["model"]) == 10**5
    model = timm.create_model("psn_test_resnet", num_classes=3)
    with pytest.raises(OSError, match=r"could not write .*best: .*No space left on device"):
        export_model(model, small_disk / "best", {}, {})
    assert [entry.name for entry in small_disk.iterdir()] == ["last.pt"]


def test_a_pickle_that_runs_code_is_refused(tmp_path):
    class Bad:
        def __reduce__(self):
            return (Path.touch, (tmp_path / "ran",))

    path = tmp_path / "last.pt"
    torch.save({"options": Bad()}, path)
    with pytest.raises(ValueError, match="damaged or no checkpoint"):
        load_checkpoint(path)
    path.write_bytes(pickle.dumps(Bad()))
    with pytest.raises(ValueError, match="damaged or no checkpoint"):
        load_checkpoint(path)
    assert not (tmp_path / "ran").exists()


def test_what_is_no_checkpoint_of_ours_says_so(tmp_path):
    path = tmp_path / "last.pt"
    with pytest.raises(FileNotFoundError, match=r"not found; --resume takes the last\.pt"):
        load_checkpoint(path)
    torch.save({"state_dict": {}}, path)
    with pytest.raises(ValueError, match="it holds no options"):
        load_checkpoint(path)
    save_checkpoint(path, {"options": {}, "model": torch.zeros(1000)})
    path.write_bytes(path.read_bytes()[:2000])
    with pytest.raises(ValueError, match="damaged or no checkpoint"):
        load_checkpoint(path)


def test_an_exported_folder_rebuilds_the_model_and_a_second_export_replaces_it(tmp_path):
    folder = tmp_path / "best"
    kwargs = {"num_frames": 3, "proportion": 0.5, "expand_init": 1.0}
    for _ in range(2):
        model = timm.create_model("psn_test_resnet", num_classes=3, **kwargs).eval()
        export_model(model, folder, {"label_names": ["a", "b", "c"]}, kwargs)
        again = timm.create_model(f"local-dir:{folder}", pretrained=True).eval()
        clip = torch.randn(1, 3, 3, 32, 32)
        assert torch.equal(model(clip), again(clip))
        assert again.num_frames == 3
        assert again.pretrained_cfg["label_names"] == ["a", "b", "c"]
    assert sorted(path.name for path in folder.iterdir()) == ["config.json", "model.safetensors"]
    assert [path.name for path in tmp_path.iterdir()] == ["best"]


def test_the_random_state_repeats_what_follows_it():
    state = random_state()
    draws = [(torch.rand(3).tolist(), random.random(), np.random.rand(3).tolist()) for _ in range(2)]  # noqa: NPY002
    assert draws[0] != draws[1]
    set_random_state(state)
    assert (torch.rand(3).tolist(), random.random(), np.random.rand(3).tolist()) == draws[0]  # noqa: NPY002
