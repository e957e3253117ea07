"""Logs as their own readers read them back: TensorBoard's event files, and the file of an offline W&B run."""

import io
import json
import struct
import sys
from pathlib import Path

import numpy as np
import pytest
import timm
import torch
from PIL import Image

import timm_video_psn
from tests.engine.runs import stop_at_step, trainer_of
from timm_video_psn.__main__ import train as train_main
from timm_video_psn.engine.signals import Interrupted
from timm_video_psn.engine.train.loggers import EpochLog, InteractionHistory, draw_map
from timm_video_psn.interactions import InteractionMap

OPTIONS = {"model": "psn_test_resnet", "lr": 0.1}
ROWS = [
    {
        "epoch": 1,
        "lr": 0.1,
        "train_loss": 2.0,
        "train_top1": 10.0,
        "val_top1": 20.0,
        "protocol": "4x1x1@32/36 segments logits",
        "grad_norm": 3.0,
        "data_wait": 0.2,
    },
    {"epoch": 2, "lr": 0.05, "train_loss": 1.0, "train_top1": 30.0, "grad_norm": None, "data_wait": 0.1},
    {"epoch": 3, "lr": 0.02, "train_loss": 0.5, "train_top1": 40.0, "grad_norm": 1.0, "data_wait": 0.1},
]


@pytest.fixture(scope="module")
def model():
    return timm.create_model("psn_test_resnet", num_classes=5, proportion=0.5, sites=("layer1", "layer3"))


def events(folder):
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

    found = EventAccumulator(str(folder / "tensorboard"), size_guidance={"images": 0, "scalars": 0})
    found.Reload()
    return found


def scalars(folder, name):
    return [(event.step, pytest.approx(event.value)) for event in events(folder).Scalars(name)]


def test_tensorboards_own_reader_finds_every_number_and_map(tmp_path, model):
    with EpochLog(["tensorboard"], tmp_path, OPTIONS, model) as log:
        for row in ROWS:
            log.epoch(row)
    assert scalars(tmp_path, "train/loss") == [(1, 2.0), (2, 1.0), (3, 0.5)]
    assert scalars(tmp_path, "val/top1") == [(1, 20.0)]
    assert scalars(tmp_path, "run/lr") == [(1, 0.1), (2, 0.05), (3, 0.02)]
    assert scalars(tmp_path, "run/grad_norm") == [(1, 3.0), (3, 1.0)]
    assert scalars(tmp_path, "run/data_wait") == [(1, 0.2), (2, 0.1), (3, 0.1)]
    irregular = timm_video_psn.ir_interactions(model).irregular
    assert scalars(tmp_path, "interactions/irregular") == [(epoch, irregular) for epoch in range(4)]
    found = events(tmp_path)
    for site, each in timm_video_psn.interaction_map(model).items():
        assert scalars(tmp_path, f"interactions/mean_norm_{site}")[0] == (0, each.norms.mean())
        pictures = found.Images(f"interactions/{site}")
        assert [picture.step for picture in pictures] == [0, 1, 2, 3]
        picture = np.asarray(Image.open(io.BytesIO(pictures[0].encoded_image_string)))
        np.testing.assert_array_equal(picture, draw_map(each, site))
    assert (tmp_path / "interactions.npz").is_file()


def test_a_resumed_run_replaces_what_was_logged_after_its_checkpoint(tmp_path, model):
    with EpochLog(["tensorboard"], tmp_path, OPTIONS, model) as log:
        for row in ROWS:
            log.epoch(row)
    with EpochLog(["tensorboard"], tmp_path, OPTIONS, model, 1) as log:
        log.epoch({**ROWS[1], "train_loss": 7.0})
    assert scalars(tmp_path, "train/loss") == [(1, 2.0), (2, 7.0)]
    with np.load(tmp_path / "interactions.npz") as file:
        assert file["epoch"].tolist() == [0, 1, 2]


