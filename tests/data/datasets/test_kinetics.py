"""Kinetics-400 in the forms that go round."""

import shutil

import pytest

from tests import miniatures
from tests.miniatures import KINETICS, write_text
from timm_video_psn.data.registry import read_index

NAMES = tuple(sorted(KINETICS))


@pytest.mark.parametrize("class_folders", [True, False])
@pytest.mark.parametrize("both_times", [True, False])
@pytest.mark.parametrize("is_cc", [True, False])
def test_official_csv(tmp_path, class_folders, both_times, is_cc):
    root = miniatures.k400(tmp_path, class_folders, both_times, is_cc)
    train, val = (read_index("k400", root, split) for split in ("train", "val"))
    assert train.class_names == val.class_names == NAMES
    assert (len(train), len(val)) == (8, 4)
    for index, split in ((train, "tr"), (val, "va")):
        assert index.notes == ()
        for number, label in enumerate(index.labels):
            path = root / index.paths[number]
            assert path.exists()
            assert path.name.startswith(split)
            assert NAMES[label] == KINETICS[int(path.name[4])]


def test_the_val_split_may_be_named_validate(tmp_path):
    root = miniatures.k400(tmp_path)
    (root / "kinetics-400_val.csv").rename(root / "validate.csv")
    assert len(read_index("k400", root, "val")) == 4


def test_a_test_split_may_lack_labels(tmp_path):
    root = miniatures.k400(tmp_path)
    lines = (root / "kinetics-400_val.csv").read_text().splitlines()
    write_text(root / "kinetics-400_test.csv", *(line.split(",", 1)[1] for line in lines))
    assert read_index("k400", root, "test").labels.tolist() == [-1] * 4
    write_text(root / "kinetics-400_test.csv", lines[0], *("," + line.split(",", 1)[1] for line in lines[1:]))
    index = read_index("k400", root, "test")
    assert (index.labels.tolist(), index.class_names) == ([-1] * 4, NAMES)
    assert all((root / path).exists() for path in index.paths)


def test_missing_clips_stay_and_are_counted(tmp_path):
    root = miniatures.k400(tmp_path)
    (root / "train" / "abseiling" / "tr-_1abcd00_000000_000010.mp4").unlink()
    index = read_index("k400", root, "train")
    assert len(index) == 8
    assert index.notes == ("1 of 8 train videos of kinetics-400_train.csv are missing",)
    missing = [path for path in index.paths if not (root / path).exists()]
    assert [path.rpartition("/")[2] for path in missing] == ["tr-_1abcd00_000000_000010.mp4"]


def test_a_replacement_takes_the_place_of_its_namesake(tmp_path):
    root = miniatures.k400(tmp_path, class_folders=False)
    name = "tr-_1abcd00_000000_000010.mp4"
    (root / "replacement_for_corrupted_k400").mkdir()
    shutil.copy(root / "train" / name, root / "replacement_for_corrupted_k400" / name)
    assert f"replacement_for_corrupted_k400/{name}" in list(read_index("k400", root, "train").paths)


def test_frame_folders(tmp_path):
    root = miniatures.k400(tmp_path)
    shutil.rmtree(root / "val")
    for label in range(4):
        folder = root / "rawframes_val" / KINETICS[label] / f"va-_{label}abcd00_000000_000010"
        miniatures.write_images(folder, miniatures.pictures(label), "img_{:05d}.jpg")
    index = read_index("k400", root, "val")
    assert index.decode(0, lambda count: range(count)).shape[0] == miniatures.NUM_FRAMES


def test_validation_alone_tells_its_own_classes(tmp_path):
    root = miniatures.k400(tmp_path)
    expected = read_index("k400", root, "val")
    (root / "kinetics-400_train.csv").unlink()
    index = read_index("k400", root, "val")
    assert (index.class_names, index.labels.tolist()) == (NAMES, expected.labels.tolist())
    assert any("kinetics-400_val.csv names the classes" in note for note in index.notes)
    assert not any("the classes are" in note for note in expected.notes)
    (root / "kinetics-400_val.csv").unlink()
    write_text(root / "val.csv", *(f"{path} {label}" for path, label in zip(index.paths, index.labels, strict=True)))
    index = read_index("k400", root, "val")
    assert (index.class_names, index.labels.tolist()) == (NAMES, expected.labels.tolist())
    assert "there are no training annotations: val.csv names the classes, and it may lack some" in index.notes
    with pytest.raises(FileNotFoundError, match="has no annotations for the split 'train'"):
        read_index("k400", root, "train")


