"""Something-Something as it is shipped, under both namings."""

import json
from pathlib import Path

import numpy as np
import pytest

from tests import miniatures
from tests.miniatures import CLASSES, TEMPLATES
from timm_video_psn.data.clips.dataset import VideoDataset
from timm_video_psn.data.clips.transforms import EvalTransform, TrainTransform
from timm_video_psn.data.registry import read_index


@pytest.fixture(scope="module", params=[("sthv1", True), ("sthv1", False), ("sthv2", True), ("sthv2", False)])
def shipped(request, tmp_path_factory):
    """(name of the data set, its folder)."""
    name, first_release = request.param
    return name, getattr(miniatures, name)(tmp_path_factory.mktemp(name), first_release)


def test_videos_and_labels_are_those_of_the_annotations(shipped):
    name, root = shipped
    train, val = (read_index(name, root, split) for split in ("train", "val"))
    assert (len(train), len(val)) == (8, 4)
    assert train.class_names == val.class_names == CLASSES
    for index in (train, val):
        for number, label in enumerate(index.labels):
            path = index.root / index.paths[number]
            assert path.exists()
            first = 100218 if name == "sthv1" else 78687
            template = TEMPLATES[(int(path.stem) - first) // 10]
            assert CLASSES[label] == template.replace("[", "").replace("]", "")


def test_frames_are_read(shipped):
    name, root = shipped
    frames = read_index(name, root, "train").decode(1, lambda count: range(count))
    assert frames.shape == (miniatures.NUM_FRAMES + (name == "sthv1"), 36, 48, 3)


def test_a_test_split_has_labels_only_where_answers_lie_beside_it(shipped):
    name, root = shipped
    index = read_index(name, root, "test")
    answered = (root / "20bn-something-something-download-package-labels").exists()
    expected = [CLASSES.index(template.replace("[", "").replace("]", "")) for template in TEMPLATES]
    assert index.labels.tolist() == (expected if answered else [-1] * 4)
    samples = VideoDataset(index, 4, EvalTransform(32), training=False)
    assert [samples[number].label for number in range(4)] == index.labels.tolist()


def test_the_version_is_stated(shipped):
    name, root = shipped
    assert {read_index(name, root, split).version for split in ("train", "val", "test")} == {name[-2:].upper()}


def test_the_order_of_the_files_does_not_matter(tmp_path):
    root = miniatures.sthv1(tmp_path)
    before = read_index("sthv1", root, "train")
    labels = root / "something-something-v1-labels.csv"
    for order in (sorted, lambda names: sorted(names, reverse=True)):
        labels.write_text("\n".join(order(labels.read_text().splitlines())))
        after = read_index("sthv1", root, "train")
        assert (after.class_names, after.labels.tolist()) == (before.class_names, before.labels.tolist())
        told = any("not the order of something-something-v1-labels.csv" in note for note in after.notes)
        assert told == (order is not sorted)
    labels.unlink()
    for split in ("train", "val"):
        assert read_index("sthv1", root, split).class_names == before.class_names
    (root / "something-something-v1-train.csv").unlink()  # to test a model on the validation videos alone
    alone = read_index("sthv1", root, "val")
    assert alone.class_names == before.class_names
    assert any("something-something-v1-validation.csv names the classes" in note for note in alone.notes)
    with pytest.raises(FileNotFoundError, match="has no annotations for the split 'train'"):
        read_index("sthv1", root, "test")


def test_a_mirrored_clip_gets_the_label_of_the_other_side(tmp_path):
    index = read_index("sthv1", miniatures.sthv1(tmp_path), "train")
    dataset = VideoDataset(index, 4, TrainTransform(32, hflip=1.0), training=True)
    swapped = {name: name.replace("left", "x").replace("right", "left").replace("x", "right") for name in CLASSES}
    assert [CLASSES[dataset[number].label] for number in range(8)] == [swapped[CLASSES[i]] for i in index.labels]


def test_frames_may_be_re_encoded_or_lie_elsewhere(tmp_path):
    root = miniatures.sthv1(tmp_path)
    for folder in list((root / "20bn-something-something-v1").iterdir()):
        miniatures.write_mp4(root / "small" / f"{folder.name}.mp4", miniatures.pictures(0))
    (root / "20bn-something-something-v1").rename(tmp_path.parent / f"{tmp_path.name}-gone")
    index = read_index("sthv1", root, "train")
    assert index.paths[0] == "small/100218.mp4"
    assert index.images is None


class TestErrors:
    @staticmethod
    def broken(root: Path, name: str, text: str) -> Path:
        (root / name).write_text(text)
        return root / name

    def test_lines_of_csv(self, tmp_path):
        root = miniatures.sthv1(tmp_path)
        text = "100218;Holding something\nnonsense\n;Holding something\n\n100219;\n"
        path = self.broken(root, "something-something-v1-train.csv", text)
        with pytest.raises(ValueError, match=r"3 malformed lines") as error:
            read_index("sthv1", root, "train")
        assert [f"{path}:{line}: " in str(error.value) for line in (1, 2, 3, 4, 5)] == [False, True, True, False, True]

    def test_an_unknown_class_in_csv(self, tmp_path):
        root = miniatures.sthv1(tmp_path)
        path = self.broken(root, "something-something-v1-train.csv", "\n100218;Holding somethin\n")
        with pytest.raises(ValueError, match=r"nearest: 'Holding something'") as error:
            read_index("sthv1", root, "train")
        assert f"{path}:2: class 'Holding somethin' is none of the data set's" in str(error.value)

    def test_items_of_json_are_named_by_their_line(self, tmp_path):
        root = miniatures.sthv2(tmp_path)
        items = [{"id": "78687", "template": TEMPLATES[1]}, {"id": "1"}, {"template": "x"}, 5]
        path = self.broken(root, "something-something-v2-train.json", json.dumps(items, indent=1))
        with pytest.raises(ValueError, match=r"3 malformed lines") as error:
            read_index("sthv2", root, "train")
        lines = path.read_text().splitlines()
        for line, what in (
            (lines.index('  "id": "1"'), "video 1 has no template"),
            (lines.index('  "template": "x"'), "an object with an id was expected"),
            (lines.index(" 5") + 1, "an object with an id was expected"),
        ):
            assert f"{path}:{line}: {what}" in str(error.value)

    def test_the_file_of_the_test_split_in_the_place_of_another(self, tmp_path):
        root = miniatures.sthv2(tmp_path)
        path = self.broken(root, "something-something-v2-train.json", json.dumps([{"id": "1"}, {"id": "2"}]))
        with pytest.raises(ValueError, match="no labels, as the test split's file has none; name the file of") as error:
            read_index("sthv2", root, "train")
        assert str(path) in str(error.value)

    def test_an_unknown_class_in_json(self, tmp_path):
        root = miniatures.sthv2(tmp_path)
        items = [{"id": "78687", "template": TEMPLATES[1]}, {"id": "1", "template": "Flying [something]"}]
        path = self.broken(
            root, "something-something-v2-train.json", "\n".join(json.dumps(items, indent=0).split("\n"))
        )
        with pytest.raises(ValueError, match=r"class 'Flying something' is none of the data set's") as error:
            read_index("sthv2", root, "train")
        assert f"{path}:6: " in str(error.value)

    def test_json_that_is_none(self, tmp_path):
        root = miniatures.sthv2(tmp_path)
        path = self.broken(root, "something-something-v2-train.json", '[{"id": "1"},\n{"id"]')
        with pytest.raises(ValueError, match=r"no valid JSON") as error:
            read_index("sthv2", root, "train")
        assert f"{path}:2: " in str(error.value)
        self.broken(root, "something-something-v2-train.json", "{}")
        with pytest.raises(ValueError, match=r"expected a list of objects with id and template, found a dict"):
            read_index("sthv2", root, "train")

    def test_no_video_there(self, tmp_path):
        root = miniatures.sthv2(tmp_path)
        (root / "20bn-something-something-v2").rename(tmp_path.parent / f"{tmp_path.name}-gone")
        with pytest.raises(
            FileNotFoundError, match=r"not one of the 8 videos of Something-Something V2 is in .*78687.webm"
        ):
            read_index("sthv2", root, "train")

    def test_one_video_of_all_is_enough(self, tmp_path):
        root = miniatures.sthv2(tmp_path)
        for path in sorted((root / "20bn-something-something-v2").iterdir())[1:]:
            path.unlink()
        assert len(read_index("sthv2", root, "train")) == 8


def test_columns_are_arrays(tmp_path):
    index = read_index("sthv1", miniatures.sthv1(tmp_path), "train")
    assert index.labels.dtype == np.int64
