"""Reads wanted frames of one video file with FFmpeg, exactly and with little decoding.

Decoding is most of the cost of training on videos, and a sparse sampler wants 8 of 300 frames. The packets of a file
are read once without decoding; their time stamps say which packet is which frame (`packets.PacketTable`). Then only the
packets from the last key frame before a wanted frame up to that frame go to the decoder, which drops the frames that
nothing refers to, and only wanted frames are converted to RGB. A file whose time stamps do not tell its frames is
decoded plainly from the start.
"""

from __future__ import annotations

import io
import mmap
from collections import deque
from collections.abc import Collection, Iterable, Iterator, Sequence
from contextlib import suppress
from itertools import islice
from pathlib import Path

import av
import numpy as np
from av.container import InputContainer
from av.packet import Packet
from av.stream import Disposition
from av.video.codeccontext import VideoCodecContext
from av.video.frame import VideoFrame
from av.video.reformatter import VideoReformatter
from av.video.stream import VideoStream

from timm_video_psn.data.video.container import missing_bytes
from timm_video_psn.data.video.errors import DecodeError, in_plain_words, short_message
from timm_video_psn.data.video.orientation import display_matrix, upright
from timm_video_psn.data.video.packet_table import PacketMark, PacketTable

# A packet table needs a container that stores when each frame is shown, and a codec with one frame in each packet.
# AVI stores no such times, MPEG-4 part 2 may pack two frames into a packet, and VP8 has packets that are never shown.
_TIMED_CONTAINERS = frozenset({"matroska", "mov", "mp4", "webm"})
_FRAME_PER_PACKET_CODECS = frozenset({"av1", "h264", "hevc", "mjpeg", "vp9"})
_WHOLE_FRAME_ORDERS = frozenset({0, 1})  # FFmpeg's "unknown" and "progressive"; interlaced packets may be half a frame
# From PyAV 17 on, a scaler starts a thread for each CPU unless told otherwise. Workers are the parallelism, and threads
# that stay behind in a fork hang the process that frees the scaler.
_ONE_THREAD = {"threads": 1} if int(av.__version__.partition(".")[0]) >= 17 else {}
_HELD_BYTES = 128 * 2**20  # compressed packets that one file keeps in memory; a larger file is read a second time


