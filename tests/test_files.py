"""Files and folders that appear whole or not at all, and CSV cells that run nothing."""

import csv
import os
from contextlib import suppress

import pytest

from timm_video_psn.files import atomic_folder, atomic_path, csv_cell, file_sha256, first_names, write_csv, write_text


def test_a_file_is_whole_or_as_it_was(tmp_path):
    path = tmp_path / "a.txt"
    write_text(path, "first d\udce4")
    assert path.read_bytes() == b"first d\xe4"
    with suppress(KeyboardInterrupt), atomic_path(path) as temporary:
        temporary.write_text("second")
        raise KeyboardInterrupt
    assert path.read_bytes() == b"first d\xe4"
    assert list(tmp_path.iterdir()) == [path]
    with pytest.raises(OSError, match=r"could not write .*missing.b.txt: .*No such file"):
        write_text(tmp_path / "missing" / "b.txt", "")


def test_a_folder_is_whole_or_not_there(tmp_path):
    path = tmp_path / "deep" / "a"
    with suppress(KeyboardInterrupt), atomic_folder(path) as draft:
        (draft / "1.jpg").touch()
        raise KeyboardInterrupt
    assert list(path.parent.iterdir()) == []
    with atomic_folder(path) as draft:
        (draft / "2.jpg").touch()
        assert not path.exists()
    assert [file.name for file in path.iterdir()] == ["2.jpg"]
    with pytest.raises(OSError, match="not empty"), atomic_folder(path) as draft:
        (draft / "3.jpg").touch()
    assert [file.name for file in path.iterdir()] == ["2.jpg"]
    assert list(path.parent.iterdir()) == [path]


def test_drafts_of_processes_that_were_killed_are_removed_when_they_are_old(tmp_path):
    for name, age_sec in (("old", 3700), ("new", 60)):
        (tmp_path / f".a.{name}.tmp").mkdir()
        then = (tmp_path / f".a.{name}.tmp").stat().st_mtime - age_sec
        os.utime(tmp_path / f".a.{name}.tmp", (then, then))
    with atomic_folder(tmp_path / "a"):
        pass
    assert sorted(path.name for path in tmp_path.iterdir()) == [".a.new.tmp", "a"]


@pytest.mark.parametrize("text", ["=1+1", "+cmd|' /C calc'!A0", "-2+3", "@SUM(A1)", "\t=1", "\r=1", '=HYPERLINK("x")'])
def test_text_that_a_spreadsheet_would_run_is_text(tmp_path, text):
    shown = "'" + text.replace("\r", "\\r")
    write_csv(tmp_path / "a.csv", ("class", text), [(text, 1)])
    with (tmp_path / "a.csv").open(newline="") as file:
        assert list(csv.reader(file)) == [["class", shown], [shown, "1"]]


@pytest.mark.parametrize("value", ["run", "-1.5", "+3e-4", "-inf", "left=right", "", -1, -0.5, None])
def test_numbers_and_other_text_stay(value):
    assert csv_cell(value) is value


def test_first_names_and_checksums(tmp_path):
    assert first_names(range(3)) == "0, 1, 2"
    assert first_names(range(25), most=2) == "0, 1 and 23 more"
    (tmp_path / "a").write_bytes(b"abc")
    assert file_sha256(tmp_path / "a") == "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad"
