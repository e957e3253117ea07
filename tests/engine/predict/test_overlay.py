"""The annotated copy: as many frames at the same times, and something written into them."""

import numpy as np
import pytest

from timm_video_psn.data import FrameStream, TimedFrame, VideoReader, write_video
from timm_video_psn.engine.predict.overlay import annotate_video, write_classes
from timm_video_psn.engine.predict.sliding_window import Span
from timm_video_psn.engine.trained_model import Prediction


def span(start, end, *shares):
    return Span(start, end, [Prediction(f"class {i}", share) for i, share in enumerate(shares)])


def test_the_copy_has_the_same_frames_at_the_same_times_with_text(tmp_path):
    write_video(tmp_path / "video.mp4", np.full((20, 64, 96, 3), 128, np.uint8), fps=10)
    spans = [span(0, 1, 0.0), span(1, 2, 1.0)]
    with FrameStream(tmp_path / "video.mp4") as stream:
        annotate_video(tmp_path / "copy.mp4", stream, stream.fps, spans)
    with FrameStream(tmp_path / "copy.mp4") as copy:
        assert [round(frame.time_sec, 2) for frame in copy] == [i / 10 for i in range(20)]
    with VideoReader(tmp_path / "copy.mp4") as reader:
        early, late = reader.read([2, 17]).astype(int)
    assert np.abs(early[40:] - 128).max() <= 12  # only the first line is written on
    blue = [frame[4:8, 80:, 2].mean() - frame[4:8, 80:, 0].mean() for frame in (early, late)]
    assert blue[0] < 10 < 50 < blue[1]  # the bar of the second span reaches across


def test_odd_and_large_frames_become_even_and_smaller():
    assert write_classes(np.zeros((33, 35, 3), np.uint8), span(0, 1, 0.5)).shape == (32, 34, 3)
    assert max(write_classes(np.zeros((2160, 3840, 3), np.uint8), span(0, 1, 0.5)).shape) == 1280


def test_nothing_to_write_is_an_error_and_leaves_no_file(tmp_path):
    with pytest.raises(ValueError, match="no prediction"):
        annotate_video(tmp_path / "copy.mp4", [], 10, [])
    with pytest.raises(ValueError, match="no frame"):
        annotate_video(tmp_path / "copy.mp4", iter(()), 10, [span(0, 1, 0.5)])
    assert list(tmp_path.iterdir()) == []


def test_one_frame_is_a_video(tmp_path):
    annotate_video(tmp_path / "copy.mp4", [TimedFrame(0.0, np.zeros((32, 32, 3), np.uint8))], 10, [span(0, 1, 0.5)])
    with VideoReader(tmp_path / "copy.mp4") as reader:
        assert reader.num_frames == 1
