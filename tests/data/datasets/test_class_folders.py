"""Folder data sets of every layout, right and wrong."""

from pathlib import Path

import numpy as np
import pytest

from timm_video_psn.data.datasets.class_folders import read_folder
from timm_video_psn.data.datasets.parsing import NoAnnotationsError


def touch(root: Path, *names: str) -> Path:
    for name in names:
        (root / name).parent.mkdir(parents=True, exist_ok=True)
        (root / name).touch()
    return root


class TestReadFolder:
    def test_with_splits(self, tmp_path):
        touch(tmp_path, "train/b/2.MP4", "train/b/1.webm", "train/a/deep/er/0.avi", "val/a/3.mkv", "val/b/4.mov")
        train, val = (read_folder(tmp_path, split) for split in ("train", "val"))
        assert list(train.paths) == ["train/a/deep/er/0.avi", "train/b/1.webm", "train/b/2.MP4"]
        assert train.labels.dtype == np.int64
        assert train.labels.tolist() == [0, 1, 1]
        assert train.class_names == val.class_names == ("a", "b")
        assert list(val.paths) == ["val/a/3.mkv", "val/b/4.mov"]
        assert train.root == tmp_path
        assert len(train) == 3
        assert not train.shared_split
        assert train.reversal_pairs == ()

    def test_without_splits_uses_all_videos_for_both(self, tmp_path):
        touch(tmp_path, "run/0.mp4", "sit/1.mp4")
        train, val = (read_folder(tmp_path, split) for split in ("train", "val"))
        assert list(train.paths) == list(val.paths) == ["run/0.mp4", "sit/1.mp4"]
        assert train.shared_split
        assert val.shared_split

    def test_frame_folders_are_videos(self, tmp_path):
        touch(tmp_path, "run/v1/1.jpg", "run/v1/2.jpg", "run/v1/flow.txt", "run/group/v2/1.png", "sit/v.mp4")
        index = read_folder(tmp_path, "train")
        assert list(index.paths) == ["run/group/v2", "run/v1", "sit/v.mp4"]
        assert index.notes == ()

    def test_images_beside_videos_are_no_frames(self, tmp_path):
        index = read_folder(touch(tmp_path, "run/day1/v.mp4", "run/day1/v.jpg", "run/cover.jpg"), "train")
        assert list(index.paths) == ["run/day1/v.mp4"]
        assert index.notes == (f"files that are not videos are not used: 2 .jpg in {tmp_path}",)

    def test_counts_what_it_passes_over(self, tmp_path):
        touch(tmp_path, "readme.txt", "run/a.mp4", "run/a.json", "run/x/b.srt", ".DS_Store", "run/.hidden.mp4")
        assert "not used: 1 .txt, 1 .json, 1 .srt in " in read_folder(tmp_path, "train").notes[0]

    def test_a_class_may_be_named_train(self, tmp_path):
        touch(tmp_path, "bus/0.mp4", "train/1.mp4", "train/frames/1.jpg")
        assert read_folder(tmp_path, "val").class_names == ("bus", "train")

    def test_is_found_by_a_relative_path(self, tmp_path, monkeypatch):
        touch(tmp_path, "data/run/0.mp4")
        monkeypatch.chdir(tmp_path)
        index = read_folder("data", "train")
        assert (index.root / index.paths[0]).exists()


class TestReadFolderErrors:
    def test_missing_folder(self, tmp_path):
        with pytest.raises(FileNotFoundError, match="gone is not a folder; name the folder that holds train/<class>"):
            read_folder(tmp_path / "gone", "train")

    def test_no_folder_given(self):
        with pytest.raises(ValueError, match="the data set 'folder' needs data_dir"):
            read_folder(None, "train")

    def test_empty_folder(self, tmp_path):
        with pytest.raises(ValueError, match="holds neither class folders nor videos; accepted is train/<class>"):
            read_folder(tmp_path, "train")

    def test_videos_without_class_folders(self, tmp_path):
        touch(tmp_path, "0.mp4", "1.mp4")
        with pytest.raises(ValueError, match=r"holds 2 videos but no class folders; .* make one folder for each class"):
            read_folder(tmp_path, "train")

    def test_splits_without_class_folders(self, tmp_path):
        touch(tmp_path, "train/0.mp4", "val/1.mp4")
        with pytest.raises(ValueError, match="train holds 1 videos but no class folders"):
            read_folder(tmp_path, "train")

    def test_classes_without_videos_are_all_named(self, tmp_path):
        touch(tmp_path, "run/0.mp4", "sit/notes.txt", "walk/picture.jpg")
        with pytest.raises(
            ValueError, match=r"2 of 3 classes in .* have no video: sit, walk; files passed over: 1 .txt, 1 .jpg; acc"
        ):
            read_folder(tmp_path, "train")

    def test_many_classes_without_videos_are_named_up_to_twenty(self, tmp_path):
        touch(tmp_path, *(f"class{i:02d}/notes.txt" for i in range(25)))
        with pytest.raises(ValueError, match=r"class18, class19 and 5 more; files passed over: 25 .txt; acc"):
            read_folder(tmp_path, "train")

    def test_splits_with_different_classes(self, tmp_path):
        touch(tmp_path, "train/a/0.mp4", "train/b/0.mp4", "val/b/0.mp4", "val/c/0.mp4")
        with pytest.raises(ValueError, match=r"have different classes; only in train: a; only in val: c; both need"):
            read_folder(tmp_path, "train")

    def test_videos_to_validate_on_can_lie_alone(self, tmp_path):
        touch(tmp_path, "val/a/0.mp4", "val/b/0.mp4")
        index = read_folder(tmp_path, "val")
        assert list(index.paths) == ["val/a/0.mp4", "val/b/0.mp4"]
        assert not index.shared_split
        with pytest.raises(FileNotFoundError, match="has a folder val but not both"):
            read_folder(tmp_path, "train")

    def test_a_missing_split(self, tmp_path):
        touch(tmp_path, "train/a/0.mp4", "test/a/0.mp4")
        with pytest.raises(FileNotFoundError, match="has a folder train but not both of train and val; found: test, "):
            read_folder(tmp_path, "val")


