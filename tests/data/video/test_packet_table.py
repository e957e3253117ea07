"""The packet table on made-up packets."""

from itertools import pairwise

import pytest

from timm_video_psn.data.video.packet_table import DecodedFrame, PacketMark, PacketTable
from timm_video_psn.data.video.picture_order import Picture


def table_of(times, order=None, held_back=16, gaps=(), disposable=(), **marks):
    """A table of packets with these times, whose pictures come out in the order of `order`, by default of the times."""
    order = times if order is None else order
    pictures = [Picture((0, key or 0), i not in disposable, i in gaps) for i, key in enumerate(order)]
    return PacketTable.from_marks(marks_of(times, **marks), pictures, held_back)


def marks_of(times, keys=(0,), hidden=(), changes=(), broken=()):
    return [PacketMark(time, i in keys, i not in hidden, i in changes, i not in broken) for i, time in enumerate(times)]


def test_frames_are_numbered_in_presentation_order():
    table = table_of([0, 40, 20, 10, 30])
    assert table.times == (0, 10, 20, 30, 40)
    assert table.positions == (0, 3, 2, 4, 1)
    assert table.num_frames == 5


def test_hidden_frames_are_not_counted():
    table = table_of([0, 10, 20, 30], hidden=(0, 1))
    assert table.positions == (2, 3)
    assert table.hidden == {0, 1}


@pytest.mark.parametrize(
    ("times", "more"),
    [
        ([], {}),
        ([0, None, 20], {}),
        ([0, 10, 10], {}),
        ([0, 10, 20], {"keys": (1,)}),
        ([10, 0, 20], {}),
        ([0, 10, 20], {"changes": (2,)}),
        ([0, 10, 20, 30], {"order": [0, 30, 10, 20]}),
        ([0, 40, 20, 10, 30], {"order": [0, 4, 1, 2, 3]}),
        ([0, 40, 20, 10, 30], {"held_back": 1}),
    ],
    ids=[
        *("empty", "no time", "time twice", "starts without key frame", "shown before key frame", "other format"),
        *("times of decoding", "times of other frames", "decoder holds back too few"),
    ],
)
def test_there_is_none_if_packets_do_not_tell_the_frames(times, more):
    assert table_of(times, **more) is None


def test_a_decoder_that_holds_back_enough_is_enough():
    assert table_of([0, 40, 20, 10, 30], held_back=2) is not None


def test_new_parameters_on_the_first_packet_are_no_change():
    assert table_of([0, 10], changes=(0,)) is not None


def test_spans_start_at_the_last_key_frame_and_end_with_the_wanted_packet():
    table = table_of(range(12), keys=(0, 4, 8))
    assert table.spans([6]) == [range(4, 7)]
    assert table.spans([1, 10]) == [range(2), range(8, 11)]
    assert table.spans([5, 7]) == [range(4, 8)]
    assert table.spans([8]) == [range(8, 9)]


def test_spans_that_touch_are_one():
    table = table_of(range(12), keys=(0, 4, 8))
    assert table.spans([3, 5]) == [range(6)]


def test_leading_frames_of_an_open_group_need_the_group_before():
    # Packet 3 is a key frame shown at 50; packet 4 follows it in the file, but is shown before it.
    table = table_of([0, 20, 10, 50, 40, 60], keys=(0, 3))
    leading, key, trailing = (table.times.index(time) for time in (40, 50, 60))
    assert table.leading(3) == {4}
    assert table.leading(0) == set()
    assert table.spans([leading]) == [range(5)]
    assert table.spans([trailing]) == [range(3, 6)]
    assert table.spans([leading, key]) == [range(5)]
    assert table.spans([leading, key, trailing]) == [range(6)]


def test_spans_are_disjoint_and_hold_every_wanted_packet():
    table = table_of([0, 3, 1, 2, 6, 4, 5, 9, 7, 8], keys=(0, 4, 7))
    for pattern in range(1, 1024):
        frames = [i for i in range(10) if pattern >> i & 1]
        spans = table.spans(frames)
        packets = {packet for span in spans for packet in span}
        assert {packet for frame in frames for packet in range(table.start_of(frame), table.positions[frame] + 1)} <= (
            packets
        )
        assert all(first.stop < second.start for first, second in pairwise(spans))


