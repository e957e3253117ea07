"""Reads all packets of a video file without decoding them, and whether they tell the frames of the video."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

import av

from timm_video_psn.data.video.container import OpenVideo
from timm_video_psn.data.video.errors import DecodeError, short_message
from timm_video_psn.data.video.file_end import missing_bytes
from timm_video_psn.data.video.packet_table import PacketMark, PacketTable, damaged_by
from timm_video_psn.data.video.picture_order import CODECS_IN_ORDER, Picture, UnknownOrder, picture_reader

if TYPE_CHECKING:
    from av.packet import Packet
    from av.video.stream import VideoStream

    VideoPacket = Packet[VideoStream]

# A packet table needs a codec with one frame in each packet (MPEG-4 part 2 may pack two into one, VP8 has packets that
# are never shown), and a container that stores when each frame is shown, unless frames are shown as they come.
_TIMED_CONTAINERS = frozenset({"matroska", "mov", "mp4", "webm"})
_HELD_BYTES = 128 * 2**20  # compressed packets that one file keeps in memory; a larger file is read a second time


class PacketScan(NamedTuple):
    """What the packets of a file say."""

    times: list[int | None]  # presentation time of each, in units of the stream
    broken: frozenset[int]  # numbers of those that are not whole, or may not be
    held: list[VideoPacket] | None  # None if they are too many to keep
    table: PacketTable | None  # None if they do not tell the frames


def scan_packets(path: Path, content: bytes | None, video: OpenVideo) -> PacketScan:
    """Reads all packets of a file that has just been opened.

    Args:
        path: Video file.
        content: Bytes of the file, if it lies in memory and not at `path`.
        video: Open file.

    Raises:
        DecodeError: The file is cut short, or its packets cannot be read to the end.
    """
    marks: list[PacketMark] = []
    pictures: list[Picture] = []
    times: list[int | None] = []
    held: list[VideoPacket] = []
    held_bytes, failure = 0, None
    read_picture, as_they_come = _picture_reader(video), codec_of(video) in CODECS_IN_ORDER
    try:
        for packet in demux(video):
            if len(pictures) == len(marks) and (picture := read_picture(memoryview(packet))) is not None:
                pictures.append(picture)
            times.append(packet.pts)
            time = len(marks) if as_they_come else packet.pts
            changes, is_whole = packet.has_sidedata("new_extradata"), not packet.is_corrupt
            marks.append(PacketMark(time, packet.is_keyframe, not packet.is_discard, changes, is_whole))
            held_bytes += packet.size
            if held_bytes <= _HELD_BYTES:
                held.append(packet)
    except av.FFmpegError as error:
        failure = error
    # Where FFmpeg finds the pictures in a stream itself, as in MPEG-TS, it flags the one before the damage.
    broken = frozenset(
        after for position, mark in enumerate(marks) if not mark.is_whole for after in damaged_by(position)
    )
    overhang = missing_bytes(path, content)
    if overhang.size and (overhang.is_proof or failure or broken or _ends_early(video, times)):
        raise DecodeError(path, f"it is cut short by {overhang.size:,} bytes; copy or download it again")
    if failure:  # also a packet that claims more memory than there is
        raise DecodeError(path, f"the file is damaged ({short_message(failure)})")
    is_told = len(pictures) == len(marks)
    table = PacketTable.from_marks(marks, pictures, video.stream.codec_context.reorder_depth) if is_told else None
    return PacketScan(times, broken, held if held_bytes <= _HELD_BYTES else None, table)


def demux(video: OpenVideo) -> Iterator[VideoPacket]:
    """Yields the packets of a file that hold data, from where it has been read to.

    Args:
        video: Open file.
    """
    return (packet for packet in video.container.demux(video.stream) if packet.size)


def codec_of(video: OpenVideo) -> str:
    """Returns FFmpeg's name of the codec, whichever decoder it has for it.

    Args:
        video: Open file.
    """
    return video.stream.codec.canonical_name


def _ends_early(video: OpenVideo, times: Sequence[int | None]) -> bool:
    """Whether the last frame of a Matroska file is shown long before the end that the file states."""
    container, stream = video.container, video.stream
    if "matroska" not in container.format.name:
        return False
    known = [time for time in times if time is not None]
    if not known or not container.duration or not stream.time_base:
        return True
    end = float(max(known) * stream.time_base) + 2 / float(stream.average_rate or 10)
    return end < container.duration / av.time_base


def _picture_reader(video: OpenVideo) -> Callable[[memoryview], Picture | None]:
    """A function from a packet to its picture, or to None if the packets do not tell which frame is where."""
    is_timed = not _TIMED_CONTAINERS.isdisjoint(video.container.format.name.split(","))
    try:
        reader = picture_reader(codec_of(video), video.stream.codec_context.extradata)
    except UnknownOrder:
        return lambda packet: None
    if not is_timed and codec_of(video) not in CODECS_IN_ORDER:
        return lambda packet: None

    def read(packet: memoryview) -> Picture | None:
        try:
            return reader(packet)
        except UnknownOrder:
            return None

    return read
