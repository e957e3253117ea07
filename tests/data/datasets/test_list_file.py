"""List files of every form, right and wrong."""

import numpy as np
import pytest

from tests import miniatures
from tests.miniatures import NUM_FRAMES, pictures, write_images, write_mp4, write_text
from timm_video_psn.data.registry import read_index
from timm_video_psn.data.tools.check import check_video, listed_videos
from timm_video_psn.data.video.errors import DecodeError
from timm_video_psn.data.video.frame_folder import ImageNames
from timm_video_psn.data.video.reader import VideoReader


def touch(root, *names):
    for name in names:
        (root / name).parent.mkdir(parents=True, exist_ok=True)
        (root / name).touch()
    return root


def read(root, split="train", **files):
    return read_index("list", root, split, files)


class TestForms:
    @pytest.mark.parametrize("separator", [" ", "\t", "  ", ","])
    @pytest.mark.parametrize("name", ["a.mp4", "sub folder/a 1 2.webm", "1 2.mkv"])
    def test_videos(self, tmp_path, separator, name):
        write_text(tmp_path / "train.txt", f"{name}{separator}1", f"b.mp4{separator}0", "", f"c.mp4{separator}1")
        index = read(touch(tmp_path, name))
        assert list(index.paths) == [name, "b.mp4", "c.mp4"]
        assert index.labels.tolist() == [1, 0, 1]
        assert index.images is index.lengths is index.first_frames is None

    @pytest.mark.parametrize("separator", [" ", "\t"])
    def test_frame_folders(self, tmp_path, separator):
        write_images(tmp_path / "v1", pictures(0))
        write_text(
            tmp_path / "train_videofolder.txt", *(separator.join(row) for row in (("v1", "9", "1"), ("v2", "30", "0")))
        )
        index = read(tmp_path)
        assert list(index.paths) == ["v1", "v2"]
        assert (index.labels.tolist(), index.lengths.tolist()) == ([1, 0], [9, 30])
        assert index.images == ImageNames("{:05d}.jpg", 1)
        assert index.first_frames is None

    def test_parts_of_frame_folders(self, tmp_path):
        frames = pictures(0)
        write_images(tmp_path / "v1", frames, "img_{:05d}.png")
        write_text(tmp_path / "train.txt", "v1 2 5 0", "v1 0 10 1")
        index = read(tmp_path)
        asked = []

        def choose(count):
            asked.append(count)
            return [0, count - 1]

        assert np.array_equal(index.decode(0, choose), frames[[2, 6]])
        assert np.array_equal(index.decode(1, choose), frames[[0, 9]])
        assert asked == [5, 10]

    @pytest.mark.parametrize("separator", [" ", "\t"])
    def test_video_files_with_their_frames(self, tmp_path, separator):
        write_mp4(tmp_path / "videos" / "v 1.mp4", pictures(0))
        rows = (("v 1.mp4", "12", "1"), ("v2.mp4", "30", "0"))  # extractors count a few frames more or less
        write_text(tmp_path / "train.txt", *(separator.join(row) for row in rows))
        index = read(tmp_path)
        assert list(index.paths) == ["v 1.mp4", "v2.mp4"]
        assert (index.labels.tolist(), index.lengths, index.first_frames) == ([1, 0], None, None)
        asked = []
        index.decode(0, lambda count: asked.append(count) or [0])
        assert asked == [10]

    def test_several_labels_for_a_video_are_not_taken_for_frames(self, tmp_path):
        for number in range(4):
            write_mp4(tmp_path / f"v{number}.mp4", pictures(number))
        path = write_text(tmp_path / "train.txt", "v0.mp4 1 3", "v1.mp4 9 2", "v2.mp4 30 0", "v3.mp4 0 1")
        with pytest.raises(ValueError, match=r"0 frames leave nothing to look at"):
            read(tmp_path)
        write_text(path, "v0.mp4 1 3", "v1.mp4 9 2", "v2.mp4 30 0", "v3.mp4 2 1")
        with pytest.raises(ValueError, match=r"1 was taken for the frames of v0.mp4, which has 10") as error:
            read(tmp_path)
        assert str(error.value).startswith(f"{path}:1: ")
        assert "for several labels `path label;label`" in str(error.value)

    @pytest.mark.parametrize("separator", [" ", "\t"])
    def test_parts_of_video_files(self, tmp_path, separator):
        write_mp4(tmp_path / "v1.mp4", pictures(0))
        rows = (("v1.mp4", "2", "5", "0"), ("v1.mp4", "0", "10", "1"), ("v1.mp4", "6", "5", "1"))
        write_text(tmp_path / "train.txt", *(separator.join(row) for row in rows))
        index = read(tmp_path)
        with VideoReader(tmp_path / "v1.mp4") as reader:
            frames = reader.read(range(10))
        asked = []

        def choose(count):
            asked.append(count)
            return [0, count - 1]

        assert np.array_equal(index.decode(0, choose), frames[[2, 6]])
        assert np.array_equal(index.decode(1, choose), frames[[0, 9]])
        assert asked == [5, 10]
        with pytest.raises(DecodeError, match="it has 10 frames; its annotation states 5 from frame 6 on"):
            index.decode(2, choose)
        health = [check_video(video) for video in listed_videos(index)]
        assert [video.reason is None for video in health] == [True, True, False]

    def test_frame_folders_without_counts(self, tmp_path):
        write_images(tmp_path / "v1", pictures(0))
        write_text(tmp_path / "train.txt", "v1 0", "v2 1")
        assert read(tmp_path).decode(0, lambda count: [count - 1]).shape[0] == 1

    def test_a_test_split_needs_no_labels(self, tmp_path):
        write_images(tmp_path / "v1", pictures(0))
        write_text(tmp_path / "train.txt", "v1 10 0", "v1 10 1")
        write_text(tmp_path / "test.txt", "v1 10")
        index = read(tmp_path, "test")
        assert (index.labels.tolist(), index.lengths.tolist(), index.class_names) == ([-1], [10], ("0", "1"))

    def test_absolute_paths_and_a_byte_order_mark(self, tmp_path):
        video = touch(tmp_path, "elsewhere/a.mp4") / "elsewhere/a.mp4"
        (tmp_path / "train.txt").write_text(f"{video} 0\n", encoding="utf-8-sig")
        index = read(tmp_path)
        assert index.root / index.paths[0] == video

    def test_the_first_folder_may_be_empty(self, tmp_path):
        write_images(tmp_path / "v2", pictures(0))
        (tmp_path / "v1").mkdir()
        write_text(tmp_path / "train.txt", "v1 10 0", "v2 10 1")
        index = read(tmp_path)
        assert index.decode(1, lambda count: [count - 1]).shape[0] == 1
        with pytest.raises(DecodeError, match=r"image 00001.jpg cannot be read; its annotation states 10 frames"):
            index.decode(0, lambda count: [0])

    def test_validation_alone_tells_its_own_classes(self, tmp_path):
        write_text(tmp_path / "val.txt", "run/a.mp4 1", "sit/b.mp4 0")
        index = read(touch(tmp_path, "run/a.mp4"), "val")
        assert index.class_names == ("sit", "run")
        assert index.notes == ("there are no training annotations: val.txt names the classes, and it may lack some",)
        write_text(tmp_path / "test.txt", "run/a.mp4")
        with pytest.raises(FileNotFoundError, match="has no annotations for the split 'train'"):
            read(tmp_path, "test")

    @pytest.mark.parametrize("base", ["videos_val", "videos", "my own", "annotations"])
    def test_paths_may_begin_in_another_folder(self, tmp_path, base):
        write_text(tmp_path / "annotations" / "kinetics400_val_list_videos.txt", "c/a.mp4 0", "d/b.mp4 1")
        write_text(tmp_path / "annotations" / "kinetics400_train_list_videos.txt", "c/x.mp4 0", "d/b.mp4 1")
        index = read(touch(tmp_path, f"{base}/d/b.mp4"), "val")
        assert (index.root / index.paths[1]).exists()
        assert index.class_names == ("c", "d")

    def test_lists_given_by_name_need_no_folder(self, tmp_path):
        given = write_text(touch(tmp_path, "a.mp4") / "mine.lst", "a.mp4 0")
        assert len(read_index("list", None, "train", {"train": given})) == 1