def records(folder):
    """Every record of an offline run: a LevelDB log, blocks of 32 kB, of protobuf messages."""
    from wandb.proto.wandb_internal_pb2 import Record

    (path,) = folder.glob("wandb/offline-run-*/run-*.wandb")
    data, place, message = path.read_bytes(), 7, b""  # after the file's own header
    while place + 7 <= len(data):
        left = 32768 - place % 32768
        if left < 7:
            place += left
            continue
        _, length, kind = struct.unpack("<IHB", data[place : place + 7])
        message += data[place + 7 : place + 7 + length]
        place += 7 + length
        if kind in (1, 4):  # whole, or the last part
            record = Record()
            record.ParseFromString(message)
            yield record
            message = b""


@pytest.fixture
def offline(monkeypatch, tmp_path):
    pytest.importorskip("wandb")
    settings = {"WANDB_MODE": "offline", "WANDB_SILENT": "true", "WANDB_CONFIG_DIR": str(tmp_path / "config")}
    for name, value in {**settings, "WANDB_CACHE_DIR": str(tmp_path / "cache")}.items():
        monkeypatch.setenv(name, value)
    folder = tmp_path / "run"
    folder.mkdir()
    return folder


def test_an_offline_run_of_wandb_holds_every_number_and_map(offline, model):
    with EpochLog(["wandb"], offline, OPTIONS, model) as log:
        log.epoch(ROWS[0])
    wandb = sys.modules["wandb"]
    wandb.teardown()  # the service that writes the file runs beside us; as at the end of a process
    history, config = [], {}
    for record in records(offline):
        if record.WhichOneof("record_type") == "history":
            items = record.history.item
            history.append({item.key or ".".join(item.nested_key): json.loads(item.value_json) for item in items})
        if record.WhichOneof("record_type") == "run":
            run = record.run
            config = {item.key: json.loads(item.value_json) for item in run.config.update}
    assert [entry["epoch"] for entry in history] == [0, 1]
    assert history[1]["train/loss"] == 2.0
    assert history[1]["run/grad_norm"] == 3.0
    assert history[1]["interactions/irregular"] == timm_video_psn.ir_interactions(model).irregular
    assert any(key.startswith("interactions/layer1") for key in history[0])
    assert list(offline.glob("wandb/offline-run-*/files/media/images/interactions/layer1_*.png"))
    assert (run.run_id, run.display_name) == ((offline / "wandb-id.txt").read_text(), "run")
    assert {key: config[key] for key in OPTIONS} == OPTIONS


def test_a_resumed_run_of_trackio_continues_and_its_database_holds_every_number(monkeypatch, tmp_path, model):
    trackio = pytest.importorskip("trackio")
    places = {"TRACKIO_DIR": tmp_path / "store", "MEDIA_DIR": tmp_path / "media"}  # read when it is imported
    for module in [module for name, module in sys.modules.items() if name.partition(".")[0] == "trackio"]:
        for name in places.keys() & vars(module).keys():
            monkeypatch.setattr(module, name, places[name])
    folder = tmp_path / "run"
    folder.mkdir()
    for finished, row in ((None, ROWS[0]), (1, ROWS[1])):
        with EpochLog(["trackio"], folder, OPTIONS, model, finished) as log:
            log.epoch(row)
    name = (folder / "trackio-name.txt").read_text()
    logs = trackio.sqlite_storage.SQLiteStorage.get_logs("timm_video_psn", name)
    assert [(entry["step"], entry["train/loss"]) for entry in logs if "train/loss" in entry] == [(1, 2.0), (2, 1.0)]
    assert logs[0]["step"] == 0
    assert "interactions/layer1" in logs[0]
    assert name.startswith("run-")
    assert list((tmp_path / "media").rglob("*.png"))


