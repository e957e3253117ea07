"""The commands on a tiny model, as a user calls them; each file that is named is there."""

import os
import shutil
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import yaml

from tests.insights.tiny_runs import CLASSES, export
from timm_video_psn.__main__ import insights as main
from timm_video_psn.engine.evaluate.scores import Scores, save_scores
from timm_video_psn.engine.load_model import load
from timm_video_psn.engine.model_source import short_name
from timm_video_psn.engine.run_index import read_run_index
from timm_video_psn.insights import commands

CLIPS = Path(__file__).parents[3] / "shared" / "clips"


def run(capsys, *arguments) -> list[Path]:
    """The files that a command says it has written."""
    assert main([str(argument) for argument in arguments]) == 0
    lines = capsys.readouterr().out.splitlines()
    if lines[0].startswith("device "):
        assert lines.pop(0) == "device cpu, float32"
    files = [Path(line.partition(": ")[0]) for line in lines]
    assert files
    assert all(file.stat().st_size > 0 for file in files)
    assert all(len(line.partition(": ")[2]) > 10 for line in lines)  # a sentence each
    return files


def names(files: list[Path]) -> list[str]:
    return [file.name for file in files]


def test_interactions_of_two_runs_and_the_epochs_of_one(model_folder, tmp_path, capsys):
    other = export(tmp_path / "other" / "best", seed=1, num_frames=4, proportion=0.5)
    np.savez(tmp_path / "other" / "interactions.npz", epoch=np.arange(2), layer1=np.ones((2, 5, 4)))
    files = run(capsys, "interactions", model_folder.parent, other, "--output", tmp_path / "out")
    assert names(files) == [
        "interactions.png",
        "interactions_per_element.png",
        "interactions.csv",
        "ir_interactions.csv",
        "interactions_other.gif",
    ]
    table = (tmp_path / "out" / "interactions.csv").read_text()
    assert "tiny,stem,T-C-3,S-C-3," in table
    assert "other,layer3,T-I-1,S-I-1," in table


@pytest.mark.parametrize("source", [".", "local-dir:../best", "local-dir:."])
def test_a_run_is_called_by_its_name_from_wherever_it_is_seen(source, model_folder, monkeypatch):
    monkeypatch.chdir(model_folder)
    assert short_name(source) == "tiny"
    assert short_name("hf-hub:user/name") == "name"


def test_shapes(model_folder, video, tmp_path, capsys):
    assert names(run(capsys, "shapes", model_folder, "--output", tmp_path)) == ["shapes.png", "shapes.csv"]
    noise = (tmp_path / "shapes.csv").read_text()
    run(capsys, "shapes", model_folder, "--video", video, "--output", tmp_path)
    assert (tmp_path / "shapes.csv").read_text().splitlines()[0] == noise.splitlines()[0]


def test_cam_and_evolution_of_a_model_without_synthesizers(other_folder, video, tmp_path, capsys):
    files = run(capsys, "cam", other_folder, video, "--label", CLASSES[2], "--layer", "layer2", "--output", tmp_path)
    assert names(files) == ["cam_moving_square.png", "cam_moving_square.mp4"]
    files = run(capsys, "evolution", other_folder, video, "--steps", 3, "--output", tmp_path)
    assert names(files) == ["evolution_moving_square.png", "evolution_moving_square.mp4"]


@pytest.mark.skipif(not CLIPS.is_dir(), reason=f"the four real clips are not beside the repository ({CLIPS.name}/)")
def test_cam_and_evolution_of_real_clips(model_folder, tmp_path, capsys):
    clips = sorted(path for path in CLIPS.iterdir() if path.suffix in (".mp4", ".avi"))
    assert len(clips) == 4
    for clip in clips:
        run(capsys, "cam", model_folder, clip, "--output", tmp_path)
        run(capsys, "evolution", model_folder, clip, "--steps", 2, "--output", tmp_path)
    assert len(list(tmp_path.iterdir())) == 16


def test_embedding_of_two_models(model_folder, other_folder, class_folders, tmp_path, capsys):
    arguments = ("--dataset", "folder", "--data-dir", class_folders, "--limit", 6, "--output", tmp_path)
    files = run(capsys, "embedding", model_folder, other_folder, *arguments)
    assert names(files) == ["embedding.png", "embedding.html"]
    assert "plain: 6 videos" in files[1].read_text()


