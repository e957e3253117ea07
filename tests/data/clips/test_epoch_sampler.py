"""The order of an epoch, and how processes share it."""

import numpy as np
import pytest

from timm_video_psn.data.clips.epoch_sampler import EpochSampler


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


class TestBalancedEpochs:
    LABELS = np.repeat([0, 1, 2, 3], [40, 11, 5, 1])

    def epoch(self, epoch: int, **kwargs) -> list:
        sampler = EpochSampler(57, 4, True, seed=3, balanced_labels=self.LABELS, **kwargs)
        sampler.set_epoch(epoch)
        return [key for batch in sampler for key in batch]

    def test_classes_and_the_videos_of_a_class_have_equally_many_turns(self):
        keys = self.epoch(0)
        turns = np.bincount([key[0] for key in keys], minlength=57)
        by_class = np.bincount(self.LABELS, turns)
        assert len(keys) == 57
        assert by_class.max() - by_class.min() <= 1
        for label in range(4):
            of_class = turns[label == self.LABELS]
            assert of_class.max() - of_class.min() <= 1

    def test_the_turns_of_a_video_are_counted_so_that_each_is_another_clip(self):
        keys = self.epoch(0)
        assert len(set(keys)) == len(keys)
        turns = [key[2] if len(key) > 2 else 0 for key in keys if key[0] == 56]
        assert turns == [*range(len(turns))]
        assert len(turns) in (14, 15)

    def test_an_epoch_follows_from_the_seed_and_is_resumed_within(self):
        assert self.epoch(1) == self.epoch(1) != self.epoch(2)
        sampler = EpochSampler(57, 4, True, seed=3, balanced_labels=self.LABELS)
        sampler.set_epoch(1, start=5)
        assert [key for batch in sampler for key in batch] == self.epoch(1)[20:]

    def test_processes_share_its_batches(self):
        one = self.epoch(4)
        several = [EpochSampler(57, 2, True, 3, False, rank, 2, self.LABELS) for rank in (0, 1)]
        for sampler in several:
            sampler.set_epoch(4)
        together = [sorted(first + second) for first, second in zip(*several, strict=True)]
        assert together == [sorted(one[start : start + 4]) for start in range(0, 57, 4)]