def test_lists_of_paths_are_renumbered_by_name(tmp_path):
    root = miniatures.k400(tmp_path)
    official = {split: read_index("k400", root, split) for split in ("train", "val")}
    for split in ("train", "val"):
        (root / f"kinetics-400_{split}.csv").unlink()
        paths = sorted((root / split).rglob("*.mp4"))
        rows = (f"{path} {KINETICS.index(path.parent.name.replace('_', ' '))}" for path in paths)
        write_text(root / f"{split}.csv", *rows)
    for split in ("train", "val"):
        index = read_index("k400", root, split)
        assert index.class_names == official[split].class_names == NAMES
        labels = dict(zip((path.rpartition("/")[2] for path in index.paths), index.labels.tolist(), strict=True))
        expected = official[split]
        assert labels == dict(
            zip((path.rpartition("/")[2] for path in expected.paths), expected.labels.tolist(), strict=True)
        )


class TestErrors:
    def test_malformed_lines(self, tmp_path):
        root = miniatures.k400(tmp_path)
        path = root / "kinetics-400_train.csv"
        header = "label,youtube_id,time_start,time_end,split"
        write_text(
            path, header, "abseiling,short,0,10,train", ",tr-_1abcd00,0,10,train", "a,tr-_1abcd00,x,10,train", "a"
        )
        with pytest.raises(ValueError, match=r"4 malformed lines") as error:
            read_index("k400", root, "train")
        for line, what in (
            (2, "'short' is not a YouTube id of 11 characters"),
            (3, "video tr-_1abcd00 has no label"),
            (4, "times 'x' and '10' are not numbers"),
            (5, "'' is not a YouTube id"),
        ):
            assert f"{path}:{line}: {what}" in str(error.value)

    def test_a_header_that_lacks_columns(self, tmp_path):
        root = miniatures.k400(tmp_path)
        path = write_text(root / "kinetics-400_train.csv", "youtube_id,split", "tr-_1abcd00,train")
        with pytest.raises(ValueError, match=r"the header lacks label, time_end, time_start") as error:
            read_index("k400", root, "train")
        assert f"{path}:1: " in str(error.value)

    def test_a_class_that_training_lacks(self, tmp_path):
        root = miniatures.k400(tmp_path)
        path = root / "kinetics-400_val.csv"
        write_text(path, "label,youtube_id,time_start,time_end,split", "abseilin,va-_1abcd00,0,10,validate")
        with pytest.raises(
            ValueError,
            match=r"class 'abseilin' is none of the data set's \(they are named in .*\); nearest: 'abseiling'",
        ) as error:
            read_index("k400", root, "val")
        assert f"{path}:2: " in str(error.value)

    def test_no_video_there(self, tmp_path):
        root = miniatures.k400(tmp_path)
        shutil.rmtree(root / "train")
        with pytest.raises(
            FileNotFoundError, match=r"not one of the 8 videos of Kinetics-400 is in .* and its folders; looked for"
        ):
            read_index("k400", root, "train")

    def test_lists_without_names(self, tmp_path):
        miniatures.write_mp4(tmp_path / "a.mp4", miniatures.pictures(0))
        write_text(tmp_path / "train.csv", "a.mp4 0", "b.mp4 1")
        with pytest.raises(ValueError, match=r"numbers the classes of Kinetics-400, and nothing names them"):
            read_index("k400", tmp_path, "train")
        write_text(tmp_path / "classes.txt", "zumba", "abseiling")
        index = read_index("k400", tmp_path, "train")
        assert (index.class_names, index.labels.tolist()) == (("abseiling", "zumba"), [1, 0])

    def test_two_forms_at_once(self, tmp_path):
        root = miniatures.k400(tmp_path)
        write_text(root / "kinetics-400_train.csv", "train/abseiling/a.mp4 0")
        with pytest.raises(ValueError, match=r"has a csv header, but .* is a list of paths; use one form for both"):
            read_index("k400", root, "val")
