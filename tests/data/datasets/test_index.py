"""Paths packed into one buffer, and what a million of them cost."""

import errno
import os
import pickle
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from timm_video_psn.data.clips.dataset import VideoDataset
from timm_video_psn.data.clips.transforms import EvalTransform
from timm_video_psn.data.clips.views import MultiViewDataset, ViewPlan
from timm_video_psn.data.datasets.index import PathTable, VideoIndex, videos_of_both
from timm_video_psn.data.shards.sample import pack
from timm_video_psn.data.tools.check import check_video, listed_videos
from timm_video_psn.data.tools.reencode import resize_video
from timm_video_psn.data.video.frame_folder import ImageNames


class TestPathTable:
    def test_gives_back_the_paths(self):
        paths = ["a/b.mp4", "", "ä/ß.webm", "c" * 300, "bad\udcff.avi"]  # the last is not valid UTF-8 on the disk
        table = PathTable.from_paths(paths)
        assert list(table) == paths
        assert [table[i] for i in range(-5, 0)] == paths
        assert len(table) == 5
        assert list(pickle.loads(pickle.dumps(table))) == paths

    def test_takes_any_iterable(self):
        assert list(PathTable.from_paths(Path(name) for name in ("a", "b"))) == ["a", "b"]
        assert list(PathTable.from_paths([])) == []

    def test_of_half_a_character_is_an_error_that_shows_it(self):
        with pytest.raises(ValueError, match=r"'a\\ud83d.mp4' can be the name of no file"):
            PathTable.from_paths(["a\ud83d.mp4"])

    @pytest.mark.parametrize("index", [2, -3])
    def test_outside_is_an_error(self, index):
        with pytest.raises(IndexError, match=f"path {index} asked for, but there are 2"):
            PathTable.from_paths(["a", "b"])[index]


def test_the_fingerprint_tells_every_column(tmp_path):
    def index(paths=("a", "b"), labels=(0, 1), **columns):
        arrays = {name: np.array(column, dtype=np.int32) for name, column in columns.items()}
        return VideoIndex(PathTable.from_paths(paths), np.array(labels), ("x", "y"), tmp_path, **arrays).fingerprint()

    prints = [
        index(),
        index(paths=("a", "c")),
        index(labels=(1, 0)),
        index(lengths=(3, 4)),
        index(lengths=(3, 4), first_frames=(0, 9)),
    ]
    assert len(set(prints)) == 5
    assert index() == prints[0]


def test_videos_of_both_splits_are_found_and_other_parts_of_a_file_are_other_videos(tmp_path):
    def index(*videos, root=tmp_path):
        paths, first = zip(*videos, strict=True)
        return VideoIndex(
            *(PathTable.from_paths(paths), np.zeros(len(paths), np.int64), ("x",), root),
            first_frames=np.array(first, dtype=np.int32),
        )

    val = index(("b", 0), ("a", 5), ("c", 0))
    assert videos_of_both(index(("a", 0), ("b", 0), ("c", 7), ("a", 5)), val) == ["b", "a"]
    assert videos_of_both(index(("a", 0)), val) == []
    assert videos_of_both(index(("b", 0), root=tmp_path / "other"), val) == []


MILLION = """
import sys, time
from pathlib import Path
from timm_video_psn.data import read_index
def megabytes(key):
    return int(next(line for line in open("/proc/self/status") if line.startswith(key)).split()[1]) / 1024
before, start = megabytes("VmRSS"), time.process_time()
index = read_index("list", Path(sys.argv[1]), "train")
print(len(index), time.process_time() - start, megabytes("VmHWM") - before, index.paths[999_999])
"""


