"""Frames one after the other, each with its time: of a file, a folder of images, a camera or a network stream.

Where `VideoReader` jumps to wanted frames, this goes through all of them once, so that a video of any length, or one
that is still being recorded, needs no more memory than the frames somebody holds on to.
"""

from __future__ import annotations

import logging
import platform
import re
from collections.abc import Iterable, Iterator
from contextlib import ExitStack, closing
from pathlib import Path
from typing import Any

import numpy as np

from timm_video_psn.data.video.errors import DecodeError, in_plain_words, no_file_errors, short_message
from timm_video_psn.data.video.reader import VideoReader, is_there

_logger = logging.getLogger(__name__)
_URL = re.compile(r"^(rtsp|rtmp|rtp|udp|tcp|srt|https?)://", re.IGNORECASE)
_LIVE_FORMATS = ("dash", "hls", "mpjpeg", "rtp", "rtsp", "sdp")  # beside the formats of files
_USUAL_FPS = 25.0  # for sources that state no rate
# Seconds that a live source may take; FFmpeg waits for a segment of an HLS stream, often 10 s, and hears no interrupt.
_OPEN_SEC, _SILENT_SEC = 30.0, 20.0


class TimedFrame:
    """A decoded frame; its pixels are converted when somebody asks for them.

    Args:
        time_sec: seconds since the first frame of its source.
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
        source: video file, folder of frame images, number of a camera ("0"), or URL of a stream.
        fps: frames per second of a folder of images, which does not tell its own.

    Raises:
        DecodeError: The source cannot be opened.
        ValueError: A folder of images has no `fps`.

    Example:
        >>> with FrameStream("clip.mp4") as stream:  # doctest: +SKIP
        ...     times = [frame.time_sec for frame in stream]
    """

    def __init__(self, source: str | Path, fps: float | None = None) -> None:
        self.source = str(source)
        self.live = is_live(self.source)
        self._stack = ExitStack()
        self._frames: Iterator[TimedFrame]
        path = Path(self.source)
        if self.live:
            self.fps, frames = self._open_live()
        elif path.is_dir():
            if not fps:
                raise ValueError(f"{path} is a folder of images without a frame rate; give one, for example --fps 12")
            reader = self._stack.enter_context(VideoReader(path))
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
            file = self._stack.enter_context(closing(VideoFile(path)))
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
        return float(stream.average_rate or _USUAL_FPS), self._decode_live(container, stream)

    def _decode_live(self, container: Any, stream: Any) -> Iterator[tuple[float | None, Any]]:
        """Frames as they come; after a damaged one, those up to the next key frame are left out."""
        import av

        reason, waits_for_key = f"it broke off, or sent nothing for {_SILENT_SEC:g} s", False
        with in_plain_words(self.source, reason, av.FFmpegError):
            for packet in container.demux(stream):
                try:
                    frames = stream.codec_context.decode(packet if packet.size else None)
                except av.InvalidDataError:
                    waits_for_key = True
                    continue
                for frame in frames:
                    waits_for_key = frame.is_corrupt or (waits_for_key and not frame.key_frame)
                    if not waits_for_key:
                        yield frame.time, frame


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
        source: source, as for `FrameStream`.
    """
    return bool(_URL.match(source)) or (source.isdigit() and not Path(source).exists())


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
