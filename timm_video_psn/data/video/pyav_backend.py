"""Reads wanted frames of one video file with FFmpeg, exactly and with little decoding.

Decoding is most of the cost of training on videos, and a sparse sampler wants 8 of 300 frames. The packets of a file
are read once without decoding; their time stamps say which packet is which frame (`PacketTable`), provided that the
stream's own order of pictures agrees (`picture_order`). Then only the packets from the last key frame before a wanted
frame up to that frame go to the decoder, without those that nothing refers to, and only wanted frames are converted to
RGB. Any other file is decoded plainly from the start, and its frames are counted.

A plain decode of the whole file is the truth in either case. After a damaged frame nothing is good until the next key
frame, whichever frames are asked for.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager
from itertools import chain, islice
from pathlib import Path
from typing import TYPE_CHECKING, Any

import av
import numpy as np
from av.packet import Packet
from av.video.codeccontext import VideoCodecContext
from av.video.frame import VideoFrame
from av.video.reformatter import VideoReformatter
from av.video.stream import VideoStream

from timm_video_psn.data.video.container import OpenVideo, open_video
from timm_video_psn.data.video.errors import DecodeError, in_plain_words
from timm_video_psn.data.video.file_end import missing_bytes
from timm_video_psn.data.video.limits import MAX_PIXELS, check_pixels, frame_limit
from timm_video_psn.data.video.orientation import display_matrix, upright
from timm_video_psn.data.video.packet_table import DecodedFrame, PacketMark, PacketTable
from timm_video_psn.data.video.picture_order import Picture, UnknownOrder, picture_reader

# A packet table needs a container that stores when each frame is shown, and a codec with one frame in each packet.
# AVI stores no such times, MPEG-4 part 2 may pack two frames into a packet, and VP8 has packets that are never shown.
_TIMED_CONTAINERS = frozenset({"matroska", "mov", "mp4", "webm"})
# From PyAV 17 on, a scaler starts a thread for each CPU unless told otherwise. Workers are the parallelism, and threads
# that stay behind in a fork hang the process that frees the scaler.
_ONE_THREAD = {"threads": 1} if int(av.__version__.partition(".")[0]) >= 17 else {}
_HELD_BYTES = 128 * 2**20  # compressed packets that one file keeps in memory; a larger file is read a second time
_NOT_ALL = "the file is damaged, and not all of its frames come out of it"
_OUT_OF_ORDER = "its time stamps contradict the order in which its frames come out of the decoder; re-encode it"

if TYPE_CHECKING:
    VideoPacket = Packet[VideoStream]
    NumberedPackets = Iterable[tuple[int, VideoPacket]]
    Convert = Callable[[VideoFrame], np.ndarray]


class VideoFile:
    """Best video stream of a file, read by its packet table.

    Args:
        path: video file; it is opened at once and stays open until `close`.
        content: bytes of the file, if it lies in memory and not at `path`.
        max_pixels: most pixels that the frames of one `read` may have together.

    Raises:
        DecodeError: The file is not a video, or damaged, or its frames are too large.
    """

    def __init__(self, path: Path, content: bytes | None = None, max_pixels: int = MAX_PIXELS) -> None:
        self._path = path
        self._content = content
        self._max_pixels = max_pixels
        self._video = self._open()
        try:
            self.note, self.stream_index = self._video.note, self._video.stream.index
            self.size = (self._video.stream.codec_context.height, self._video.stream.codec_context.width)
            rate = self._video.stream.average_rate
            self.fps = float(rate) if rate else None
            self._check_pixels(1, None)
            with in_plain_words(path, "the file is damaged", av.FFmpegError):
                self.table = self._scan_packets() or self._count_frames()
            self.num_frames = self.table.num_frames
            if all(self.table.is_spoilt(index, self.table.damaged) for index in range(self.num_frames)):
                raise DecodeError(path, "not one of its frames can be decoded; the file is damaged or cut short")
        except BaseException:
            self.close()
            raise

    def close(self) -> None:
        """Closes the file."""
        self._video.container.close()

    def read(self, indices: Sequence[int], short_side: int | None = None) -> dict[int, np.ndarray]:
        """Decodes frames.

        Args:
            indices: increasing numbers of frames.
            short_side: shorter side in pixels to which larger frames are shrunk as soon as they are decoded.

        Returns:
            The frames (H, W, 3) by index.

        Raises:
            DecodeError: A wanted frame is damaged, or the frames are too large.
        """
        self.check(indices, short_side)
        convert = self._converter(len(indices), short_side)
        with in_plain_words(self._path, "it cannot be read", av.FFmpegError):
            if self.table.is_counted:
                return self._read_by_counting(indices, convert)
            found = self._read_spans(indices, convert)
            # What does not come out from its key frame on may be damaged, or stand in x264's intra refresh, which has
            # no key frames: a decode from the start settles it.
            return self._read_from_start(indices, convert) if found is None else found

    def check(self, indices: Sequence[int], short_side: int | None = None) -> None:
        """Raises a `DecodeError` for frames that are known to be damaged, or too large.

        Args:
            indices: as for `read`.
            short_side: as for `read`.
        """
        self._check_pixels(len(indices), short_side)
        self._refuse([index for index in indices if self.table.is_spoilt(index, self.table.damaged)])

    def frames(self, short_side: int | None = None) -> Iterator[np.ndarray]:
        """Yields all frames (H, W, 3) in order, decoded once from the start.

        Args:
            short_side: as for `read`.

        Raises:
            DecodeError: A frame is damaged; the frames before it have been given.
        """
        convert = self._converter(1, short_side)
        return (convert(frame) for _, frame in self.timed_frames())

    def timed_frames(self) -> Iterator[tuple[float | None, VideoFrame]]:
        """Yields all frames in order as PyAV gives them, each with its time in seconds, or None if it has none.

        Raises:
            DecodeError: A frame is damaged; the frames before it have been given.
        """
        table, came, given, reason = self.table, 0, 0, _NOT_ALL
        damaged, judged_after = set(table.damaged), table.judged_after()
        waiting: deque[VideoFrame] = deque()  # for frames that they may refer to, and that may turn out damaged
        with in_plain_words(self._path, reason, av.FFmpegError), self._from_start() as (decoder, packets):
            for position, frame in _decode(decoder, packets):
                if frame is None or frame.is_corrupt:
                    damaged.add(position)
                if frame is None:
                    continue
                if came == self.num_frames or position != table.positions[came]:
                    reason = _NOT_ALL if damaged else _OUT_OF_ORDER
                    break
                waiting.append(frame)
                came += 1
                while waiting and judged_after[given] < came and not table.is_spoilt(given, damaged):
                    yield self.seconds(given), waiting.popleft()
                    given += 1
                if waiting and judged_after[given] < came:
                    break
        if given < self.num_frames:
            raise DecodeError(self._path, f"{reason}: {given} of {self.num_frames}")

    def seconds(self, index: int) -> float | None:
        """Returns the time at which a frame is shown, or None if the file does not state it.

        Args:
            index: number of the frame.
        """
        time, unit = self._times[self.table.positions[index]], self._video.stream.time_base
        return None if time is None or unit is None else float(time * unit)

    def _open(self) -> OpenVideo:
        return open_video(self._path, self._content, frame_limit(self._max_pixels))

    @contextmanager
    def _from_start(self) -> Iterator[tuple[VideoCodecContext, NumberedPackets]]:
        """A decoder that has seen nothing yet, and all packets for it."""
        video = self._open()
        with video.container:
            packets = _demux(video) if self._held is None else self._held
            yield video.stream.codec_context, _numbered(packets)

    def _scan_packets(self) -> PacketTable | None:
        """Reads all packets without decoding them, and keeps them unless they are too many."""
        marks: list[PacketMark] = []
        pictures: list[Picture] = []
        held: list[VideoPacket] = []
        held_bytes, failure = 0, None
        read_picture = _picture_reader(self._video)
        try:
            for packet in _demux(self._video):
                if len(pictures) == len(marks) and (picture := read_picture(memoryview(packet))) is not None:
                    pictures.append(picture)
                changes, is_whole = packet.has_sidedata("new_extradata"), not packet.is_corrupt
                marks.append(PacketMark(packet.pts, packet.is_keyframe, not packet.is_discard, changes, is_whole))
                held_bytes += packet.size
                if held_bytes <= _HELD_BYTES:
                    held.append(packet)
        except av.FFmpegError as error:
            failure = error
        self._times = [mark.pts for mark in marks]
        self._held = held if held_bytes <= _HELD_BYTES else None
        self._broken_packets = {position for position, mark in enumerate(marks) if not mark.is_whole}
        overhang = missing_bytes(self._path, self._content)
        if overhang.size and (overhang.is_proof or failure or self._broken_packets or self._ends_early()):
            raise DecodeError(self._path, f"it is cut short by {overhang.size:,} bytes; copy or download it again")
        if failure:
            raise failure
        depth = self._video.stream.codec_context.reorder_depth
        return PacketTable.from_marks(marks, pictures, depth) if len(pictures) == len(marks) else None

    def _ends_early(self) -> bool:
        """Whether the last frame of a Matroska file is shown long before the end that the file states."""
        container, stream = self._video.container, self._video.stream
        if "matroska" not in container.format.name:
            return False
        times = [time for time in self._times if time is not None]
        if not times or not container.duration or not stream.time_base:
            return True
        end = float(max(times) * stream.time_base) + 2 / (self.fps or 10)
        return end < container.duration / av.time_base

    def _count_frames(self) -> PacketTable:
        """Decodes the whole file with the decoder that has been opened for its packets, which has seen nothing yet."""
        frames: list[DecodedFrame] = []
        damaged = set(self._broken_packets)
        if self._held is None:
            self.close()
            self._video = self._open()
        packets = _demux(self._video) if self._held is None else self._held
        for position, frame in _decode(self._video.stream.codec_context, _numbered(packets)):
            if frame is None or frame.is_corrupt:
                damaged.add(position)
            if frame is not None:
                frames.append(DecodedFrame(position, bool(frame.key_frame)))
        return PacketTable.from_decode(frames, damaged)

    def _read_by_counting(self, indices: Sequence[int], convert: Convert) -> dict[int, np.ndarray]:
        """Decodes all frames from the start to the last wanted one, which is how they have been counted."""
        found, wanted = {}, set(indices)
        with self._from_start() as (decoder, packets):
            came = (frame for _, frame in _decode(decoder, packets) if frame is not None)
            for index, frame in enumerate(islice(came, indices[-1] + 1)):
                if index in wanted:
                    found[index] = convert(frame)
        self._refuse([index for index in indices if index not in found])
        return found

    def _read_spans(self, indices: Sequence[int], convert: Convert) -> dict[int, np.ndarray] | None:
        """Decodes the wanted frames and what they refer to, or returns None if anything is unusual."""
        if self._held is not None:
            return self._decode_spans(self._video.stream.codec_context, _numbered(self._held), indices, convert)
        with self._from_start() as (decoder, packets):
            return self._decode_spans(decoder, packets, indices, convert)

    def _decode_spans(
        self,
        decoder: VideoCodecContext,
        packets: NumberedPackets,
        indices: Sequence[int],
        convert: Convert,
    ) -> dict[int, np.ndarray] | None:
        table, found = self.table, {}
        index_at = {table.positions[index]: index for index in indices}
        packets, place = iter(packets), 0
        for span in table.spans(indices):
            run = islice(packets, span.start - place, span.stop - place)
            place = span.stop
            needed = [packet for packet in run if table.references[packet[0]] or packet[0] in index_at]
            # A decoder that starts here does not know what leading frames refer to.
            due = {position for position, _ in needed} - table.hidden - table.leading(span.start)
            if decoder.is_open:
                decoder.flush_buffers()
            came: list[int] = []
            for position, frame in _decode(decoder, needed):
                if frame is None or (position in due and frame.is_corrupt):
                    return None
                if position in due:
                    came.append(self._times[position] or 0)
                    due.discard(position)
                    if position in index_at:
                        found[index_at[position]] = convert(frame)
            if due or came != sorted(came):
                return None
        return found

    def _read_from_start(self, indices: Sequence[int], convert: Convert) -> dict[int, np.ndarray]:
        """Decodes from the start what the wanted frames may refer to, and judges them by what comes out."""
        table, found = self.table, {}
        index_at = {table.positions[index]: index for index in indices}
        damaged, due = set(table.damaged), set()
        with self._from_start() as (decoder, packets):
            upto = islice(packets, max(index_at) + 1)
            needed = [packet for packet in upto if table.references[packet[0]] or packet[0] in index_at]
            due = {position for position, _ in needed} - table.hidden
            for position, frame in _decode(decoder, needed):
                if frame is None or frame.is_corrupt:
                    damaged.add(position)
                else:
                    due.discard(position)
                    if position in index_at:
                        found[index_at[position]] = convert(frame)
        damaged |= due
        self._refuse([index for index in indices if index not in found or table.is_spoilt(index, damaged)])
        return found

    def _refuse(self, damaged: Sequence[int]) -> None:
        if damaged:
            reason = "the file is damaged, and frames asked for do not come out of it"
            raise DecodeError(self._path, f"{reason}: {list(damaged[:10])} of {self.num_frames}")

    def _check_pixels(self, count: int, short_side: int | None) -> None:
        check_pixels(self._path, self.size, count, short_side, self._max_pixels)

    def _converter(self, count: int, short_side: int | None) -> Convert:
        """A function from a decoded frame to its pixels as players show them, (H, W, 3)."""
        reformatter = VideoReformatter()  # one for all frames, since it keeps its tables

        def convert(frame: VideoFrame) -> np.ndarray:
            size = (frame.height, frame.width)  # which the header of the file may state wrongly
            height, width = check_pixels(self._path, size, count, short_side, self._max_pixels)
            scaling: dict[str, Any] = (
                {} if (height, width) == size else {"height": height, "width": width, "interpolation": "AREA"}
            )
            rgb = reformatter.reformat(frame, format="rgb24", **scaling, **_ONE_THREAD)
            return upright(np.asarray(rgb.to_ndarray()), display_matrix(frame))

        return convert


def _picture_reader(video: OpenVideo) -> Callable[[memoryview], Picture | None]:
    """A function from a packet to its picture, or to None if the packets do not tell which frame is where."""
    stream = video.stream
    if _TIMED_CONTAINERS.isdisjoint(video.container.format.name.split(",")):
        return lambda packet: None
    try:
        reader = picture_reader(stream.codec.canonical_name, stream.codec_context.extradata)
    except UnknownOrder:
        return lambda packet: None

    def read(packet: memoryview) -> Picture | None:
        try:
            return reader(packet)
        except UnknownOrder:
            return None

    return read


def _demux(video: OpenVideo) -> Iterator[VideoPacket]:
    """Packets with data."""
    return (packet for packet in video.container.demux(video.stream) if packet.size)


def _numbered(packets: Iterable[VideoPacket]) -> Iterator[tuple[int, VideoPacket]]:
    """Packets with their numbers, which the decoder passes on in place of their times."""
    for position, packet in enumerate(packets):
        packet.pts = position
        yield position, packet


def _decode(decoder: VideoCodecContext, packets: NumberedPackets) -> Iterator[tuple[int, VideoFrame | None]]:
    """Decodes packets and empties the decoder.

    Yields:
        The number of a packet, and its frame, or None if the packet could not be decoded.
    """
    last = 0
    for position, packet in chain(packets, [(None, None)]):
        last = last if position is None else position
        try:
            frames = decoder.decode(packet)
        except MemoryError:
            raise
        except av.FFmpegError:
            yield last, None
        else:
            yield from ((last if frame.pts is None else frame.pts, frame) for frame in frames)