def test_a_resumed_run_of_mlflow_continues_and_its_client_finds_every_number(monkeypatch, tmp_path, model):
    mlflow = pytest.importorskip("mlflow")
    pytest.importorskip("sqlalchemy")
    monkeypatch.setenv("MLFLOW_TRACKING_URI", f"sqlite:///{tmp_path}/mlflow.db")
    monkeypatch.chdir(tmp_path)  # where it puts pictures
    folder = tmp_path / "run"
    folder.mkdir()
    for finished, row in ((None, ROWS[0]), (1, ROWS[1])):
        with EpochLog(["mlflow"], folder, OPTIONS, model, finished) as log:
            log.epoch(row)
    client = mlflow.MlflowClient()
    experiment = client.get_experiment_by_name("timm_video_psn")
    (run,) = client.search_runs([experiment.experiment_id])
    assert (run.info.run_name, run.info.status) == ("run", "FINISHED")
    assert run.data.params == {key: str(value) for key, value in OPTIONS.items()}
    losses = client.get_metric_history(run.info.run_id, "train/loss")
    assert [(entry.step, entry.value) for entry in losses] == [(1, 2.0), (2, 1.0)]
    assert [artifact.path for artifact in client.list_artifacts(run.info.run_id)] == ["images"]


def test_a_map_is_drawn_brightest_where_it_is_largest():
    norms = np.zeros((3, 2), np.float32)
    norms[2, 1] = 5.0
    one = InteractionMap(norms, ("1", "3", "max"), ("1", "3"), np.ones((3, 2), dtype=int))
    picture = draw_map(one, "layer1").astype(int)
    assert picture.ndim == 3
    yellow = (picture[..., 0] > 200) & (picture[..., 1] > 200) & (picture[..., 2] < 100)
    rows, columns = yellow.nonzero()
    assert rows.min() >= picture.shape[0] / 2
    assert columns.min() >= picture.shape[1] / 2


def test_only_the_first_of_several_processes_writes(tmp_path, model, monkeypatch):
    monkeypatch.setenv("RANK", "1")
    monkeypatch.setenv("WORLD_SIZE", "2")
    with EpochLog(["tensorboard"], tmp_path, OPTIONS, model) as log:
        log.epoch(ROWS[0])
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("name", ["tensorboard", "wandb"])
def test_a_package_that_is_missing_is_named_with_its_extra(arguments, tmp_path, monkeypatch, capsys, name):
    monkeypatch.setitem(sys.modules, name, None)
    assert train_main([*arguments, "--log", name]) == 2
    message = capsys.readouterr().err
    assert f"--log {name} needs the package {name}" in message
    assert "pip install 'timm-video-psn[log]'" in message
    assert not (tmp_path / "run").exists()


def test_an_unknown_logger_is_refused(tmp_path, model):
    with pytest.raises(ValueError, match="--log visdom is unknown; use some of tensorboard, wandb"):
        EpochLog(["visdom"], tmp_path, OPTIONS, model)


@pytest.fixture(scope="module")
def logged_run(tiny_motion: Path, tmp_path_factory) -> Path:
    """The folder of one short run that logs, told the epoch's numbers by the training loop itself."""
    output = tmp_path_factory.mktemp("output")
    argv = ["--dataset", "motion", "--data-dir", str(tiny_motion), "--output", str(output), "--experiment", "run"]
    argv += ["--img-size", "32", "--num-frames", "4", "--batch-size", "12", "--epochs", "2", "--workers", "0"]
    assert train_main([*argv, "--log", "tensorboard", "--bias-lr-mult", "2", "--partial-bn"]) == 0
    return output / "run"


def test_a_run_that_goes_on_within_its_first_epoch_keeps_what_was_before_training(arguments, tmp_path):
    argv = [*arguments, "--epochs", "1", "--log", "tensorboard"]
    trainer = trainer_of(argv)
    before = {site: each.norms for site, each in timm_video_psn.interaction_map(trainer.run.model).items()}
    stop_at_step(trainer, 3)
    with pytest.raises(Interrupted):
        trainer.fit()
    trainer_of([*argv, "--resume", "auto"]).fit()
    with np.load(tmp_path / "run" / "interactions.npz", allow_pickle=False) as file:
        assert file["epoch"].tolist() == [0, 1]
        for site, norms in before.items():
            np.testing.assert_array_equal(file[site][0], norms.astype(np.float32))
            assert not np.array_equal(file[site][1], file[site][0])
    site = next(iter(before))
    logged = events(tmp_path / "run").Scalars(f"interactions/mean_norm_{site}")
    assert [event.step for event in logged] == [0, 1]
    assert logged[0].value == pytest.approx(float(before[site].mean()))


