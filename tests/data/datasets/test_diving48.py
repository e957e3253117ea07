"""Diving48 with either set of labels."""

import json
import shutil

import pytest

from tests import miniatures
from timm_video_psn.data.datasets import diving48
from timm_video_psn.data.registry import read_index

NAMES = tuple(" ".join(dive) for dive in miniatures.DIVES)


@pytest.mark.parametrize(("prefix", "version"), [("V2_", "V2"), ("", "V1"), ("V1_", "V1")])
def test_videos_labels_and_version(tmp_path, prefix, version):
    root = miniatures.diving48(tmp_path, prefix)
    train, val = (read_index("diving48", root, split) for split in ("train", "val"))
    assert (train.version, val.version) == (version, version)
    assert train.class_names == val.class_names == NAMES
    assert train.labels.tolist() == [0, 0, 0, 1, 1, 1, 2, 2, 2]
    assert val.labels.tolist() == [0, 1, 2]
    assert train.paths[0] == "rgb/_8Vy3dlHg2w_00000.mp4"
    assert (
        f"labels {version} (Diving48_{prefix}train.json): results are comparable only with other results on {version}"
        in train.notes[0]
    )


def test_the_length_is_the_videos_not_the_annotations(tmp_path):
    asked = []
    index = read_index("diving48", miniatures.diving48(tmp_path), "val")
    index.decode(0, lambda count: asked.append(count) or [count - 1])
    assert asked == [miniatures.NUM_FRAMES + 8]


def test_v2_is_read_where_both_lie_and_a_list_chooses_otherwise(tmp_path):
    root = miniatures.diving48(miniatures.diving48(tmp_path, ""), "V2_")
    assert read_index("diving48", root, "train").version == "V2"
    chosen = {"train": root / "Diving48_train.json"}
    assert read_index("diving48", root, "train", chosen).version == "V1"


def test_the_number_of_videos_tells_the_version_of_a_renamed_file(tmp_path, monkeypatch):
    monkeypatch.setitem(diving48._OFFICIAL_SIZES, (9, "train"), "V2")  # the sizes are official, the miniature is not
    root = miniatures.diving48(tmp_path, "")
    assert read_index("diving48", root, "train").version == "V2"
    monkeypatch.setitem(diving48._OFFICIAL_SIZES, (9, "train"), "V1")
    root = miniatures.diving48(tmp_path, "V2_")
    with pytest.raises(ValueError, match=r"is named like V2, but its 9 videos are the number of V1; rename it back"):
        read_index("diving48", root, "train")


def test_official_sizes():
    sizes = {"V1": {"train": 15943, "val": 2096}, "V2": {"train": 15027, "val": 1970}}
    expected = {(count, split): version for version, splits in sizes.items() for split, count in splits.items()}
    assert expected == diving48._OFFICIAL_SIZES


def test_annotations_and_frames_may_lie_in_folders(tmp_path):
    root = miniatures.diving48(tmp_path)
    (root / "annotations").mkdir()
    for file in root.glob("*.json"):
        file.rename(root / "annotations" / file.name)
    shutil.rmtree(root / "rgb")
    miniatures.write_images(root / "rawframes" / "_8Vy3dlHg2w_01000", miniatures.pictures(0), "img_{:05d}.jpg")
    miniatures.write_images(root / "rawframes" / "_8Vy3dlHg2w_01000", miniatures.pictures(0), "flow_x_{:05d}.jpg")
    index = read_index("diving48", root, "val")
    assert index.decode(0, lambda count: range(count)).shape[0] == miniatures.NUM_FRAMES


class TestErrors:
    def test_items(self, tmp_path):
        root = miniatures.diving48(tmp_path)
        path = root / "Diving48_V2_train.json"
        items = [
            {"vid_name": "a", "label": 48},
            {"label": 1},
            {"vid_name": "b", "label": "1"},
            {"vid_name": "c", "label": True},
        ]
        path.write_text("[\n" + ",\n".join(map(json.dumps, items)) + "\n]")
        with pytest.raises(ValueError, match=r"4 malformed lines") as error:
            read_index("diving48", root, "train")
        for line, what in (
            (2, "video a: label 48 is not a whole number from 0 to 2"),
            (3, "an object with a vid_name was expected"),
            (4, "video b: label '1' is not a whole number"),
            (5, "video c: label True is not a whole number"),
        ):
            assert f"{path}:{line}: {what}" in str(error.value)

    def test_no_list(self, tmp_path):
        root = miniatures.diving48(tmp_path)
        (root / "Diving48_V2_train.json").write_text("{}")
        with pytest.raises(ValueError, match=r"expected a list of objects with vid_name and label, found '\{\}'"):
            read_index("diving48", root, "train")

    def test_vocabulary(self, tmp_path):
        root = miniatures.diving48(tmp_path)
        (root / "Diving48_vocab.json").write_text('["Back"]')
        with pytest.raises(ValueError, match=r"expected a list of dives like"):
            read_index("diving48", root, "train")
        (root / "Diving48_vocab.json").unlink()
        with pytest.raises(
            FileNotFoundError, match=r"lacks the class names of Diving48; looked for Diving48_vocab.json"
        ):
            read_index("diving48", root, "train")

    def test_a_test_split_is_named_val(self, tmp_path):
        with pytest.raises(ValueError, match=r"its official test split is named 'val' here"):
            read_index("diving48", tmp_path, "test")
