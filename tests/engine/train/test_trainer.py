"""Training end to end, on real encoded video, in this process."""

import csv
import math
import re
from pathlib import Path

import numpy as np
import pytest
import timm
import torch

from tests.engine.runs import assert_same_state, rows, settled, stop_at_step, trainer_of
from timm_video_psn.__main__ import predict as predict_main
from timm_video_psn.__main__ import train as train_main
from timm_video_psn.command_line.train import parse_options
from timm_video_psn.data import create_loader, read_index
from timm_video_psn.data.video.write_video import write_video
from timm_video_psn.engine.checkpoint import load_checkpoint
from timm_video_psn.engine.signals import Interrupted
from timm_video_psn.engine.train.meters import DataTimer
from timm_video_psn.engine.train.model import create_model
from timm_video_psn.models.create import check_model_name


def test_a_run_leaves_everything_that_is_promised(arguments, tmp_path, capsys):
    assert train_main([*arguments, "--model-ema"]) == 0
    folder = tmp_path / "run"
    assert sorted(path.name for path in folder.iterdir()) == [
        "args.yaml",
        "best",
        "curves.png",
        "interactions.npz",
        "last.pt",
        "summary.csv",
    ]
    table = rows(folder)
    assert [row["epoch"] for row in table] == ["1", "2"]
    assert {"grad_norm", "train_ce", "train_interaction", "train_capacity", "val_top1", "val_pair_top1"} <= set(
        table[0]
    )
    assert table[0]["val_videos"] == ""  # the recipe validates every second epoch
    assert table[1]["val_videos"] == table[1]["val_expected"] == "12"
    assert [row["protocol"] for row in table] == ["", "4x1x1@32/36 segments logits"]
    out = capsys.readouterr().out
    assert "recipe timm_video_psn/recipes/motion.yaml" in out
    assert "interaction -" in out
    assert "(12 of 12 videos, 4x1x1@32/36 segments logits)" in out
    assert "not validated" in out
    assert "\ndevice    cpu, float32\n" in out


def test_the_shares_of_the_losses_in_the_gradient_of_t_are_written_each_epoch(arguments, tmp_path):
    assert train_main([*arguments, "--interaction-norm", "relative"]) == 0
    names = [f"grad_share_{name}" for name in ("ce", "interaction", "capacity")]
    for row in rows(tmp_path / "run"):
        shares = [float(row[name]) for name in names]
        assert sum(shares) == pytest.approx(1, abs=1e-5)
        assert shares[1] > 0
    assert train_main([*arguments, "--alpha", "0", "--beta", "0", "--experiment", "plain"]) == 0
    assert names[0] not in rows(tmp_path / "plain")[0]


def test_the_best_folder_is_the_trained_model_with_everything_it_needs(arguments, tmp_path, tiny_motion):
    trainer = trainer_of([*arguments, "--epochs", "1"])
    trainer.fit()
    model = timm.create_model(f"local-dir:{tmp_path / 'run' / 'best'}", pretrained=True)
    assert_same_state(dict(trainer.run.model.state_dict()), dict(model.state_dict()))
    assert model.num_frames == 4
    cfg = model.pretrained_cfg
    assert tuple(cfg["label_names"]) == read_index("motion", tiny_motion, "train").class_names
    assert (tuple(cfg["input_size"]), cfg["crop_pct"]) == ((3, 32, 32), pytest.approx(8 / 9))


def test_a_second_run_trains_around_the_synthesizers_of_the_first(arguments, tmp_path):
    first = trainer_of([*arguments, "--epochs", "1"])
    first.fit()
    weights = str(tmp_path / "run" / "best" / "model.safetensors")
    second = [*arguments, "--experiment", "second", "--freeze-synthesizers", "--initial-checkpoint", weights]
    trainer_of([*second, "--epochs", "1"]).fit()
    resumed = trainer_of([*second, "--epochs", "2", "--resume", "auto"])
    rows = resumed.fit()
    assert [row["epoch"] for row in rows][-1] == 2
    before, after = first.run.model.state_dict(), resumed.run.model.state_dict()
    kept = {name for name in before if torch.equal(before[name], after[name])}
    assert {name for name in before if ".temporal." in name} <= kept
    assert not {name for name in before if "conv1.weight" in name and ".temporal." not in name} & kept
    with pytest.raises(ValueError, match="--freeze-synthesizers keeps synthesizers as they are, and without trained"):
        trainer_of([*arguments, "--experiment", "third", "--freeze-synthesizers"])


