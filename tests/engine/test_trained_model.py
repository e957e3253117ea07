"""A trained model: every form of a video gives the same prediction, and errors stay with their video."""

import http.server
import json
import threading
from dataclasses import replace
from functools import partial
from pathlib import Path

import numpy as np
import pytest
import torch

from timm_video_psn.__main__ import predict as predict_main
from timm_video_psn.data import DecodeError, ThreeCropTransform, VideoReader, write_video
from timm_video_psn.engine.load_model import load
from timm_video_psn.engine.trained_model import TrainedModel


@pytest.fixture(scope="module")
def trained(model_folder) -> TrainedModel:
    return load(model_folder, "cpu")


@pytest.fixture(scope="module")
def video(tmp_path_factory) -> Path:
    path = tmp_path_factory.mktemp("videos") / "noise.mp4"
    frames = np.random.default_rng(0).integers(0, 256, (20, 40, 64, 3), dtype=np.uint8)
    write_video(path, frames, fps=10)
    return path


@pytest.fixture
def url(video):
    """A file on a server of this machine."""

    class Silent(http.server.SimpleHTTPRequestHandler):
        def log_message(self, *args):
            pass

    handler = partial(Silent, directory=str(video.parent))
    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), handler) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        yield f"http://127.0.0.1:{server.server_port}/{video.name}"
        server.shutdown()


def shares(prediction) -> dict[str, float]:
    return {item.label: item.probability for item in prediction.top}


def test_all_forms_of_a_video_give_one_prediction(trained, video, url):
    with VideoReader(video) as reader:
        frames = reader.read(range(reader.num_frames))
    expected = trained.predict(str(video))
    assert sum(shares(expected).values()) == pytest.approx(1)
    forms = [video, url, frames, torch.from_numpy(frames), torch.from_numpy(frames).permute(0, 3, 1, 2)]
    for form in forms:
        assert shares(trained.predict(form)) == pytest.approx(shares(expected), abs=1e-6)
    together = trained.predict(forms)
    assert [shares(one) == pytest.approx(shares(expected), abs=1e-5) for one in together] == [True] * 5
    assert together[0].video == str(video)
    assert together[1].video == url
    assert together[2].video == "frames of shape (20, 40, 64, 3)"


def test_a_prediction_is_that_of_the_network_on_the_frames_of_validation(trained, video):
    clip = trained.read(video)
    assert clip.indices.tolist() == [2, 7, 12, 17]  # the middles of four parts of 20 frames
    assert (clip.num_frames, clip.fps) == (20, 10)
    with torch.no_grad():
        logits = trained.model(trained.precision.clip(clip.frames[None]))[0]
    expected = logits.softmax(0)
    found = trained.predict(video, topk=2)
    assert [item.probability for item in found.top] == pytest.approx(expected.topk(2).values.tolist(), abs=1e-5)
    assert found.label == trained.label_names[int(expected.argmax())]
    assert str(found).splitlines()[0] == f"{found.top[0].probability:7.2%}  {found.label}"


def test_features_are_what_the_classifier_sees(trained, video):
    features = trained.features([video, video])
    assert features.shape == (2, trained.model.num_features)
    logits = trained.model.get_classifier()(trained.features(video))  # mean of logits = logits of the mean
    expected = trained.predict(video)
    assert logits.softmax(0).max().item() == pytest.approx(expected.top[0].probability, abs=1e-5)


def test_views_are_joined_as_in_a_test(trained, video):
    protocol, logits = trained.protocol, []
    crops = ThreeCropTransform(protocol.img_size, protocol.img_size / protocol.short_side, trained.interpolation)
    for part in (0.25, 0.75):  # of a segment of 5 frames
        with VideoReader(video) as reader:
            frames = torch.from_numpy(reader.read([int(5 * (segment + part)) for segment in range(4)]))
        with torch.no_grad():
            logits += [trained.model(trained.precision.clip(crop[None]))[0] for crop in crops(frames)]
    expected = torch.stack(logits).mean(0).softmax(0)
    found = shares(trained.predict(video, views="2x3"))
    assert [found[name] for name in trained.label_names] == pytest.approx(expected.tolist(), abs=1e-5)
    assert shares(trained.predict(video, views="4x2x3 segments")) == pytest.approx(found, abs=1e-6)
    assert shares(trained.predict(video, views="1x1")) == pytest.approx(shares(trained.predict(video)), abs=1e-6)
    with pytest.raises(ValueError, match="'3' is not understood"):
        trained.predict(video, views="3 crops")


def test_in_a_list_an_error_stays_with_its_video(trained, video, tmp_path):
    broken = tmp_path / "broken.mp4"
    broken.write_bytes(b"no video")
    found = trained.predict([video, broken, "http://127.0.0.1:9/none.mp4", video])
    assert [bool(one.error) for one in found] == [False, True, True, False]
    assert shares(found[0]) == pytest.approx(shares(found[3]), abs=1e-6)
    assert found[1].top == ()
    assert "it cannot be downloaded" in found[2].error
    with pytest.raises(ValueError, match=r"broken\.mp4 has no prediction"):
        _ = found[1].label
    for one in (broken, "http://127.0.0.1:9/none.mp4", tmp_path / "nowhere.mp4"):
        with pytest.raises(DecodeError):
            trained.predict(one)


@pytest.mark.parametrize(
    ("video", "message"),
    [
        (np.zeros((4, 8, 8, 3), np.float32), r"uint8; found \[4, 8, 8, 3\] float32"),
        (np.zeros((2, 4, 8, 8, 3), np.uint8), "give several videos as a list"),
        (np.zeros((4, 8, 8, 1), np.uint8), r"\(T, H, W, 3\) or \(T, 3, H, W\), in RGB; found \[4, 8, 8, 1\]"),
        (np.zeros((0, 8, 8, 3), np.uint8), r"found \[0, 8, 8, 3\]"),
    ],
)
def test_frames_of_another_form_are_refused(trained, video, message):
    with pytest.raises(ValueError, match=message):
        trained.predict(video)


def test_what_cannot_be_named_is_refused(trained, video):
    with pytest.raises(ValueError, match="topk=0 classes asked for"):
        trained.predict(video, topk=0)
    with pytest.raises(ValueError, match=r"names no classes: its config\.json lacks label_names"):
        replace(trained, label_names=()).predict(video)
    with pytest.raises(TypeError, match="int is not a video"):
        trained.predict(3)


def test_a_short_video_is_told_of(trained, caplog):
    trained.predict(np.zeros((2, 40, 40, 3), np.uint8))
    assert "has only 2 frames for a clip of 4: some are repeated" in caplog.text


def test_the_command_downloads_the_file_of_a_url_as_python_does(url, video, model_folder, capsys):
    assert predict_main([url, str(video), "--model", model_folder, "--json", "--topk", "1"]) == 0
    of_url, of_file = map(json.loads, capsys.readouterr().out.splitlines())
    assert {**of_url, "file": ""} == {**of_file, "file": ""}
