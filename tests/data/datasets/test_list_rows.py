"""Lists as pandas, Excel and other systems write them, and the names of their classes."""

import json
import unicodedata

import pytest

from tests.data.datasets.test_list_file import read, touch
from tests.miniatures import pictures, write_images, write_mp4, write_text
from timm_video_psn.data.datasets.list_file import names_by_folder
from timm_video_psn.data.video.reader import VIDEO_EXTENSIONS

TABLES = {
    "pandas": "path,label\na.mp4,1\nsub/b.mp4,0\n",
    "pandas with its index": ",path,label\n0,a.mp4,1\n1,sub/b.mp4,0\n",
    "other columns in another order": "Class ID,fps,Video Path\n1,25.0,a.mp4\n0,29.97,sub/b.mp4\n",
    "numbers as 1.0": "filename,label\na.mp4,1.0\nsub/b.mp4,0.0\n",
    "all fields quoted": '"path","label"\r\n"a.mp4","1"\r\n"sub/b.mp4","0"\r\n',
    "quoted paths without a header": '"a.mp4",1\n"sub/b.mp4",0\n',
    "European Excel": "path;label\r\na.mp4;1\r\nsub/b.mp4;0\r\n",
    "semicolons without a header": "a.mp4;1\nsub/b.mp4;0\n",
    "tabs": "video\tclass\na.mp4\t1\nsub/b.mp4\t0\n",
    "frames of the files": "path,num_frames,label\na.mp4,10,1\nsub/b.mp4,10,0\n",
    "Windows": "path,label\r\na.mp4,1\r\nsub\\b.mp4,0\r\n",
    "Windows, no table": "a.mp4 1\nsub\\b.mp4 0\n",
}


class TestTables:
    @pytest.mark.parametrize("encoding", ["utf-8", "utf-8-sig", "utf-16", "utf-16-le", "utf-16-be"])
    @pytest.mark.parametrize("form", TABLES)
    def test_are_read(self, tmp_path, form, encoding):
        mark = "\ufeff" if encoding in ("utf-16-le", "utf-16-be") else ""
        (tmp_path / "train.csv").write_text(mark + TABLES[form], encoding=encoding, newline="")
        for name in ("a.mp4", "sub/b.mp4"):
            write_mp4(tmp_path / name, pictures(0))
        index = read(tmp_path)
        assert (index.labels.tolist(), index.lengths, index.root) == ([1, 0], None, tmp_path)
        assert [len(index.decode(number, lambda count: [count - 1])) for number in (0, 1)] == [1, 1]
        unused = [note for note in index.notes if "columns of the table that are not used" in note]
        assert unused == (["columns of the table that are not used: fps"] if "fps" in TABLES[form] else [])

    def test_of_parts_of_frame_folders(self, tmp_path):
        write_images(tmp_path / "v, 1", pictures(0))
        (tmp_path / "train.csv").write_text('folder,path,label,frames,start_frame\nx,"v, 1",0,5,2\nx,"v, 1",1,3,0\n')
        index = read(tmp_path)
        assert (index.first_frames.tolist(), index.lengths.tolist(), index.labels.tolist()) == ([2, 0], [5, 3], [0, 1])
        assert index.paths[0] == "v, 1"

    def test_of_a_test_split_may_have_labels_or_frames_or_neither(self, tmp_path):
        write_mp4(tmp_path / "a.mp4", pictures(0))
        write_text(tmp_path / "train.txt", "a.mp4 0", "a.mp4 1")
        for text, label in (("path,label\na.mp4,1\n", 1), ("path,frames\na.mp4,10\n", -1), ("path\na.mp4\n", -1)):
            (tmp_path / "test.csv").write_text(text)
            index = read(tmp_path, "test")
            assert (index.labels.tolist(), index.lengths) == ([label], None)

    @pytest.mark.parametrize(
        ("text", "message"),
        [
            (
                "path,label\na.mp4,Archery\n",
                r":2: labels are numbers; found the word 'Archery': number the classes from 0",
            ),
            ("a.mp4,Archery\n", r":1: 'a.mp4,Archery': labels are numbers; found the word 'Archery': number the"),
            ("a.mp4 Archery\n", r":1: 'a.mp4 Archery': labels are numbers; found the word 'Archery': number the"),
            ("path,label\na.mp4,1.5\n", r":2: '1.5' is not a whole number"),
            ("path,label\na.mp4,inf\n", r":2: 'inf' is not a whole number"),
            ("path,label\na.mp4,\n", r":2: 'a.mp4,' has no label"),
            ('path,label\n"a.mp4,1\n', r""":2: '"a.mp4,1': its quotation marks are not in pairs"""),
            ("uid,action\na.mp4,1\n", r":1: 'uid,action' has no label; expected `path label`, or `path,label` as the"),
            ("path,label\n", r"lists no videos"),
        ],
    )
    def test_that_cannot_be_read_are_refused_in_words_that_help(self, tmp_path, text, message):
        (touch(tmp_path, "a.mp4") / "train.csv").write_text(text)
        with pytest.raises(ValueError, match=message):
            read(tmp_path)

    @pytest.mark.parametrize(
        ("content", "message"),
        [
            ("path,label\na.mp4,1\n".encode("utf-16-le"), r"is not UTF-8 text \(byte 1 is 0\); save it as UTF-8"),
            ("path,label\na.mp4,1\n".encode("utf-16")[:-1], "it begins as UTF-16, but is not"),
        ],
    )
    def test_that_are_no_text_are_refused(self, tmp_path, content, message):
        (touch(tmp_path, "a.mp4") / "train.csv").write_bytes(content)
        with pytest.raises(ValueError, match=message):
            read(tmp_path)


