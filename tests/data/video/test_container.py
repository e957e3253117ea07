"""Which files are opened, and which of several video streams is read, by each reader alike."""

import logging

import av
import numpy as np
import pytest
from av.stream import Disposition
from PIL import Image

from tests.data.sample_videos import NUM_FRAMES, decoded_plainly, encoded, moving_noise
from timm_video_psn.data.video.errors import DecodeError
from timm_video_psn.data.video.pyav_backend import VideoFile
from timm_video_psn.data.video.reader import VideoReader
from timm_video_psn.data.video.stream import FrameStream

FILM, PICTURE, SMALL = (48, 64), (32, 32), (24, 32)


def with_streams(path, *streams):
    """A file with several video streams: (size, number of frames, disposition) for each; H.264, single frames MJPEG."""
    with av.open(str(path), "w") as container:
        made = []
        for size, count, disposition in streams:
            codec, pix_fmt = ("mjpeg", "yuvj420p") if count == 1 else ("libx264", "yuv420p")
            stream = container.add_stream(codec, rate=25)
            stream.height, stream.width, stream.pix_fmt = *size, pix_fmt
            stream.disposition = disposition
            made.append(stream)
        for number in range(max(count for _, count, _ in streams)):
            for stream, (size, count, _) in zip(made, streams, strict=True):
                if number < count:
                    frame = moving_noise(*size, num_frames=number + 1)[number]
                    container.mux(stream.encode(av.VideoFrame.from_ndarray(frame, format="rgb24")))
        for stream in made:
            container.mux(stream.encode(None))
    return path


def assert_all_read(path, size, num_frames):
    """Every way to read the file takes the stream of that size."""
    shape = (num_frames, *size, 3)
    with VideoReader(path) as reader:
        assert reader.read(range(reader.num_frames)).shape == shape
        assert np.stack(list(reader.frames())).shape == shape
    in_memory = VideoFile(path, path.read_bytes())
    assert (in_memory.num_frames, in_memory.size) == (num_frames, size)
    with FrameStream(path) as stream:
        assert np.stack([frame.rgb() for frame in stream]).shape == shape


NONE, DEFAULT, COVER = Disposition(0), Disposition.default, Disposition.attached_pic
CHOICES = {
    "the default film and not the picture before it": [(PICTURE, 1, NONE), (FILM, 12, DEFAULT)],
    "the film and not the picture": [(PICTURE, 1, NONE), (FILM, 12, NONE)],
    "the default film and not a larger one": [((96, 128), 12, NONE), (FILM, 12, DEFAULT)],
    "the larger of two films": [(SMALL, 12, NONE), (FILM, 12, NONE)],
    "the film for everybody": [((96, 128), 12, Disposition.visual_impaired), (FILM, 12, NONE)],
}


class TestSeveralVideoStreams:
    @pytest.mark.parametrize("name", ["a.mkv", "a.mp4"])
    @pytest.mark.parametrize("choice", CHOICES)
    def test_all_readers_take(self, choice, name, tmp_path):
        if name == "a.mp4" and "default" not in choice:
            pytest.skip("an mp4 file always has a default stream")
        path = with_streams(tmp_path / name, *CHOICES[choice])
        assert_all_read(path, FILM, 12)

    def test_the_first_of_equals_is_read(self, tmp_path):
        path = with_streams(tmp_path / "a.mkv", (FILM, 12, NONE), (FILM, 10, NONE))
        assert_all_read(path, FILM, 12)

    def test_a_cover_picture_never_counts(self, video, tmp_path):
        path = tmp_path / "cover.mp4"
        cover = encoded(moving_noise(96, 128, 1), "mjpeg", {}, "yuvj420p", tmp_path / "cover.mov")
        with av.open(str(cover)) as picture, av.open(str(video("b_frames.mp4"))) as film, av.open(str(path), "w") as to:
            streams = [to.add_stream_from_template(part.streams.video[0]) for part in (film, picture)]
            streams[1].disposition = COVER
            for part, stream in zip((picture, film), reversed(streams), strict=True):
                for packet in part.demux(video=0):
                    if packet.size:
                        packet.stream = stream
                        to.mux(packet)
        content = path.read_bytes()  # the picture before the film, as other programs write it
        track, cover_box = content.index(b"trak") - 4, content.index(b"udta") - 4
        end = cover_box + int.from_bytes(content[cover_box : cover_box + 4], "big")
        path.write_bytes(content[:track] + content[cover_box:end] + content[track:cover_box] + content[end:])
        with av.open(str(path)) as container:
            assert container.streams.video[0].disposition & COVER
        assert_all_read(path, FILM, NUM_FRAMES)

    def test_the_choice_is_told_once_for_files_that_are_alike(self, tmp_path, caplog):
        layout = [((16, 16), 1, NONE), ((48, 80), 12, DEFAULT)]
        paths = [with_streams(tmp_path / f"{number}.mkv", *layout) for number in range(3)]
        told = r"it holds 2 video streams (0: mjpeg 16x16, 1: h264 80x48, default); stream 1 is read"
        with caplog.at_level(logging.WARNING):
            for path in paths:
                with VideoReader(path) as reader:
                    assert reader.note == told
        assert [record.getMessage() for record in caplog.records] == [f"{paths[0]}: {told}"]

    def test_nothing_is_told_of_a_single_one(self, video):
        with VideoReader(video("b_frames.mp4")) as reader:
            assert reader.note == ""


