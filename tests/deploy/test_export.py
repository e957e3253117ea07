"""Exported files give the outputs of the model in their own runtimes, and carry what is needed to use them."""

import json
import subprocess
import sys
from dataclasses import replace
from importlib import metadata
from pathlib import Path

import numpy as np
import pytest
import timm
import torch
from torch import nn

from tests.data.sample_videos import encoded, moving_noise
from timm_video_psn.data import EvalTransform, VideoReader, normalize_clip
from timm_video_psn.data.clips.sampling import SAMPLINGS
from timm_video_psn.deploy import formats
from timm_video_psn.deploy.example_script import INDICES
from timm_video_psn.deploy.export import export

FRAMES, SIZE = 4, 64
BOTTLENECKS = {"backbone": "resnet26", "layers": (1, 1, 1, 1)}
MODELS = {
    **{name: {"temporal": name, **BOTTLENECKS} for name in ("psn", "tsm", "tsn", "gst", "gsm", "tea", "rf_s")},
    "psn on a ViT": {"temporal": "psn", "backbone": "vit_tiny_patch16_224", "img_size": SIZE, "depth": 3},
    "psn on a ConvNeXt": {"temporal": "psn", "backbone": "test_convnext"},
    "psn on MobileNetV2": {"temporal": "psn", "backbone": "mobilenetv2_050"},
}
FORMATS = tuple(formats.FORMATS)
pytestmark = pytest.mark.usefixtures("compiler")


def build(name: str = "psn", **settings) -> nn.Module:
    settings = {**MODELS[name], "num_frames": FRAMES, "num_classes": 5, **settings}
    if settings["temporal"] in ("psn", "rf_s"):
        settings["expand_init"] = 1.0
    return timm.create_model("video_net", **settings).eval()


def cell(name: str, kind: str):
    quick = (name == "psn" and kind != "aoti") or (name == "tsm" and kind == "torch")
    marks = [] if quick else [pytest.mark.export]
    if (name, kind) == ("gst", "executorch"):
        marks.append(pytest.mark.xfail(raises=RuntimeError, strict=True, reason="XNNPACK fails on GST with error 0x10"))
    return pytest.param(name, kind, id=f"{name}-{kind}", marks=marks)


@pytest.mark.parametrize(("name", "kind"), [cell(name, kind) for name in MODELS for kind in FORMATS])
@torch.no_grad()
def test_every_system_gives_its_logits_in_every_runtime(name, kind, tmp_path):
    model = build(name)
    exported = export(model, tmp_path / "out", kind, batch="1-4", img_size=SIZE)
    assert set(exported.parity.errors) == {1, 3}
    run = formats.FORMATS[kind].open(exported.file)
    for clips in (1, 3):
        x = torch.randn(clips, 3, FRAMES, SIZE, SIZE)
        expected = model(x)
        assert (run(x)[0] - expected).abs().max() < 1e-4 * max(1, expected.abs().max())


@pytest.mark.parametrize("kind", FORMATS)
def test_the_example_labels_a_video_without_this_package(kind, tmp_path):
    layout = "frames" if kind in ("onnx", "aoti") else "clip"
    model = build("tsn", **({} if kind == "aoti" else {"backbone": "test_resnet", "layers": None}))
    names = [f"class {number}" for number in range(5)]
    video = {"sampling": "segments", "img_size": SIZE, "short_side": 73}
    exported = export(
        model,
        tmp_path / "out",
        kind,
        layout=layout,
        img_size=SIZE,
        normalize=kind in ("torch", "aoti"),
        config={"video": video, "label_names": names},
    )
    path = encoded(moving_noise(120, 90), "libx264", {}, "yuv420p", tmp_path / "noise.mp4")
    found = run_example(exported.folder, path)
    assert "timm" not in (exported.folder / "example.py").read_text()
    with VideoReader(path) as reader:
        indices = SAMPLINGS["segments"](reader.num_frames, FRAMES, None)
        frames = EvalTransform(SIZE, SIZE / 73)(torch.from_numpy(reader.read(indices.tolist())))
    cfg = model.pretrained_cfg
    with torch.no_grad():
        expected = model(normalize_clip(frames[None], cfg["mean"], cfg["std"])).softmax(1)[0]
    assert set(found) == set(names)
    for name, probability in zip(names, expected.tolist(), strict=True):
        assert abs(found[name] - probability) < 0.005  # another library has resized the frames


def run_example(folder: Path, video: Path) -> dict[str, float]:
    """Probabilities of the classes that the example prints, in a process that knows nothing of this one."""
    command = [sys.executable, "-I", folder / "example.py", video]
    output = subprocess.run(command, capture_output=True, text=True, check=True, cwd="/").stdout
    return {line[9:]: float(line[:7].rstrip("%")) / 100 for line in output.splitlines()}


@pytest.mark.parametrize("kind", ["torch", "onnx", "executorch", pytest.param("aoti", marks=pytest.mark.export)])
@pytest.mark.parametrize("name", ["psn", "gsm"])
@torch.no_grad()
def test_a_stream_is_exported_with_its_state(name, kind, tmp_path):
    model = build(name, backbone="test_resnet", layers=None, causal=True)
    batch = None if name == "psn" else "2"
    exported = export(model, tmp_path / "out", kind, layout="stream", batch=batch, img_size=SIZE)
    config = json.loads((exported.folder / "config.json").read_text())
    initial = np.load(exported.folder / "initial_state.npz")
    state = [torch.from_numpy(initial[key]) for key in config["state"]["inputs"]]
    assert [list(value.shape) for value in state] == config["state"]["shapes"]
    clips = torch.randn(1 if name == "psn" else 2, 3, 9, SIZE, SIZE)
    run = formats.FORMATS[kind].open(exported.file)
    for length, frame in enumerate(clips.unbind(2), 1):
        logits, *state = run(frame, *state)
        torch.testing.assert_close(logits, model(clips[:, :, :length]), rtol=1e-4, atol=1e-4)


