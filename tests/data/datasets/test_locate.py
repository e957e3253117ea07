"""The walk through folders of videos: links, hidden files, endings and folders that cannot be read."""

import os
import unicodedata
from collections import Counter
from pathlib import Path

import av
import numpy as np
import pytest

from tests.data.sample_videos import decoded_plainly, moving_noise
from timm_video_psn.data.datasets.class_folders import read_folder
from timm_video_psn.data.datasets.locate import endings_in_words, walk_videos
from timm_video_psn.data.tools.reencode import pairs_below
from timm_video_psn.data.video.errors import DecodeError
from timm_video_psn.data.video.reader import VIDEO_EXTENSIONS, VideoReader


def touch(root: Path, *names: str) -> Path:
    for name in names:
        (root / name).parent.mkdir(parents=True, exist_ok=True)
        (root / name).touch()
    return root


class TestWalkVideos:
    def test_goes_through_files_before_folders_and_leaves_hidden_ones_out(self, tmp_path):
        touch(tmp_path, "b/2.mkv", "b/1.mp4", "a.mp4", "z.mp4", "b/.x.mp4", ".c/1.mp4", "b/._1.mp4", "b/n.txt")
        found = walk_videos(tmp_path)
        assert found == (["a.mp4", "z.mp4", "b/1.mp4", "b/2.mkv"], Counter({".txt": 1}), [])
        assert walk_videos(tmp_path, "b").paths == ["b/1.mp4", "b/2.mkv"]

    def test_takes_folders_of_images_for_videos_but_not_the_one_it_begins_in(self, tmp_path):
        touch(tmp_path, "run/1.jpg", "run/v1/1.jpg", "run/v1/2.jpg", "run/day/v.mp4", "run/day/v.jpg")
        assert walk_videos(tmp_path, "run").paths == ["run/day/v.mp4", "run/v1"]

    @pytest.mark.parametrize("target", ["..", "../..", ".", "../../.."])
    def test_ends_at_links_to_folders_above(self, tmp_path, target):
        touch(tmp_path, "data/run/a.mp4", "data/sit/b.mp4", "c.mp4")
        (tmp_path / "data" / "run" / "up").symlink_to(target)
        assert walk_videos(tmp_path / "data", "run") == (["run/a.mp4"], Counter(), ["run/up"])
        assert walk_videos(tmp_path / "data").paths == ["run/a.mp4", "sit/b.mp4"]

    def test_follows_links_and_enters_no_folder_twice(self, tmp_path):
        touch(tmp_path, "elsewhere/v/1.mp4", "elsewhere/v/2.mp4", "data/run/a.mp4")
        for name in ("one", "two"):
            (tmp_path / "data" / "run" / name).symlink_to(tmp_path / "elsewhere")
        (tmp_path / "elsewhere" / "back").symlink_to(tmp_path / "data" / "run")
        (tmp_path / "data" / "run" / "b.mp4").symlink_to(tmp_path / "elsewhere" / "v" / "1.mp4")
        found = walk_videos(tmp_path / "data")
        assert found.paths == ["run/a.mp4", "run/b.mp4", "run/one/v/1.mp4", "run/one/v/2.mp4"]
        assert found.repeated == ["run/one/back", "run/two"]

    def test_leaves_it_to_the_reader_to_say_what_is_wrong_with_a_video(self, tmp_path):
        touch(tmp_path, "a.mp4")
        for name, target in (("lost.mp4", "nowhere"), ("self.mp4", "self.mp4"), ("note.txt", "note.txt")):
            (tmp_path / name).symlink_to(target)
        found = walk_videos(tmp_path)
        assert found.paths == ["a.mp4", "lost.mp4", "self.mp4"]
        for name in ("lost.mp4", "self.mp4"):
            with pytest.raises(DecodeError, match=r"no such file|cannot be reached"):
                VideoReader(tmp_path / name)

    @pytest.mark.skipif(os.geteuid() == 0, reason="root may read every folder")
    def test_a_folder_that_cannot_be_read_is_a_video_that_cannot(self, tmp_path):
        touch(tmp_path, "run/a.mp4", "run/locked/b.mp4")
        (tmp_path / "run" / "locked").chmod(0)
        assert walk_videos(tmp_path).paths == ["run/a.mp4", "run/locked"]


