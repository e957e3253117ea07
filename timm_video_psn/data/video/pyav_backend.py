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
from zlib import crc32

import av
import numpy as np
from av.packet import Packet
from av.video.codeccontext import VideoCodecContext
from av.video.frame import VideoFrame
from av.video.reformatter import VideoReformatter
from av.video.stream import VideoStream

from timm_video_psn.data.video.container import OpenVideo, open_video
from timm_video_psn.data.video.errors import DecodeError, in_plain_words
from timm_video_psn.data.video.limits import MAX_PIXELS, check_pixels, frame_limit
from timm_video_psn.data.video.orientation import display_matrix, is_mirrored, upright
from timm_video_psn.data.video.packet_scan import codec_of, demux, scan_packets
from timm_video_psn.data.video.packet_table import DecodedFrame, PacketTable

# From PyAV 17 on, a scaler starts a thread for each CPU unless told otherwise. Workers are the parallelism, and threads
# that stay behind in a fork hang the process that frees the scaler.
_ONE_THREAD = {"threads": 1} if int(av.__version__.partition(".")[0]) >= 17 else {}
# FFmpeg's decoders of these fill what is missing from a picture with an earlier one, and do not say so unless told to.
_SILENT_CODECS = frozenset({"mjpeg", "vp8"})
_STRICT = {"mjpeg": {"err_detect": "explode"}}
_NOT_ALL = "the file is damaged, and not all of its frames come out of it"
_OUT_OF_ORDER = "its time stamps contradict the order in which its frames come out of the decoder; re-encode it"

if TYPE_CHECKING:
    VideoPacket = Packet[VideoStream]
    NumberedPackets = Iterable[tuple[int, VideoPacket]]
    Convert = Callable[[VideoFrame], np.ndarray]


