"""Batches: order, unreadable videos, and the same ones for any number of workers."""

import gc
import signal
import subprocess
from multiprocessing import active_children, get_context, set_start_method
from pathlib import Path

import av
import pytest
import torch

from timm_video_psn.data.clips.dataset import Sample, UnreadableVideo, VideoDataset
from timm_video_psn.data.clips.loader import EpochSampler, collate, create_video_loader
from timm_video_psn.data.clips.transforms import TrainTransform
from timm_video_psn.data.registry import read_folder


@pytest.fixture
def dataset(small_videos):
    return VideoDataset(read_folder(small_videos, "train"), 4, TrainTransform(32), training=True, seed=1)


def numbers(sampler):
    return [number for batch in sampler for number, _ in batch]


class TestEpochSampler:
    def test_goes_through_all_videos_in_batches(self):
        sampler = EpochSampler(10, 4, shuffle=False)
        assert list(sampler) == [[(i, 0) for i in batch] for batch in ([0, 1, 2, 3], [4, 5, 6, 7], [8, 9])]
        assert len(sampler) == 3

    def test_drops_the_last_batch_if_asked(self):
        sampler = EpochSampler(10, 4, shuffle=True, drop_last=True)
        assert [len(batch) for batch in sampler] == [4, 4]
        assert len(sampler) == 2
        assert len(EpochSampler(8, 4, shuffle=True, drop_last=True)) == 2

    def test_shuffles_anew_in_each_epoch_and_alike_in_each_run(self):
        sampler, other_seed = EpochSampler(100, 8, shuffle=True, seed=1), EpochSampler(100, 8, shuffle=True, seed=2)
        orders = []
        for epoch in (0, 1):
            sampler.set_epoch(epoch)
            orders.append(numbers(sampler))
            assert {key[1] for batch in sampler for key in batch} == {epoch}
            assert sorted(orders[-1]) == list(range(100))
        sampler.set_epoch(0)
        assert orders[0] == numbers(sampler)
        assert orders[0] != orders[1]
        assert orders[0] != numbers(other_seed)

    def test_goes_on_within_an_epoch(self):
        sampler = EpochSampler(10, 4, shuffle=True)
        sampler.set_epoch(5)
        whole = list(sampler)
        sampler.set_epoch(5, start=2)
        assert list(sampler) == whole[2:]
        assert len(sampler) == 3
        sampler.set_epoch(5, start=3)
        assert list(sampler) == []
        sampler.set_epoch(5)
        assert list(sampler) == whole

    @pytest.mark.parametrize(("num_videos", "processes"), [(24, 2), (23, 2), (25, 3), (7, 4), (2, 3)])
    @pytest.mark.parametrize("shuffle", [False, True])
    def test_shares_the_batches_of_one_process_among_several(self, num_videos, processes, shuffle):
        one = EpochSampler(num_videos, 4 * processes, shuffle, seed=5)
        several = [
            EpochSampler(num_videos, 4, shuffle, seed=5, rank=rank, world_size=processes) for rank in range(processes)
        ]
        for epoch in (0, 1):
            for sampler in (one, *several):
                sampler.set_epoch(epoch)
            together = list(zip(*several, strict=True))
            assert len(together) == len(one) == len(several[0])
            for shares, batch in zip(together, one, strict=True):
                assert sorted(key for share in shares for key in share) == sorted(batch)
                assert max(map(len, shares)) - min(map(len, shares)) <= 1
            assert sorted(n for sampler in several for n in numbers(sampler)) == list(range(num_videos))

    def test_drops_the_last_batch_for_all_processes(self):
        several = [EpochSampler(23, 4, True, drop_last=True, rank=rank, world_size=2) for rank in (0, 1)]
        assert [[len(batch) for batch in sampler] for sampler in several] == [[4, 4], [4, 4]]

    def test_bad_settings_are_errors(self):
        with pytest.raises(ValueError, match="rank=2 does not number one of world_size=2 processes"):
            EpochSampler(10, 2, shuffle=False, rank=2, world_size=2)
        with pytest.raises(ValueError, match="7 videos make no batch of 4 for each of 2 processes"):
            EpochSampler(7, 4, shuffle=False, drop_last=True, rank=0, world_size=2)
        with pytest.raises(ValueError, match="batch_size=0 makes no batches"):
            EpochSampler(10, 0, shuffle=False)
        with pytest.raises(ValueError, match="0 videos make no batch of 4"):
            EpochSampler(0, 4, shuffle=False)
        with pytest.raises(ValueError, match="3 videos make no batch of 4 with drop_last=True; use more videos"):
            EpochSampler(3, 4, shuffle=False, drop_last=True)
        with pytest.raises(ValueError, match="start=4 lies outside the epoch of 3 batches; use 0 to 3"):
            EpochSampler(10, 4, shuffle=False).set_epoch(0, start=4)


class TestCollate:
    def test_sets_unreadable_videos_apart(self):
        clip = torch.ones(2, 4, 4, 3, dtype=torch.uint8)
        unreadable = UnreadableVideo(7, "a.mp4", "gone")
        batch = collate([Sample(clip, 3, 5, 40), unreadable, Sample(2 * clip, 4, 6, 50)])
        assert batch.clip.shape == (2, 2, 4, 4, 3)
        assert batch.clip[:, 0, 0, 0, 0].tolist() == [1, 2]
        assert batch.label.tolist() == [3, 4]
        assert batch.index.tolist() == [5, 6]
        assert batch.num_frames.tolist() == [40, 50]
        assert batch.unreadable == [unreadable]
        assert {tensor.dtype for tensor in batch[1:4]} == {torch.int64}

    def test_of_unreadable_videos_alone_is_empty(self):
        batch = collate([UnreadableVideo(7, "a.mp4", "gone")])
        assert [len(tensor) for tensor in batch[:4]] == [0, 0, 0, 0]
        assert batch.clip.dtype == torch.uint8
        assert batch.label.dtype == torch.int64
        assert len(batch.unreadable) == 1


class TestCreateVideoLoader:
    @staticmethod
    def epochs(dataset, workers, **options):
        loader = create_video_loader(dataset, 2, shuffle=True, workers=workers, seed=3, **options)
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
        loader = create_video_loader(dataset, 2, shuffle=True, workers=1, seed=3)
        loader.multiprocessing_context = "spawn"
        self.assert_same(list(loader), expected[:3])

    def test_tells_the_unreadable_video_once_an_epoch(self, dataset):
        for batches in (self.epochs(dataset, workers=0)[:3], self.epochs(dataset, workers=2)[3:]):
            assert [unreadable.index for batch in batches for unreadable in batch.unreadable] == [3]
            assert sum(len(batch.label) for batch in batches) == 5

    def test_leaves_the_global_random_state_alone(self, dataset):
        before = torch.get_rng_state()
        list(create_video_loader(dataset, 2, shuffle=True, workers=0))
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
        loader = create_video_loader(collects, 3, shuffle=True, workers=1)
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
    loader = create_video_loader(dataset, 3, shuffle=True, workers=1)
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
    loader = create_video_loader(dataset, 3, shuffle=True, workers=2)
    loader.timeout = 60
    expected = [batch.index.tolist() for batch in loader]
    workers = [str(process.pid) for process in set(active_children()) - before]
    assert len(workers) == 2
    for name in ("TERM", "INT"):
        subprocess.run(["kill", f"-{name}", *workers], check=True)
    assert [batch.index.tolist() for batch in loader] == expected
