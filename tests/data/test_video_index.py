"""Paths packed into one buffer."""

import pickle
from pathlib import Path

import pytest

from timm_video_psn.data.video_index import PathTable


class TestPathTable:
    def test_gives_back_the_paths(self):
        paths = ["a/b.mp4", "", "ä/ß.webm", "c" * 300, "bad\udcff.avi"]  # the last is no valid UTF-8 on the disk
        table = PathTable.from_paths(paths)
        assert list(table) == paths
        assert [table[i] for i in range(-5, 0)] == paths
        assert len(table) == 5
        assert list(pickle.loads(pickle.dumps(table))) == paths

    def test_takes_any_iterable(self):
        assert list(PathTable.from_paths(Path(name) for name in ("a", "b"))) == ["a", "b"]
        assert list(PathTable.from_paths([])) == []

    @pytest.mark.parametrize("index", [2, -3])
    def test_outside_is_an_error(self, index):
        with pytest.raises(IndexError, match=f"path {index} asked for, but there are 2"):
            PathTable.from_paths(["a", "b"])[index]