def test_every_nth_epoch_is_validated_and_the_last(arguments, tmp_path):
    rows = trainer_of([*arguments, "--epochs", "3", "--val-interval", "2"]).fit()
    assert [row["epoch"] for row in rows if "val_top1" in row] == [2, 3]
    assert (tmp_path / "run" / "best" / "model.safetensors").exists()


@pytest.mark.parametrize("accumulate", [1, 2])
def test_a_run_that_was_stopped_anywhere_ends_with_the_same_bits(arguments, tmp_path, accumulate):
    def options(name, *more):
        argv = [*arguments, "--experiment", name, "--grad-accum-steps", str(accumulate), "--model-ema", "--drop", "0.2"]
        argv += ["--crop", "resized", "--scale", "0.3", "1", "--aa", "rand-m9-mstd0.5-inc1", "--color-jitter", "0.4"]
        argv += ["--mixup", "0.8", "--cutmix", "1.0", "--mixup-prob", "0.8"]
        return [*argv, *more]

    trainer_of(options("whole")).fit()
    for stop_after in (2, 6, 8):  # within an epoch, between two, within the second
        name = f"stopped{stop_after}"
        trainer = trainer_of(options(name))
        stop_at_step(trainer, stop_after)
        with pytest.raises(Interrupted, match="--resume auto resumes"):
            trainer.fit()
        trainer_of(options(name, "--resume", "auto", "--workers", "1")).fit()
        whole, stopped = (load_checkpoint(tmp_path / run / "last.pt") for run in ("whole", name))
        for key in ("model", "ema", "optimizer", "processes", "history", "epoch", "step"):
            assert_same_state(whole[key], stopped[key], key)
        assert rows(tmp_path / "whole") == rows(tmp_path / name)


def test_the_same_seed_gives_the_same_bits_with_any_number_of_workers(arguments, tmp_path):
    for workers in ("0", "2"):
        trainer_of([*arguments, "--experiment", workers, "--epochs", "1", "--workers", workers]).fit()
    a, b = (load_checkpoint(tmp_path / workers / "last.pt")["model"] for workers in ("0", "2"))
    assert_same_state(a, b)


def test_accumulating_gradients_sums_what_one_batch_gives(arguments, tmp_path):
    """Frozen norms and no dropout: two steps of 3 clips are one of 6, up to rounding."""
    models = []
    for batch, steps in (("6", "1"), ("3", "2")):
        argv = [*arguments, "--experiment", batch, "--batch-size", batch, "--grad-accum-steps", steps, "--lr", "1e-3"]
        trainer = trainer_of([*argv, "--model", "tsn_test_resnet", "--opt", "sgd", "--epochs", "1"])
        trainer.run.task.train = lambda trainer=trainer: trainer.run.model.eval()
        trainer.finish_epoch = lambda *args, trainer=trainer: setattr(trainer, "epoch", 1)
        trainer.warn_of_waiting = lambda: None
        trainer.fit()
        models.append(trainer.run.model.state_dict())
    for name, tensor in models[0].items():
        torch.testing.assert_close(tensor, models[1][name], rtol=1e-3, atol=1e-5, msg=name)


def test_an_output_folder_with_another_run_is_not_touched(arguments, tmp_path, capsys):
    (tmp_path / "run").mkdir()
    (tmp_path / "run" / "args.yaml").write_text("lr: 1\n")
    assert train_main(arguments) == 2
    assert "holds another run (args.yaml); --resume auto starts it again" in capsys.readouterr().err
    assert (tmp_path / "run" / "args.yaml").read_text() == "lr: 1\n"


def test_a_resume_with_other_settings_or_classes_is_refused(arguments, tmp_path, tiny_motion, capsys):
    assert train_main([*arguments, "--epochs", "1"]) == 0
    assert train_main([*arguments, "--epochs", "3", "--lr", "0.5", "--resume", "auto"]) == 2
    error = capsys.readouterr().err
    assert "epochs" not in error  # a run may be made longer
    assert "lr: 0.01 in the checkpoint, 0.5 now" in error
    assert train_main([*arguments, "--epochs", "1", "--resume", "auto", "--model", "psn_resnet18"]) == 2
    assert "model: 'psn_test_resnet' in the checkpoint" in capsys.readouterr().err