def test_training_and_preparation_find_the_same_videos(tmp_path):
    touch(tmp_path, "in/run/a.mp4", "in/run/b.MTS", "in/sit/c.ts", "in/sit/d.gif", "elsewhere/e.m2ts")
    (tmp_path / "in" / "run" / "more").symlink_to(tmp_path / "elsewhere")
    (tmp_path / "in" / "sit" / "up").symlink_to("..")
    index = read_folder(tmp_path / "in", "train")
    assert list(index.paths) == ["run/a.mp4", "run/b.MTS", "run/more/e.m2ts", "sit/c.ts", "sit/d.gif"]
    assert index.notes == ("links to folders above them are not followed: sit/up",)
    pairs = pairs_below(tmp_path / "in", tmp_path / "out", lambda path: path.with_suffix(".mp4"))
    assert [str(source.relative_to(tmp_path / "in")) for source, _ in pairs] == list(index.paths)


CODECS = {".gif": "gif", ".webm": "libvpx", ".wmv": "wmv2", ".asf": "wmv2", ".rm": "rv10", ".rmvb": "rv20"}
CODECS |= dict.fromkeys((".mpg", ".mpeg", ".mpe", ".m2v", ".vob", ".mxf"), "mpeg2video")
FORMATS = {".divx": "avi", ".f4v": "flv", ".m2v": "mpeg2video", ".mpe": "mpeg", ".qt": "mov", ".rmvb": "rm"}
FORMATS |= dict.fromkeys((".m2t", ".m2ts", ".mts", ".ts"), "mpegts")
NO_ENCODER = {".dv", ".ogm", ".ogv"}  # of any size, or at all


@pytest.mark.parametrize("ending", sorted(VIDEO_EXTENSIONS - NO_ENCODER))
def test_files_of_every_ending_are_read(tmp_path, ending):
    path = tmp_path / f"video{ending}"
    with av.open(str(path), "w", format=FORMATS.get(ending)) as container:
        stream = container.add_stream(CODECS.get(ending, "libx264"), rate=25)
        stream.width, stream.height, stream.pix_fmt = 64, 48, "rgb8" if ending == ".gif" else "yuv420p"
        for frame in moving_noise(48, 64, 20):
            container.mux(stream.encode(av.VideoFrame.from_ndarray(frame, format="rgb24")))
        container.mux(stream.encode(None))
    assert walk_videos(tmp_path).paths == [path.name]
    with VideoReader(path) as reader:
        assert np.array_equal(reader.read(range(20)), decoded_plainly(path))


def test_endings_of_files_that_were_passed_over_are_named(tmp_path):
    touch(tmp_path, "run/a.xyz", "run/b.xyz", "run/c.srt", "sit/d.mp4", "sit/plain")
    with pytest.raises(
        ValueError, match=r"have no video: run; files passed over: 2 .xyz, 1 .srt, 1 without ending; acc"
    ):
        read_folder(tmp_path, "train")
    with pytest.raises(
        ValueError, match=r"run holds no video; files passed over: 2 .xyz, 1 .srt; accepted are files e"
    ):
        pairs_below(tmp_path / "run", tmp_path / "out", lambda path: path)
    assert endings_in_words(Counter(f".{i}" for i in range(9))) == "1 .0, 1 .1, 1 .2, 1 .3, 1 .4 and 4 others"


@pytest.mark.parametrize("form", ["NFC", "NFD"])
def test_a_class_has_the_same_name_in_both_unicode_forms(tmp_path, form):
    other = "NFD" if form == "NFC" else "NFC"
    train, val = (unicodedata.normalize(which, "café") for which in (form, other))
    touch(tmp_path, f"train/{train}/a.mp4", "train/zoo/b.mp4", f"val/{val}/c.mp4", "val/zoo/d.mp4")
    indices = [read_folder(tmp_path, split) for split in ("train", "val")]
    assert {index.class_names for index in indices} == {(unicodedata.normalize("NFC", "café"), "zoo")}
    assert (tmp_path / indices[0].paths[0]).is_file()
    assert (tmp_path / indices[1].paths[0]).is_file()
    touch(tmp_path, f"train/{val}/e.mp4")  # both in one split: one class
    assert read_folder(tmp_path, "train").labels.tolist() == [0, 0, 1]
