"""The list of unreadable videos on disk."""

import csv
import resource

import pytest

from timm_video_psn.__main__ import main
from timm_video_psn.data import UnreadableVideo
from timm_video_psn.engine.train.unreadable_videos import SkippedList


def entries(path):
    with path.open(newline="") as file:
        return [tuple(row) for row in csv.reader(file)]


A, B, C = (UnreadableVideo(i, f"/data/{name}", "it is cut short by 1,024 bytes") for i, name in enumerate("abc"))
HEADER = ("path", "reason", "epoch", "split")
ROW_A = ("/data/a", "it is cut short by 1,024 bytes", "1", "train")


def test_every_video_is_listed_once_with_the_epoch_that_met_it_first(tmp_path):
    skipped = SkippedList(tmp_path / "skipped.csv")
    skipped.add([A, A], 1, "train")
    skipped.add([A, B], 2, "train")
    assert entries(skipped.path) == [HEADER, ROW_A, ("/data/b", ROW_A[1], "2", "train")]


def test_a_video_of_both_splits_is_listed_for_each(tmp_path):
    skipped = SkippedList(tmp_path / "skipped.csv")
    skipped.add([A], 1, "train")
    skipped.add([A], 1, "val")
    assert [row[3] for row in entries(skipped.path)] == ["split", "train", "val"]


def test_without_unreadable_videos_there_is_no_file(tmp_path):
    SkippedList(tmp_path / "skipped.csv").add([], 1, "train")
    assert not (tmp_path / "skipped.csv").exists()


def test_a_run_that_goes_on_adds_to_the_file(tmp_path):
    path = tmp_path / "skipped.csv"
    SkippedList(path).add([A], 1, "train")
    SkippedList(path).add([A, B], 3, "train")
    assert entries(path) == [HEADER, ROW_A, ("/data/b", ROW_A[1], "3", "train")]


def test_a_line_without_end_is_replaced(tmp_path):
    path = tmp_path / "skipped.csv"
    SkippedList(path).add([A, B], 1, "train")
    whole = path.read_bytes()
    for length in range(len(whole)):
        path.write_bytes(whole[:length])
        SkippedList(path).add([A, B, C], 1, "train")
        assert [row[0] for row in entries(path)] == ["path", "/data/a", "/data/b", "/data/c"]


def test_odd_names_and_reasons_stay_one_line(tmp_path):
    path = tmp_path / "skipped.csv"
    SkippedList(path).add(
        [UnreadableVideo(0, 'a "b", c.mp4', "first\nsecond"), UnreadableVideo(1, "d\udce4.mp4", "x")], 1, "train"
    )
    assert entries_of_any_encoding(path) == ['a "b", c.mp4', "d\udce4.mp4"]
    assert len(path.read_bytes().splitlines()) == 3
    SkippedList(path).add([UnreadableVideo(1, "d\udce4.mp4", "x")], 2, "train")
    assert len(path.read_bytes().splitlines()) == 3


def entries_of_any_encoding(path):
    with path.open(newline="", errors="surrogateescape") as file:
        return [row[0] for row in csv.reader(file)][1:]


@pytest.mark.parametrize("room", [0, 10])
def test_a_full_disk_is_an_error_that_names_the_file(tmp_path, room):
    path = tmp_path / "skipped.csv"
    skipped = SkippedList(path)
    skipped.add([A], 1, "train")
    size, limits = path.stat().st_size, resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (size + room, limits[1]))
    try:
        with pytest.raises(OSError, match=r"could not write .*skipped\.csv: "):
            skipped.add([B, C], 2, "train")
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, limits)
    SkippedList(path).add([B], 2, "train")
    assert [row[0] for row in entries(path)] == ["path", "/data/a", "/data/b"]


def test_a_limit_of_pixels_that_no_video_keeps_ends_training_and_testing(arguments, tiny_motion, tmp_path, capsys):
    data = ["--dataset", "motion", "--data-dir", str(tiny_motion)]
    test = ["--model", "psn_test_resnet.motion", *data, "--workers", "0", "--output", str(tmp_path / "test")]
    for command in (["train", *arguments], ["validate", *test]):
        assert main([*command, "--max-pixels", "100"]) == 2
        told = capsys.readouterr()
        assert "or raise max_pixels" in told.err + told.out, command[0]


def test_paths_that_a_spreadsheet_would_run_are_text_and_named_once(tmp_path):
    item = UnreadableVideo(0, "=HYPERLINK(1).mp4", "=damaged")
    for _ in range(2):  # the second as a run that resumes
        SkippedList(tmp_path / "skipped.csv").add([item], 1, "train")
    assert entries(tmp_path / "skipped.csv")[1:] == [("'=HYPERLINK(1).mp4", "'=damaged", "1", "train")]
