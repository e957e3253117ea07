"""The sound of a video, for its labelled copy."""

from __future__ import annotations

import logging
from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path
from typing import Any

_logger = logging.getLogger(__name__)
_COPIED = {"aac", "mp3", "ac3", "eac3", "opus", "flac", "alac"}  # what an mp4 file holds; others become AAC


class Sound:
    """Copies the first audio stream of a video, as it is where an mp4 file can hold it.

    Times count from the first frame, as the copy's do. A video without sound, or with one that cannot be read, has a
    silent copy; the second is logged.

    Args:
        video: The video file.
        container: The copy, before its first packet.
    """

    def __init__(self, video: Path, container: Any) -> None:
        import av

        from timm_video_psn.data.video.container import open_video

        self._container, self._stack = container, ExitStack()
        self._packets: Iterator[tuple[float, Any]] = iter(())
        try:
            source, picture, _ = open_video(video)  # as the reader of the frames does
            self._stack.enter_context(source)
            if not source.streams.audio:
                return
            sound = source.streams.audio[0]
            start = float((picture.start_time or 0) * picture.time_base) if picture.time_base else 0.0
            if sound.codec.canonical_name in _COPIED:
                self._packets = self._copied(source, sound, container.add_stream_from_template(sound), start)
            else:
                encoder = container.add_stream("aac", rate=sound.codec_context.sample_rate)
                encoder.layout = "stereo" if sound.codec_context.channels > 1 else "mono"
                self._packets = self._encoded(source, sound, encoder, start)
        except (av.FFmpegError, ValueError, OSError) as error:
            _logger.warning("the sound of %s is left out: %s", video, error)

    def write(self, until_sec: float) -> None:
        """Writes what sounds before a time.

        Args:
            until_sec: Seconds since the first frame.
        """
        import av

        try:
            for time_sec, packet in self._packets:
                self._container.mux(packet)
                if time_sec >= until_sec:
                    return
        except av.FFmpegError as error:
            _logger.warning("the sound ends at %.1f s: %s", until_sec, error)
            self._packets = iter(())

    def close(self) -> None:
        """Closes the video."""
        self._stack.close()

    @staticmethod
    def _copied(source: Any, sound: Any, stream: Any, start: float) -> Iterator[tuple[float, Any]]:
        """The packets with their own times, less the first frame's."""
        for packet in source.demux(sound):
            if packet.dts is None or packet.pts is None:
                continue
            shift = round(start / packet.time_base)
            packet.pts, packet.dts = packet.pts - shift, packet.dts - shift
            if packet.pts >= 0:
                packet.stream = stream
                yield float(packet.pts * packet.time_base), packet

    @staticmethod
    def _encoded(source: Any, sound: Any, stream: Any, start: float) -> Iterator[tuple[float, Any]]:
        """The samples, encoded as AAC."""
        import av

        resampler = av.AudioResampler(format="fltp", layout=stream.layout, rate=stream.rate)
        time = 0.0
        for frame in source.decode(sound):
            if frame.pts is None:
                continue
            frame.pts -= round(start / frame.time_base)
            time = float(frame.pts * frame.time_base)
            if time < 0:
                continue
            for part in resampler.resample(frame):
                for packet in stream.encode(part):
                    yield time, packet
        for packet in stream.encode(None):
            yield time, packet