class VideoFile:
    """First video stream of a file, read by its packet table, or plainly where there is none.

    Args:
        path: the file; it is opened at once and stays open until `close`.
        content: content of the file, if it is in memory and not at `path`.

    Raises:
        DecodeError: the file is no video, or damaged.
    """

    def __init__(self, path: Path, content: bytes | None = None) -> None:
        self._path = path
        self._content = content
        self._container, self._stream = _open_stream(path, content)
        try:
            if missing := missing_bytes(path, content):
                raise DecodeError(path, f"it is cut short by {missing:,} bytes; copy or download it again")
            rate = self._stream.average_rate
            self.fps = float(rate) if rate else None
            with in_plain_words(path, "the file is damaged", av.FFmpegError):
                self._table = self._scan_packets() if _stores_times(self._container, self._stream) else None
                self.num_frames = self._table.num_frames if self._table else sum(1 for _ in self._decode_plainly())
            if self.num_frames == 0:
                raise DecodeError(path, "not one of its frames can be decoded; the file is damaged or cut short")
        except BaseException:
            self.close()
            raise

    def close(self) -> None:
        """Closes the file."""
        self._container.close()

    def read(self, indices: Sequence[int]) -> dict[int, np.ndarray]:
        """Frames (H, W, 3) by index; the indices are increasing and lie in the video."""
        self._reformatter = VideoReformatter()  # one for all frames, since it keeps its tables
        frames = self._read_by_table(indices, self._table) if self._table else {}
        # What did not come out from its key frame on (x264's intra refresh; damage) a plain decode may still show.
        missing = [index for index in indices if index not in frames]
        return frames | self._read_plainly(missing) if missing else frames

    def frames(self) -> Iterator[np.ndarray]:
        """All frames (H, W, 3) in order, decoded once from the start."""
        self._reformatter = VideoReformatter()
        due, reason = 0, "the file is damaged, and not all of its frames come out of it"
        with in_plain_words(self._path, reason, av.FFmpegError):
            for index, frame in self._numbered(self._decode_plainly()):
                if index != due or frame.is_corrupt:
                    break
                yield self._to_rgb(frame)
                due += 1
        if due < self.num_frames:
            raise DecodeError(self._path, f"{reason}: {due} of {self.num_frames}")

    def _scan_packets(self) -> PacketTable | None:
        """Reads all packets without decoding them, and keeps them unless they are too many."""
        marks: list[PacketMark] = []
        held: list[Packet[VideoStream]] = []
        held_bytes = 0
        for packet in _demux(self._container, self._stream):
            changes_format = packet.has_sidedata("new_extradata")
            marks.append(PacketMark(packet.pts, packet.is_keyframe, not packet.is_discard, changes_format))
            held_bytes += packet.size
            if held_bytes <= _HELD_BYTES:
                held.append(packet)
        self._held = held if held_bytes <= _HELD_BYTES else None
        return PacketTable.from_marks(marks)

    def _packets(self) -> Iterator[Packet[VideoStream]]:
        """All packets from the start, for the decoder of `self._stream`."""
        if self._held is not None:
            return iter(self._held)
        self._container.close()
        self._container, self._stream = _open_stream(self._path, self._content)
        return _demux(self._container, self._stream)

    def _read_by_table(self, indices: Sequence[int], table: PacketTable) -> dict[int, np.ndarray]:
        """Decodes the wanted frames and what they refer to; leaves out frames that do not come out."""
        index_of = {table.pts[index]: index for index in indices}
        found: dict[int, np.ndarray] = {}
        packets, position = self._packets(), 0
        decoder = self._stream.codec_context
        for span in table.spans(indices):
            run = islice(packets, span.start - position, span.stop - position)
            position = span.stop
            with suppress(av.FFmpegError):  # `read` decodes plainly what is missing after an error
                for frame in _decode_run(decoder, run, index_of):
                    if frame.pts in index_of and not frame.is_corrupt:
                        found[index_of[frame.pts]] = self._to_rgb(frame)
            deque(run, maxlen=0)  # what an error left of the run
            decoder.flush_buffers()
        return found

    def _read_plainly(self, indices: Sequence[int]) -> dict[int, np.ndarray]:
        """Decodes all frames from the start to the last wanted one."""
        found: dict[int, np.ndarray] = {}
        reason = "the file is damaged, and frames asked for do not come out of it"
        with in_plain_words(self._path, reason, av.FFmpegError):
            for index, frame in self._numbered(self._decode_plainly()):
                if index in indices and not frame.is_corrupt:
                    found[index] = self._to_rgb(frame)
                if len(found) == len(indices):
                    return found
        missing = [index for index in indices if index not in found]
        raise DecodeError(self._path, f"{reason}: {missing[:10]} of {self.num_frames}")

    def _numbered(self, frames: Iterable[VideoFrame]) -> Iterator[tuple[int, VideoFrame]]:
        """Frames with their indices: by time where the table gives it, else by counting."""
        if self._table is None:
            return enumerate(frames)
        index_of = {time: index for index, time in enumerate(self._table.pts)}
        return ((index_of[frame.pts], frame) for frame in frames if frame.pts in index_of)

    def _decode_plainly(self) -> Iterator[VideoFrame]:
        """All frames in the order in which a decoder that has seen nothing before gives them."""
        container, stream = _open_stream(self._path, self._content)
        with container:
            for packet in _demux(container, stream):
                yield from stream.codec_context.decode(packet)
            yield from stream.codec_context.decode(None)

    def _to_rgb(self, frame: VideoFrame) -> np.ndarray:
        """Pixels as players show them, (H, W, 3)."""
        pixels = np.asarray(self._reformatter.reformat(frame, format="rgb24", **_ONE_THREAD).to_ndarray())
        return upright(pixels, display_matrix(frame))


