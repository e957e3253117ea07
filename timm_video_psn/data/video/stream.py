"""Frames one after the other, each with its time: of a file, a folder of images, a camera or a network stream.

Where `VideoReader` jumps to wanted frames, this goes through all of them once, so that a video of any length, or one
that is still being recorded, needs no more memory than the frames somebody holds on to.
"""

from __future__ import annotations

import logging
import math
import platform
import re
import urllib.parse
from collections import deque
from collections.abc import Iterable, Iterator
from contextlib import ExitStack, closing
from pathlib import Path
from typing import Any

import numpy as np

from timm_video_psn.data.video.errors import DecodeError, in_plain_words, no_file_errors, short_message
from timm_video_psn.data.video.limits import MAX_PIXELS, frame_limit
from timm_video_psn.data.video.packet_table import damaged_by
from timm_video_psn.data.video.reader import VideoReader, is_there

_logger = logging.getLogger(__name__)
_FILE_ENDINGS = (".mp4", ".m4v", ".mov", ".webm", ".mkv", ".avi")
_URL = re.compile(r"^(rtsp|rtmp|rtp|udp|tcp|srt|https?)://", re.IGNORECASE)
_LIVE_FORMATS = ("dash", "hls", "mpjpeg", "rtp", "rtsp", "sdp")  # beside the formats of files
_REMEMBERED = 1000  # packets, signs of damage and key frames of a live source
_MOST_WAITING = 16  # frames of a live source that wait for frames which the decoder gives later
_USUAL_FPS = 25.0  # for sources that state no rate
# Seconds that a live source may take; FFmpeg waits for a segment of an HLS stream, often 10 s, and hears no interrupt.
_OPEN_SEC, _SILENT_SEC = 30.0, 20.0


class TimedFrame:
    """A decoded frame; its pixels are converted when somebody asks for them.

    Args:
        time_sec: Seconds since the first frame of its source.
        source: PyAV's frame, or the pixels (H, W, 3).
    """

    __slots__ = ("_source", "time_sec")

    def __init__(self, time_sec: float, source: Any) -> None:
        self.time_sec = time_sec
        self._source = source

    def rgb(self) -> np.ndarray:
        """Returns the pixels as players show them, uint8 (H, W, 3)."""
        if isinstance(self._source, np.ndarray):
            return self._source
        from timm_video_psn.data.video.orientation import display_matrix, upright

        return upright(self._source.to_ndarray(format="rgb24"), display_matrix(self._source))


class FrameStream:
    """All frames of a source, in order.

    Of a file, the video stream that `VideoReader` reads; a damaged frame ends it. A live source goes on after one, with
    the next key frame.

    Args:
        source: Video file, folder of frame images, number of a camera ("0"), or URL of a stream.
        fps: Frames per second of a folder of images, which does not tell its own.
        max_pixels: As `VideoReader` takes it.

    Raises:
        DecodeError: The source cannot be opened.
        ValueError: A folder of images has no `fps`.

    Example:
        >>> with FrameStream("clip.mp4") as stream:  # doctest: +SKIP
        ...     times = [frame.time_sec for frame in stream]
    """

    def __init__(self, source: str | Path, fps: float | None = None, max_pixels: int = MAX_PIXELS) -> None:
        self.source = str(source)
        self.live = is_live(self.source)
        self._max_pixels = max_pixels
        self._stack = ExitStack()
        self._frames: Iterator[TimedFrame]
        path = Path(self.source)
        if self.live:
            self.fps, frames = self._open_live()
        elif path.is_dir():
            if not fps:
                raise ValueError(f"{path} is a folder of images without a frame rate; give one, for example --fps 12")
            reader = self._stack.enter_context(VideoReader(path, max_pixels=max_pixels))
            self.fps = fps
            frames = ((number / fps, frame) for number, frame in enumerate(reader.frames()))
        else:
            self.fps, frames = self._open_file(path)
        self._frames = _on_one_clock(frames, self.fps)

    def __enter__(self) -> FrameStream:
        return self

    def __exit__(self, *exc_info: object) -> None:
        self._stack.close()

    def __iter__(self) -> Iterator[TimedFrame]:
        return self._frames

    def _open_file(self, path: Path) -> tuple[float, Iterator[tuple[float | None, Any]]]:
        from timm_video_psn.data.video.pyav_backend import VideoFile

        with no_file_errors(path):
            if not is_there(path):
                raise DecodeError(path, "there is no such file or folder; check the name")
            file = self._stack.enter_context(closing(VideoFile(path, max_pixels=self._max_pixels)))
        return file.fps or _USUAL_FPS, file.timed_frames()

    def _open_live(self) -> tuple[float, Iterator[tuple[float | None, Any]]]:
        from timm_video_psn.data.video.container import choose_stream

        container = self._stack.enter_context(_open(self.source))
        try:
            stream, note = choose_stream(self.source, container)
        except DecodeError:
            self._stack.close()
            raise
        if note:
            _logger.warning("%s: %s", self.source, note)
        stream.codec_context.options = {"max_pixels": str(frame_limit(self._max_pixels))}
        return float(stream.average_rate or _USUAL_FPS), self._decode_live(container, stream)

    def _decode_live(self, container: Any, stream: Any) -> Iterator[tuple[float | None, Any]]:
        """Frames as they come; after damage, those up to the next key frame are left out."""
        import av

        from timm_video_psn.data.video.pyav_backend import decode_packets, numbered

        judge = _LiveJudge(stream.time_base)
        reason = f"it broke off, or sent nothing for {_SILENT_SEC:g} s"
        packets = (packet for packet in container.demux(stream) if packet.size)
        with in_plain_words(self.source, reason, av.FFmpegError):
            for position, frame in decode_packets(stream.codec_context, numbered(map(judge.note, packets))):
                yield from judge.frames(position, frame)
            yield from judge.rest()