@pytest.mark.parametrize("form", ["NFC", "NFD"])
def test_paths_are_found_in_the_other_unicode_form(tmp_path, form):
    there = unicodedata.normalize("NFD" if form == "NFC" else "NFC", "café/á.mp4")
    write_text(tmp_path / "train.txt", f"{unicodedata.normalize(form, 'café/á.mp4')} 0", "zoo/b.mp4 1")
    index = read(touch(tmp_path, there, "zoo/b.mp4"))
    assert (index.root / index.paths[0]).is_file()
    assert index.class_names == (unicodedata.normalize("NFC", "café"), "zoo")


@pytest.mark.parametrize("name", ["a.dat", "b.video", "S001.P003"])
def test_files_of_an_unknown_ending_are_files_where_they_are(tmp_path, name):
    write_mp4(tmp_path / "v.mp4", pictures(0))
    (tmp_path / "v.mp4").rename(tmp_path / name)
    write_text(tmp_path / "train.txt", f"{name} 0")
    index = read(tmp_path)
    assert (index.images, index.decode(0, lambda count: [count - 1]).shape[0]) == (None, 1)


@pytest.mark.parametrize("ending", sorted(VIDEO_EXTENSIONS))
def test_listed_paths_with_the_ending_of_a_video_are_files(tmp_path, ending):
    write_text(tmp_path / "train.txt", f"a{ending} 1", f"b{ending.upper()} 0")
    with pytest.raises(FileNotFoundError, match="not one of the 2 video files"):
        read(tmp_path)


class TestNames:
    @pytest.mark.parametrize(
        ("text", "first_label"),
        [
            ("0 Archery\n1 Band Marching\n", 0),
            ("1 Archery\n2 Band Marching\n", 1),
            ("1,Archery\n2,Band Marching\n", 1),
            ("id,name\n0,Archery\n1,Band Marching\n", 0),
            ('1\tBand Marching\n0\t"Archery"\n', 0),
        ],
    )
    def test_come_after_their_numbers(self, tmp_path, text, first_label):
        (tmp_path / "classes.txt").write_text(text)
        write_text(tmp_path / "train.txt", f"a.mp4 {first_label}", f"b.mp4 {first_label + 1}")
        index = read(touch(tmp_path, "a.mp4"))
        assert (index.class_names, index.labels.tolist()) == (("Archery", "Band Marching"), [0, 1])
        note = ("the labels of train.txt are counted from 1, as the class names are: 1 is 'Archery'",)
        assert index.notes == (note if first_label else ())

    @pytest.mark.parametrize("lines", [("3 fingers", "4 fingers"), ("1 fold", "2 fold", "unfold"), ("0", "1")])
    def test_may_begin_with_numbers_of_their_own(self, tmp_path, lines):
        write_text(tmp_path / "classes.txt", *lines)
        write_text(tmp_path / "train.txt", "a.mp4 0", "b.mp4 1")
        assert read(touch(tmp_path, "a.mp4")).class_names == lines

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
