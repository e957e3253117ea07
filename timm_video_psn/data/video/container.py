"""Opens video files with FFmpeg: which formats are allowed, and which of several video streams is the video."""

from __future__ import annotations

import io
import logging
import mmap
from collections import Counter
from pathlib import Path
from typing import NamedTuple

import av
from av.container import InputContainer
from av.stream import Disposition
from av.video.stream import VideoStream

from timm_video_psn.data.video.errors import DecodeError, short_message
from timm_video_psn.data.video.file_end import missing_bytes


class _OncePerNote(logging.Filter):
    """Lets the first file through of those that are alike: a data set may hold a hundred thousand."""

    def __init__(self) -> None:
        super().__init__()
        self._noted: set[str] = set()

    def filter(self, record: logging.LogRecord) -> bool:
        _, note = record.args if isinstance(record.args, tuple) else ("", "")
        is_new = note not in self._noted
        self._noted.add(str(note))
        return is_new


_logger = logging.getLogger(__name__)
_logger.addFilter(_OncePerNote())

# FFmpeg's names of the formats that videos come in. Everything else that FFmpeg opens stays shut, whatever the name of
# the file: playlists and lists of other files (hls, dash, concat, sdp), single pictures, text drawn as a picture.
VIDEO_FORMATS = (
    *("apng", "asf", "av1", "avi", "dirac", "dv", "flv", "gif", "h261", "h263", "h264", "hevc", "ivf", "m4v"),
    *("matroska", "mjpeg", "mov", "mpeg", "mpegts", "mpegvideo", "mxf", "nut", "obu", "ogg", "rm", "swf", "vc1"),
    *("vc1test", "vvc", "wtv", "yuv4mpegpipe"),
)
_LISTS = (b"ffconcat", b"#EXTM3U", b"<MPD", b"v=0", b"[playlist]", b"<?xml")  # what playlists and lists begin with
_NO_VIDEOS = Disposition.attached_pic | Disposition.timed_thumbnails
_IMPAIRED = Disposition.hearing_impaired | Disposition.visual_impaired
_ENOUGH_FRAMES = 5  # a stream of as many frames is not a still picture; FFmpeg's own number
_PROBED_PACKETS = 2000  # that are read for it


class OpenVideo(NamedTuple):
    """A file that FFmpeg has opened."""

    container: InputContainer
    stream: VideoStream
    note: str  # which of several video streams this is, empty where there is one


def open_video(path: Path, content: bytes | None = None, max_pixels: int = 0) -> OpenVideo:
    """Opens the video stream of a file that FFmpeg's rule for the best stream chooses.

    Args:
        path: Video file.
        content: Bytes of the file, if it lies in memory and not at `path`.
        max_pixels: Largest frame that the decoder accepts; 0 for FFmpeg's own limit.

    Raises:
        DecodeError: The file is not a video.
    """
    if (path.stat().st_size if content is None else len(content)) == 0:
        raise DecodeError(path, "the file is empty (0 bytes); copy or download it again")
    container = _open_container(path, content)
    try:
        stream, note = choose_stream(path, container)
        if note and _is_undecided(container):
            frames = _count_packets(container)
            container.close()
            container = _open_container(path, content)
            stream, note = choose_stream(path, container, frames)
    except BaseException:
        container.close()
        raise
    if note:
        _logger.warning("%s: %s", path, note)
    if max_pixels:
        stream.codec_context.options = {"max_pixels": str(max_pixels)}
    stream.codec_context.thread_count = 1  # workers are the parallelism, and threads would delay frames
    return OpenVideo(container, stream, note)


