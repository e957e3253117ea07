"""The order that is read from slice headers, against the order in which the decoder gives the pictures."""

from pathlib import Path

import av
import pytest

from tests.data.sample_videos import NUM_FRAMES, encoded, moving_noise
from timm_video_psn.data.video.picture_order import Picture, UnknownOrder, picture_reader

STREAMS = {
    "b_pyramid.mp4": ("libx264", "bframes=3:b-pyramid=normal:keyint=12"),
    "strict_pyramid.mkv": ("libx264", "bframes=7:b-pyramid=strict:b-adapt=0:keyint=20"),
    "many_b_frames.mp4": ("libx264", "bframes=16:b-adapt=0:keyint=40"),
    "open.mkv": ("libx264", "open-gop=1:bframes=4:keyint=12"),
    "refresh.mkv": ("libx264", "intra-refresh=1:keyint=12"),
    "no_b_frames.mp4": ("libx264", "bframes=0:keyint=12"),
    "interlaced.mp4": ("libx264", "interlaced=1:bframes=3:keyint=12"),
    "slices.mp4": ("libx264", "slices=3:bframes=3:keyint=12"),
    "temporal.mp4": ("libx264", "bframes=3:direct=temporal:weightp=2:ref=5:keyint=12"),
    "hevc.mp4": ("libx265", "keyint=12:bframes=4:b-adapt=0:log-level=none"),
    "hevc_open.mkv": ("libx265", "keyint=12:open-gop=1:bframes=8:b-adapt=0:log-level=none"),
    "hevc_sublayers.mp4": ("libx265", "keyint=16:temporal-layers=3:bframes=3:log-level=none"),
    "hevc_no_b_frames.mp4": ("libx265", "keyint=12:bframes=0:log-level=none"),
}


@pytest.fixture(scope="module")
def stream(tmp_path_factory):
    """Packets, parameters and codec of a file, made or of the sample videos, and the order of the decoder's frames."""
    folder = tmp_path_factory.mktemp("streams")

    def read(path: Path | str):
        if isinstance(path, str):
            codec, settings = STREAMS[path]
            options = {f"{codec.removeprefix('lib')}-params": settings}
            path = encoded(moving_noise(), codec, options, "yuv420p", folder / path)
        with av.open(str(path)) as container:
            video = container.streams.video[0]
            packets = [packet for packet in container.demux(video) if packet.size]
            extradata = video.codec_context.extradata
            for number, packet in enumerate(packets):
                packet.pts = number
            frames = [frame.pts for packet in [*packets, None] for frame in video.codec_context.decode(packet)]
            return [bytes(packet) for packet in packets], extradata, video.codec.canonical_name, frames

    return read


@pytest.mark.parametrize("name", STREAMS)
def test_is_the_order_of_the_decoder(name, stream):
    packets, extradata, codec, frames = stream(name)
    read = picture_reader(codec, extradata)
    orders = [read(packet).order for packet in packets]
    assert len(frames) == NUM_FRAMES
    assert sorted(range(NUM_FRAMES), key=orders.__getitem__) == frames
    assert len(set(orders)) == NUM_FRAMES


@pytest.mark.parametrize("name", ["vp9.webm", "odd_size.webm", "av1_ten_bit.webm", "mjpeg.mov", "hevc_ten_bit.mp4"])
def test_is_the_order_of_the_decoder_for_other_codecs(name, stream, video):
    packets, extradata, codec, frames = stream(video(name))
    read = picture_reader(codec, extradata)
    orders = [read(packet).order for packet in packets]
    assert sorted(range(NUM_FRAMES), key=orders.__getitem__) == frames


@pytest.mark.parametrize("name", ["b_pyramid.mp4", "many_b_frames.mp4", "hevc.mp4", "hevc_sublayers.mp4"])
def test_what_nothing_refers_to_can_be_left_out(name, stream):
    """The decoder gives the same pictures without those packets, and misses nothing."""
    packets, extradata, codec, _ = stream(name)
    read = picture_reader(codec, extradata)
    kept = [number for number, packet in enumerate(packets) if read(packet).is_reference]
    assert len(kept) < NUM_FRAMES
    pixels = {}
    for numbers in (range(NUM_FRAMES), kept):
        decoder = av.CodecContext.create(codec, "r")
        decoder.extradata, decoder.thread_count = extradata, 1
        pixels[len(numbers)] = {}
        for number in [*numbers, None]:
            packet = None if number is None else av.Packet(packets[number])
            if packet is not None:
                packet.pts = number
            for frame in decoder.decode(packet):
                assert not frame.is_corrupt
                pixels[len(numbers)][frame.pts] = frame.to_ndarray().tobytes()
    assert sorted(pixels[len(kept)]) == kept
    assert all(pixels[len(kept)][number] == pixels[NUM_FRAMES][number] for number in kept)


class TestGaps:
    def test_are_seen_where_a_picture_is_missing_that_others_refer_to(self, stream):
        packets, extradata, codec, _ = stream("b_pyramid.mp4")
        read = picture_reader(codec, extradata)
        pictures = [read(packet) for packet in packets]
        assert not any(picture.follows_a_gap for picture in pictures)
        referred = [number for number, picture in enumerate(pictures) if picture.is_reference and number % 12 > 1]
        for lost in referred[:5]:
            read = picture_reader(codec, extradata)
            rest = [read(packet) for number, packet in enumerate(packets) if number != lost]
            assert rest[lost].follows_a_gap
        disposable = next(number for number, picture in enumerate(pictures) if not picture.is_reference)
        read = picture_reader(codec, extradata)
        assert not any(read(packet).follows_a_gap for number, packet in enumerate(packets) if number != disposable)


class TestIsUnknown:
    @pytest.mark.parametrize("codec", ["h264", "hevc"])
    @pytest.mark.parametrize("extradata", [None, b"", b"\0\0\0\1\x67abcdefgh" * 4, b"\1" + bytes(40)])
    def test_without_parameters(self, codec, extradata):
        with pytest.raises(UnknownOrder):
            picture_reader(codec, extradata)(b"\0\0\0\4\x65abc")

    @pytest.mark.parametrize("name", ["b_pyramid.mp4", "hevc.mp4"])
    def test_for_packets_that_are_damaged(self, name, stream):
        packets, extradata, codec, _ = stream(name)
        for packet in (packets[0][:3], packets[0][:6], b"\0\0\0\x09abc", b"\0\0\0\1\x09", bytes(50)):
            with pytest.raises(UnknownOrder):
                picture_reader(codec, extradata)(packet)

    def test_for_codecs_that_show_pictures_at_will(self):
        with pytest.raises(UnknownOrder, match="the order of mpeg4 is not known"):
            picture_reader("mpeg4", b"")

    def test_for_vp9_packets_that_show_nothing_or_two_pictures(self):
        hidden, shown, existing = b"\x84ab", b"\x86abcd", b"\x88"
        read = picture_reader("vp9", None)

        def superframe(*frames):
            marker = bytes([0xC0 | len(frames) - 1])
            return b"".join(frames) + marker + bytes(map(len, frames)) + marker

        for packet in (shown, existing, superframe(hidden, shown), superframe(hidden, hidden, existing)):
            assert isinstance(read(packet), Picture)
        for packet in (hidden, superframe(shown, shown), superframe(hidden, hidden)):
            with pytest.raises(UnknownOrder):
                read(packet)