class _LiveJudge:
    """Which frames of a stream without an end are good: none after damage, up to the next key frame.

    A frame waits until the frames that it may refer to have come out of the decoder, which may give them later.

    Args:
        unit: Seconds of a unit of the packets' times.
    """

    def __init__(self, unit: Any) -> None:
        self._unit = unit
        self._position = -1
        self._packets: dict[int, tuple[float | None, float]] = {}  # time; latest time since the packet of a key frame
        self._latest = self._came = -math.inf
        self._damaged: deque[int] = deque(maxlen=_REMEMBERED)
        self._keys: deque[tuple[int, float]] = deque([(-1, -math.inf)], maxlen=_REMEMBERED)  # of key frames that came
        self._waiting: deque[tuple[int, float | None, float, Any]] = deque()

    def note(self, packet: Any) -> Any:
        """Takes down what a packet says, and passes it on."""
        self._position += 1
        time = None if packet.pts is None else float(packet.pts * self._unit)
        shown = -math.inf if time is None else time
        self._latest = shown if packet.is_keyframe else max(self._latest, shown)
        self._packets[self._position] = (time, self._latest)
        self._packets.pop(self._position - _REMEMBERED, None)
        if packet.is_corrupt:
            self._damaged.extend(damaged_by(self._position))
        return packet

    def frames(self, position: int, frame: Any) -> Iterator[tuple[float | None, Any]]:
        """Yields the frames that can be judged once the frame of a packet, or None for an error, has come."""
        if frame is None or frame.is_corrupt:
            self._damaged.append(position)
        if frame is None:
            return
        time, latest = self._packets.get(position, (None, -math.inf))
        shown = self._came if time is None else time
        self._came = max(self._came, shown)
        if frame.key_frame:
            self._keys.append((position, shown))
        self._waiting.append((position, time, latest, frame))
        while self._waiting and (self._waiting[0][2] <= self._came or len(self._waiting) > _MOST_WAITING):
            yield from self._judged()

    def rest(self) -> Iterator[tuple[float | None, Any]]:
        """Yields the good frames among those that wait at the end."""
        while self._waiting:
            yield from self._judged()

    def _judged(self) -> Iterator[tuple[float | None, Any]]:
        position, time, _, frame = self._waiting.popleft()
        shown = math.inf if time is None else time
        # A leading frame, shown before the key frame that it follows, refers to the group before.
        start = max((key for key, at in self._keys if key <= position and at <= shown), default=-1)
        if not any(start <= damage <= position for damage in self._damaged):
            yield time, frame


def _on_one_clock(frames: Iterable[tuple[float | None, Any]], fps: float) -> Iterator[TimedFrame]:
    """Every frame, timed from the first one on.

    A source that has no times, or whose clock jumps back, is counted on at its rate.
    """
    first, latest = None, -1 / fps
    for time, frame in frames:
        first = time if first is None else first
        known = time is not None and first is not None and time - first > latest
        latest = time - first if known and time is not None and first is not None else latest + 1 / fps
        yield TimedFrame(latest, frame)


def is_live(source: str) -> bool:
    """Whether a source is a camera or a network stream, which is there only once and may have no end.

    Args:
        source: Source, as for `FrameStream`.
    """
    return bool(_URL.match(source)) or (source.isdigit() and not Path(source).exists())


def is_file_url(source: str) -> bool:
    """Whether an http(s) URL names a video file, which is downloaded; transport streams (.ts) may have no end.

    Args:
        source: Path, URL or number of a camera.
    """
    url = urllib.parse.urlsplit(source)
    return url.scheme in ("http", "https") and url.path.lower().endswith(_FILE_ENDINGS)


def _open(source: str) -> Any:
    """Opens a camera or a network stream."""
    import av

    from timm_video_psn.data.video.container import VIDEO_FORMATS

    where, form = _camera(int(source)) if source.isdigit() else (source, None)
    options = {} if form else {"format_whitelist": ",".join((*VIDEO_FORMATS, *_LIVE_FORMATS))}
    try:
        timeout = (_OPEN_SEC, _SILENT_SEC)
        return av.open(where, format=form, metadata_errors="ignore", timeout=timeout, options=options)
    except (av.FFmpegError, OSError, ValueError) as error:
        kind = "camera" if form else "source"
        raise DecodeError(source, f"the {kind} cannot be opened as {where} ({short_message(error)})") from error


def _camera(number: int) -> tuple[str, str]:
    """FFmpeg's name and format of a camera."""
    system = platform.system()
    if system == "Linux":
        return f"/dev/video{number}", "v4l2"
    if system == "Darwin":
        return f"{number}:none", "avfoundation"
    raise DecodeError(
        str(number), f"cameras cannot be opened by number on {system}; give the URL of a stream, for example rtsp://..."
    )
