"""Who reads what: nothing twice, nothing lost, the same for any number of workers."""

from collections import Counter
from itertools import product

import numpy as np
import pytest

from timm_video_psn.data.shards.plan import MOST_LANES, ShardPlan, mixed_order

SIZES = ([7], [1, 1], [5, 5, 5, 2], [10] * 30 + [3])


def batches(plan, epoch=0):
    """Batches of a rank in order, as the loader takes them out of lanes."""
    lanes = [plan.lane(epoch, lane)[1].tolist() for lane in range(plan.lanes)]
    result = []
    for number in range(len(plan)):
        lane = lanes[number % plan.lanes]
        result.append(lane[: plan.batch_size])
        del lane[: plan.batch_size]
    assert lanes == [[]] * plan.lanes
    return result


def all_ranks(world_size, *args, **options):
    return [ShardPlan(*args, rank=rank, world_size=world_size, **options) for rank in range(world_size)]


@pytest.mark.parametrize(("sizes", "batch_size", "world_size"), list(product(SIZES, (1, 3, 4, 100), (1, 2, 3, 7))))
def test_validation_takes_every_video_once(sizes, batch_size, world_size):
    plans = all_ranks(world_size, sizes, batch_size, shuffle=False)
    taken = [video for plan in plans for batch in batches(plan) for video in batch]
    assert sorted(taken) == list(range(sum(sizes)))
    counts = [sum(map(len, batches(plan))) for plan in plans]
    assert max(counts) - min(counts) <= 1
    for plan in plans:
        assert all(len(batch) == batch_size for batch in batches(plan)[:-1])


@pytest.mark.parametrize(
    ("sizes", "batch_size", "world_size", "drop_last"),
    [
        (sizes, batch_size, world_size, drop_last)
        for sizes, batch_size, world_size, drop_last in product(SIZES, (1, 3, 4), (1, 2, 3), (False, True))
        if sum(sizes) // world_size >= (batch_size if drop_last else 1)  # else there is no batch: an error of its own
    ],
)
def test_training_takes_no_video_twice_and_gives_all_ranks_the_same_number(sizes, batch_size, world_size, drop_last):
    for epoch in (0, 1):
        plans = all_ranks(world_size, sizes, batch_size, shuffle=True, seed=1, drop_last=drop_last)
        by_rank = [batches(plan, epoch) for plan in plans]
        assert len({len(rank) for rank in by_rank}) == 1
        assert len({tuple(map(len, rank)) for rank in by_rank}) == 1
        taken = [video for rank in by_rank for batch in rank for video in batch]
        assert max(Counter(taken).values()) == 1
        assert sum(sizes) - len(taken) < world_size * (batch_size if drop_last else 1)
        if drop_last:
            assert all(len(batch) == batch_size for rank in by_rank for batch in rank)


def test_the_order_depends_on_seed_and_epoch_alone():
    plans = [ShardPlan([20] * 10, 8, shuffle=True, seed=seed) for seed in (1, 1, 2)]
    first, again, other = ([batches(plan, epoch) for epoch in (0, 1)] for plan in plans)
    assert first == again
    assert first[0] != first[1]
    assert first != other


def test_what_is_left_out_is_drawn_anew():
    plan = ShardPlan([10], 4, shuffle=True, drop_last=True)
    left_out = Counter()
    for epoch in range(200):
        left_out.update(set(range(10)) - {video for batch in batches(plan, epoch) for video in batch})
    assert sorted(left_out) == list(range(10))
    assert max(left_out.values()) < 3 * min(left_out.values())


def test_a_lane_is_read_shard_after_shard():
    plan = ShardPlan([10] * 40, 5, shuffle=True, seed=3)
    assert plan.lanes == MOST_LANES
    owners = []
    for lane in range(plan.lanes):
        read, leave = plan.lane(0, lane)
        assert sorted(read) == sorted(leave)
        owner = read // 10
        owners += [owner[0], *owner[1:][np.diff(owner) != 0]]
        inside = np.diff(read)[np.diff(owner) == 0]
        assert set(inside.tolist()) == {1}
    assert max(Counter(owners).values()) <= 2  # a shard across the cut between two lanes
    assert len(owners) <= 40 + plan.lanes


def test_few_shards_make_few_lanes():
    assert [ShardPlan([10] * count, 2, shuffle=False).lanes for count in (0, 1, 2, 100)] == [1, 2, 4, MOST_LANES]
    assert ShardPlan([10] * 4, 2, shuffle=False, world_size=4).lanes == 2
    assert ShardPlan([10] * 2, 2, shuffle=False, world_size=8).lanes == 1


class TestMixedOrder:
    @pytest.mark.parametrize(("count", "buffer"), [(0, 3), (1, 1), (5, 10), (50, 7), (50, 50)])
    def test_holds_no_more_than_the_buffer(self, count, buffer):
        order = mixed_order(count, buffer, np.random.default_rng(0))
        assert sorted(order) == list(range(count))
        assert all(video < place + buffer for place, video in enumerate(order))

    def test_of_a_large_buffer_is_uniform(self):
        rng = np.random.default_rng(0)
        places = np.array([mixed_order(4, 10, rng) for _ in range(4000)])
        for column in places.T:
            assert np.bincount(column, minlength=4) == pytest.approx(np.full(4, 1000), abs=150)


def test_bad_settings_are_errors():
    with pytest.raises(ValueError, match="batch_size=0 makes no batches"):
        ShardPlan([3], 0, shuffle=False)
    with pytest.raises(ValueError, match="rank=2 of world_size=2 asked for; ranks count from 0"):
        ShardPlan([3], 1, shuffle=False, rank=2, world_size=2)
    with pytest.raises(ValueError, match="3 videos in shards make no batch of 2 on each of 2 ranks with drop_last"):
        ShardPlan([3], 2, shuffle=True, drop_last=True, world_size=2)
    with pytest.raises(ValueError, match="0 videos in shards make no batch"):
        ShardPlan([], 2, shuffle=True)
