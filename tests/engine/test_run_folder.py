import csv

import pytest
import yaml

from timm_video_psn.engine.checkpoint import save_checkpoint
from timm_video_psn.engine.run_folder import RunFolder

ROW = {
    "epoch": 1, "lr": 0.1, "train_loss": 2.0, "train_ce": 1.9, "train_top1": 10.0,
    "val_loss": 2.1, "val_top1": 9.0, "val_top5": 40.0,
}  # fmt: skip


def options(tmp_path, **changes):
    defaults = {
        "output": str(tmp_path),
        "experiment": None,
        "resume": None,
        "model": "local-dir:a/b",
        "dataset": "folder",
    }
    return {**defaults, "lr": 0.1, **changes}


def test_a_new_run_claims_its_folder_only_when_it_opens(tmp_path):
    run = RunFolder(options(tmp_path))
    assert not run.path.exists()
    run.open()
    assert run.path == tmp_path / "local-dir-a-b-folder"
    assert yaml.safe_load((run.path / "args.yaml").read_text())["lr"] == 0.1


def test_a_folder_with_another_run_is_refused(tmp_path):
    RunFolder(options(tmp_path)).open()
    with pytest.raises(
        FileExistsError, match=r"holds another run \(args\.yaml\); --resume auto begins it again, .*--experiment NAME"
    ):
        RunFolder(options(tmp_path))


def test_auto_starts_where_nothing_was_saved_and_continues_where_something_was(tmp_path):
    run = RunFolder(options(tmp_path, resume="auto"))
    run.open()
    assert RunFolder(options(tmp_path, resume="auto")).state is None
    save_checkpoint(run.last, {"options": options(tmp_path), "epoch": 3})
    assert RunFolder(options(tmp_path, resume="auto", workers=7)).state["epoch"] == 3


def test_a_run_is_continued_in_the_folder_of_the_named_checkpoint(tmp_path):
    folder = tmp_path / "elsewhere"
    folder.mkdir()
    save_checkpoint(folder / "last.pt", {"options": options(tmp_path)})
    assert RunFolder(options(tmp_path, resume=str(folder / "last.pt"))).path == folder
    with pytest.raises(FileNotFoundError, match="not found"):
        RunFolder(options(tmp_path, resume=str(tmp_path / "no.pt")))


def test_a_run_is_not_continued_into_the_folder_of_another(tmp_path):
    for name in ("one", "two"):
        run = RunFolder(options(tmp_path, experiment=name))
        run.open()
        save_checkpoint(run.last, {"options": options(tmp_path, experiment=name)})
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
    save_checkpoint(run.last, {"options": options(tmp_path, model="psn_resnet18")})
    with pytest.raises(ValueError, match=r"model: 'psn_resnet18' in the checkpoint, 'local-dir:a/b' now"):
        RunFolder(options(tmp_path, resume="auto"))


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