def test_a_run_knows_its_videos(model_folder, class_folders, tmp_path, capsys):
    run_folder = shutil.copytree(model_folder.parent, tmp_path / "run")
    shutil.copytree(run_folder / "best", run_folder / "best-epochs" / "epoch-0001")
    for label, name in enumerate(CLASSES):
        shutil.copytree(class_folders / name, tmp_path / "flat" / name)
        with (tmp_path / "val.txt").open("a") as file:
            file.writelines(f"{name.replace(' & ', '_')}/{number}.mp4 {label}\n" for number in (0, 2))
    (tmp_path / "flat" / "spin & turn").rename(tmp_path / "flat" / "spin_turn")
    (tmp_path / "classes.txt").write_text("\n".join(CLASSES))
    lists = {split: tmp_path / "lists" / f"my_{split}.txt" for split in ("train", "val")}
    lists["train"].parent.mkdir()
    for split, known in (("train", CLASSES), ("val", CLASSES[:2])):  # that of training alone names all classes
        lines = [f"{name}/{number}.mp4 {label}\n" for label, name in enumerate(known) for number in range(3)]
        lists[split].write_text("".join(lines))
    for options in (
        {"dataset": "folder", "data_dir": str(class_folders)},
        {
            "dataset": "list",
            "data_dir": str(class_folders),
            **{f"{split}_list": str(path) for split, path in lists.items()},
        },
        {"dataset": "list", "data_dir": str(tmp_path / "flat"), "val_list": str(tmp_path / "val.txt")},
    ):
        (run_folder / "args.yaml").write_text(yaml.safe_dump(options))
        for source in (run_folder, run_folder / "best", run_folder / "best-epochs" / "epoch-0001"):
            dataset, index = read_run_index(load(source))
            assert dataset == options["dataset"]
            assert len(index) == {"folder": 9, "list": 6}[dataset]
    files = run(capsys, "embedding", run_folder, "--output", tmp_path / "out")
    assert "run: 6 videos" in files[1].read_text()
    with pytest.raises(FileNotFoundError, match=r"data_dir=.*other is not a folder"):  # what is given goes before
        read_run_index(load(run_folder), "folder", tmp_path / "other")
    (run_folder / "args.yaml").write_text("dataset: [")
    assert main(["embedding", str(run_folder)]) == 2
    error = capsys.readouterr().err
    assert "args.yaml is damaged" in error
    assert len(error.splitlines()) == 1


@pytest.mark.parametrize(
    ("command", "flag"), [("embedding", "--limit"), ("evolution", "--steps"), ("gains", "--count")]
)
def test_numbers_are_counted_from_one(command, flag, capsys):
    with pytest.raises(SystemExit):
        main([command, "a", "b", flag, "0"])
    assert "invalid positive_integer value: '0'" in capsys.readouterr().err


def test_an_interrupt_is_no_traceback(model_folder, monkeypatch, capsys):
    def interrupted(path):
        raise KeyboardInterrupt

    monkeypatch.setattr(commands, "load_scores", interrupted)
    assert main(["gains", "a.npz", "b.npz"]) == 130
    assert capsys.readouterr().err == "timm-video-psn insights: interrupted\n"


def test_gains_of_files_that_a_test_wrote_are_told_apart_by_their_folders(tmp_path, capsys):
    places = [tmp_path / name / "4x1x1@32" / "scores.npz" for name in ("before", "after")]
    for seed, path in enumerate(places):
        path.parent.mkdir(parents=True)
        values = np.random.default_rng(seed).random((30, 3), dtype=np.float32)
        videos = tuple(map(str, range(30)))
        save_scores(path, Scores(values, np.arange(30) % 3, videos, CLASSES, "4x1x1@32", "logits", 30))
    files = run(capsys, "gains", *places, "--output", tmp_path / "out")
    assert names(files) == ["gains.png", "gains.csv"]
    assert commands._apart(*places) == ("before", "after")
    assert commands._apart(places[0], places[0].with_name("other.npz")) == ("scores.npz", "other.npz")


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["interactions", "PLAIN"], "VideoNet has no synthesizer"),
        (["shapes", "PLAIN"], "VideoNet has no synthesizer"),
        (["cam", "PLAIN", "VIDEO", "--label", "rol"], "class 'rol' is not among the model's 3; nearest: roll"),
        (["cam", "nowhere", "VIDEO"], "nowhere is not a model folder"),
        (["evolution", "PLAIN", "nothing.mp4"], "cannot decode nothing.mp4"),
        (["embedding", "PLAIN", "--dataset", "motoin"], "near names: motion"),
        (["gains", "a.npz", "b.npz"], "score file a.npz not found"),
    ],
)
def test_errors_are_one_line(arguments, message, other_folder, video, tmp_path, capsys):
    places = {"PLAIN": str(other_folder), "VIDEO": str(video)}
    assert main([places.get(word, word) for word in arguments] + ["--output", str(tmp_path)]) == 2
    error = capsys.readouterr().err
    assert error.startswith("timm-video-psn insights: error: ")
    assert message in error
    assert len(error.splitlines()) == 1


def test_it_runs_as_a_module():
    root = Path(__file__).parents[2]
    command = [sys.executable, "-m", "timm_video_psn", "insights", "--help"]
    done = subprocess.run(
        command, capture_output=True, text=True, check=True, env={**os.environ, "PYTHONPATH": str(root)}
    )
    assert "interactions" in done.stdout