class TestImageNames:
    @pytest.mark.parametrize(
        "template", ["{:05d}.jpg", "{:06d}.jpg", "img_{:05d}.jpg", "image_{:05d}.jpg", "frames{:05d}.jpg", "{:d}.png"]
    )
    def test_every_template_of_the_field_is_found(self, tmp_path, template):
        miniatures.frame_lists(tmp_path, template=template)
        index = read(tmp_path)
        assert index.images.template.format(7) == template.format(7)
        expected = read_index("folder", _class_folder(tmp_path), "train").decode(0, lambda count: range(count))
        assert np.array_equal(index.decode(0, lambda count: range(count)), expected)

    def test_optical_flow_beside_the_frames_is_no_frame(self, tmp_path):
        for template in ("flow_x_{:05d}.jpg", "flow_y_{:05d}.jpg"):
            write_images(tmp_path / "v1", pictures(1, NUM_FRAMES + 3), template)
        write_images(tmp_path / "v1", pictures(0), "img_{:05d}.jpg")
        write_text(tmp_path / "train.txt", "v1 0")
        asked = []
        read(tmp_path).decode(0, lambda count: asked.append(count) or [0])
        assert asked == [NUM_FRAMES]


def _class_folder(root):
    """The first video alone, as a folder data set."""
    (root / "plain" / "c").mkdir(parents=True)
    (root / "frames" / "train_0_0").rename(root / "plain" / "c" / "v")
    (root / "frames" / "train_0_0").symlink_to(root / "plain" / "c" / "v")
    return root / "plain"