def test_a_run_logs_what_its_summary_says(logged_run):
    import csv

    with (logged_run / "summary.csv").open() as file:
        rows = list(csv.DictReader(file))
    for name, column in (("train/loss", "train_loss"), ("run/grad_norm", "grad_norm"), ("run/lr", "lr")):
        expected = [(int(row["epoch"]), pytest.approx(float(row[column]), rel=1e-5)) for row in rows]
        assert [(event.step, event.value) for event in events(logged_run).Scalars(name)] == expected
    assert all(float(row["grad_norm"]) > 0 for row in rows)
    (options,) = events(logged_run).Tensors("options/text_summary")
    assert f"protocol: {rows[1]['protocol']}\n".encode() in options.tensor_proto.string_val[0] + b"\n"


def test_the_last_map_of_a_run_is_that_of_its_best_model(logged_run):
    model = timm.create_model(f"local-dir:{logged_run / 'best'}", pretrained=True)
    with np.load(logged_run / "interactions.npz", allow_pickle=False) as file:
        assert file["epoch"].tolist() == [0, 1, 2]
        for site, each in timm_video_psn.interaction_map(model).items():
            np.testing.assert_allclose(file[site][-1], each.norms, rtol=1e-6)
            assert not np.allclose(file[site][0], each.norms)


def psn():
    return timm.create_model("psn_test_resnet", num_classes=5, proportion=0.5)


def add(history, epoch, model):
    history.add(epoch, timm_video_psn.interaction_map(model), timm_video_psn.ir_interactions(model))


def read(path):
    with np.load(path, allow_pickle=False) as file:
        return dict(file)


def test_the_file_holds_the_maps_of_every_epoch_with_their_labels(tmp_path):
    model, path = psn(), tmp_path / "interactions.npz"
    history = InteractionHistory(path)
    expected = {site: [] for site in timm_video_psn.interaction_map(model)}
    for epoch in range(3):
        add(history, epoch, model)
        for site, each in timm_video_psn.interaction_map(model).items():
            expected[site].append(each.norms)
        with torch.no_grad():
            for parameter in model.parameters():
                parameter += torch.randn_like(parameter)
    found = read(path)
    assert [path.name for path in tmp_path.iterdir()] == ["interactions.npz"]
    assert found["epoch"].tolist() == [0, 1, 2]
    assert found["sites"].tolist() == list(expected) == ["stem", "layer1", "layer2", "layer3"]
    for site, each in timm_video_psn.interaction_map(model).items():
        np.testing.assert_array_equal(found[site], np.stack(expected[site]))
        assert found[site].shape == (3, len(each.temporal_labels), len(each.spatial_labels))
        assert tuple(found[f"{site}/temporal_labels"]) == each.temporal_labels
        assert tuple(found[f"{site}/spatial_labels"]) == each.spatial_labels
    assert set(zip(found["irregular"], found["total"], strict=True)) == {timm_video_psn.ir_interactions(model)}


def test_a_resumed_run_goes_on_where_its_checkpoint_is(tmp_path):
    model, path = psn(), tmp_path / "interactions.npz"
    history = InteractionHistory(path)
    for epoch in range(4):  # killed after the third epoch was logged, before its checkpoint was written
        add(history, epoch, model)
    resumed = InteractionHistory(path, finished=2)
    add(resumed, 3, model)
    add(resumed, 3, model)
    whole = read(path)
    assert whole["epoch"].tolist() == [0, 1, 2, 3]
    assert len(whole["layer1"]) == len(whole["irregular"]) == 4
    add(InteractionHistory(path), 0, model)  # begun again from the start
    assert read(path)["epoch"].tolist() == [0]


def test_a_model_without_synthesizers_leaves_no_file(tmp_path):
    add(InteractionHistory(tmp_path / "interactions.npz"), 0, timm.create_model("tsn_test_resnet"))
    assert list(tmp_path.iterdir()) == []