class TestDamage:
    def test_spoils_what_may_refer_to_it_up_to_the_next_key_frame(self):
        table = table_of([0, 40, 20, 10, 30, 50, 60, 70], keys=(0, 5))  # decoded as shown: 0 3 2 4 1 | 5 6 7
        assert [table.is_spoilt(frame, {2}) for frame in range(8)] == [False, True, True, True, False] + 3 * [False]
        assert [table.is_spoilt(frame, {5}) for frame in range(8)] == 5 * [False] + 3 * [True]

    def test_before_a_key_frame_spoils_its_leading_frames(self):
        table = table_of([0, 20, 10, 50, 40, 60], keys=(0, 3))
        assert [table.is_spoilt(table.times.index(time), {1}) for time in (10, 40, 50, 60)] == [
            True,
            True,
            False,
            False,
        ]

    def test_of_what_nothing_refers_to_spoils_nothing_else(self):
        table = table_of([0, 10, 20, 30], disposable=(1,))
        assert [table.is_spoilt(frame, {1}) for frame in range(4)] == [False, True, False, False]

    def test_of_leading_frames_does_not_spoil_those_after_the_key_frame(self):
        table = table_of([0, 20, 10, 50, 40, 60], keys=(0, 3))
        assert [table.is_spoilt(table.times.index(time), {4}) for time in (20, 40, 50, 60)] == [
            False,
            True,
            False,
            False,
        ]

    def test_goes_on_through_what_is_no_key_frame_whatever_its_container_says(self):
        table = table_of([0, 10, 20, 30], keys=(0, 2))
        assert [table.is_spoilt(frame, {1}, {2}) for frame in range(4)] == [False, True, True, True]

    def test_is_known_from_packets_that_are_not_whole(self):
        assert table_of([0, 10, 20], broken=(1,)).damaged == {1}

    def test_is_known_from_a_missing_number_and_a_missing_time(self):
        assert table_of([0, 10, 20, 50, 60], gaps=(3,)).damaged == {3}

    def test_is_not_known_from_either_alone(self):
        assert table_of([0, 10, 20, 30, 40], gaps=(3,)).damaged == set()
        assert table_of([0, 10, 20, 50, 60]).damaged == set()
        assert table_of([0, 10, 20, 30, 40, 90], gaps=(1,), keys=(0, 3)).damaged == set()  # of another group

    def test_is_judged_once_all_earlier_packets_have_come_out(self):
        assert table_of([0, 40, 20, 10, 30]).judged_after() == [0, 4, 4, 4, 4]
        assert table_of([0, 10, 20]).judged_after() == [0, 1, 2]


class TestCountedFrames:
    def test_are_numbered_as_they_came(self):
        frames = [DecodedFrame(0, True), DecodedFrame(3, False), DecodedFrame(1, False), DecodedFrame(5, True)]
        table = PacketTable.from_decode(frames, {2})
        assert (table.num_frames, table.positions, table.keys) == (4, (0, 3, 1, 5), ((0, 0), (5, 3)))
        assert [table.is_spoilt(frame, table.damaged) for frame in range(4)] == [False, True, False, False]

    def test_before_the_first_key_frame_refer_to_the_start(self):
        table = PacketTable.from_decode([DecodedFrame(2, False), DecodedFrame(3, True)], {0})
        assert [table.is_spoilt(frame, table.damaged) for frame in range(2)] == [True, False]

    def test_that_lead_a_later_group_spoil_what_follows_them(self):
        came = [(0, True), (2, False), (1, True), (4, False), (3, False)]
        table = PacketTable.from_decode(
            [DecodedFrame(*frame) for frame in came], {2}
        )  # shown before the key frame of packet 1
        assert [table.is_spoilt(frame, table.damaged) for frame in range(5)] == [False, True, False, True, True]

    def test_that_lead_the_first_group_spoil_nothing(self):
        frames = [DecodedFrame(1, False), DecodedFrame(0, True), DecodedFrame(2, False)]
        table = PacketTable.from_decode(frames, {1})
        assert [table.is_spoilt(frame, table.damaged) for frame in range(3)] == [True, False, False]
