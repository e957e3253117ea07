"""Which packet of a video file holds which frame, and which packets a decoder must see to give it.

Pure bookkeeping on time stamps: nothing is decoded here, and nothing of FFmpeg is known.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import NamedTuple


class PacketMark(NamedTuple):
    """What a packet says about itself, without decoding it."""

    pts: int | None  # presentation time of its frame, in units of the stream's time base
    is_key: bool  # decoding may start here
    is_shown: bool  # False where an edit list hides the frame
    changes_format: bool  # carries new decoder parameters, without which later packets cannot be decoded


@dataclass(frozen=True)
class PacketTable:
    """Where the frames of a video lie: frame `i` is shown at time `pts[i]` and comes out of packet `positions[i]`.

    Packets are numbered in file order, which is decoding order; frames in presentation order.

    Args:
        pts: presentation time of every frame, increasing.
        positions: number of the packet that holds the frame.
        keys: (packet number, presentation time) of every packet at which decoding may start, in file order.
    """

    pts: tuple[int, ...]
    positions: tuple[int, ...]
    keys: tuple[tuple[int, int], ...]

    @property
    def num_frames(self) -> int:
        """Number of frames that are shown."""
        return len(self.pts)

    @classmethod
    def from_marks(cls, marks: Sequence[PacketMark]) -> PacketTable | None:
        """The table, or None where the packets do not tell the frames of the video.

        That is so when a time stamp is missing or occurs twice, when the first packet is no key frame, when frames are
        shown before it (a decoder drops them: their references were cut away), or when the format changes on the way.
        """
        times = [mark.pts for mark in marks if mark.pts is not None]
        if len(times) < len(marks) or len(set(times)) < len(times) or not times:
            return None
        if not marks[0].is_key or times[0] != min(times) or any(mark.changes_format for mark in marks[1:]):
            return None
        shown = sorted((time, position) for position, time in enumerate(times) if marks[position].is_shown)
        keys = tuple((position, time) for position, time in enumerate(times) if marks[position].is_key)
        return cls(tuple(time for time, _ in shown), tuple(position for _, position in shown), keys)

    def spans(self, frames: Iterable[int]) -> list[range]:
        """Runs of packets to decode for some frames, in file order, disjoint.

        Every run starts at a key frame, the last one from which its first frame can be decoded, and ends with the
        packet of a wanted frame. A key frame that is shown after the wanted frame is too late even where it comes
        earlier in the file (the leading frames of an open group of pictures refer to frames before it).
        """
        runs: list[range] = []
        for position, time in sorted((self.positions[frame], self.pts[frame]) for frame in frames):
            start = max(key for key, key_time in self.keys if key <= position and key_time <= time)
            if runs and start <= runs[-1].stop:
                runs[-1] = range(runs[-1].start, max(runs[-1].stop, position + 1))
            else:
                runs.append(range(start, position + 1))
        return runs
