"""Files that are cut short are refused; whole files with odd sizes and foreign bytes are read."""

import struct

import av
import numpy as np
import pytest

from tests.data.sample_videos import B_FRAMES, decoded_plainly, encoded, moving_noise
from timm_video_psn.data.video.errors import DecodeError
from timm_video_psn.data.video.reader import VideoReader
from timm_video_psn.data.video.write_video import write_video

FRAMES = moving_noise(num_frames=20)
FILES = {
    "a.mp4": ("libx264", {}),
    "fast.mp4": ("libx264", {"movflags": "+faststart"}),
    "fragments.mp4": ("libx264", {"movflags": "frag_keyframe+empty_moov+default_base_moof"}),
    "indexed.mp4": ("libx264", {"movflags": "frag_keyframe+empty_moov+default_base_moof+global_sidx"}),
    "a.mov": ("libx264", {}),
    "a.mkv": ("libx264", {}),
    "a.webm": ("libvpx-vp9", {}),
    "a.avi": ("mpeg4", {}),
}
FOREIGN = {
    "ff": b"\xff" * 4096,
    "text": b"downloaded from https://example.org/some/page at noon\n",
    "zeros": bytes(1000),
    "half a box": struct.pack(">I4s", 5000, b"xyz0") + bytes(100),
}


@pytest.fixture(scope="module")
def whole(tmp_path_factory):
    """Path of a file of FILES by its name."""
    folder = tmp_path_factory.mktemp("whole")

    def find(name):
        path = folder / name
        if not path.exists():
            codec, options = FILES[name]
            with av.open(str(path), "w", options=options) as container:
                stream = container.add_stream(codec, rate=25, options={"g": "5"})
                stream.height, stream.width, stream.pix_fmt = 48, 64, "yuv420p"
                for frame in FRAMES:
                    container.mux(stream.encode(av.VideoFrame.from_ndarray(frame, format="rgb24")))
                container.mux(stream.encode(None))
        return path

    return find


def assert_is_read(path, truth):
    with VideoReader(path) as reader:
        assert reader.num_frames == len(truth)
        np.testing.assert_array_equal(reader.read(range(len(truth))), truth)
        np.testing.assert_array_equal(np.stack(list(reader.frames())), truth)


@pytest.mark.parametrize("foreign", FOREIGN)
@pytest.mark.parametrize("name", FILES)
def test_foreign_bytes_after_the_end_take_nothing_away(name, foreign, whole, tmp_path):
    path = tmp_path / name
    path.write_bytes(whole(name).read_bytes() + FOREIGN[foreign])
    assert_is_read(path, decoded_plainly(whole(name)))


@pytest.mark.parametrize("share", [0.3, 0.5, 0.8, 0.97])
@pytest.mark.parametrize("name", FILES)
def test_a_file_that_is_cut_short_is_refused(name, share, whole, tmp_path):
    content = whole(name).read_bytes()
    (tmp_path / name).write_bytes(content[: int(share * len(content))])
    with pytest.raises(DecodeError, match="cut short"):
        VideoReader(tmp_path / name)


@pytest.mark.parametrize("name", ["fast.mp4", "a.mkv", "a.webm", "a.avi", "indexed.mp4"])
def test_every_cut_is_refused_or_takes_no_frame_away(name, whole, tmp_path):
    content, truth = whole(name).read_bytes(), decoded_plainly(whole(name))
    refused = 0
    for length in np.random.default_rng(0).integers(100, len(content), 40):
        path = tmp_path / name
        path.write_bytes(content[:length])
        try:
            assert_is_read(path, truth)
        except DecodeError:
            refused += 1
    assert refused > 30


class TestWrongSizes:
    """The frames are all there, though a size says otherwise."""

    def test_of_an_mdat_whose_samples_are_whole(self, whole, tmp_path):
        content = bytearray(whole("fast.mp4").read_bytes())
        place = content.rindex(b"mdat") - 4
        struct.pack_into(">I", content, place, len(content) - place + 1000)
        (tmp_path / "a.mp4").write_bytes(content)
        assert_is_read(tmp_path / "a.mp4", decoded_plainly(whole("fast.mp4")))

    @pytest.mark.parametrize("kind", [b"free", b"udta", b"uuid", b"beam"])
    def test_of_a_box_that_holds_no_samples(self, kind, whole, tmp_path):
        path = tmp_path / "a.mp4"
        path.write_bytes(whole("fast.mp4").read_bytes() + struct.pack(">I4s", 5000, kind) + bytes(100))
        assert_is_read(path, decoded_plainly(whole("fast.mp4")))

    def test_of_a_matroska_segment(self, whole, tmp_path):
        content = bytearray(whole("a.mkv").read_bytes())
        place = content.index(b"\x18\x53\x80\x67") + 4
        assert content[place] == 1  # a size of eight bytes
        (size,) = struct.unpack_from(">Q", content, place)
        struct.pack_into(">Q", content, place, size + 700)
        (tmp_path / "a.mkv").write_bytes(content)
        assert_is_read(tmp_path / "a.mkv", decoded_plainly(whole("a.mkv")))

    @pytest.mark.parametrize("size", [0, 0xFFFFFFFF, "file", "more"])
    def test_of_an_avi_chunk(self, size, whole, tmp_path):
        content = bytearray(whole("a.avi").read_bytes())
        sizes = {"file": len(content), "more": len(content) + 500}  # some writers state the size with its own header
        struct.pack_into("<I", content, 4, sizes.get(size, size))
        (tmp_path / "a.avi").write_bytes(content)
        assert_is_read(tmp_path / "a.avi", decoded_plainly(whole("a.avi")))

    def test_that_state_nothing(self, tmp_path):
        path = tmp_path / "live.mkv"
        with av.open(str(path), "w", options={"live": "1"}) as container:
            stream = container.add_stream("libx264", rate=25)
            stream.height, stream.width, stream.pix_fmt = 48, 64, "yuv420p"
            for frame in FRAMES:
                container.mux(stream.encode(av.VideoFrame.from_ndarray(frame, format="rgb24")))
            container.mux(stream.encode(None))
        assert_is_read(path, decoded_plainly(path))