def test_labels_that_do_not_begin_at_0_are_pointed_out(tmp_path):
    write_text(tmp_path / "train.txt", "a.mp4 1", "b.mp4 2")
    assert "the smallest label in train.txt is 1" in read(touch(tmp_path, "a.mp4")).notes[1]


class TestErrors:
    def test_malformed_lines_are_named_up_to_twenty(self, tmp_path):
        lines = ["a.mp4 0", "b.mp4", "c.mp4 1 2 3 4", "d 5 1", "e.mp4 -1", *["f.mp4"] * 20]
        path = write_text(touch(tmp_path, "a.mp4") / "train.txt", *lines)
        with pytest.raises(ValueError, match=r"24 malformed lines") as error:
            read(tmp_path)
        message = str(error.value).splitlines()
        assert message[1] == f"  {path}:2: 'b.mp4' has no label; expected `path label`"
        assert "3: 'c.mp4 1 2 3 4' has 4 numbers after a video file; expected `path label`, or" in message[2]
        assert "4: 'd 5 1' is not `path label` for files, as the lines before it are" in message[3]
        assert message[4] == f"  {path}:5: label -1 is negative"
        assert (len(message), message[-2]) == (23, "  and 4 more")

    @pytest.mark.parametrize(
        ("line", "message"),
        [
            ("v 0 1", "train.txt:2: 0 frames leave nothing to look at"),
            ("v -3 5 1", "is not `path frames label` for frame folders"),
            ("v 1 2 3 4", "has 4 numbers; expected one of path label, path frames label"),
            ("v 99999999999 1", "are out of range"),
        ],
    )
    def test_wrong_numbers(self, tmp_path, line, message):
        write_text(tmp_path / "train.txt", "v 5 0", line)
        with pytest.raises(ValueError, match=message):
            read(tmp_path)

    def test_labels_beyond_the_names(self, tmp_path):
        write_text(tmp_path / "train.txt", "a.mp4 0", "b.mp4 2")
        write_text(tmp_path / "classes.txt", "run", "sit")
        with pytest.raises(ValueError, match=r"train.txt:2: label 2, but labels are 0 to 1: there are 2 classes"):
            read(touch(tmp_path, "a.mp4"))

    def test_no_video_there(self, tmp_path):
        write_text(tmp_path / "train.txt", "a.mp4 0", "b.mp4 1")
        with pytest.raises(FileNotFoundError, match=r"not one of the 2 video files of .*, for example a.mp4; looked"):
            read(tmp_path)

    def test_several_lists(self, tmp_path):
        for name in ("k400", "k600"):
            write_text(tmp_path / f"{name}_train_list_videos.txt", "a.mp4 0")
        with pytest.raises(ValueError, match=r"has several lists of the split 'train': .*; name one with --train-list"):
            read(tmp_path)

    def test_an_empty_list(self, tmp_path):
        write_text(tmp_path / "train.txt", "")
        with pytest.raises(ValueError, match=r"train.txt lists no videos; expected a line `path label`"):
            read(tmp_path)

    def test_a_list_that_is_not_there(self, tmp_path):
        with pytest.raises(FileNotFoundError, match=r"--train-list gone.txt: no such file"):
            read(tmp_path, train="gone.txt")
        with pytest.raises(ValueError, match=r"was asked for without --data-dir"):
            read(None)