@torch.no_grad()
def test_the_example_of_a_stream_labels_a_video(tmp_path):
    model = build("tsm", backbone="test_resnet", layers=None, causal=True)
    exported = export(model, tmp_path / "out", "onnx", layout="stream", img_size=SIZE, normalize=True)
    path = encoded(moving_noise(SIZE, SIZE)[:12], "libx264", {}, "yuv420p", tmp_path / "noise.mp4")
    found = run_example(exported.folder, path)
    with VideoReader(path) as reader:
        frames = EvalTransform(SIZE, SIZE / 73)(torch.from_numpy(reader.read(list(range(12)))))
    cfg = model.pretrained_cfg
    expected = model(normalize_clip(frames[None], cfg["mean"], cfg["std"])).softmax(1)[0].tolist()
    for number, probability in enumerate(expected):
        assert abs(found[f"class {number}"] - probability) < 0.005


@pytest.mark.parametrize("sampling", SAMPLINGS)
@pytest.mark.parametrize("count", [2, 4, 9, 90])
def test_the_example_takes_the_frames_of_the_sampling(sampling, count):

    found = {"total": count, "count": FRAMES, "np": np}
    exec(INDICES[sampling], found)  # the line of the script
    assert list(found["indices"]) == SAMPLINGS[sampling](count, FRAMES, None).tolist()


def test_the_config_tells_what_a_runtime_has_to_know(tmp_path):
    model = build("tsn")
    exported = export(model, tmp_path / "new" / "out", "torch", img_size=SIZE, config={"dataset": "motion"})
    config = json.loads((exported.folder / "config.json").read_text())
    assert config["input"] == {
        "name": "clip",
        "shape": ["batch", 3, FRAMES, SIZE, SIZE],
        "dtype": "float32",
        "batch": "1-64",
    }
    assert config["output"] == {"name": "logits", "num_classes": 5}
    assert config["preprocessing"]["included"] is False
    assert config["preprocessing"]["mean"] == list(model.pretrained_cfg["mean"])
    assert config["video"] == {"sampling": "segments", "img_size": SIZE, "short_side": 73}
    assert config["dataset"] == "motion"
    assert config["versions"]["torch"] == metadata.version("torch")
    assert max(config["parity"]["largest_difference"].values()) < 1e-5
    assert sorted(path.name for path in exported.folder.iterdir()) == ["config.json", "example.py", "model.pt2"]


def test_a_file_that_gives_other_outputs_is_not_kept(tmp_path, monkeypatch):
    right = formats.FORMATS["torch"]

    def wrong(path: Path):
        run = right.open(path)
        return lambda x: (run(x)[0] + 0.1,)

    monkeypatch.setitem(formats.FORMATS, "torch", replace(right, open=wrong))
    with pytest.raises(ValueError, match=r"the torch file was discarded: largest difference from the model: 1\.0e-01"):
        export(build("tsn"), tmp_path / "out", img_size=SIZE)
    assert list(tmp_path.iterdir()) == []


def test_a_model_that_executorch_cannot_take_is_an_error_with_the_reason(tmp_path):
    model = timm.create_model("video_net", backbone="test_vit", temporal="tsn", num_frames=2)
    with pytest.raises(
        ValueError, match=r"ExecuTorch does not support this model: .*upsample_bicubic2d.*another format"
    ):
        export(model, tmp_path / "out", "executorch")
    assert list(tmp_path.iterdir()) == []


def test_what_cannot_be_exported_is_said_before_anything_is_done(tmp_path, monkeypatch):
    model = build("tsn")
    with pytest.raises(ValueError, match="format 'tflite' is unknown; use one of torch, onnx, executorch, aoti"):
        export(model, tmp_path / "out", "tflite")
    with pytest.raises(ValueError, match=r"sees later frames; a stream needs a model that was built and trained"):
        export(build("tsm"), tmp_path / "out", layout="stream", img_size=SIZE)
    with pytest.raises(ValueError, match="layout='stream' needs a fixed number of streams, such as 1, found"):
        export(build("tsm", causal=True), tmp_path / "out", layout="stream", batch="1-4", img_size=SIZE)
    with pytest.raises(FileExistsError, match="already exists; name a new folder, or remove it"):
        export(model, tmp_path)
    monkeypatch.setattr(formats, "_is_installed", lambda package: package != "onnxscript")
    with pytest.raises(ImportError, match=r"--format onnx needs onnxscript: pip install 'timm-video-psn\[export\]'"):
        export(model, tmp_path / "out", "onnx")


def test_the_model_stays_as_it_is(tmp_path):
    model = build("psn").double().train()
    before = {key: value.clone() for key, value in model.state_dict().items()}
    export(model, tmp_path / "out", img_size=SIZE)
    assert model.training
    assert all(torch.equal(value, before[key]) for key, value in model.state_dict().items())