class TestFilesThatStandInForOthers:
    @pytest.mark.parametrize("name", ["clip.mp4", "clip.avi", "clip.txt", "clip.m3u8", "clip.ffconcat"])
    @pytest.mark.parametrize("kind", ["concat", "hls", "dash", "sdp", "image"])
    def test_are_refused_whatever_they_are_called(self, kind, name, video, tmp_path):
        film = video("h264.m2ts")
        path = tmp_path / name
        if kind == "image":
            Image.fromarray(moving_noise(num_frames=1)[0]).save(path, "PNG")
        else:
            path.write_text(
                {
                    "concat": f"ffconcat version 1.0\nfile {film}\n",
                    "hls": f"#EXTM3U\n#EXT-X-TARGETDURATION:5\n#EXTINF:2,\n{film}\n#EXT-X-ENDLIST\n",
                    "dash": f'<?xml version="1.0"?><MPD profiles="urn:mpeg:dash:profile:">{film}</MPD>',
                    "sdp": "v=0\no=- 0 0 IN IP4 127.0.0.1\nc=IN IP4 127.0.0.1\nm=video 5004 RTP/AVP 96\n",
                }[kind]
            )
        for read in (VideoReader, FrameStream, lambda path: VideoFile(path, path.read_bytes())):
            with pytest.raises(DecodeError, match="it is not a video"):
                read(path)

    def test_a_playlist_is_called_one(self, tmp_path):
        (tmp_path / "clip.mp4").write_text("ffconcat version 1.0\nfile other.mp4\n")
        with pytest.raises(DecodeError, match="not a video but a playlist or a list of other files; name the videos"):
            VideoReader(tmp_path / "clip.mp4")

    @pytest.mark.parametrize(
        ("name", "codec", "pix_fmt", "form"),
        [
            ("a.ts", "libx264", "yuv420p", "mpegts"),
            ("a.MTS", "libx264", "yuv420p", "mpegts"),
            ("a.mpg", "mpeg2video", "yuv420p", "mpeg"),
            ("a.flv", "flv1", "yuv420p", "flv"),
            ("a.wmv", "wmv2", "yuv420p", "asf"),
            ("a.gif", "gif", "rgb8", "gif"),
            ("a.3gp", "h263", "yuv420p", "3gp"),
            ("a.mxf", "mpeg2video", "yuv420p", "mxf"),
            ("a.h264", "libx264", "yuv420p", "h264"),
            ("a.dat", "libx264", "yuv420p", "mp4"),
        ],
    )
    def test_videos_of_many_kinds_are_none(self, name, codec, pix_fmt, form, tmp_path):
        frames = moving_noise(96, 128, 10) if codec == "h263" else moving_noise(num_frames=10)
        path = tmp_path / name
        with av.open(str(path), "w", format=form) as container:
            stream = container.add_stream(codec, rate=25)
            stream.height, stream.width, stream.pix_fmt = *frames.shape[1:3], pix_fmt
            for frame in frames:
                container.mux(stream.encode(av.VideoFrame.from_ndarray(frame, format="rgb24")))
            container.mux(stream.encode(None))
        truth = decoded_plainly(path)
        assert len(truth) == 10
        with VideoReader(path) as reader:
            np.testing.assert_array_equal(reader.read(range(10)), truth)
