"""timm-video-psn export: from the folder of a run to a file that gives its predictions."""

import json
import shutil
from pathlib import Path

import onnxruntime
import pytest
import torch

from timm_video_psn.__main__ import main
from timm_video_psn.engine.load_model import load


def test_a_runs_model_becomes_a_file_that_gives_its_probabilities(model_folder, tmp_path, capsys, compiler):
    arguments = [model_folder, "--format", "onnx", "--normalize", "--output", str(tmp_path / "out")]
    assert main(["export", *arguments]) == 0
    output = capsys.readouterr().out
    assert f"{tmp_path / 'out' / 'model.onnx'}\nlargest difference from the model:" in output
    config = json.loads((tmp_path / "out" / "config.json").read_text())
    trained = load(model_folder, "cpu")
    assert config["label_names"] == list(trained.label_names)
    assert config["video"]["protocol"] == str(trained.protocol)
    assert config["weights_sha256"] == trained.weights_sha256
    assert config["input"]["shape"] == ["batch", 4, 32, 32, 3]
    frames = torch.randint(0, 256, (3, 4, 32, 32, 3), dtype=torch.uint8)
    session = onnxruntime.InferenceSession(tmp_path / "out" / "model.onnx")
    (found,) = session.run(None, {"clip": frames.numpy()})
    torch.testing.assert_close(torch.from_numpy(found), torch.from_numpy(trained.probabilities(frames)))


def test_without_a_folder_it_lies_beside_the_model(model_folder, tmp_path, compiler):
    run = shutil.copytree(Path(model_folder).parent, tmp_path / "run")
    assert main(["export", str(run), "--layout", "frames"]) == 0
    config = json.loads((run / "export-torch-frames" / "config.json").read_text())
    assert config["input"]["shape"] == [4, 3, 32, 32]


def test_errors_are_a_line(model_folder, tmp_path, capsys):
    assert main(["export", str(tmp_path)]) == 2
    assert "export: error:" in capsys.readouterr().err
    assert main(["export", model_folder, "--output", str(tmp_path)]) == 2
    assert "already exists" in capsys.readouterr().err
    with pytest.raises(SystemExit):
        main(["export", model_folder, "--format", "tflite"])
