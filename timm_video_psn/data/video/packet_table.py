"""Which packet of a video file holds which frame, and which packets a decoder must see to give it.

Pure bookkeeping on what packets and frames say about themselves: nothing is decoded here, and nothing of FFmpeg is
known.
"""

from __future__ import annotations

from bisect import bisect_left
from collections.abc import Collection, Iterable, Sequence
from dataclasses import dataclass
from functools import cached_property
from itertools import accumulate, pairwise
from typing import NamedTuple

from timm_video_psn.data.video.picture_order import Picture


class PacketMark(NamedTuple):
    """What a packet says about itself, without decoding it."""

    pts: int | None  # presentation time of its frame, in units of the stream's time base
    is_key: bool  # decoding may start here
    is_shown: bool = True  # False where an edit list hides the frame
    changes_format: bool = False  # carries new decoder parameters, without which later packets cannot be decoded
    is_whole: bool = True  # False where the container says that bytes are missing


class DecodedFrame(NamedTuple):
    """What a frame says about itself after a plain decode."""

    position: int  # number of its packet
    is_key: bool


@dataclass(frozen=True)
class PacketTable:
    """Where the frames of a video lie: frame `i` is shown at time `times[i]` and comes out of packet `positions[i]`.

    Packets are numbered in file order, which is decoding order; frames in presentation order.

    Args:
        times: Presentation time of every frame, increasing.
        positions: Number of the packet that holds the frame.
        keys: (packet number, presentation time) of every packet at which decoding may start, in file order.
        references: For every packet, whether other frames may refer to its frame; empty if that is not known.
        hidden: Numbers of packets whose frames are not shown.
        damaged: Numbers of the damaged packets that are known without decoding, or from a decode of the whole file.
        is_counted: The frames have been counted in a plain decode, since the packets alone do not tell them.
    """

    times: tuple[int, ...]
    positions: tuple[int, ...]
    keys: tuple[tuple[int, int], ...]
    references: tuple[bool, ...] = ()
    hidden: frozenset[int] = frozenset()
    damaged: frozenset[int] = frozenset()
    is_counted: bool = False

    @property
    def num_frames(self) -> int:
        """Number of frames that are shown."""
        return len(self.times)

    @cached_property
    def frame_at(self) -> dict[int, int]:
        """Number of the frame that comes out of a packet, by the number of the packet."""
        return {position: frame for frame, position in enumerate(self.positions)}

    @classmethod
    def from_marks(cls, marks: Sequence[PacketMark], pictures: Sequence[Picture], held_back: int) -> PacketTable | None:
        """Builds the table, or returns None if the packets do not tell the frames of the video.

        They do not if a time stamp is missing or occurs twice, if the first packet is not a key frame, if frames are
        shown before it (a decoder drops them: their references were cut away), if the format changes on the way, if the
        times contradict the order in which a decoder gives the frames, or if the decoder holds back fewer frames than
        that order needs and so loses some.

        Args:
            marks: All packets, in file order.
            pictures: What the stream itself says about each of them.
            held_back: Frames that the decoder waits for before it gives one.
        """
        times = [mark.pts for mark in marks if mark.pts is not None]
        if len(times) < len(marks) or len(set(times)) < len(times) or not times:
            return None
        if not marks[0].is_key or times[0] != min(times) or any(mark.changes_format for mark in marks[1:]):
            return None
        by_time = sorted(range(len(times)), key=times.__getitem__)
        if any(pictures[first].order >= pictures[second].order for first, second in pairwise(by_time)):
            return None
        waiting = (latest - shown for shown, latest in enumerate(accumulate(by_time, max)))
        if max(waiting) > held_back:
            return None
        damaged = {position for position, mark in enumerate(marks) if not mark.is_whole}
        damaged.update(_lost_before(marks, pictures, [times[position] for position in by_time]))
        shown = [position for position in by_time if marks[position].is_shown]
        return cls(
            times=tuple(times[position] for position in shown),
            positions=tuple(shown),
            keys=tuple((position, time) for position, time in enumerate(times) if marks[position].is_key),
            references=tuple(picture.is_reference for picture in pictures),
            hidden=frozenset(position for position, mark in enumerate(marks) if not mark.is_shown),
            damaged=frozenset(damaged),
        )

    @classmethod
    def from_decode(cls, frames: Sequence[DecodedFrame], damaged: Collection[int]) -> PacketTable:
        """Builds the table of a file whose frames have been counted.

        Args:
            frames: All frames in the order in which a plain decode gives them.
            damaged: Numbers of packets that could not be decoded, or not without errors.
        """
        keys = sorted((frame.position, time) for time, frame in enumerate(frames) if frame.is_key)
        positions = tuple(frame.position for frame in frames)
        times = tuple(range(len(frames)))
        return cls(times, positions, tuple(keys), damaged=frozenset(damaged), is_counted=True)

    def start_of(self, frame: int, no_keys: Collection[int] = ()) -> int:
        """Returns the packet from which a frame can be decoded: the last key frame before it, or else the first.

        A key frame that is shown after the frame is too late even where it comes earlier in the file (the leading
        frames of an open group of pictures refer to frames before it).

        Args:
            frame: Number of the frame.
            no_keys: Numbers of packets that are said to hold key frames, and do not.
        """
        last = bisect_left(self.keys, (self.positions[frame] + 1,))
        keys = (key for key, time in reversed(self.keys[:last]) if time <= self.times[frame] and key not in no_keys)
        return next(keys, 0)

    def spans(self, frames: Iterable[int]) -> list[range]:
        """Lists the runs of packets to decode for some frames, in file order, disjoint.

        Every run starts at the key frame from which its first frame can be decoded, and ends with the packet of a
        wanted frame.
        """
        runs: list[range] = []
        for position, frame in sorted((self.positions[frame], frame) for frame in frames):
            run = range(self.start_of(frame), position + 1)
            while runs and run.start <= runs[-1].stop:  # a leading frame may start before those that precede it
                run = range(min(run.start, runs.pop().start), run.stop)
            runs.append(run)
        return runs

    def leading(self, start: int) -> set[int]:
        """Finds the packets after a key frame whose frames are shown before it.

        Args:
            start: Number of the key frame's packet.
        """
        found: set[int] = set()
        place = bisect_left(self.keys, (start,))
        if place == len(self.keys) or self.keys[place][0] != start:  # the first packet of a file without key frames
            return found
        key_time = self.keys[place][1]
        for frame in range(bisect_left(self.times, key_time) - 1, -1, -1):
            if self.positions[frame] < start:
                break
            found.add(self.positions[frame])
        return found

    def is_spoilt(self, frame: int, damaged: Collection[int], no_keys: Collection[int] = ()) -> bool:
        """Whether a frame is damaged or may refer to a damaged one: nothing is good until the next key frame.

        Args:
            frame: Number of the frame.
            damaged: Numbers of packets.
            no_keys: As for `start_of`.
        """
        if not damaged:
            return False
        start, position = self.start_of(frame, no_keys), self.positions[frame]
        if position in damaged:
            return True
        within = {damage for damage in damaged if start <= damage < position and self._is_reference(damage)}
        return bool(within - self._excused(start)) if within else False

    def _excused(self, start: int) -> set[int]:
        """Packets after a key frame whose damage says nothing of the frames shown after that key frame.

        Leading frames refer to the group before, which may be damaged, or missing where a recording begins. A codec
        that is counted may be one whose decoder rarely notices damage: any sign of it within a group then counts.
        """
        is_first = bool(self.keys) and self.keys[0][0] == start
        return self.leading(start) if not self.is_counted or is_first else set()

    def _is_reference(self, position: int) -> bool:
        return not self.references or self.references[position]

    def judged_after(self) -> list[int]:
        """Lists for each frame the last frame that comes out of an earlier packet, which it may refer to."""
        latest = dict(zip(sorted(self.positions), accumulate(self._by_position(), max), strict=True))
        return [latest[position] for position in self.positions]

    def _by_position(self) -> list[int]:
        return sorted(range(self.num_frames), key=self.positions.__getitem__)


def damaged_by(position: int) -> tuple[int, int]:
    """Returns the packets that may be damaged where FFmpeg flags one as not whole.

    Args:
        position: Number of the flagged packet.
    """
    return position, position + 1


def _lost_before(marks: Sequence[PacketMark], pictures: Sequence[Picture], times: Sequence[int]) -> list[int]:
    """Packets before which others are lost: a number is missing in the stream, and a time in the container.

    Some encoders count in twos, and some leave pictures out, so that neither alone means anything.
    """
    gaps = [position for position, picture in enumerate(pictures) if picture.follows_a_gap]
    if not gaps:
        return []
    steps = [second - first for first, second in pairwise(times)]
    usual = sorted(steps)[len(steps) // 2]
    holes = [end for step, end in zip(steps, times[1:], strict=True) if step > 1.5 * usual]
    lost = []
    for position in gaps:
        group = range(max((key for key in range(position + 1) if marks[key].is_key), default=0), len(marks))
        end = next((key for key in group[1:] if marks[key].is_key), len(marks))
        shown = [mark.pts for mark in marks[group.start : end] if mark.pts is not None]
        if any(min(shown) < hole <= max(shown) for hole in holes):
            lost.append(position)
    return lost
