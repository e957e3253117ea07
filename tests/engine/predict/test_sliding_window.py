"""Windows against a plain loop over all frames, and their predictions against those of the cut-out frames."""

import numpy as np
import pytest
import torch

from timm_video_psn.data import DecodeError, FrameStream, TimedFrame, VideoReader, write_video
from timm_video_psn.engine.load_model import load
from timm_video_psn.engine.predict.sliding_window import predict_windows, slide


def plain_windows(times, frame_sec, window, stride):
    """Every whole window, then one that ends with the video if something is left."""
    end, expected, start = times[-1] + frame_sec, [], 0.0
    while start + window <= times[-1]:
        expected.append((start, [time for time in times if start <= time < start + window]))
        start += stride
    if not expected or expected[-1][0] + window < end:
        start = max(0.0, end - window)
        expected.append((start, [time for time in times if time >= start]))
    return [(start, frames) for start, frames in expected if frames]


@pytest.mark.parametrize(("window", "stride"), [(2, 1), (2, 2), (1.5, 0.5), (1, 2.5), (100, 1), (0.25, 0.25)])
@pytest.mark.parametrize("seconds", [0.25, 2, 7.25, 10])
def test_windows_are_those_of_a_plain_loop(window, stride, seconds):
    times = [i / 4 for i in range(int(seconds * 4))]
    found = [
        (cut.start_sec, [frame.time_sec for frame in cut.frames])
        for cut in slide([TimedFrame(time, None) for time in times], 1 / 4, window, stride)
    ]
    assert found == plain_windows(times, 1 / 4, window, stride)


def test_frames_that_no_window_needs_are_let_go():
    alive = 0

    class Counted:
        def __init__(self):
            nonlocal alive
            alive += 1

        def __del__(self):
            nonlocal alive
            alive -= 1

    most = 0
    for window in slide((TimedFrame(i / 10, Counted()) for i in range(1000)), 1 / 10, 2, 1):
        most = max(most, alive)
        del window
    assert most <= 2 * 20 + 2


def test_a_window_is_predicted_as_its_frames_alone_are(model_folder, tmp_path):
    frames = np.random.default_rng(0).integers(0, 256, (50, 32, 48, 3), dtype=np.uint8)
    write_video(tmp_path / "video.mp4", frames, fps=10)
    model = load(model_folder)
    with FrameStream(tmp_path / "video.mp4") as stream:
        spans = list(predict_windows(model, stream, stream.fps, 2, 1, topk=3, batch_size=3))
    assert [(span.start_sec, span.end_sec) for span in spans] == [(0, 2), (1, 3), (2, 4), (3, 5)]
    with VideoReader(tmp_path / "video.mp4") as reader:
        decoded = reader.read(range(50))
    for span in spans:
        part = decoded[10 * int(span.start_sec) : 10 * int(span.end_sec)]
        alone = model.predict_clips(model.prepare(part[model.frame_indices(20)])[None], 3)[0]
        assert [item.label for item in span.top] == [item.label for item in alone]
        shares = [[item.probability for item in predictions] for predictions in (span.top, alone)]
        torch.testing.assert_close(*map(torch.tensor, shares))


def test_what_comes_before_a_video_breaks_off_is_predicted(model_folder):
    def breaks_off():
        for i in range(34):
            yield TimedFrame(i / 10, np.full((32, 32, 3), i, np.uint8))
        raise DecodeError("video.mp4", "it is damaged")

    spans = predict_windows(load(model_folder), breaks_off(), 10, 1, 1, batch_size=8)
    assert [next(spans).start_sec for _ in range(3)] == [0, 1, 2]
    with pytest.raises(DecodeError, match="it is damaged"):
        next(spans)


def test_long_windows_are_thinned_and_told_of(model_folder, caplog):
    frames = (TimedFrame(i / 100, np.full((32, 32, 3), i % 256, np.uint8)) for i in range(1000))
    spans = list(predict_windows(load(model_folder), frames, 100, 10, 10))
    assert [(span.start_sec, round(span.end_sec, 6)) for span in spans] == [(0, 10)]
    assert "one frame of 4 is looked at" in caplog.text


def test_lengths_must_be_positive(model_folder):
    with pytest.raises(ValueError, match="both must be above 0"):
        next(predict_windows(load(model_folder), [], 10, 0, 1))
