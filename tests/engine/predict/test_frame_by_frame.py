"""A causal model that looks at each frame of a video once."""

from itertools import pairwise

import numpy as np
import pytest
import timm
import torch

from timm_video_psn.__main__ import main
from timm_video_psn.data import TimedFrame, write_video
from timm_video_psn.engine.checkpoint import export_model
from timm_video_psn.engine.load_model import load
from timm_video_psn.engine.predict.frame_by_frame import predict_frames


@pytest.fixture(scope="module")
def causal_folder(tmp_path_factory) -> str:
    """A causal model, untrained: 5 classes, 4 frames of 32 pixels."""
    folder = tmp_path_factory.mktemp("model") / "best"
    torch.manual_seed(0)
    model = timm.create_model("tsm_test_resnet", num_frames=4, num_classes=5, causal=True)
    config = {
        "label_names": [f"class {number}" for number in range(5)],
        "pretrained_cfg": {"input_size": (3, 32, 32), "crop_pct": 1.0, "interpolation": "bilinear"},
        "video": {"num_frames": 4, "sampling": "segments"},
    }
    export_model(model, folder, config, {"num_frames": 4, "causal": True})
    return str(folder)


def noise(count: int) -> np.ndarray:
    return np.random.default_rng(0).integers(0, 256, (count, 32, 32, 3), dtype=np.uint8)


def test_answers_are_those_of_the_clip_so_far_and_recent_frames_weigh_more(causal_folder):
    model, frames = load(causal_folder, "cpu"), noise(20)
    timed = [TimedFrame(number / 10, frames[number]) for number in range(20)]
    spans = list(predict_frames(model, timed, window_sec=0.8, topk=5))
    taken = frames[::2]  # 4 frames in 0.8 s
    assert [span.end_sec for span in spans] == pytest.approx([number / 5 for number in range(10)])
    assert [span.start_sec for span in spans[:6]] == pytest.approx([0, 0, 0, 0, 0, 0.2])
    with torch.inference_mode():
        so_far = [model.model(model.precision.clip(torch.from_numpy(taken[:n])[None]))[0] * n for n in range(1, 11)]
        each = [so_far[0], *(b - a for a, b in pairwise(so_far))]
    for n, span in enumerate(spans, 1):
        weights = torch.tensor([np.exp(-(n - 1 - t) / 4) for t in range(n)], dtype=torch.float32)
        expected = ((weights[:, None] * torch.stack(each[:n])).sum(0) / weights.sum()).softmax(0)
        found = {item.label: item.probability for item in span.top}
        torch.testing.assert_close(
            torch.tensor([found[f"class {k}"] for k in range(5)]), expected, rtol=1e-3, atol=1e-5
        )


def test_answers_come_as_often_as_asked(causal_folder):
    timed = [TimedFrame(number / 10, frame) for number, frame in enumerate(noise(20))]
    spans = list(predict_frames(load(causal_folder, "cpu"), timed, window_sec=0.4, stride_sec=0.5))
    assert [span.end_sec for span in spans] == pytest.approx([0, 0.5, 1.0, 1.5])


def test_after_a_gap_frames_are_taken_as_seldom_as_before(causal_folder):
    times = [0, 0.1, 0.2, 0.3, 9.0, 9.1, 9.2, 9.3]
    timed = [TimedFrame(time, frame) for time, frame in zip(times, noise(8), strict=True)]
    spans = list(predict_frames(load(causal_folder, "cpu"), timed, window_sec=0.8))
    assert [span.end_sec for span in spans] == pytest.approx([0, 0.2, 9.0, 9.2])


def test_the_command_streams_files_and_refuses_models_that_see_later_frames(
    causal_folder, model_folder, tmp_path, capsys
):
    write_video(tmp_path / "video.mp4", noise(20), fps=10)
    video = str(tmp_path / "video.mp4")
    assert main(["predict", video, "--model", causal_folder, "--stream", "--window", "0.8", "--topk", "1"]) == 0
    assert len(capsys.readouterr().out.splitlines()) == 10
    assert main(["predict", video, "--model", model_folder, "--stream"]) == 2
    assert "sees later frames; a stream needs a model that was built and trained with causal" in capsys.readouterr().err
