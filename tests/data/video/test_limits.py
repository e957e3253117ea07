"""Small files with huge pictures, in files and folders: refused, or read in little memory."""

import dataclasses

import av
import numpy as np
import pytest
from PIL import Image

from timm_video_psn.__main__ import main
from timm_video_psn.command_line.predict import parse_predict_options
from timm_video_psn.command_line.validate import parse_validate_options
from timm_video_psn.data import (
    EvalTransform,
    FrameStream,
    MultiViewDataset,
    PathTable,
    UnreadableVideo,
    VideoDataset,
    VideoIndex,
)
from timm_video_psn.data.clips.views import ViewPlan
from timm_video_psn.data.shards.sample import PackedVideo
from timm_video_psn.data.video import pyav_backend
from timm_video_psn.data.video.errors import DecodeError
from timm_video_psn.data.video.frame_folder import FrameFolder, ImageNames
from timm_video_psn.data.video.limits import CLIP_SIDE_PX, MAX_PIXELS, frame_limit
from timm_video_psn.data.video.pyav_backend import VideoFile
from timm_video_psn.data.video.reader import VideoReader, decode_clip
from timm_video_psn.engine.video_source import GivenVideos

HEIGHT, WIDTH, NUM_FRAMES = 512, 1024, 20
FRAME = HEIGHT * WIDTH


