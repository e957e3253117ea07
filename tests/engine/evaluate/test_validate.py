"""A test in several processes equals the same test in one."""

import json

import numpy as np
import pytest
import timm
import torch

import timm_video_psn  # noqa: F401  registers the models
from tests.engine.runs import Processes
from timm_video_psn.__main__ import validate as validate_main
from timm_video_psn.data import MOTION_CLASSES, PathTable, VideoIndex, read_index
from timm_video_psn.data.shards.writer import ShardLimits, write_shards
from timm_video_psn.engine.checkpoint import export_model
from timm_video_psn.engine.evaluate.scores import load_scores
from timm_video_psn.engine.evaluate.validate import _names

PROTOCOLS = ("--protocol", "4x1x1", "--protocol", "4x2x3@24/30 probabilities")


@pytest.fixture(scope="module")
def model_folder(tmp_path_factory):
    """A model of random weights, in the form of the folders that training leaves."""
    torch.manual_seed(0)
    settings = {"num_frames": 4, "expand_init": 1.0}
    model = timm.create_model("psn_test_resnet", num_classes=12, **settings)
    preprocessing = {"input_size": (3, 32, 32), "crop_pct": 0.9, "interpolation": "bilinear"}
    config = {"label_names": list(MOTION_CLASSES), "pretrained_cfg": preprocessing, "dataset": "motion"}
    folder = tmp_path_factory.mktemp("model") / "best"
    export_model(model, folder, config, settings)
    return folder


def validated(count, tmp_path, *argv):
    """Exit codes, what was said by rank, and the folder of the results."""
    folder = tmp_path / f"by{count}"
    argv = [*map(str, argv), "--output", str(folder), "--workers", "0"]
    processes = Processes(count, tmp_path / f"log{count}", validate_main, argv)
    codes = processes.wait()
    return codes, [processes.said(rank) for rank in range(count)], folder


def test_two_processes_share_the_videos_and_the_first_writes_the_same_results(model_folder, tiny_motion, tmp_path):
    argv = ("--model", model_folder, "--data-dir", tiny_motion, "--device", "cpu", *PROTOCOLS)
    (code,), (alone,), one = validated(1, tmp_path, *argv)
    assert code == 0, alone
    codes, said, two = validated(2, tmp_path, *argv)
    assert codes == [0, 0], said
    assert "12 of 12 videos" in said[0]
    assert "top-1" not in said[1]
    results = [json.loads((folder / "results.json").read_text())["results"] for folder in (one, two)]
    assert len(results[0]) == 2
    for first, second in zip(*results, strict=True):
        assert first["num_videos"] == second["num_videos"] == 12
        scores = [load_scores(folder / first["folder"] / "scores.npz") for folder in (one, two)]
        assert scores[0].videos == scores[1].videos
        assert np.array_equal(scores[0].labels, scores[1].labels)
        np.testing.assert_allclose(scores[0].scores, scores[1].scores, rtol=1e-4, atol=1e-5)


def test_a_test_on_shards_has_the_scores_of_the_files(model_folder, tiny_motion, tmp_path):
    write_shards(
        "motion", {"val": read_index("motion", tiny_motion, "val")}, tmp_path / "shards", ShardLimits(5, 10**9)
    )
    results = []
    for name, argv in (("files", ("--dataset", "motion")), ("shards", ())):  # shards are known by their index
        data = tiny_motion if name == "files" else tmp_path / "shards"
        argv = ["--model", str(model_folder), "--data-dir", str(data), "--device", "cpu", *argv, *PROTOCOLS]
        argv += ["--output", str(tmp_path / name), "--workers", "0"]
        assert validate_main(argv) == 0
        results.append(json.loads((tmp_path / name / "results.json").read_text()))
    assert results[0]["dataset"] == results[1]["dataset"] == "motion"
    for test in results[0]["results"]:
        files, shards = (load_scores(tmp_path / name / test["folder"] / "scores.npz") for name in ("files", "shards"))
        assert files.videos == shards.videos
        np.testing.assert_allclose(files.scores, shards.scores, rtol=1e-4, atol=1e-5)


def test_an_error_ends_all_processes_and_is_said(model_folder, tiny_motion, tmp_path):
    argv = ("--model", model_folder, "--data-dir", tiny_motion / "nowhere", "--dataset", "folder", "--device", "cpu")
    codes, said, folder = validated(2, tmp_path, *argv)
    assert 2 in codes  # the others end by it, or by the same error
    assert set(codes) <= {1, 2}
    assert any("is not a folder" in text for text in said)
    assert not folder.exists()


def test_parts_of_one_file_keep_names_of_their_own(tmp_path):
    """Lists of untrimmed videos name a folder once for each of its parts."""
    paths = ["a", "b", "a", "c", "a"]
    index = VideoIndex(PathTable.from_paths(paths), np.zeros(5, dtype=np.int64), ("x",), tmp_path)
    assert _names(index, np.arange(5)) == ("a", "b", "a#2", "c", "a#3")
    assert _names(index, np.array([0, 4])) == ("a", "a#3")  # whatever else could not be read