class TestSeveralLabels:
    def write(self, folder, *lines):
        for number in range(3):
            write_mp4(folder / f"v{number}.mp4", pictures(number))
        write_text(folder / "train.txt", *lines)

    @pytest.mark.parametrize(
        "lines",
        [
            ("v0.mp4,3;1", "v1.mp4,2", "v2.mp4,0;3;1"),
            ("v1.mp4 2", "v0.mp4 1;3", "v2.mp4 3|0|1"),
            ("path,label", "v0.mp4,3;1", "v1.mp4,2", "v2.mp4,3; 0; 1"),
            ("file_name;labels", "v1.mp4;2", 'v0.mp4;"3;1"', 'v2.mp4;"0;1;3"'),
            ('"v0.mp4";"3;1"', '"v1.mp4";2', '"v2.mp4";"0;1;3"'),
        ],
    )
    def test_stand_in_the_place_of_one_parted_by_semicolons_or_bars(self, tmp_path, lines):
        self.write(tmp_path, *lines)
        index = read(tmp_path)
        assert {index.paths[number]: index.labels_of(number).tolist() for number in range(3)} == {
            "v0.mp4": [1, 3],
            "v1.mp4": [2],
            "v2.mp4": [0, 1, 3],
        }
        assert index.class_counts().tolist() == [1, 2, 1, 2]
        assert index.labels.tolist() == [index.labels_of(number)[0] for number in range(3)]

    def test_are_checked_and_count_from_1_where_the_names_do(self, tmp_path):
        self.write(tmp_path, "v0.mp4 1;3", "v1.mp4 2", "v2.mp4 3")
        write_text(tmp_path / "classes.txt", "1 run", "2 jump", "3 sit")
        assert read(tmp_path).labels_of(0).tolist() == [0, 2]
        write_text(tmp_path / "classes.txt", "run", "jump", "sit")
        with pytest.raises(ValueError, match=r"train.txt:1: label 3, but labels are 0 to 2"):
            read(tmp_path)

    def test_tell_data_sets_apart(self, tmp_path):
        self.write(tmp_path, "v0.mp4 1;2", "v1.mp4 2", "v2.mp4 0")
        first = read(tmp_path).fingerprint()
        self.write(tmp_path, "v0.mp4 1;2;0", "v1.mp4 2", "v2.mp4 0")
        write_text(tmp_path / "train.txt", "v0.mp4 1;0", "v1.mp4 2", "v2.mp4 0")
        assert read(tmp_path).fingerprint() != first
