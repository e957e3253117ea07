"""Prints which videos are read: containers x codecs, then oddities, for PyAV and for torchcodec where it loads.

    python -m benchmarks.video_matrix

The script makes every file. "read" means that all frames equal FFmpeg's plain decode, turned where the file asks for
it; "colours" that they are the right frames with slightly other colours; otherwise the sentence of the refusal stands
there.
"""

import struct
import tempfile
from collections.abc import Callable
from fractions import Fraction
from pathlib import Path

import av
import numpy as np

from tests.data.sample_videos import encoded, moving_noise
from timm_video_psn.data import DecodeError, VideoReader, check_decoder

CODECS = {
    "H.264": ("libx264", {"bf": "3", "g": "12"}, "yuv420p"),
    "HEVC": ("libx265", {"x265-params": "keyint=12:log-level=none"}, "yuv420p"),
    "VP9": ("libvpx-vp9", {"g": "12"}, "yuv420p"),
    "AV1": ("libsvtav1", {"g": "12", "preset": "12"}, "yuv420p"),
    "VP8": ("libvpx", {"g": "12"}, "yuv420p"),
    "MPEG-4": ("mpeg4", {"bf": "2", "g": "12"}, "yuv420p"),
    "MPEG-2": ("mpeg2video", {"bf": "2", "g": "12"}, "yuv420p"),
    "MJPEG": ("mjpeg", {}, "yuvj420p"),
    "WMV2": ("wmv2", {}, "yuv420p"),
    "FLV1": ("flv1", {}, "yuv420p"),
    "GIF": ("gif", {}, "rgb8"),
}
# container -> FFmpeg's name of it, and the codecs that are stored in it in practice
CONTAINERS: dict[str, tuple[str | None, tuple[str, ...]]] = {
    "mp4": (None, ("H.264", "HEVC", "VP9", "AV1", "MPEG-4", "MPEG-2", "MJPEG")),
    "mov": (None, ("H.264", "HEVC", "MPEG-4", "MPEG-2", "MJPEG")),
    "mkv": (None, ("H.264", "HEVC", "VP9", "AV1", "VP8", "MPEG-4", "MPEG-2", "MJPEG")),
    "webm": (None, ("VP9", "AV1", "VP8")),
    "avi": (None, ("H.264", "MPEG-4", "MPEG-2", "MJPEG")),
    "ts": ("mpegts", ("H.264", "HEVC", "MPEG-4", "MPEG-2")),
    "mpg": ("mpeg", ("H.264", "MPEG-2")),
    "flv": (None, ("H.264", "FLV1")),
    "wmv": ("asf", ("WMV2",)),
    "gif": (None, ("GIF",)),
}
FRAMES = moving_noise(num_frames=24)


def main() -> None:
    decoders = ["pyav"]
    try:
        check_decoder("torchcodec")
    except ImportError as error:
        print(f"torchcodec is left out: {error}\n")
    else:
        decoders.append("torchcodec")
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        for decoder in decoders:
            print(f"\n{decoder}\n\n| | {' | '.join(CODECS)} |\n|---|{'---|' * len(CODECS)}")
            for container, (form, stored) in CONTAINERS.items():
                paths = {codec: folder / f"{codec}.{container}" for codec in CODECS}
                cells = [_cell(paths[codec], codec, form, decoder) if codec in stored else "-" for codec in CODECS]
                print(f"| {container} | {' | '.join(cells)} |")
        print(f"\n| oddity | {' | '.join(decoders)} |\n|---|{'---|' * len(decoders)}")
        for oddity, make in ODDITIES.items():
            path = make(folder)
            print(f"| {oddity} | {' | '.join(_verdict(path, decoder) for decoder in decoders)} |")


def _cell(path: Path, codec: str, form: str | None, decoder: str) -> str:
    if not path.exists():
        _write(path, *CODECS[codec], form)
    return _verdict(path, decoder)


def _write(path: Path, codec: str, options: dict[str, str], pix_fmt: str, form: str | None) -> None:
    if codec == "libsvtav1":
        encoded(FRAMES, codec, options, pix_fmt, path)  # in a process of its own
        return
    with av.open(str(path), "w", format=form) as container:
        stream = container.add_stream(codec, rate=25, options=options)
        stream.height, stream.width, stream.pix_fmt = *FRAMES.shape[1:3], pix_fmt
        for frame in FRAMES:
            container.mux(stream.encode(av.VideoFrame.from_ndarray(frame, format="rgb24")))
        container.mux(stream.encode(None))


def _verdict(path: Path, decoder: str) -> str:
    try:
        with VideoReader(path, decoder) as reader:
            frames = reader.read(range(reader.num_frames))
    except DecodeError as error:
        return f"refused: {error.reason}"
    with av.open(str(path)) as container:
        shown = container.streams.best("video")
        truth = np.stack([frame.to_ndarray(format="rgb24") for frame in container.decode(shown)])
    if truth.shape != frames.shape:
        truth = np.rot90(truth, -1, axes=(1, 2))
    if truth.shape != frames.shape:
        return f"other frames: {frames.shape}"
    if np.array_equal(frames, truth):
        return "read"
    nearest = [int(np.abs(truth.astype(int) - frame).mean((1, 2, 3)).argmin()) for frame in frames]
    return "colours" if nearest == list(range(len(truth))) else "other frames"