class TestHuggingFacesVideoFolder:
    def test_has_metadata_in_the_folder_of_each_split(self, tmp_path):
        touch(tmp_path, "train/1.mp4", "train/deep/2.mp4", "validation/3.mp4", "test/4.mp4")
        (tmp_path / "train" / "metadata.csv").write_text("file_name,label,fps\n1.mp4,sit\ndeep/2.mp4,run\n")
        (tmp_path / "validation" / "metadata.jsonl").write_text('{"file_name": "3.mp4", "label": "sit"}\n\n')
        (tmp_path / "test" / "metadata.csv").write_text("file_name\n4.mp4\n")
        train, val, test = (read_folder(tmp_path, split) for split in ("train", "val", "test"))
        assert train.class_names == val.class_names == test.class_names == ("run", "sit")
        assert list(train.paths) == ["train/1.mp4", "train/deep/2.mp4"]
        assert (train.labels.tolist(), val.labels.tolist(), test.labels.tolist()) == ([1, 0], [1], [-1])
        assert list(val.paths) == ["validation/3.mp4"]
        assert train.named
        assert not train.shared_split
        assert train.label_sets is None

    def test_may_have_one_file_above_them_and_numbers_for_labels(self, tmp_path):
        touch(tmp_path, "data/train/1.mp4", "data/dev/2.mp4")
        folder = tmp_path / "data"
        (folder / "metadata.csv").write_text("label,video_file_name\n2,train/1.mp4\n0,dev/2.mp4\n")
        train, val = (read_folder(folder, split) for split in ("train", "val"))
        assert (list(train.paths), list(val.paths)) == (["train/1.mp4"], ["dev/2.mp4"])
        assert (train.class_names, train.labels.tolist(), val.labels.tolist()) == (("0", "1", "2"), [2], [0])
        assert not train.named
        with pytest.raises(NoAnnotationsError, match="no videos of the split 'test'"):
            read_folder(folder, "test")

    def test_without_splits_uses_all_videos_for_both(self, tmp_path):
        touch(tmp_path, "1.mp4", "2.mp4")
        (tmp_path / "metadata.csv").write_text("file_name,label\n1.mp4,a\n2.mp4,b\n")
        train, val = (read_folder(tmp_path, split) for split in ("train", "val"))
        assert list(train.paths) == list(val.paths) == ["1.mp4", "2.mp4"]
        assert train.shared_split

    def test_has_several_classes_of_a_video_as_a_list(self, tmp_path):
        touch(tmp_path, "train/1.mp4", "val/2.mp4")
        (tmp_path / "train" / "metadata.jsonl").write_text('{"file_name": "1.mp4", "labels": ["b", "a", "c"]}')
        (tmp_path / "val" / "metadata.jsonl").write_text('{"file_name": "2.mp4", "labels": "c"}')
        train, val = (read_folder(tmp_path, split) for split in ("train", "val"))
        assert train.labels_of(0).tolist() == [0, 1, 2]
        assert val.label_sets.of(0).tolist() == [2]

    @pytest.mark.parametrize(
        ("train", "val", "message"),
        [
            ("file_name,label\n1.mp4,\n", "file_name,label\n2.mp4,a\n", r"gives train/1.mp4 no label"),
            ("file_name,label\n1.mp4,a\n", "file_name,label\n2.mp4,b\n", r"label 'b', which no training video has"),
        ],
    )
    def test_that_does_not_fit_says_why(self, tmp_path, train, val, message):
        touch(tmp_path, "train/1.mp4", "val/2.mp4")
        (tmp_path / "train" / "metadata.csv").write_text(train)
        (tmp_path / "val" / "metadata.csv").write_text(val)
        with pytest.raises(ValueError, match=message):
            [read_folder(tmp_path, split) for split in ("train", "val")]

    def test_a_metadata_file_of_something_else_changes_nothing(self, tmp_path):
        touch(tmp_path, "run/0.mp4", "sit/1.mp4")
        (tmp_path / "metadata.csv").write_text("id,author\n1,me\n")
        assert read_folder(tmp_path, "train").class_names == ("run", "sit")

    def test_validation_is_another_name_of_val_for_class_folders_too(self, tmp_path):
        touch(tmp_path, "train/a/1.mp4", "validation/a/2.mp4", "test/a/3.mp4")
        paths = [list(read_folder(tmp_path, split).paths) for split in ("train", "val", "test")]
        assert paths == [["train/a/1.mp4"], ["validation/a/2.mp4"], ["test/a/3.mp4"]]


def test_hugging_faces_own_reader_agrees(tmp_path):
    datasets = pytest.importorskip("datasets")
    touch(tmp_path, "train/1.mp4", "train/2.mp4")
    (tmp_path / "train" / "metadata.csv").write_text("file_name,label\n1.mp4,sit\n2.mp4,run\n")
    judge = datasets.load_dataset("videofolder", data_dir=str(tmp_path), split="train").cast_column(
        "video", datasets.Video(decode=False)
    )
    index = read_folder(tmp_path, "train")
    expected = {(Path(row["video"]["path"]).name, row["label"]) for row in judge}
    assert {(Path(index.paths[n]).name, index.class_names[index.labels[n]]) for n in range(2)} == expected