@pytest.mark.skipif(not Path("/proc/self/status").exists(), reason="memory is read from /proc")
@pytest.mark.slow
@pytest.mark.parametrize("form", ["{}.mp4 {}", "{} 120 {}"])
def test_a_million_videos_load_in_ten_seconds_and_500_megabytes(tmp_path, form):
    name = "videos/class_{:03d}/abcdefghijk_{:06d}"
    lines = (form.format(name.format(i % 400, i), i % 400) for i in range(1_000_000))
    (tmp_path / "train.txt").write_text("\n".join(lines))
    (tmp_path / "classes.txt").write_text("\n".join(f"class {i}" for i in range(400)))
    first = tmp_path / form.format(name.format(0, 0), 0).split()[0]
    first.parent.mkdir(parents=True)
    if first.suffix:
        first.touch()
    else:
        first.mkdir()
        (first / "img_00001.jpg").touch()
    output = subprocess.run(
        [sys.executable, "-c", MILLION, tmp_path], capture_output=True, text=True, check=True
    ).stdout
    count, seconds, megabytes, last = output.split()
    assert (count, last.startswith("videos/class_399/abcdefghijk_999999")) == ("1000000", True)
    assert float(seconds) <= 10
    assert float(megabytes) <= 500


@pytest.mark.skipif(not Path("/proc/self/smaps_rollup").exists(), reason="memory is read from /proc")
def test_a_forked_workers_memory_does_not_grow_while_it_iterates(tmp_path):
    paths = PathTable.from_paths(f"videos/class_{i % 400:03d}/abcdefghijk_{i:06d}.mp4" for i in range(300_000))
    index = VideoIndex(paths, np.arange(300_000) % 400, tuple(map(str, range(400))), tmp_path)

    def private_megabytes():
        lines = Path("/proc/self/smaps_rollup").read_text().splitlines()
        return sum(int(line.split()[1]) for line in lines if line.startswith("Private_Dirty")) / 1024

    read_end, write_end = os.pipe()
    pid = os.fork()
    if pid == 0:  # what a worker of a loader is: it shares the parent's memory until it writes to it
        for number in range(2000):
            index.paths[number], int(index.labels[number])
        before = private_megabytes()
        for number in range(300_000):
            index.paths[number], int(index.labels[number])
        os.write(write_end, str(private_megabytes() - before).encode())
        os._exit(0)
    os.waitpid(pid, 0)
    assert float(os.read(read_end, 100)) < 2  # the paths are 12 MB; as a list of str they would grow by all of them


NAMES = {
    "a link to itself": "loop.mp4",
    "a name that is too long": "x" * 300 + ".mp4",
    "a path through a file": "file.txt/a.mp4",
    "a folder without frames": "folder.mp4",
    "a name with a null": "a\0b.mp4",
    "a path that is too long": "a/" * 3000 + "b.mp4",
    "a pipe": "pipe.mp4",
    "nothing": "gone.mp4",
    "a disk that fails": "fails.mp4",
}


@pytest.fixture
def strange_files(tmp_path, monkeypatch):
    (tmp_path / "loop.mp4").symlink_to("loop.mp4")
    (tmp_path / "file.txt").touch()
    (tmp_path / "folder.mp4").mkdir()
    os.mkfifo(tmp_path / "pipe.mp4")
    (tmp_path / "fails.mp4").write_bytes(b"some")
    opened = Path.open

    def open_unless_failing(path, *args, **options):
        if path.name == "fails.mp4":
            raise OSError(errno.EIO, os.strerror(errno.EIO), str(path))
        return opened(path, *args, **options)

    monkeypatch.setattr(Path, "open", open_unless_failing)
    return tmp_path


@pytest.mark.parametrize("images", [None, ImageNames("{:05d}.jpg", 1)])
@pytest.mark.parametrize("name", NAMES.values(), ids=NAMES)
def test_what_the_file_system_answers_for_a_video_is_the_error_of_that_video(strange_files, name, images):
    index = VideoIndex(PathTable.from_paths([name]), np.array([0]), ("a",), strange_files, images=images)
    clips = VideoDataset(index, 2, EvalTransform(8), training=False)
    views = MultiViewDataset(index, [ViewPlan(2, 1, 1, 8, 8, "segments")])
    (video,) = listed_videos(index)
    reasons = [clips[0].reason, views[0].reason, check_video(video).reason, pack(index, 0)[1]]
    if images is None:
        reasons.append(resize_video((strange_files / name, strange_files / "copy.mp4"), 8, 20).error)
    assert all(isinstance(reason, str) and reason for reason in reasons), reasons