def test_a_failed_start_leaves_no_folder_behind(arguments, tmp_path, capsys):
    assert train_main([*arguments, "--model", "psn_resnet5"]) == 2
    assert "model 'psn_resnet5' is unknown; nearest video models: psn_resnet50" in capsys.readouterr().err
    assert train_main([*arguments, "--model-kwargs", "proportoin=0.5"]) == 2
    assert "did you mean 'proportion'?" in capsys.readouterr().err
    assert train_main([*arguments, "--num-classes", "5"]) == 2
    assert "--num-classes 5 asked for, but data set 'motion' has 12" in capsys.readouterr().err
    assert train_main([*arguments, "--dataset", "motoin"]) == 2
    assert "motion" in capsys.readouterr().err
    assert train_main([*arguments, "--model-kwargs", "num_frames=16"]) == 2
    assert "num_frames (--num-frames), which is set elsewhere" in capsys.readouterr().err
    assert train_main([*arguments, "--model", "video_net", "--model-kwargs", "backbone=resnet5O"]) == 2
    assert "backbone 'resnet5O' is unknown to timm" in capsys.readouterr().err
    assert train_main([*arguments, "--device", "gpu"]) == 2
    assert "device 'gpu' cannot be used here" in capsys.readouterr().err
    assert train_main([*arguments, "--amp"]) == 2
    assert "--amp-dtype bfloat16" in capsys.readouterr().err
    assert train_main([*arguments, "--aa", "rand-x3"]) == 2
    assert "policy='rand-x3' is unknown to timm" in capsys.readouterr().err
    assert train_main([*arguments, "--cutmix-minmax", "0.5", "0.2"]) == 2
    assert "cutmix_minmax=(0.5, 0.2) leaves no box" in capsys.readouterr().err
    assert train_main([*arguments, "--ratio", "1", "2"]) == 2
    assert "need crop='resized'" in capsys.readouterr().err
    assert list(tmp_path.iterdir()) == []


def test_a_resume_with_other_videos_is_refused(two_classes, tmp_path, capsys):
    assert train_main(folder_arguments(two_classes, tmp_path / "out")) == 0
    (two_classes / "dark" / "0.mp4").rename(two_classes / "dark" / "zero.mp4")
    assert train_main(folder_arguments(two_classes, tmp_path / "out", "--resume", "auto")) == 2
    assert "the data set has other videos than when the run began" in capsys.readouterr().err
    (two_classes / "dark").rename(two_classes / "dim")
    assert train_main(folder_arguments(two_classes, tmp_path / "out", "--resume", "auto")) == 2
    assert "not in both: dark, dim" in capsys.readouterr().err


def test_videos_shorter_than_a_clip_are_told_of(two_classes, tmp_path, caplog):
    assert train_main(folder_arguments(two_classes, tmp_path / "out", "--num-frames", "8")) == 0
    messages = [record.message for record in caplog.records]
    assert sum("has only 6 frames for a clip of 8" in message for message in messages) == 1
    assert sum("20 of 20 validation videos have fewer frames than a clip of 8" in message for message in messages) == 1


def test_an_image_model_of_timm_is_pointed_to_its_video_form():
    with pytest.raises(ValueError, match=r"--model psn_resnet50$"):
        check_model_name("resnet50")
    with pytest.raises(ValueError, match=r"--model video_net --model-kwargs backbone=convnext_tiny temporal=psn$"):
        check_model_name("convnext_tiny")
    check_model_name("psn_resnet50")
    check_model_name("video_net")


def test_a_loss_that_is_not_finite_stops_the_run(arguments, capsys):
    argv = [*arguments, "--lr", "1e30", "--opt", "sgd", "--warmup-epochs", "0", "--clip-grad", "0"]
    assert train_main(argv) == 2
    assert "is not finite" in capsys.readouterr().err


@pytest.fixture
def two_classes(tmp_path: Path) -> Path:
    """A folder data set: ten bright videos, ten dark ones, no split."""
    folder = tmp_path / "videos"
    for name, level in (("bright", 220), ("dark", 30)):
        (folder / name).mkdir(parents=True)
        for number in range(10):
            write_video(folder / name / f"{number}.mp4", np.full((6, 32, 32, 3), level + number, np.uint8))
    return folder


def folder_arguments(data: Path, output: Path, *more: str) -> list[str]:
    argv = ["--dataset", "folder", "--data-dir", str(data), "--output", str(output), "--experiment", "run"]
    argv += [
        "--model",
        "tsn_test_resnet",
        "--img-size",
        "32",
        "--num-frames",
        "2",
        "--batch-size",
        "5",
        "--epochs",
        "1",
    ]
    return [*argv, "--workers", "0", "--sched", "none", "--lr", "0.01", *more]