class _InMemory(io.BytesIO):
    """Content of a file, with the file's name, whose ending helps FFmpeg to recognise the container."""

    def __init__(self, content: bytes, name: str) -> None:
        super().__init__(content)
        self.name = name


def _open_stream(path: Path, content: bytes | None) -> tuple[InputContainer, VideoStream]:
    """Opens a file for one decoder thread: workers are the parallelism, and threads would delay frames."""
    if (path.stat().st_size if content is None else len(content)) == 0:
        raise DecodeError(path, "the file is empty (0 bytes); copy or download it again")
    try:
        if content is None:
            container = av.open(f"file:{path}", metadata_errors="ignore")
        else:  # a playlist from a stranger's shard shall open nothing else
            options = {"protocol_whitelist": "none"}
            container = av.open(_InMemory(content, path.name), "r", metadata_errors="ignore", options=options)
    except (av.FFmpegError, OSError) as error:
        raise DecodeError(path, _why_unreadable(path, content, error)) from error
    # Cover pictures of audio files and FFmpeg's rendering of text as a terminal count as video streams, too.
    streams = [stream for stream in container.streams.video if not stream.disposition & Disposition.attached_pic]
    if not streams or container.format.name == "tty":
        container.close()
        raise DecodeError(path, "it holds no video, only sound, a cover picture or text; remove it from the data")
    if streams[0].codec_context is None:
        container.close()
        raise DecodeError(path, "FFmpeg has no decoder for its video codec; re-encode it, for example to H.264")
    streams[0].codec_context.thread_count = 1
    return container, streams[0]


def _why_unreadable(path: Path, content: bytes | None, error: Exception) -> str:
    """Reason why FFmpeg could not open a file, in plain words."""
    if isinstance(error, PermissionError):
        return "no permission to read it; change its access rights"
    if _lacks_contents(path) if content is None else _is_without_moov(content):
        return "its table of contents (mp4 'moov') is missing: the file was cut short; copy or download it again"
    return f"it is no video, or damaged from the start ({short_message(error)})"


def _lacks_contents(path: Path) -> bool:
    """Whether a file is an mp4 without its table of contents."""
    with path.open("rb") as file, mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ) as content:
        return _is_without_moov(content)


def _is_without_moov(content: bytes | mmap.mmap) -> bool:
    return content[4:8] == b"ftyp" and content.find(b"moov") < 0


def _stores_times(container: InputContainer, stream: VideoStream) -> bool:
    """Whether the packets of the file tell which frame is where."""
    field_order = getattr(stream.codec_context, "field_order", 0)  # PyAV tells it from version 18 on
    return (
        not _TIMED_CONTAINERS.isdisjoint(container.format.name.split(","))
        and stream.codec.canonical_name in _FRAME_PER_PACKET_CODECS
        and field_order in _WHOLE_FRAME_ORDERS
    )


def _demux(container: InputContainer, stream: VideoStream) -> Iterator[Packet[VideoStream]]:
    """Packets with data; one that the file breaks off in holds no whole frame and is left out."""
    return (packet for packet in container.demux(stream) if packet.size and not packet.is_corrupt)


def _decode_run(
    decoder: VideoCodecContext, run: Iterable[Packet[VideoStream]], wanted_times: Collection[int]
) -> Iterator[VideoFrame]:
    """Decodes a run of packets, dropping frames that are neither wanted nor referred to, and empties the decoder."""
    for packet in run:
        decoder.skip_frame = "DEFAULT" if packet.pts in wanted_times else "NONREF"
        yield from decoder.decode(packet)
    yield from decoder.decode(None)
