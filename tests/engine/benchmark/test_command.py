"""timm-video-psn benchmark: what it measures is what it says, and its rows keep one another."""

import csv

import pytest
import torch

from tests.models.external.tiny_transformers import save_network
from timm_video_psn.__main__ import main
from timm_video_psn.command_line.benchmark import parse_benchmark_options
from timm_video_psn.engine.benchmark.command import COLUMNS, add_rows, read_rows
from timm_video_psn.engine.benchmark.variants import MODES
from timm_video_psn.models import create_model

SMALL = ["--img-size", "32", "--num-frames", "2", "--repeats", "2", "--warmup", "1", "--device", "cpu"]


def rows_of(tmp_path, *argv: str) -> dict[tuple[str, str], dict]:
    assert main(["benchmark", *argv, *SMALL, "--csv", str(tmp_path / "new" / "rows.csv")]) == 0
    return {(row["model"], row["mode"]): row for row in read_rows(tmp_path / "new" / "rows.csv")}


def test_models_are_measured_in_evaluation_and_training_beside_a_baseline(tmp_path, capsys):
    rows = rows_of(tmp_path, "tsn_test_resnet", "psn_test_resnet", "test_resnet", "--batch-size", "2", "--train")
    assert set(rows) == {(name, "eager") for name in ("tsn_test_resnet", "psn_test_resnet", "test_resnet")}
    baseline = rows["tsn_test_resnet", "eager"]
    assert baseline["infer_ratio"] == baseline["train_ratio"] == 1
    assert baseline["param_count"] == rows["test_resnet", "eager"]["param_count"]
    for row in rows.values():
        assert row["infer_samples_per_sec"] == pytest.approx(2000 / row["infer_step_time"], rel=0.01)
        assert row["train_samples_per_sec"] == pytest.approx(2000 / row["train_step_time"], rel=0.01)
        assert (row["infer_batch_size"], row["infer_img_size"], row["num_frames"]) == (2, 32, 2)
        assert row["infer_latency"] > 0
        assert row["train_peak_mb"] > 0
        assert (row["device"], row["torch"]) == ("cpu", torch.__version__)
    device, *lines = capsys.readouterr().out.splitlines()
    assert device.startswith("device cpu; xN is the time beside tsn_test_resnet")
    assert [line.split()[0] for line in lines] == ["tsn_test_resnet", "psn_test_resnet", "test_resnet"]


@pytest.mark.parametrize("library", ["torchvision", "transformers"])
def test_networks_of_other_libraries_are_measured_as_they_are(library, tmp_path):
    name = "torchvision:r3d_18"
    if library == "transformers":
        pytest.importorskip("transformers")
        save_network(tmp_path, "videomae")
        name = f"transformers:{tmp_path}"
    rows = rows_of(tmp_path, name, "tsn_test_resnet", "--train")
    model = create_model(name, num_classes=174)
    assert rows[name, "eager"]["param_count"] == round(sum(p.numel() for p in model.parameters()) / 1e6, 2)
    assert rows[name, "eager"]["train_step_time"] > 0


def each_mode() -> list:
    """Those of the CPU; what compiles or exports is slow."""
    slow = {mode: pytest.mark.slow for mode in MODES if "compiled" in mode or mode == "onnx"}
    return [pytest.param(mode, marks=slow.get(mode, ())) for mode in MODES if "cudagraphs" not in mode]


@pytest.mark.parametrize("mode", each_mode())
def test_every_mode_of_the_cpu_runs(mode, tmp_path, compiler):
    rows = rows_of(tmp_path, "tsn_test_resnet", "psn_test_resnet", "--modes", mode)
    assert rows["psn_test_resnet", mode]["infer_ratio"] > 0
    assert rows["psn_test_resnet", mode]["num_frames"] == (1 if mode == "stream" else 2)
    assert rows["psn_test_resnet", mode]["train_ratio"] == ""


def test_rows_take_the_place_of_older_ones_of_the_same_model_and_mode(tmp_path):
    path = tmp_path / "rows.csv"
    old = dict.fromkeys(COLUMNS, "") | {"model": "a", "mode": "eager", "infer_ratio": 1}
    add_rows(path, [old, {**old, "mode": "onnx"}])
    add_rows(path, [{**old, "infer_ratio": 2}, {**old, "model": "b"}])
    with path.open(newline="") as file:
        found = [(row["model"], row["mode"], row["infer_ratio"]) for row in csv.DictReader(file)]
    assert found == [("a", "onnx", "1"), ("a", "eager", "2"), ("b", "eager", "1")]


@pytest.mark.parametrize(
    ("argv", "message"),
    [
        (["no_such_model"], "no_such_model is not a timm model; timm.list_models"),
        (["test_resnet", "--modes", "folded"], "mode folded is for the models of this package, not for test_resnet"),
        (["gst_resnet50", "--modes", "stream"], "gst_resnet50 has no causal form to stream"),
        (["torchvision:r3d_18", "--modes", "stream"], "torchvision:r3d_18 has no causal form to stream"),
        (["torchvision:mvit_v1_b"], "takes 16 frames of 224 x 224 pixels only; asked for 2 of 32 x 32"),
        (["tsn_test_resnet", "--modes", "onnx", "--dtypes", "bfloat16"], "mode onnx is for --device cpu and float32"),
    ],
)
def test_what_cannot_be_measured_is_said(argv, message, capsys):
    assert main(["benchmark", *argv, *SMALL]) == 2
    assert message in capsys.readouterr().err


def test_the_baseline_is_one_of_the_models():
    assert parse_benchmark_options(["a", "b"]).baseline == "a"
    assert parse_benchmark_options(["a", "--baseline", "b"]).models == ["b", "a"]
    with pytest.raises(SystemExit):
        parse_benchmark_options(["a", "--repeats", "0"])
