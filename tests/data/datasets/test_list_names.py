"""Names of the classes of a list: of a file, of the folders of the videos, or none."""

import json

import pytest

from tests.data.datasets.test_list_file import read, touch
from tests.miniatures import write_text
from timm_video_psn.data.datasets.list_names import names_by_folder


class TestNames:
    def test_come_from_a_file(self, tmp_path):
        write_text(tmp_path / "train.txt", "a.mp4 1", "b.mp4 0")
        write_text(tmp_path / "label_map.txt", "turn right", "turn left")
        index = read(touch(tmp_path, "a.mp4"))
        assert (index.class_names, index.named) == (("turn right", "turn left"), True)

    def test_come_from_json(self, tmp_path):
        write_text(tmp_path / "train.txt", "a.mp4 1", "b.mp4 0")
        (tmp_path / "labels.json").write_text(json.dumps({"turn left": "1", "turn right": "0"}))
        assert read(touch(tmp_path, "a.mp4")).class_names == ("turn right", "turn left")

    def test_come_from_folders_that_have_one_label_each(self, tmp_path):
        write_text(tmp_path / "train.txt", "x/run/a.mp4 1", "x/sit/b.mp4 0", "x/run/c.mp4 1")
        write_text(tmp_path / "val.txt", "x/run/d.mp4 1")
        touch(tmp_path, "x/run/a.mp4", "x/run/d.mp4")
        assert read(tmp_path).class_names == read(tmp_path, "val").class_names == ("sit", "run")

    @pytest.mark.parametrize("lines", [("run/a.mp4 1", "run/b.mp4 0"), ("run/a.mp4 1", "sit/a.mp4 1", "hop/b.mp4 0")])
    def test_are_numbers_where_nothing_tells(self, tmp_path, lines):
        write_text(tmp_path / "train.txt", *lines)
        index = read(touch(tmp_path, "run/a.mp4"))
        assert (index.class_names, index.named) == (("0", "1"), False)
        assert "clips are not mirrored" in index.notes[0]


@pytest.mark.parametrize(
    ("paths", "labels", "names"),
    [
        (["run/a.mp4", "b/sit/c.mp4", "run/d.mp4"], [1, 0, 1], ["sit", "run"]),
        (["a.mp4", "sit/c.mp4"], [0, 1], None),  # a video in no folder
        (["run/a.mp4", "sit/c.mp4"], [0, 2], None),  # a label without a folder
        (["run/a.mp4", "run/c.mp4"], [0, 1], None),  # a folder of two labels
        (["run/a.mp4"], [0], None),  # the folder of all videos
        ([], [], None),
    ],
)
def test_folders_name_classes_where_they_are_one_to_one(paths, labels, names):
    assert names_by_folder(paths, labels) == names
