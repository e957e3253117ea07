import av
import numpy as np
import pytest

from timm_video_psn.data.video.container import is_timed, missing_bytes
from timm_video_psn.data.video.write_video import write_video


def encode(path, codec, options):
    with av.open(str(path), "w", options=options) as container:
        stream = container.add_stream(codec, rate=25)
        stream.height, stream.width, stream.pix_fmt = 48, 64, "yuv420p"
        rng = np.random.default_rng(0)
        for _ in range(20):
            frame = rng.integers(0, 255, (48, 64, 3), dtype=np.uint8)
            container.mux(stream.encode(av.VideoFrame.from_ndarray(frame, format="rgb24")))
        container.mux(stream.encode(None))
    return path


@pytest.mark.parametrize(
    ("name", "codec", "options"),
    [
        ("a.mp4", "libx264", {}),
        ("fast.mp4", "libx264", {"movflags": "+faststart"}),
        ("a.mov", "libx264", {}),
        ("a.mkv", "libx264", {}),
        ("a.webm", "libvpx-vp9", {}),
        ("a.avi", "mpeg4", {}),
    ],
)
def test_what_is_cut_off_is_noticed(name, codec, options, tmp_path):
    path = encode(tmp_path / name, codec, options)
    content = path.read_bytes()
    assert missing_bytes(path) == 0
    for share in (0.5, 0.9):
        path.write_bytes(content[: int(share * len(content))])
        gone = len(content) - int(share * len(content))
        if name in ("a.mp4", "a.mov"):  # their last box, the table of contents, is gone and so declares nothing
            assert 0 < missing_bytes(path) < gone
        else:
            assert missing_bytes(path) == pytest.approx(gone, abs=8)


def test_what_declares_nothing_lacks_nothing(tmp_path):
    live = encode(tmp_path / "live.mkv", "libx264", {"live": "1"})
    assert missing_bytes(live) == 0
    for content in (b"", b"x", b"\x1a\x45\xdf\xa3", b"some text, and more of it", b"\x00\x00\x00\x00ftyp"):
        path = tmp_path / "file"
        path.write_bytes(content)
        assert missing_bytes(path) == 0


def test_the_motion_files_are_whole(tmp_path):
    write_video(tmp_path / "a.mp4", np.zeros((3, 16, 16, 3), np.uint8))
    assert missing_bytes(tmp_path / "a.mp4") == 0


@pytest.mark.parametrize(
    ("name", "expected"),
    [("b_frames.mp4", True), ("mjpeg.mov", True), ("b_frames.mkv", True), ("vp9.webm", True), ("h264.avi", False)],
)
def test_which_containers_store_times(name, expected, video):
    assert is_timed(video(name)) is expected


def test_an_empty_file_stores_no_times(tmp_path):
    (tmp_path / "empty.mp4").touch()
    assert not is_timed(tmp_path / "empty.mp4")