def test_an_unreadable_training_video_is_named_and_counted_and_too_many_end_the_run(
    two_classes, tmp_path, capsys, caplog
):
    (two_classes / "dark" / "3.mp4").write_bytes(b"")
    assert train_main(folder_arguments(two_classes, tmp_path / "out", "--max-unreadable", "0.2")) == 0
    table = rows(tmp_path / "out" / "run")
    assert (table[0]["train_unreadable"], table[0]["val_videos"], table[0]["val_expected"]) == ("1", "19", "20")
    named = [record.message.partition(":")[0] for record in caplog.records if "3.mp4" in record.message]
    assert named == ["skipped", "not evaluated"]
    with (tmp_path / "out" / "run" / "skipped.csv").open() as file:
        listed = [(Path(row["path"]).exists(), row["epoch"], row["split"]) for row in csv.DictReader(file)]
    assert listed == [(True, "1", "train"), (True, "1", "val")]
    said = capsys.readouterr()
    assert "measured on the training videos themselves" in said.out + said.err
    assert ", on the training videos" in said.out
    for number in range(4, 8):
        (two_classes / "dark" / f"{number}.mp4").write_text("no video")
    assert train_main(folder_arguments(two_classes, tmp_path / "more")) == 2
    error = capsys.readouterr().err
    assert "more than --max-unreadable 0.1 allows" in error
    assert "Repair or remove them" in error


@pytest.mark.parametrize(
    ("spoil", "message"),
    [
        (lambda folder: None, "nowhere"),
        (lambda folder: folder.mkdir(), "neither class folders nor videos"),
        (lambda folder: (folder / "empty").mkdir(parents=True), "have no video: empty"),
    ],
)
def test_a_data_folder_that_is_none_is_said_plainly(tmp_path, capsys, spoil, message):
    folder = tmp_path / "nowhere"
    spoil(folder)
    assert train_main(folder_arguments(folder, tmp_path / "out")) == 2
    assert message in capsys.readouterr().err


def test_predict_names_a_video_and_refuses_what_it_cannot_read(two_classes, tmp_path, capsys):
    argv = folder_arguments(two_classes, tmp_path / "out", "--epochs", "12", "--opt", "adamw", "--hflip", "0")
    assert train_main(argv) == 0
    best = str(tmp_path / "out" / "run" / "best")
    capsys.readouterr()
    assert predict_main([str(two_classes / "bright" / "2.mp4"), "--model", best, "--json"]) == 0
    import json

    answer = json.loads(capsys.readouterr().out)
    assert [item["label"] for item in answer["top"]] == ["bright", "dark"]
    assert math.isclose(sum(item["probability"] for item in answer["top"]), 1, rel_tol=1e-5)
    assert predict_main([str(two_classes / "dark" / "2.mp4"), "--model", best]) == 0
    assert capsys.readouterr().out.splitlines()[0].endswith("dark")

    (tmp_path / "empty.mp4").write_bytes(b"")
    assert predict_main([str(tmp_path / "empty.mp4"), "--model", best]) == 2
    assert "cannot decode" in capsys.readouterr().err
    assert predict_main([str(tmp_path / "empty.mp4"), "--model", str(tmp_path)]) == 2
    assert "is not a model folder: it has no config.json" in capsys.readouterr().err


def test_a_model_folder_whose_files_do_not_fit_is_refused(arguments, tmp_path, tiny_motion, capsys):
    assert train_main([*arguments, "--epochs", "1"]) == 0
    best = tmp_path / "run" / "best"
    video = next((tiny_motion / "val").rglob("*.mp4"))
    text = (best / "config.json").read_text()
    (best / "config.json").write_text(text.replace('"psn_test_resnet"', '"psn_resnet18"'))
    assert predict_main([str(video), "--model", str(best)]) == 2
    assert "the weights do not fit" in capsys.readouterr().err
    (best / "config.json").write_text(text.replace('"psn_test_resnet"', '"psn_test_resnt"'))
    assert predict_main([str(video), "--model", str(best)]) == 2
    assert "model 'psn_test_resnt' is unknown" in capsys.readouterr().err


