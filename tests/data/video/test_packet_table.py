"""The packet table on made-up packets."""

from itertools import pairwise

import pytest

from timm_video_psn.data.video.packet_table import PacketMark, PacketTable


def marks(times, keys=(0,), hidden=(), changes=()):
    return [PacketMark(time, i in keys, i not in hidden, i in changes) for i, time in enumerate(times)]


def test_frames_are_numbered_in_presentation_order():
    table = PacketTable.from_marks(marks([0, 40, 20, 10, 30]))
    assert table.pts == (0, 10, 20, 30, 40)
    assert table.positions == (0, 3, 2, 4, 1)
    assert table.num_frames == 5


def test_hidden_frames_are_not_counted():
    table = PacketTable.from_marks(marks([0, 10, 20, 30], hidden=(0, 1)))
    assert table.positions == (2, 3)


@pytest.mark.parametrize(
    "bad",
    [
        marks([]),
        marks([0, None, 20]),
        marks([0, 10, 10]),
        marks([0, 10, 20], keys=(1,)),
        marks([10, 0, 20]),
        marks([0, 10, 20], changes=(2,)),
    ],
    ids=["empty", "no time", "time twice", "starts without key frame", "shown before key frame", "other format"],
)
def test_there_is_none_where_packets_do_not_tell_the_frames(bad):
    assert PacketTable.from_marks(bad) is None


def test_new_parameters_on_the_first_packet_are_no_change():
    assert PacketTable.from_marks(marks([0, 10], changes=(0,))) is not None


def test_spans_start_at_the_last_key_frame_and_end_with_the_wanted_packet():
    table = PacketTable.from_marks(marks(range(12), keys=(0, 4, 8)))
    assert table.spans([6]) == [range(4, 7)]
    assert table.spans([1, 10]) == [range(2), range(8, 11)]
    assert table.spans([5, 7]) == [range(4, 8)]
    assert table.spans([8]) == [range(8, 9)]


def test_spans_that_touch_are_one():
    table = PacketTable.from_marks(marks(range(12), keys=(0, 4, 8)))
    assert table.spans([3, 5]) == [range(6)]


def test_leading_frames_of_an_open_group_need_the_group_before():
    # Packet 3 is a key frame shown at 50; packet 4 follows it in the file, but is shown before it.
    table = PacketTable.from_marks(marks([0, 20, 10, 50, 40, 60], keys=(0, 3)))
    assert table.spans([table.pts.index(40)]) == [range(5)]
    assert table.spans([table.pts.index(60)]) == [range(3, 6)]


def test_spans_are_disjoint_and_hold_every_wanted_packet():
    table = PacketTable.from_marks(marks([0, 3, 1, 2, 6, 4, 5, 9, 7, 8], keys=(0, 4, 7)))
    for pattern in range(1, 1024):
        frames = [i for i in range(10) if pattern >> i & 1]
        spans = table.spans(frames)
        packets = {packet for span in spans for packet in span}
        assert {table.positions[frame] for frame in frames} <= packets
        assert all(first.stop < second.start for first, second in pairwise(spans))
