"""Batches: order, unreadable videos, and the same ones for any number of workers."""

import gc
import signal
import subprocess
from multiprocessing import active_children, get_context, set_start_method
from pathlib import Path

import av
import pytest
import torch

from timm_video_psn.data.clips.dataset import VideoDataset
from timm_video_psn.data.clips.transforms import TrainTransform
from timm_video_psn.data.loaders import create_loader
from timm_video_psn.data.registry import read_folder
from timm_video_psn.data.shards.index import read_shards
from timm_video_psn.data.shards.writer import ShardLimits, write_shards


@pytest.fixture
def dataset(small_videos):
    return VideoDataset(read_folder(small_videos, "train"), 4, TrainTransform(32), training=True, seed=1)


def test_what_cannot_be_balanced_is_refused(dataset, small_videos, tmp_path_factory):
    shards = tmp_path_factory.mktemp("packed") / "shards"
    dataset.index = dataset.index.with_label_sets()
    with pytest.raises(ValueError, match="videos with several labels, which belong to no one class"):
        create_loader(dataset, 2, True, 0, balanced=True)
    with pytest.raises(ValueError, match="shards hold one for each; train from files"):
        write_shards("folder", {"train": dataset.index}, shards, ShardLimits(4, 10**9))
    write_shards("folder", {"train": read_folder(small_videos, "train")}, shards, ShardLimits(4, 10**9))
    packed = VideoDataset(read_shards(shards, "train"), 4, TrainTransform(32), training=True)
    with pytest.raises(ValueError, match="balanced batches were asked for of shards"):
        create_loader(packed, 2, True, 0, balanced=True)


class TestCreateLoader:
    @staticmethod
    def epochs(dataset, workers, **options):
        loader = create_loader(dataset, 2, shuffle=True, workers=workers, seed=3, **options)
        batches = []
        for epoch in (0, 1):
            loader.batch_sampler.set_epoch(epoch)
            batches += list(loader)
        return batches

    @staticmethod
    def assert_same(batches, expected):
        assert len(batches) == len(expected)
        for batch, other in zip(batches, expected, strict=True):
            assert all(torch.equal(mine, its) for mine, its in zip(batch[:4], other[:4], strict=True))
            assert batch.unreadable == other.unreadable

    @pytest.mark.filterwarnings("ignore:This DataLoader will create 3 worker processes")
    def test_gives_the_same_batches_for_any_number_of_workers(self, dataset):
        expected = self.epochs(dataset, workers=0)
        assert len(expected) == 6
        assert not all(torch.equal(a.clip, b.clip) for a, b in zip(expected[:3], expected[3:], strict=True))
        self.assert_same(self.epochs(dataset, workers=1), expected)
        self.assert_same(self.epochs(dataset, workers=3), expected)

    def test_works_with_spawned_workers(self, dataset):
        expected = self.epochs(dataset, workers=0)
        loader = create_loader(dataset, 2, shuffle=True, workers=1, seed=3)
        loader.multiprocessing_context = "spawn"
        self.assert_same(list(loader), expected[:3])

    def test_tells_the_unreadable_video_once_an_epoch(self, dataset):
        for batches in (self.epochs(dataset, workers=0)[:3], self.epochs(dataset, workers=2)[3:]):
            assert [unreadable.index for batch in batches for unreadable in batch.unreadable] == [3]
            assert sum(len(batch.label) for batch in batches) == 5

    def test_leaves_the_global_random_state_alone(self, dataset):
        before = torch.get_rng_state()
        list(create_loader(dataset, 2, shuffle=True, workers=0))
        assert torch.equal(torch.get_rng_state(), before)


class Collects(VideoDataset):
    """Frees all garbage before each clip, as Python does now and then."""

    def __getitem__(self, key):
        gc.collect()
        return super().__getitem__(key)


def test_workers_do_not_free_what_they_inherit(dataset):
    """A frame in a cycle of references, whose scaler has threads that a forked worker lacks: freeing it would hang."""

    def leave_garbage():
        with av.open(str(dataset.index.root / dataset.index.paths[0])) as container:
            frame = next(container.decode(video=0))
        frame.to_ndarray(format="rgb24")
        cycle = [frame]
        cycle.append(cycle)

    collects = Collects(dataset.index, 4, dataset.transform, training=True)
    gc.disable()
    try:
        leave_garbage()
        loader = create_loader(collects, 3, shuffle=True, workers=1)
        loader.timeout = 60
        assert sum(len(batch.label) + len(batch.unreadable) for batch in loader) == 6
    finally:
        gc.enable()


@pytest.mark.skipif(not Path("/proc/self/task").exists(), reason="threads are counted in /proc")
def test_decoding_starts_no_threads(dataset):
    before = len(list(Path("/proc/self/task").iterdir()))
    clips = [dataset[number] for number in range(3)]
    index = dataset.index
    frames = index.decode(0, lambda count: range(count))
    assert len(list(Path("/proc/self/task").iterdir())) == before
    assert len(clips) == 3
    assert len(frames) == 10


_kept = []


def _leave_a_loader_behind(dataset, method):
    """What a script does whose loader is a global variable, or is held by the traceback of an error."""
    set_start_method(method, force=True)
    loader = create_loader(dataset, 3, shuffle=True, workers=1)
    _kept.append((loader, list(loader)))


@pytest.mark.parametrize("method", ["fork", "forkserver"])
def test_a_process_ends_though_a_loader_is_left(dataset, method):
    gc.collect()  # what other tests have left, which a forked process must not free
    process = get_context("fork").Process(target=_leave_a_loader_behind, args=(dataset, method))
    process.start()
    process.join(60)
    hangs = process.is_alive()
    if hangs:
        process.kill()
    assert not hangs
    assert process.exitcode == 0


@pytest.mark.skipif(not hasattr(signal, "sigwaitinfo"), reason="the system does not tell who sends a signal")
def test_workers_live_on_where_a_signal_is_sent_to_every_process(dataset):
    before = set(active_children())
    loader = create_loader(dataset, 3, shuffle=True, workers=2)
    loader.timeout = 60
    expected = [batch.index.tolist() for batch in loader]
    workers = [str(process.pid) for process in set(active_children()) - before]
    assert len(workers) == 2
    for name in ("TERM", "INT"):
        subprocess.run(["kill", f"-{name}", *workers], check=True)
    assert [batch.index.tolist() for batch in loader] == expected