def striped_video(path, height=HEIGHT, width=WIDTH, num_frames=NUM_FRAMES):
    """Little data, whatever its size: wide stripes that move."""
    with av.open(str(path), "w") as container:
        stream = container.add_stream("libx264", rate=25, options={"preset": "ultrafast", "threads": "2"})
        stream.height, stream.width, stream.pix_fmt = height, width, "yuv420p"
        for number in range(num_frames):
            row = ((np.arange(width) * 8 // width + number) % 2 * 200).astype(np.uint8)
            picture = np.broadcast_to(row[None, :, None], (height, width, 3))
            container.mux(stream.encode(av.VideoFrame.from_ndarray(np.ascontiguousarray(picture), format="rgb24")))
        container.mux(stream.encode(None))
    return path


@pytest.fixture(scope="module")
def large(tmp_path_factory):
    return striped_video(tmp_path_factory.mktemp("large") / "large.mp4")


@pytest.fixture(scope="module")
def large_images(tmp_path_factory):
    folder = tmp_path_factory.mktemp("images")
    for number in range(1, NUM_FRAMES + 1):
        Image.new("RGB", (WIDTH, HEIGHT), (200, 100, 5 * number)).save(folder / f"{number:05d}.jpg")
    return folder


READERS = {
    "file": lambda path, **limit: VideoReader(path, **limit),
    "file in memory": lambda path, **limit: VideoReader(path, source=VideoFile(path, path.read_bytes(), **limit)),
    "folder": lambda path, **limit: VideoReader(path, source=FrameFolder(path, **limit)),
}


@pytest.mark.parametrize("reader", READERS)
class TestLimit:
    @pytest.fixture
    def open_with(self, reader, large, large_images):
        path = large_images if reader == "folder" else large
        return lambda max_pixels: READERS[reader](path, max_pixels=max_pixels)

    def test_of_a_clip_is_checked_before_decoding(self, open_with, monkeypatch):
        with open_with(16 * FRAME) as reader:
            assert len(reader.read(range(16))) == 16
            monkeypatch.setattr(pyav_backend, "decode_packets", None)
            monkeypatch.setattr(Image.Image, "convert", None)
            asked = f"17 frames of {WIDTH} x {HEIGHT} pixels at once; accepted: {FRAME:,} pixels in a"
            with pytest.raises(DecodeError, match=asked):
                reader.read(range(17))

    def test_of_a_clip_does_not_bind_frames_that_are_shrunk_one_by_one(self, open_with):
        with open_with(16 * FRAME) as reader:
            clip = reader.read(range(20), short_side=128)
            assert clip.shape == (20, 128, 256, 3)
            full = reader.read(range(8)).reshape(8, 128, 4, 256, 4, 3).mean((2, 4))  # the average of each 4 x 4 pixels
            assert np.abs(clip[:8] - full).mean() < 2
            assert reader.read([3], short_side=4096).shape == (1, HEIGHT, WIDTH, 3)  # nothing is enlarged
            assert np.array_equal(np.stack(list(reader.frames(short_side=128))), clip)

    def test_of_a_frame(self, open_with):
        with pytest.raises(DecodeError, match=f"1 frame of {WIDTH} x {HEIGHT} pixels .* or raise max_pixels"):
            open_with(15 * FRAME).read([0])


def test_usual_videos_are_far_from_the_limit():
    assert 160 * 3840 * 2160 > MAX_PIXELS > 500 * 1920 * 1080  # ten clips of 16 frames of 4K only if they are shrunk
    assert 160 * CLIP_SIDE_PX**2 * 16 // 9 > MAX_PIXELS
    assert frame_limit(MAX_PIXELS) >= 8192 * 8192


def test_frames_larger_than_the_header_states_do_not_come_out(large, tmp_path):
    small, big = (
        striped_video(tmp_path / f"{height}.h264", height, 2 * height, 8).read_bytes() for height in (64, HEIGHT)
    )
    path = tmp_path / "both.h264"
    path.write_bytes(small + big)
    with VideoReader(path, max_pixels=16 * 128 * 256) as reader:
        assert reader.read([0]).shape == (1, 64, 128, 3)
        assert reader.num_frames == 8
    with VideoReader(path) as reader:
        assert reader.num_frames == 16


def test_a_full_memory_is_an_error_of_the_video(large, large_images, monkeypatch):
    def full(*args, **kwargs):
        raise MemoryError

    monkeypatch.setattr(pyav_backend, "upright", full)
    monkeypatch.setattr(Image.Image, "convert", full)
    for path in (large, large_images):
        with pytest.raises(DecodeError, match="its frames need more memory than there is; make a smaller copy"):
            decode_clip(path, lambda num_frames: [0])
    with pytest.raises(DecodeError, match="need more memory"):
        ImageNames("{:05d}.jpg", 1).decode(large_images, lambda num_frames: [0])


def test_a_memory_that_is_full_when_the_images_are_put_together_is_an_error_of_the_video(large_images, monkeypatch):
    def full(*args, **kwargs):
        raise MemoryError

    monkeypatch.setattr(np, "stack", full)
    with pytest.raises(DecodeError, match="need more memory"):
        ImageNames("{:05d}.jpg", 1).decode(large_images, lambda num_frames: [0])


@pytest.mark.slow
@pytest.mark.parametrize("kind", ["file", "folder", "numbered folder"])
def test_a_clip_of_huge_frames_takes_little_memory(kind, tmp_path):
    """Eight frames of 6144 x 6144 pixels would be 900 MB, and twice that while they are put together."""
    import subprocess
    import sys

    path = tmp_path / "huge"
    if kind == "file":
        path = striped_video(tmp_path / "huge.mp4", 6144, 6144, 8)
    else:
        path.mkdir()
        Image.new("RGB", (6144, 6144), (200, 100, 50)).save(path / "1.jpg", quality=30)
        for number in range(2, 9):
            (path / f"{number}.jpg").symlink_to(path / "1.jpg")
    assert path.is_dir() or path.stat().st_size < 2_000_000
    read = (
        "ImageNames('{:d}.jpg', 1).decode(Path(path), range)"
        if kind == "numbered folder"
        else "decode_clip(path, range)"
    )
    program = (
        "import resource, sys; from pathlib import Path; "
        "from timm_video_psn.data.video.frame_folder import ImageNames; "
        "from timm_video_psn.data.video.reader import decode_clip; "
        "import av, PIL.Image, PIL.ImageOps, timm_video_psn.data.video.pyav_backend; "
        "peak = lambda: resource.getrusage(resource.RUSAGE_SELF).ru_maxrss; "
        f"path, before = sys.argv[1], peak(); clip = {read}; print(clip.shape, peak() - before)"
    )
    run = subprocess.run([sys.executable, "-c", program, str(path)], capture_output=True, text=True, check=True)
    shape, _, kilobytes = run.stdout.strip().rpartition(" ")
    assert shape == "(8, 2048, 2048, 3)"
    assert int(kilobytes) < 600_000


class TestTheOption:
    """`max_pixels` where a data set, a tool or a prediction reads."""

    LIMIT = 15 * FRAME  # one frame may have a 16th of it, which is too little

    def test_of_a_data_set_makes_an_unreadable_video(self, large, large_images):
        for path in (large, large_images):
            index = VideoIndex(PathTable.from_paths([path]), np.zeros(1, int), ("a",), path.parent)
            plan = ViewPlan(2, 1, 1, 32, 36, "segments")
            for held in (VideoDataset(index, 2, EvalTransform(32), False), MultiViewDataset(index, [plan])):
                assert not isinstance(held[0], UnreadableVideo)
            index = dataclasses.replace(index, max_pixels=self.LIMIT)
            for held in (VideoDataset(index, 2, EvalTransform(32), False), MultiViewDataset(index, [plan])):
                assert "or raise max_pixels" in held[0].reason

    def test_of_packed_videos(self, large, large_images):
        images = {number: file.read_bytes() for number, file in enumerate(sorted(large_images.iterdir()))}
        for packed in (PackedVideo(large, large.read_bytes()), PackedVideo(large_images, None, images, NUM_FRAMES)):
            assert packed.decode(lambda num_frames: [0]).shape == (1, HEIGHT, WIDTH, 3)
            with pytest.raises(DecodeError, match="or raise max_pixels"):
                packed.decode(lambda num_frames: [0], self.LIMIT)

    def test_of_streams_and_given_videos(self, large, large_images):
        with pytest.raises(DecodeError, match="or raise max_pixels"):
            FrameStream(large, max_pixels=self.LIMIT)
        for path in (large, large_images):
            with pytest.raises(DecodeError, match="or raise max_pixels"):
                GivenVideos.of([path], self.LIMIT).decode(0, lambda num_frames: [0])

    def test_of_the_commands(self, large, tmp_path, capsys):
        source = tmp_path / "data" / "a"
        source.mkdir(parents=True)
        (source / "large.mp4").symlink_to(large)
        data, limit = str(source.parent), ["--max-pixels", str(self.LIMIT)]
        for number, (command, expected) in enumerate(
            (
                (["check", "--data-dir", data, "--train-list", str(tmp_path / "list"), "--dataset", "list"], 1),
                (["resize", "--data-dir", data], 1),
                (["frames", "--data-dir", data], 1),
                (["show", str(large)], 2),
            )
        ):
            (tmp_path / "list").write_text(f"{source / 'large.mp4'} 0\n")
            outputs = ["--report" if command[0] == "check" else "--output", str(tmp_path / f"{number}.png")]
            assert main(["prepare", *command, *outputs, *limit]) == expected
            told = capsys.readouterr()
            report = (tmp_path / f"{number}.png").read_text() if command[0] == "check" else ""
            assert "or raise max_pixels" in told.err + told.out + report, command
        assert main(["predict", str(large), "--model", "psn_test_resnet.motion", *limit]) == 2
        assert "or raise max_pixels" in capsys.readouterr().err

    def test_has_the_same_default_everywhere(self):
        assert parse_validate_options(["--model", "x"]).max_pixels == MAX_PIXELS  # from the table of training's options
        assert parse_predict_options(["a.mp4", "--model", "x"]).max_pixels == MAX_PIXELS