# ---- oddities -------------------------------------------------------------------------------------------------------


def _plain(folder: Path, name: str, codec: str = "H.264", **changes: str) -> Path:
    coder, options, pix_fmt = CODECS[codec]
    return encoded(FRAMES, coder, options | changes.get("options", {}), changes.get("pix_fmt", pix_fmt), folder / name)


def _rotated(folder: Path) -> Path:
    path = _plain(folder, "rotated.mp4")
    content = bytearray(path.read_bytes())
    one = 1 << 16
    struct.pack_into(">9i", content, content.index(b"tkhd") + 44, 0, one, 0, -one, 0, 0, 0, 0, 1 << 30)
    path.write_bytes(content)
    return path


def _hidden(folder: Path) -> Path:
    path = _plain(folder, "edited.mp4")
    content = bytearray(path.read_bytes())
    place = content.index(b"elst") + 16
    struct.pack_into(">i", content, place, struct.unpack_from(">i", content, place)[0] + 5 * 512)
    path.write_bytes(content)
    return path


def _retimed(change: Callable[[int], int], name: str) -> Callable[[Path], Path]:
    def make(folder: Path) -> Path:
        source = _plain(folder, f"source_{name}.mkv")
        with av.open(str(source)) as container, av.open(str(folder / name), "w") as target:
            video = container.streams.video[0]
            stream, unit = target.add_stream_from_template(video), round(1 / (25 * video.time_base))
            packets = [packet for packet in container.demux(video) if packet.size]
            for number, packet in enumerate(packets):
                packet.stream, packet.dts = stream, number * unit
                packet.pts = (change(packet.pts // unit if change is not _decoding else number) + len(packets)) * unit
                target.mux(packet)
        return folder / name

    return make


def _decoding(number: int) -> int:
    return number


def _streams(folder: Path) -> Path:
    path = folder / "streams.mkv"
    with av.open(str(path), "w") as container:
        small = container.add_stream("mjpeg", rate=25)
        small.height, small.width, small.pix_fmt = 32, 32, "yuvj420p"
        film = container.add_stream("libx264", rate=25)
        film.height, film.width, film.pix_fmt = *FRAMES.shape[1:3], "yuv420p"
        film.disposition = av.stream.Disposition.default
        picture = np.ascontiguousarray(FRAMES[0][:32, :32])
        container.mux(small.encode(av.VideoFrame.from_ndarray(picture, format="rgb24")))
        for frame in FRAMES:
            container.mux(film.encode(av.VideoFrame.from_ndarray(frame, format="rgb24")))
        for stream in (small, film):
            container.mux(stream.encode(None))
    return path


def _live(folder: Path) -> Path:
    path = folder / "live.mkv"
    with av.open(str(path), "w", options={"live": "1"}) as container:
        stream = container.add_stream("libx264", rate=Fraction(25))
        stream.height, stream.width, stream.pix_fmt = *FRAMES.shape[1:3], "yuv420p"
        for frame in FRAMES:
            container.mux(stream.encode(av.VideoFrame.from_ndarray(frame, format="rgb24")))
        container.mux(stream.encode(None))
    return path


def _with(name: str, change: Callable[[bytes], bytes], codec: str = "H.264") -> Callable[[Path], Path]:
    def make(folder: Path) -> Path:
        path = _plain(folder, name, codec)
        path.write_bytes(change(path.read_bytes()))
        return path

    return make


def _text(name: str, text: str) -> Callable[[Path], Path]:
    def make(folder: Path) -> Path:
        (folder / name).write_text(text)
        return folder / name

    return make


ODDITIES: dict[str, Callable[[Path], Path]] = {
    "turned by a quarter (mp4)": _rotated,
    "uneven times (mkv)": _retimed(lambda time: time * (time + 3), "uneven.mkv"),
    "times of decoding, with B frames (mp4)": _retimed(_decoding, "decoding.mp4"),
    "edit list that hides 5 frames (mp4)": _hidden,
    "10 bit (mp4)": lambda folder: _plain(folder, "ten.mp4", pix_fmt="yuv420p10le"),
    "several video streams (mkv)": _streams,
    "no length stated (mkv)": _live,
    "foreign bytes at the end (mp4)": _with("tail.mp4", lambda content: content + b"\xff" * 4096),
    "cut short (mp4, index at its end)": _with("cut.mp4", lambda content: content[: len(content) // 2]),
    "cut short (mkv)": _with("cut.mkv", lambda content: content[: len(content) // 2]),
    "cut short (avi)": _with("cut.avi", lambda content: content[: len(content) // 2], "MPEG-4"),
    "cut short (ts, which states no size)": lambda folder: _cut_ts(folder),
    "list of other files named .mp4": _text("list.mp4", "ffconcat version 1.0\nfile rotated.mp4\n"),
    "empty": _text("empty.mp4", ""),
}


def _cut_ts(folder: Path) -> Path:
    path = folder / "cut.ts"
    _write(path, *CODECS["H.264"], "mpegts")
    content = path.read_bytes()
    path.write_bytes(content[: len(content) // 2 // 188 * 188])
    return path


if __name__ == "__main__":
    main()
