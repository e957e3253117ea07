"""Written videos read back."""

import numpy as np
import pytest

from tests.data.sample_videos import moving_noise
from timm_video_psn.data.video.reader import VideoReader
from timm_video_psn.data.video.write_video import write_video


def smooth_frames():
    y, x = np.mgrid[:48, :64]
    ramps = [np.stack([3 * x, 4 * y, np.full_like(x, 10 * t)], -1) for t in range(6)]
    return np.stack(ramps).astype(np.uint8)  # (T, H, W, 3)


def read(path):
    with VideoReader(path) as reader:
        return reader.read(range(reader.num_frames)), reader.fps


def test_pictures_and_rate_come_back(tmp_path):
    write_video(tmp_path / "a.mp4", smooth_frames(), fps=12.5)
    frames, fps = read(tmp_path / "a.mp4")
    assert fps == 12.5
    assert frames.shape == (6, 48, 64, 3)
    assert np.abs(frames.astype(int) - smooth_frames()).mean() < 4


def test_a_reversed_clip_gives_the_reversed_pictures(tmp_path):
    write_video(tmp_path / "a.mp4", smooth_frames())
    write_video(tmp_path / "b.mp4", smooth_frames()[::-1])
    np.testing.assert_array_equal(read(tmp_path / "a.mp4")[0], read(tmp_path / "b.mp4")[0][::-1])


def test_encoder_options_are_taken(tmp_path):
    frames = np.repeat(moving_noise(num_frames=1), 12, axis=0)
    write_video(tmp_path / "a.mkv", frames)
    write_video(tmp_path / "b.mkv", frames, options={"g": "12"})
    assert (tmp_path / "b.mkv").stat().st_size < (tmp_path / "a.mkv").stat().st_size / 3


@pytest.mark.parametrize(
    ("frames", "message"),
    [
        (np.zeros((2, 4, 4), np.uint8), r"frames are uint8 of shape \(2, 4, 4\); accepted are uint8 \(T, H, W, 3\)"),
        (np.zeros((2, 4, 4, 3)), "frames are float64"),
        (np.zeros((0, 4, 4, 3), np.uint8), r"T >= 1"),
        (np.zeros((2, 5, 4, 3), np.uint8), "frames are 5 x 4 pixels; yuv420p needs even sides"),
    ],
)
def test_what_cannot_be_written_is_an_error(frames, message, tmp_path):
    with pytest.raises(ValueError, match=message):
        write_video(tmp_path / "a.mp4", frames)
