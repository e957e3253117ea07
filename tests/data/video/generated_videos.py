"""Videos of many codecs, containers, stored times and damages, and FFmpeg's plain decode of each as the judge."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import NamedTuple

import av
import numpy as np
from av.bitstream import BitStreamFilterContext

from tests.data.sample_videos import encoded, moving_noise

NUM_FRAMES = 36
X264 = "keyint=12:min-keyint=1:scenecut=0"
# what is encoded -> (codec, options, pixel format, containers)
SOURCES = {
    "h264 with B frames": (
        *("libx264", {"x264-params": f"{X264}:bframes=3:b-pyramid=normal"}, "yuv420p"),
        ("mp4", "mov", "mkv", "avi", "ts", "flv"),
    ),
    "h264 with many B frames": (
        *("libx264", {"x264-params": f"{X264}:bframes=7:b-adapt=0"}, "yuv420p"),
        ("mp4", "mkv"),
    ),
    "h264 without B frames": ("libx264", {"x264-params": f"{X264}:bframes=0"}, "yuv420p", ("mp4", "mkv", "avi")),
    "h264 with open groups": ("libx264", {"x264-params": f"{X264}:bframes=3:open-gop=1"}, "yuv420p", ("mp4", "mkv")),
    "h264 with intra refresh": ("libx264", {"x264-params": "keyint=12:intra-refresh=1"}, "yuv420p", ("mp4", "mkv")),
    "h264 interlaced": ("libx264", {"x264-params": f"{X264}:bframes=2:interlaced=1"}, "yuv420p", ("mp4", "ts")),
    "hevc": ("libx265", {"x265-params": "keyint=12:bframes=3:log-level=none"}, "yuv420p", ("mp4", "mkv", "ts")),
    "hevc with open groups": (
        *("libx265", {"x265-params": "keyint=12:bframes=4:b-adapt=0:open-gop=1:log-level=none"}, "yuv420p10le"),
        ("mp4", "mkv"),
    ),
    "vp9": ("libvpx-vp9", {"g": "12", "auto-alt-ref": "1", "lag-in-frames": "16"}, "yuv420p", ("webm", "mp4")),
    "av1": ("libsvtav1", {"g": "12", "preset": "12"}, "yuv420p", ("webm", "mp4")),
    "vp8": ("libvpx", {"g": "12", "auto-alt-ref": "1", "lag-in-frames": "16"}, "yuv420p", ("webm",)),
    "mpeg4 with B frames": ("mpeg4", {"bf": "2", "g": "12"}, "yuv420p", ("avi", "mp4", "mkv")),
    "mpeg2": ("mpeg2video", {"bf": "2", "g": "12"}, "yuv420p", ("mpg", "ts", "mkv")),
    "mjpeg": ("mjpeg", {}, "yuvj420p", ("mov", "avi", "mkv")),
}


# ---- times that a container may store: from the times of the packets, in frames, to others --------------------------


def as_they_are(times, rng):
    return times


def in_order_of_decoding(times, rng):
    return np.sort(times)


def of_another_order(times, rng):
    return rng.permutation(times)


def swapped_in_places(times, rng):
    swapped = times.copy()
    for first in rng.integers(0, len(times) - 1, 3):
        swapped[first], swapped[first + 1] = swapped[first + 1], swapped[first]
    return swapped


def backwards(times, rng):
    return times.max() - times


def twice_in_places(times, rng):
    return np.where(rng.random(len(times)) < 0.1, times // 2 * 2, times)


def uneven(times, rng):
    return np.cumsum(rng.integers(1, 5, times.max() + 1))[times]


TIMES = (as_they_are, in_order_of_decoding, of_another_order, swapped_in_places, backwards, twice_in_places, uneven)


# ---- damage: from the content of a file and the places of its packets to other content ------------------------------


def none(content, packets, rng):
    return content


def foreign_bytes_at_the_end(content, packets, rng):
    return content + rng.bytes(int(rng.integers(1, 5000)))


def flipped_bytes(content, packets, rng):
    damaged = np.frombuffer(content, np.uint8).copy()
    places = rng.integers(0, len(damaged), rng.integers(1, 20))
    damaged[places] ^= rng.integers(1, 256, len(places), dtype=np.uint8)
    return damaged.tobytes()


def flipped_bytes_of_a_packet(content, packets, rng):
    place, size = packets[rng.integers(len(packets))]
    start = place + int(rng.integers(0, max(1, size - 40)))
    end = min(start + int(rng.integers(1, 40)), place + size)
    return content[:start] + bytes(byte ^ 0x5A for byte in content[start:end]) + content[end:]


def a_packet_of_zeros(content, packets, rng):
    place, size = packets[rng.integers(len(packets))]
    return content[: place + 8] + bytes(max(0, size - 8)) + content[place + max(8, size) :]


def a_packet_of_noise(content, packets, rng):
    place, size = packets[rng.integers(len(packets))]
    return content[: place + 12] + rng.bytes(max(0, size - 12)) + content[place + max(12, size) :]


def zeros(content, packets, rng):
    start, length = int(rng.integers(0, len(content))), int(rng.integers(1, 1500))
    return content[:start] + bytes(min(length, len(content) - start)) + content[start + length :]


def a_hole(content, packets, rng):
    start, length = int(rng.integers(0, len(content))), int(rng.integers(1, 1500))
    return content[:start] + content[start + length :]


def cut_short(content, packets, rng):
    return content[: rng.integers(200, len(content))]


DAMAGES = (
    *(none, foreign_bytes_at_the_end, flipped_bytes, flipped_bytes_of_a_packet, flipped_bytes_of_a_packet),
    *(a_packet_of_zeros, a_packet_of_noise, a_packet_of_noise, zeros, a_hole, cut_short),
)
HARMLESS = {none, foreign_bytes_at_the_end}


class Made(NamedTuple):
    """A generated file."""

    path: Path
    source: str
    times: str
    damage: str
    lost: int  # packets that were left out of it
    is_whole: bool
    originals: frozenset[str]  # pictures of the source, as digests


def generate(folder: Path, count: int, seed: int = 0, first: int = 0) -> Iterator[Made]:
    """Yields generated files one after the other; each may be removed once it has been looked at."""
    names = list(SOURCES)
    number, attempt = first, 0
    while number < count:
        rng = np.random.default_rng((seed, number, attempt))
        source = names[number % len(names)]
        codec, options, pix_fmt, endings = SOURCES[source]
        ending = endings[rng.integers(len(endings))]
        times = TIMES[0] if rng.random() < 0.4 else TIMES[rng.integers(len(TIMES))]
        damage = DAMAGES[rng.integers(len(DAMAGES))]
        lost = int(rng.random() < 0.1)
        original = folder / f"{source.replace(' ', '_')}.{'mkv' if codec != 'mjpeg' else 'mov'}"
        if not original.exists():
            encoded(moving_noise(num_frames=NUM_FRAMES), codec, options, pix_fmt, original)
        path = folder / f"{number:05d}.{ending}"
        try:
            places = _remux(original, path, times, lost, rng)
        except (av.FFmpegError, ValueError):
            path.unlink(missing_ok=True)  # the container does not take such times; another draw
            attempt += 1
            continue
        path.write_bytes(damage(path.read_bytes(), places, rng))
        pictures = frozenset(map(digest, plain_decode(original).pictures))
        is_whole = damage in HARMLESS and not lost
        yield Made(path, source, times.__name__, damage.__name__, lost, is_whole, pictures)
        number, attempt = number + 1, 0


def _remux(
    source: Path, target: Path, change: Callable[..., np.ndarray], lost: int, rng: np.random.Generator
) -> list[tuple[int, int]]:
    """Copies packets with other times, leaves some out, and returns where the packets of the copy lie."""
    form = {"ts": "mpegts", "mpg": "mpeg", "m4v": "mp4"}.get(target.suffix[1:])
    with av.open(str(source)) as container:
        stream = container.streams.video[0]
        packets = [packet for packet in container.demux(stream) if packet.size]
        order = np.argsort(np.argsort([packet.pts for packet in packets]))
        times = change(order, rng)
        for _ in range(lost):
            position = int(rng.integers(1, len(packets)))
            packets.pop(position)
            times = np.delete(times, position)
        with av.open(str(target), "w", format=form) as copy:
            to = copy.add_stream_from_template(stream, opaque=True)
            for_avi = target.suffix == ".avi" and stream.codec.canonical_name == "h264"
            start_codes = BitStreamFilterContext("h264_mp4toannexb", stream, to) if for_avi else None
            unit = round(1 / (25 * stream.time_base))
            for position, (packet, time) in enumerate(zip(packets, times.tolist(), strict=True)):
                packet.dts, packet.pts = position * unit, (time + NUM_FRAMES // 3) * unit
                if target.suffix in (".avi", ".ts", ".mpg", ".flv") or change is as_they_are:
                    packet.pts = max(packet.pts, packet.dts)
                else:
                    packet.pts += NUM_FRAMES * unit
                packet.stream = to
                copy.mux(start_codes.filter(packet) if start_codes else packet)
    with av.open(str(target), metadata_errors="ignore") as container:
        found = [(packet.pos, packet.size) for packet in container.demux(video=0) if packet.size]
    return [(place, size) for place, size in found if place is not None and place >= 0]


# ---- the judge ------------------------------------------------------------------------------------------------------


class Plain(NamedTuple):
    """What FFmpeg shows from start to end."""

    codec: str
    pictures: list[np.ndarray]
    positions: list[int]  # number of the packet of each picture
    times: list[int | None]  # of all packets
    shown: list[bool]  # whether a packet's picture is to be shown
    keys: list[bool]  # whether the container marks the packet as a key frame
    key_pictures: set[int]  # packets whose pictures the decoder says are key frames
    signs: set[int]  # packets of which FFmpeg says that something is wrong with them


def plain_decode(path: Path) -> Plain:
    """Decodes a file packet by packet, and goes on after errors as the command line does."""
    pictures, positions, times, shown, keys, key_pictures, signs = [], [], [], [], [], set(), set()

    def decode(packet, position):
        try:
            frames = stream.codec_context.decode(packet)
        except av.FFmpegError:
            signs.add(position)
            return
        for frame in frames:
            came = position if frame.pts is None else frame.pts
            pictures.append(frame.to_ndarray(format="rgb24"))
            positions.append(came)
            if frame.key_frame:
                key_pictures.add(came)
            if frame.is_corrupt:
                signs.add(came)

    with av.open(str(path), metadata_errors="ignore") as container:
        stream = container.streams.best("video")
        stream.codec_context.thread_count = 1
        for position, packet in enumerate(packet for packet in container.demux(stream) if packet.size):
            times.append(packet.pts)
            shown.append(not packet.is_discard)
            keys.append(packet.is_keyframe)
            if packet.is_corrupt:  # or the next one, where FFmpeg finds the pictures in a stream itself
                signs.update((position, position + 1))
            packet.pts = position
            decode(packet, position)
        decode(None, len(times) - 1)
    return Plain(stream.codec.canonical_name, pictures, positions, times, shown, keys, key_pictures, signs)


def digest(picture: np.ndarray) -> str:
    return hashlib.sha256(picture.tobytes()).hexdigest()


def expected_pictures(plain: Plain, num_frames: int) -> list[int | None]:
    """For each frame of a reader that knows so many, which picture of the plain decode it is; None for none.

    Pictures that a decoder has lost keep their numbers: with them, the n-th frame is the n-th by the times.
    """
    if len(plain.pictures) == num_frames:
        return list(range(num_frames))
    listed = [position for position in range(len(plain.times)) if plain.shown[position]]
    if plain.codec not in ("av1", "mjpeg", "vp9"):  # those are shown as they come, whatever their times
        listed.sort(key=lambda position: plain.times[position] or 0)
    picture_of = {position: number for number, position in enumerate(plain.positions)}
    return [picture_of.get(position) for position in listed[:num_frames]]


def follows_a_sign(plain: Plain, position: int) -> bool:
    """Whether, since the last key frame, FFmpeg has said that something is wrong up to this packet."""
    start = max((key for key in range(position + 1) if plain.keys[key] or key in plain.key_pictures), default=0)
    return any(start <= sign <= position for sign in plain.signs)
