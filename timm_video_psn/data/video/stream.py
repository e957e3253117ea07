"""Frames one after the other, each with its time: of a file, a folder of images, a camera or a network stream.

Where `VideoReader` jumps to wanted frames, this goes through all of them once, so that a video of any length, or one
that is still being recorded, needs no more memory than the frames somebody holds on to.
"""

from __future__ import annotations

import platform
import re
from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import numpy as np

from timm_video_psn.data.video.errors import DecodeError, in_plain_words, short_message
from timm_video_psn.data.video.reader import VideoReader

_URL = re.compile(r"^(rtsp|rtmp|rtp|udp|tcp|srt|https?)://", re.IGNORECASE)
_USUAL_FPS = 25.0  # of sources that state no rate, for the length of their last frame alone
# That a live source may take; FFmpeg waits for a segment of an HLS stream, often 10 s, and Python hears no interrupt.
_OPEN_SEC, _SILENT_SEC = 30.0, 20.0


class TimedFrame:
    """A decoded frame; its pixels are converted when somebody asks for them.

    Args:
        time_sec: since the first frame of its source.
        source: PyAV's frame, or the pixels (H, W, 3).
    """

    __slots__ = ("_source", "time_sec")

    def __init__(self, time_sec: float, source: Any) -> None:
        self.time_sec = time_sec
        self._source = source

    def rgb(self) -> np.ndarray:
        """Pixels as players show them, uint8 (H, W, 3)."""
        if isinstance(self._source, np.ndarray):
            return self._source
        from timm_video_psn.data.video.orientation import display_matrix, upright

        return upright(self._source.to_ndarray(format="rgb24"), display_matrix(self._source))


class FrameStream:
    """All frames of a source, in order.

    Args:
        source: video file, folder of frame images, number of a camera ("0"), or URL of a stream.
        fps: frames per second of a folder of images, which does not tell its own.

    Raises:
        DecodeError: the source cannot be opened.
        ValueError: a folder of images without `fps`.

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
        if not self.live and path.is_dir():
            if not fps:
                raise ValueError(f"{path} is a folder of images, which tells no frame rate; give one, as --fps 12")
            reader = self._stack.enter_context(VideoReader(path))
            self.fps = fps
            self._frames = (TimedFrame(i / fps, reader.read([i])[0]) for i in range(reader.num_frames))
            return
        if not self.live:
            with VideoReader(path):  # says in plain words what is wrong with a damaged file
                pass
        container = self._stack.enter_context(_open(self.source))
        if not container.streams.video:
            self._stack.close()
            raise DecodeError(self.source, "it holds no video")
        stream = container.streams.video[0]
        if not self.live:
            stream.thread_type = "AUTO"  # threads hold frames back, which a live source must not
        self.fps = float(stream.average_rate or _USUAL_FPS)
        self._frames = self._decode(container, stream)

    def __enter__(self) -> FrameStream:
        return self

    def __exit__(self, *exc_info: object) -> None:
        self._stack.close()

    def __iter__(self) -> Iterator[TimedFrame]:
        return self._frames

    def _decode(self, container: Any, stream: Any) -> Iterator[TimedFrame]:
        """Every frame that the decoder gives, timed from the first."""
        import av

        first, latest = None, -1 / self.fps
        reason = f"it broke off, or sent nothing for {_SILENT_SEC:g} s" if self.live else "it is damaged, or broke off"
        with in_plain_words(self.source, reason, av.FFmpegError):
            for frame in container.decode(stream):
                first = frame.time if first is None else first
                # a source without times, or one whose clock jumps back, is counted on at its rate
                known = frame.time is not None and first is not None and frame.time - first > latest
                latest = float(frame.time - first) if known else latest + 1 / self.fps
                yield TimedFrame(latest, frame)


def is_live(source: str) -> bool:
    """Whether a source is a camera or a network stream, which is there only once and may have no end.

    Args:
        source: as `FrameStream` takes it.
    """
    return bool(_URL.match(source)) or (source.isdigit() and not Path(source).exists())


def _open(source: str) -> Any:
    """PyAV's container of a file, camera or stream."""
    import av

    where, form = source, None
    timeout = (_OPEN_SEC, _SILENT_SEC) if is_live(source) else None
    if not is_live(source):
        where = f"file:{source}"
    elif source.isdigit():
        where, form = _camera(int(source))
    try:
        return av.open(where, format=form, metadata_errors="ignore", timeout=timeout)
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
        str(number), f"cameras cannot be opened by number on {system}; give the URL of a stream, as rtsp://..."
    )
