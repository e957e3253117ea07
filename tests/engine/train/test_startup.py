"""What a run says before it begins."""

import shutil
from itertools import product

import pytest

from tests.engine.runs import trainer_of
from timm_video_psn.__main__ import train as train_main
from timm_video_psn.data import read_index
from timm_video_psn.engine.train.startup import introduce


def test_what_makes_the_accuracy_mean_less_is_told_before_the_run_begins(
    tiny_motion, arguments, tmp_path, caplog, capsys
):
    index = read_index("motion", tiny_motion, "val")
    lines = [f"{path} {label}\n" for path, label in zip(index.paths, index.labels, strict=True)]
    (tmp_path / "train.txt").write_text("".join(lines[:8] + lines[9:]))
    (tmp_path / "val.txt").write_text("".join(lines[7:]))
    lists = [f"--{split}-list={tmp_path / split}.txt" for split in ("train", "val")]
    more = ["--dataset", "list", "--data-dir", str(index.root), *lists, "--epochs", "1", "--model-ema"]
    assert train_main([*arguments, *more, "--model", "psn_test_resnet"]) == 0
    said = " ".join(caplog.messages)
    assert f"4 of 5 validation videos are training videos, too ({index.paths[7]} and 3 more)" in said
    assert "are still 100 % initial weights after the 1 updates of this run; --model-ema-decay" in said
    assert "1 classes have no video to train: 08" in said


@pytest.fixture
def warnings_for(tiny_motion, tmp_path, caplog):
    """What a run warns of that has these numbers of videos in its classes."""
    videos = sorted(tiny_motion.rglob("*.mp4"))

    def warnings(counts, *more, above="", splits=("train", "val")):
        data = tmp_path / f"{above}videos"
        for split, (name, count) in product(splits, counts.items()):
            (data / split / name).mkdir(parents=True)
            for number in range(1 if split == "val" else count):
                shutil.copy(videos[number % len(videos)], data / split / name / f"{number}.mp4")
        argv = ["--data-dir", str(data), "--model", "psn_test_resnet", "--img-size", "32", "--num-frames", "2"]
        trainer = trainer_of([*argv, "--output", str(tmp_path), "--workers", "0", *more])
        caplog.clear()
        introduce(trainer.run, 0, 0)
        return [record.getMessage() for record in caplog.records if record.levelname == "WARNING"]

    return warnings


def test_few_videos_and_few_updates_are_told(warnings_for):
    few, updates = warnings_for({"jump": 12, "run": 3})
    assert few.startswith("1 of 2 classes have fewer than 10 training videos: run;")
    assert updates == (
        "an epoch has 1 update of the weights for 15 training videos, and a batch of 64 clips is larger than the data "
        "set; --batch-size 3 makes 5"
    )


def test_enough_videos_are_not_warned_of(warnings_for):
    assert warnings_for({"jump": 10, "run": 10}, "--batch-size", "4") == []


def test_no_validation_split_is_told(warnings_for):
    (said,) = warnings_for({"jump": 10, "run": 10}, "--batch-size", "4", splits=("",))
    assert "the accuracy is measured on the training videos themselves" in said


def test_one_class_looks_like_a_folder_too_high(warnings_for, tmp_path):
    (said,) = warnings_for({"all/jump": 4, "all/run": 4})
    assert said.startswith(f"there is one class, 'all': nothing can be learned. --data-dir {tmp_path / 'videos'} may")


def test_bfloat16_without_units_for_it_is_told(warnings_for, tmp_path, monkeypatch):
    counts, amp = {"jump": 10, "run": 10}, ("--batch-size", "4", "--amp", "--amp-dtype", "bfloat16")
    cpu = tmp_path / "cpuinfo"
    monkeypatch.setattr("timm_video_psn.engine.precision._CPUINFO", cpu)
    cpu.write_text("flags : fpu avx512f avx512_bf16\n")
    assert warnings_for(counts, *amp, above="a") == []
    cpu.write_text("flags : fpu avx2\n")
    (said,) = warnings_for(counts, *amp, above="b")
    assert "no units for bfloat16" in said


def test_options_without_effect_are_told(warnings_for, caplog):
    counts, usual = {"jump": 10, "run": 10}, ("--batch-size", "4")
    with caplog.at_level("INFO"):
        (warning,) = warnings_for(counts, *usual, "--kd-alpha", "0.7", "--torchcompile")
    assert warning.startswith("--kd-alpha and --kd-temperature have no effect without a teacher")
    assert sum("grad_share_*) are not measured" in message for message in caplog.messages) == 1
