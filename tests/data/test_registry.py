"""Data sets by name."""

from pathlib import Path

import pytest

from timm_video_psn.data import registry
from timm_video_psn.data.datasets.motion import MOTION_CLASSES, MOTION_PAIRS, prepare_motion
from timm_video_psn.data.registry import DATASETS, read_folder, read_index


def touch(root: Path, *names: str) -> Path:
    for name in names:
        (root / name).parent.mkdir(parents=True, exist_ok=True)
        (root / name).touch()
    return root


class TestReadIndex:
    def test_reads_by_name(self, tmp_path):
        assert len(read_index("folder", str(touch(tmp_path, "run/0.mp4")), "train")) == 1

    def test_unknown_name_shows_near_ones(self, tmp_path):
        known = "known data sets: diving48, folder, k400, list, motion, shards, sthv1, sthv2"
        with pytest.raises(ValueError, match=f"'foldr' is unknown; near names: folder; {known}"):
            read_index("foldr", tmp_path, "train")
        with pytest.raises(ValueError, match=f"'xyz' is unknown; {known}"):
            read_index("xyz", tmp_path, "train")

    def test_unknown_split_is_an_error(self, tmp_path):
        with pytest.raises(ValueError, match="split='test' of data set 'motion' asked for; there are train and val"):
            read_index("motion", tmp_path, "test")

    def test_a_further_data_set_is_one_entry(self, tmp_path, monkeypatch):
        monkeypatch.setitem(DATASETS, "mine", read_folder)
        assert read_index("mine", touch(tmp_path, "run/0.mp4"), "train").class_names == ("run",)


class TestReadMotion:
    def test_takes_a_generated_folder_of_any_size(self, tmp_path):
        prepare_motion(tmp_path / "m", seed=3, workers=1, progress=False, train_per_class=1, val_per_class=1)
        index = read_index("motion", tmp_path / "m", "val")
        assert index.class_names == MOTION_CLASSES
        assert index.labels.tolist() == list(range(12))
        assert index.reversal_pairs == MOTION_PAIRS

    def test_is_generated_where_there_is_none(self, tmp_path, monkeypatch):
        asked = []

        def prepare(data_dir):
            asked.append(data_dir)
            return prepare_motion(tmp_path / "m", workers=1, progress=False, train_per_class=1, val_per_class=1)

        monkeypatch.setattr(registry, "prepare_motion", prepare)
        assert len(read_index("motion", None, "train")) == 12
        assert asked == [None]