def choose_stream(
    path: str | Path, container: InputContainer, packets: Counter[int] | None = None
) -> tuple[VideoStream, str]:
    """Chooses the video stream of an open container as FFmpeg's `av_find_best_stream` does.

    The default stream comes before others, then one with several frames, then the larger picture, then the first.
    Cover pictures and thumbnails never count.

    Args:
        path: Video, for the error.
        container: File or network stream.
        packets: How many packets have been seen, by number of the stream; None to trust the header.

    Returns:
        The stream, and a note on the choice, which is empty where there is only one stream.

    Raises:
        DecodeError: There is no video stream, or none that FFmpeg decodes.
    """
    streams = [stream for stream in container.streams.video if not stream.disposition & _NO_VIDEOS]
    if not streams:
        raise DecodeError(path, "it holds no video, only sound, a cover picture or text; remove it from the data")
    known = [stream for stream in streams if stream.codec_context is not None]
    if not known:
        raise DecodeError(path, "FFmpeg has no decoder for its video codec; re-encode it, for example to H.264")

    def rank(stream: VideoStream) -> tuple[int, int, int]:
        disposition = stream.disposition
        is_default = bool(disposition & Disposition.default) + (not disposition & _IMPAIRED)
        frames = max(stream.frames, packets[stream.index] if packets else 0)
        return is_default, min(frames, _ENOUGH_FRAMES), stream.width * stream.height

    best = max(known, key=rank)  # the first of equals
    if len(known) == 1:
        return best, ""
    listed = ", ".join(_describe(stream) for stream in known)
    return best, f"it holds {len(known)} video streams ({listed}); stream {best.index} is read"


def _describe(stream: VideoStream) -> str:
    default = ", default" if stream.disposition & Disposition.default else ""
    return f"{stream.index}: {stream.codec.canonical_name} {stream.width}x{stream.height}{default}"


def _is_undecided(container: InputContainer) -> bool:
    """Whether the header leaves open how many frames some video stream has."""
    return any(not stream.frames for stream in container.streams.video)


def _count_packets(container: InputContainer) -> Counter[int]:
    """How many packets each video stream has, as far as that matters."""
    found: Counter[int] = Counter()
    streams = container.streams.video
    try:
        for number, packet in enumerate(container.demux(*streams)):
            found[packet.stream.index] += packet.size > 0
            enough = all(found[stream.index] >= _ENOUGH_FRAMES for stream in streams)
            if enough or number >= _PROBED_PACKETS:
                break
    except av.FFmpegError:  # whoever reads the stream meets it again
        pass
    return found


class _InMemory(io.BytesIO):
    """Content of a file, with the file's name, whose ending helps FFmpeg to recognise the container."""

    def __init__(self, content: bytes, name: str) -> None:
        super().__init__(content)
        self.name = name


def _open_container(path: Path, content: bytes | None) -> InputContainer:
    # A local file may refer to nothing but itself, and content in memory to nothing at all.
    options = {"format_whitelist": ",".join(VIDEO_FORMATS), "protocol_whitelist": "file" if content is None else "none"}
    try:
        source = f"file:{path}" if content is None else _InMemory(content, path.name)
        return av.open(source, "r", metadata_errors="ignore", options=options)
    except (av.FFmpegError, OSError) as error:
        raise DecodeError(path, _why_unreadable(path, content, error)) from error


def _why_unreadable(path: Path, content: bytes | None, error: Exception) -> str:
    """Explains in plain words why FFmpeg could not open a file."""
    if isinstance(error, PermissionError):
        return "no permission to read it; change its access rights"
    if content is None:
        with path.open("rb") as file, mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ) as mapped:
            reason = _what_is_wrong(mapped)
    else:
        reason = _what_is_wrong(content)
    if reason:
        return reason
    if overhang := missing_bytes(path, content).size:
        return f"it is cut short by {overhang:,} bytes; copy or download it again"
    if isinstance(error, av.ArgumentError):  # FFmpeg's answer to a format that is not allowed
        return "it is not a video, or of a kind that is not accepted; re-encode it, for example as mp4"
    return f"it is not a video, or damaged from the start ({short_message(error)})"


def _what_is_wrong(content: bytes | mmap.mmap) -> str:
    """Explains what the first bytes of a file that FFmpeg does not open mean, if they mean anything."""
    if content[4:8] == b"ftyp" and content.find(b"moov") < 0:
        return "its table of contents (mp4 'moov') is missing: the file was cut short; copy or download it again"
    if content[:64].lstrip(b"\xef\xbb\xbf \t\r\n").startswith(_LISTS):
        return "it is not a video but a playlist or a list of other files; name the videos themselves"
    return ""
