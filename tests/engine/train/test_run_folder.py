import csv
from dataclasses import replace

import numpy as np
import pytest
import yaml
from PIL import Image

from timm_video_psn.command_line.train import parse_options
from timm_video_psn.engine.checkpoint import load_checkpoint, save_checkpoint
from timm_video_psn.engine.train.options import ModelDefaults, resolve_options
from timm_video_psn.engine.train.run_folder import RunFolder, draw_curves

ROW = {
    "epoch": 1, "lr": 0.1, "train_loss": 2.0, "train_ce": 1.9, "train_top1": 10.0,
    "val_loss": 2.1, "val_top1": 9.0, "val_top5": 40.0,
}  # fmt: skip


def options(tmp_path, **changes):
    """Options of a run, of which some are given and all others have their defaults."""
    asked = parse_options(["--output", str(tmp_path), "--model", "local-dir:a/b", "--lr", "0.1", "--batch-size", "8"])
    return replace(resolve_options(asked, ModelDefaults(8, 224, (0.5,) * 3, (0.5,) * 3), "cpu", 1), **changes)


def state_of(options, processes=1, **more):
    """A checkpoint of as many processes."""
    return {"options": options.as_asked(), "processes": [{}] * processes, **more}


def test_a_new_run_claims_its_folder_only_when_it_opens(tmp_path):
    run = RunFolder(options(tmp_path))
    assert not run.path.exists()
    run.open()
    assert run.path == tmp_path / "local-dir-a-b-folder"
    assert yaml.safe_load((run.path / "args.yaml").read_text())["lr"] == 0.1


def test_a_folder_that_cannot_be_made_is_named_with_the_option(tmp_path):
    (tmp_path / "file").write_text("")
    run = RunFolder(options(tmp_path, output=str(tmp_path / "file")))
    with pytest.raises(OSError, match=r"no folder .*file/local-dir-a-b-folder can be made .* with --output"):
        run.open()


def test_a_folder_with_another_run_is_refused(tmp_path):
    RunFolder(options(tmp_path)).open()
    with pytest.raises(
        FileExistsError, match=r"holds another run \(args\.yaml\); --resume auto starts it again, .*--experiment NAME"
    ):
        RunFolder(options(tmp_path))


def test_auto_starts_where_nothing_was_saved_and_resumes_where_something_was(tmp_path):
    run = RunFolder(options(tmp_path, resume="auto"))
    run.open()
    assert RunFolder(options(tmp_path, resume="auto")).state is None
    save_checkpoint(run.last, state_of(options(tmp_path), epoch=3))
    assert RunFolder(options(tmp_path, resume="auto", workers=7)).state["epoch"] == 3


def test_a_run_is_resumed_in_the_folder_of_the_named_checkpoint(tmp_path):
    folder = tmp_path / "elsewhere"
    folder.mkdir()
    save_checkpoint(folder / "last.pt", state_of(options(tmp_path)))
    assert RunFolder(options(tmp_path, resume=str(folder / "last.pt"))).path == folder
    with pytest.raises(FileNotFoundError, match="not found"):
        RunFolder(options(tmp_path, resume=str(tmp_path / "no.pt")))


def test_a_run_is_not_resumed_into_the_folder_of_another(tmp_path):
    for name in ("one", "two"):
        run = RunFolder(options(tmp_path, experiment=name))
        run.open()
        save_checkpoint(run.last, state_of(options(tmp_path, experiment=name)))
    with pytest.raises(FileExistsError, match=r"two holds another run \(last\.pt, args\.yaml\)"):
        RunFolder(options(tmp_path, experiment="two", resume=str(tmp_path / "one" / "last.pt")))


def test_auto_does_not_begin_anew_over_results_whose_checkpoint_is_gone(tmp_path):
    run = RunFolder(options(tmp_path))
    run.open()
    run.best.mkdir()
    with pytest.raises(FileExistsError, match=r"holds another run \(best\)"):
        RunFolder(options(tmp_path, resume="auto"))


def test_other_settings_than_the_checkpoints_are_shown(tmp_path):
    run = RunFolder(options(tmp_path))
    run.open()
    save_checkpoint(run.last, state_of(options(tmp_path, model="psn_resnet18")))
    with pytest.raises(ValueError, match=r"model: 'psn_resnet18' in the checkpoint, 'local-dir:a/b' now"):
        RunFolder(options(tmp_path, resume="auto"))


def test_settings_of_earlier_versions_are_compared_under_their_present_names(tmp_path):
    run = RunFolder(options(tmp_path))
    run.open()
    state = state_of(options(tmp_path))
    state["options"] |= {"max_broken": 0.5, "traceback": True, "model_kwargs": {"sites": ("layer1",)}}  # free; a tuple
    for name in ("max_unreadable", "debug", "backbone_checkpoint"):
        del state["options"][name]
    save_checkpoint(run.last, {**state, "history": [{"epoch": 1, "train_broken": 3}]})
    resumed = RunFolder(options(tmp_path, resume="auto", model_kwargs={"sites": ["layer1"]}))
    assert resumed.state["history"] == [{"epoch": 1, "train_unreadable": 3}]
    with pytest.raises(ValueError, match=r"backbone_checkpoint: None in the checkpoint, 'a\.pt' now"):
        RunFolder(options(tmp_path, resume="auto", model_kwargs={"sites": ["layer1"]}, backbone_checkpoint="a.pt"))