def test_evaluation_in_training_equals_evaluation_of_the_exported_model(arguments, tmp_path, tiny_motion):
    from timm_video_psn.data import EvalTransform, VideoDataset
    from timm_video_psn.engine.evaluate.evaluate import evaluate
    from timm_video_psn.engine.precision import Precision

    history = trainer_of([*arguments, "--epochs", "1"]).fit()
    model = timm.create_model(f"local-dir:{tmp_path / 'run' / 'best'}", pretrained=True)
    cfg = model.pretrained_cfg
    index = read_index("motion", tiny_motion, "val")
    transform = EvalTransform(cfg["input_size"][-1], cfg["crop_pct"], cfg["interpolation"])
    loader = create_loader(VideoDataset(index, model.num_frames, transform, training=False), 5, False, workers=0)
    result = evaluate(model, loader, Precision(torch.device("cpu"), cfg["mean"], cfg["std"]), len(index))
    assert result.top1 == pytest.approx(history[0]["val_top1"], abs=1e-3)
    assert result.loss == pytest.approx(history[0]["val_loss"], rel=1e-4)


@pytest.mark.parametrize(("more", "num_frames"), [([], 16), (["--num-frames", "4"], 4)])
def test_the_frames_of_a_clip_are_the_models_own_unless_asked_otherwise(more, num_frames):
    options = settled("--model", "psn_resnet18_diving48", *more)
    assert create_model(options, 48).num_frames == options.num_frames == num_frames


def test_what_an_epoch_leaves_out_and_where_the_weights_come_from_is_said(arguments, capsys):
    assert train_main([*arguments, "--epochs", "1", "--batch-size", "7"]) == 0
    out = capsys.readouterr().out
    assert "each epoch leaves out 1 training videos" in out  # 36 of them, in batches of 7
    assert "random weights" in out
    assert train_main([*arguments, "--epochs", "1", "--batch-size", "7", "--resume", "auto"]) == 0
    assert "all 1 epochs are trained already" in capsys.readouterr().out


@pytest.mark.parametrize(
    ("more", "text"),
    [
        (["--opt", "sdg"], "--opt sdg is no optimizer of timm .*nearest: sgd"),
        (["--opt", "sgd", "--opt-kwargs", "nestrov=True"], "do not fit --opt sgd: .*nestrov"),
        (["--model-kwargs", "dilated=no"], "dilated='no' must be True or False"),
        (["--model-kwargs", "receptive_field=5"], "receptive_field=5 must be whole numbers"),
    ],
)
def test_settings_that_make_no_sense_are_named_on_the_command_line(arguments, capsys, more, text):
    assert train_main([*arguments, *more]) == 2
    assert re.search(text, capsys.readouterr().err)


def test_a_runs_own_options_are_a_recipe(arguments, tmp_path):
    assert train_main([*arguments, "--epochs", "1", "--model-kwargs", "proportion=1.0"]) == 0
    assert train_main([*arguments, "--epochs", "1", "--model-kwargs", "proportion=1.0", "--resume", "auto"]) == 0
    again = parse_options(["--config", str(tmp_path / "run" / "args.yaml"), "--experiment", "again"])
    assert (again.epochs, again.model_kwargs["proportion"], again.experiment) == (1, 1.0, "again")
    assert again.resume is None


def test_what_best_holds_can_be_read_by_others(arguments, tmp_path):
    assert train_main([*arguments, "--epochs", "1"]) == 0
    best = tmp_path / "run" / "best"
    assert {oct(path.stat().st_mode & 0o777) for path in best.iterdir()} == {oct(best.stat().st_mode & 0o666)}


def test_a_wait_for_data_is_told_once_and_not_of_what_is_left_after_a_resume(arguments, monkeypatch, caplog):
    monkeypatch.setattr(DataTimer, "share", 0.4)
    argv = [*arguments, "--resume", "auto"]
    stopped = trainer_of(argv)
    stop_at_step(stopped, 2)
    with pytest.raises(Interrupted):
        stopped.fit()
    trainer = trainer_of(argv)
    told = [caplog.text.count("40% of the epoch was spent waiting for data")]
    stop_if_asked = trainer.stop_if_asked

    def stop_if_asked_and_count(stop):
        stop_if_asked(stop)
        if trainer.step == 0:
            told.append(caplog.text.count("40% of the epoch was spent waiting for data"))

    monkeypatch.setattr(trainer, "stop_if_asked", stop_if_asked_and_count)
    trainer.fit()
    assert told == [0, 0, 1]