class TestCutBetweenParts:
    """No part is torn, and another one says that there were more."""

    def test_of_a_fragmented_mp4_with_an_index(self, whole, tmp_path):
        content = whole("indexed.mp4").read_bytes()
        (tmp_path / "a.mp4").write_bytes(content[: content.rindex(b"moof") - 4])
        with pytest.raises(DecodeError, match="cut short by"):
            VideoReader(tmp_path / "a.mp4")

    def test_of_a_matroska_file(self, tmp_path):
        path = tmp_path / "a.mkv"
        with av.open(str(path), "w", options={"cluster_time_limit": "200"}) as container:
            stream = container.add_stream("libx264", rate=25, options={"g": "5", "bf": "0"})
            stream.height, stream.width, stream.pix_fmt = 48, 64, "yuv420p"
            for frame in FRAMES:
                container.mux(stream.encode(av.VideoFrame.from_ndarray(frame, format="rgb24")))
            container.mux(stream.encode(None))
        content = path.read_bytes()
        path.write_bytes(content[: content.rindex(b"\x1f\x43\xb6\x75")])
        with pytest.raises(DecodeError, match="cut short by"):
            VideoReader(path)

    def test_of_an_avi_file_above_a_gigabyte(self, tmp_path):
        path = tmp_path / "large.avi"
        content = large_avi(path)
        assert_is_read(path, decoded_plainly(path))
        for length in (content.rindex(b"RIFF"), content.rindex(b"RIFF") + 2000):
            path.write_bytes(content[:length])
            with pytest.raises(DecodeError, match="cut short by"):
                VideoReader(path)


def large_avi(path):
    """Two RIFF chunks, as a file above 1 GB has them, and an index of indices that names both."""
    content = bytearray(encoded(FRAMES, "mjpeg", {}, "yuvj420p", path).read_bytes())
    second = len(content)
    frames = content[content.index(b"00dc", content.index(b"movi")) :]
    size = struct.unpack_from("<I", frames, 4)[0]
    chunk = frames[: 8 + size + size % 2]
    movi = b"movi" + chunk * 3
    content += struct.pack("<4sI4s4sI", b"RIFF", 4 + 8 + len(movi), b"AVIX", b"LIST", len(movi)) + movi
    place = content.find(b"indx")
    if place < 0:  # the muxer reserves room for it
        place = content.index(b"JUNK", content.index(b"strf"))
        content[place : place + 4] = b"indx"
    room = struct.unpack_from("<I", content, place + 4)[0]
    entries = struct.pack("<QII", 0, 100, 20) + struct.pack("<QII", second + 24, len(movi) - 4, 3)
    index = struct.pack("<HBBI4sIII", 4, 0, 0, 2, b"00dc", 0, 0, 0) + entries
    assert len(index) <= room
    content[place + 8 : place + 8 + len(index)] = index
    path.write_bytes(content)
    return bytes(content)


def test_the_motion_files_are_whole(tmp_path):
    write_video(tmp_path / "a.mp4", np.zeros((3, 16, 16, 3), np.uint8))
    with VideoReader(tmp_path / "a.mp4") as reader:
        assert reader.num_frames == 3


@pytest.mark.parametrize(
    "content",
    [b"", b"x", b"\x1a\x45\xdf\xa3", b"RIFF", b"RIFF\1\2\3\4AVI ", b"some text, and more", b"\x00\x00\x00\x00ftyp"],
)
def test_stumps_of_files_are_refused(content, tmp_path):
    path = tmp_path / "file.avi"
    path.write_bytes(content)
    with pytest.raises(DecodeError):
        VideoReader(path)


def test_b_frames_lose_none(tmp_path):
    path = encoded(FRAMES, "libx264", B_FRAMES, "yuv420p", tmp_path / "b.mp4")
    path.write_bytes(path.read_bytes() + b"\xff" * 4096)
    assert_is_read(path, decoded_plainly(path))