class VideoFile:
    """Best video stream of a file, read by its packet table.

    Args:
        path: Video file; it is opened at once and stays open until `close`.
        content: Bytes of the file, if it lies in memory and not at `path`.
        max_pixels: Most pixels that the frames of one `read` may have together.

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
            pixels = self._video.stream.codec_context.format
            self.bits = max(part.bits for part in pixels.components) if pixels else 8  # of a colour
            rate = self._video.stream.average_rate
            self.fps = float(rate) if rate else None
            self._check_pixels(1, None)
            with in_plain_words(path, "the file is damaged", av.FFmpegError):
                self._scan = scan_packets(path, content, self._video)
                self.table = self._scan.table or self._count_frames()
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
            indices: Increasing numbers of frames.
            short_side: Shorter side in pixels to which larger frames are shrunk as soon as they are decoded.

        Returns:
            The frames (H, W, 3) by index.

        Raises:
            DecodeError: A wanted frame is damaged, or the frames are too large.
        """
        return self._decode(indices, self._converter(len(indices), short_side), short_side)

    def check(self, indices: Sequence[int]) -> bool:
        """Raises a `DecodeError` if `read` would, without converting a frame to RGB.

        Args:
            indices: As for `read`.

        Returns:
            Whether players mirror one of the frames.
        """
        matrices = self._decode(indices, lambda frame: np.array(display_matrix(frame) or (1, 0, 0, 1)), None)
        return any(is_mirrored(matrix) for matrix in matrices.values())

    def frames(self, short_side: int | None = None) -> Iterator[np.ndarray]:
        """Yields all frames (H, W, 3) in order, decoded once from the start.

        Args:
            short_side: As for `read`.

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
        damaged, no_keys, judged_after = set(table.damaged), set[int](), table.judged_after()
        waiting: deque[VideoFrame | None] = deque()  # for frames that they may refer to, and that may turn out damaged
        strict = not table.is_counted
        with in_plain_words(self._path, reason, av.FFmpegError), self._from_start(strict) as (decoder, packets):
            for position, frame in decode_packets(decoder, packets):
                _note_signs(position, frame, damaged, no_keys)
                if frame is None:
                    continue
                index = came if table.is_counted else table.frame_at.get(position, -1)
                if not came <= index < self.num_frames:
                    reason = _NOT_ALL if damaged else _OUT_OF_ORDER
                    break
                damaged.update(table.positions[came:index])  # those that should have come before
                waiting.extend([None] * (index - came))
                waiting.append(frame)
                came = index + 1
                while waiting and judged_after[given] < came and not table.is_spoilt(given, damaged, no_keys):
                    due = waiting.popleft()
                    assert due is not None  # a frame that has not come is damaged
                    yield self.seconds(given), due
                    given += 1
                if waiting and judged_after[given] < came:
                    break
        if given < self.num_frames:
            raise DecodeError(self._path, f"{reason}: {given} of {self.num_frames}")

    def seconds(self, index: int) -> float | None:
        """Returns the time at which a frame is shown, or None if the file does not state it.

        Args:
            index: Number of the frame.
        """
        time, unit = self._scan.times[self.table.positions[index]], self._video.stream.time_base
        return None if time is None or unit is None else float(time * unit)

    def _decode(self, indices: Sequence[int], convert: Convert, short_side: int | None) -> dict[int, np.ndarray]:
        self._check_pixels(len(indices), short_side)
        self._refuse([index for index in indices if self.table.is_spoilt(index, self.table.damaged)])
        with in_plain_words(self._path, "it cannot be read", av.FFmpegError):
            if self.table.is_counted:
                return self._read_by_counting(indices, convert)
            found = self._read_spans(indices, convert)
            # What does not come out from its key frame on may be damaged, or stand in x264's intra refresh, which has
            # no key frames: a decode from the start settles it.
            return self._read_from_start(indices, convert) if found is None else found

    def _open(self) -> OpenVideo:
        return open_video(self._path, self._content, frame_limit(self._max_pixels))

    @contextmanager
    def _from_start(self, strict: bool) -> Iterator[tuple[VideoCodecContext, NumberedPackets]]:
        """A decoder that has seen nothing yet, and all packets for it."""
        video = self._open()
        with video.container:
            if strict:
                _be_strict(video)
            packets = demux(video) if self._scan.held is None else self._scan.held
            yield video.stream.codec_context, numbered(packets)

    def _count_frames(self) -> PacketTable:
        """Decodes the whole file with the decoder that has been opened for its packets, which has seen nothing yet."""
        packets: Iterable[VideoPacket] | None = self._scan.held
        if packets is None:
            self.close()
            self._video = self._open()
            packets = demux(self._video)
        frames: list[DecodedFrame] = []
        damaged, no_keys = set(self._scan.broken), set[int]()
        for position, frame in decode_packets(self._video.stream.codec_context, numbered(packets)):
            _note_signs(position, frame, damaged, no_keys)
            if frame is not None:
                frames.append(DecodedFrame(position, bool(frame.key_frame)))
        if codec_of(self._video) in _SILENT_CODECS:
            damaged |= self._unsteady_pictures()
        return PacketTable.from_decode(frames, damaged)

    def _unsteady_pictures(self) -> set[int]:
        """Packets whose pictures depend on what their memory held before, since they were not decoded in full."""
        digests: list[dict[int, int]] = []
        for kept in (1, 4, 16):  # pictures whose memory is not used again at once
            digests.append({})
            with self._from_start(strict=False) as (decoder, packets):
                latest: deque[VideoFrame] = deque(maxlen=kept)
                for position, frame in decode_packets(decoder, packets):
                    if frame is not None:
                        latest.append(frame)
                        digests[-1][position] = crc32(b"".join(map(bytes, frame.planes)))
        return {
            position
            for position, digest in digests[0].items()
            if any(other.get(position) != digest for other in digests)
        }

    def _read_by_counting(self, indices: Sequence[int], convert: Convert) -> dict[int, np.ndarray]:
        """Decodes all frames from the start to the last wanted one, which is how they have been counted."""
        found, wanted = {}, set(indices)
        with self._from_start(strict=False) as (decoder, packets):
            came = (frame for _, frame in decode_packets(decoder, packets) if frame is not None)
            for index, frame in enumerate(islice(came, indices[-1] + 1)):
                if index in wanted:
                    found[index] = convert(frame)
        self._refuse([index for index in indices if index not in found])
        return found

    def _read_spans(self, indices: Sequence[int], convert: Convert) -> dict[int, np.ndarray] | None:
        """Decodes the wanted frames and what they refer to, or returns None if anything is unusual."""
        if self._scan.held is not None:
            _be_strict(self._video)
            return self._decode_spans(self._video.stream.codec_context, numbered(self._scan.held), indices, convert)
        with self._from_start(strict=True) as (decoder, packets):
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
            for position, frame in decode_packets(decoder, needed):
                if frame is None or (position in due and frame.is_corrupt):
                    return None
                if position == span.start and not frame.key_frame:
                    return None
                if position in due:
                    came.append(table.frame_at[position])
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
        damaged, no_keys = set(table.damaged), set[int]()
        with self._from_start(strict=True) as (decoder, packets):
            upto = islice(packets, max(index_at) + 1)
            needed = [packet for packet in upto if table.references[packet[0]] or packet[0] in index_at]
            due = {position for position, _ in needed} - table.hidden
            for position, frame in decode_packets(decoder, needed):
                _note_signs(position, frame, damaged, no_keys)
                due.discard(position)
                if position in index_at and frame is not None:
                    found[index_at[position]] = convert(frame)
        damaged |= due
        self._refuse([i for i in indices if i not in found or table.is_spoilt(i, damaged, no_keys)])
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


def _note_signs(position: int, frame: VideoFrame | None, damaged: set[int], no_keys: set[int]) -> None:
    """Notes what a decoder says about a frame: that it is damaged, or no key frame whatever its container says."""
    if frame is None or frame.is_corrupt:
        damaged.add(position)
    elif not frame.key_frame:
        no_keys.add(position)


def _be_strict(video: OpenVideo) -> None:
    """Makes a decoder that has not begun yet report all that it finds wrong."""
    context = video.stream.codec_context
    if not context.is_open:
        context.options = {**context.options, **_STRICT.get(codec_of(video), {})}


def numbered(packets: Iterable[VideoPacket]) -> Iterator[tuple[int, VideoPacket]]:
    """Yields packets with their numbers, which the decoder passes on in place of their times.

    Args:
        packets: Packets of a stream, in the order in which they are decoded.
    """
    for position, packet in enumerate(packets):
        packet.pts = position
        yield position, packet


def decode_packets(decoder: VideoCodecContext, packets: NumberedPackets) -> Iterator[tuple[int, VideoFrame | None]]:
    """Decodes packets and empties the decoder.

    Args:
        decoder: Decoder of the stream.
        packets: Packets as `numbered` gives them.

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