def test_the_clips_of_a_step_are_compared_over_all_processes(tmp_path):
    run = RunFolder(options(tmp_path))
    run.open()
    save_checkpoint(run.last, state_of(options(tmp_path, batch_size=4), processes=2))
    assert RunFolder(options(tmp_path, resume="auto", batch_size=8), processes=1).state
    with pytest.raises(ValueError, match="batch_size: 4 in each of 2 processes in the checkpoint, 8 in each of 2 now"):
        RunFolder(options(tmp_path, resume="auto", batch_size=8), processes=2)


def test_a_checkpoint_of_an_older_version_is_refused(tmp_path):
    run = RunFolder(options(tmp_path))
    run.open()
    save_checkpoint(run.last, {"options": options(tmp_path).as_asked()})
    with pytest.raises(ValueError, match="written by an older version"):
        RunFolder(options(tmp_path, resume="auto"))


@pytest.mark.parametrize("name", ["..", "../..", "a/../../b", ".", "/etc/run"])
def test_a_name_that_leads_out_of_the_folder_of_all_runs_is_refused(tmp_path, name):
    with pytest.raises(ValueError, match="leads out of the folder of all runs; use a name"):
        RunFolder(options(tmp_path / "output", experiment=name))


def test_a_name_may_have_folders_of_its_own(tmp_path):
    run = RunFolder(options(tmp_path, experiment="study/run1"))
    run.open()
    assert (tmp_path / "study" / "run1" / "args.yaml").exists()


def test_the_last_checkpoints_are_kept_whole_and_can_be_resumed(tmp_path):
    three = options(tmp_path, checkpoint_hist=3)
    run = RunFolder(three)
    run.open()
    for updates in (2, 4, 6, 8):
        run.save(state_of(three, epoch=updates), updates)
    kept = sorted(run.checkpoints.iterdir())
    assert [path.name for path in kept] == [f"update-{updates:08d}.pt" for updates in (4, 6, 8)]
    older = RunFolder(replace(three, resume=str(kept[0])))
    assert (older.path, older.state["epoch"]) == (run.path, 4)
    older.save(state_of(three, epoch=5), 5)  # the newest, though its number is not the highest
    assert {path.name[-4:-3] for path in run.checkpoints.iterdir()} == {"5", "6", "8"}
    assert load_checkpoint(run.last)["epoch"] == 5


def test_the_models_of_the_best_epochs_are_kept(tmp_path):
    run = RunFolder(options(tmp_path, best_hist=2))
    run.open()
    for epoch, ranking in ((1, [1]), (2, [2, 1]), (3, [2, 3])):
        for folder in run.best_folders(epoch, ranking):
            folder.mkdir(exist_ok=True)
            (folder / "epoch").write_text(str(epoch))
        run.drop_epochs_but(ranking)
    assert (run.best / "epoch").read_text() == "2"
    assert sorted(path.name for path in run.best_epochs.iterdir()) == ["epoch-0002", "epoch-0003"]


def test_left_over_temporary_files_are_removed(tmp_path):
    run = RunFolder(options(tmp_path))
    run.path.mkdir()
    (run.path / ".last.pt.123.tmp").write_text("half")
    run.open()
    assert [path.name for path in run.path.iterdir()] == ["args.yaml"]


def test_the_summary_is_a_row_an_epoch_and_the_curves_are_a_picture(tmp_path):
    run = RunFolder(options(tmp_path))
    run.open()
    run.write_summary([ROW, {**ROW, "epoch": 2}])
    with (run.path / "summary.csv").open() as file:
        assert [row["epoch"] for row in csv.DictReader(file)] == ["1", "2"]
    assert (run.path / "curves.png").read_bytes().startswith(b"\x89PNG")


def test_a_split_has_one_colour_in_all_panels(tmp_path):
    history = [{**ROW, "epoch": epoch, "val_top1": 9.0 * epoch} for epoch in range(1, 6)]
    draw_curves(history, tmp_path / "curves.png", "run")
    picture = np.asarray(Image.open(tmp_path / "curves.png").convert("RGB")).astype(int)
    panels = np.array_split(picture, 3, axis=1)
    blue, orange = np.array([31, 119, 180]), np.array([255, 127, 14])
    for panel in panels[:2]:
        for colour in (blue, orange):
            assert (np.abs(panel - colour).max(2) < 4).sum() > 50
    green = (picture[..., 1] > picture[..., 0] + 60) & (picture[..., 1] > picture[..., 2] + 60)
    assert not green.any()  # matplotlib's third colour
