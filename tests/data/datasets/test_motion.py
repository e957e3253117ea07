"""The motion data set on disk: the same for everybody, whole or not at all."""

import hashlib
import json
import sys
from pathlib import Path

import numpy as np
import pytest

from timm_video_psn.data.datasets import motion
from timm_video_psn.data.datasets.motion import MOTION_CLASSES, MOTION_PAIRS, motion_clip, prepare_motion
from timm_video_psn.data.datasets.motion_actions import ACTIONS
from timm_video_psn.data.video.reader import VideoReader

TINY = {"progress": False, "train_per_class": 2, "val_per_class": 1}


def fingerprint(folder: Path) -> dict[str, str]:
    files = sorted(folder.rglob("*.mp4"))
    return {str(file.relative_to(folder)): hashlib.sha256(file.read_bytes()).hexdigest() for file in files}


def names(folder: Path) -> list[str]:
    return sorted(entry.name for entry in folder.iterdir())


@pytest.fixture(scope="module")
def tiny(tmp_path_factory):
    return prepare_motion(tmp_path_factory.mktemp("motion") / "data", workers=1, **TINY)


class TestClasses:
    def test_are_sorted_and_paired_without_rest(self):
        assert tuple(sorted(MOTION_CLASSES)) == MOTION_CLASSES
        assert sorted(label for pair in MOTION_PAIRS for label in pair) == list(range(12))

    def test_four_pairs_are_reversals_and_two_start_from_the_other_end(self):
        backwards = [ACTIONS[MOTION_CLASSES[second]].backwards for _, second in MOTION_PAIRS]
        assert backwards == [True] * 4 + [False] * 2


class TestMotionClip:
    def test_is_drawn_by_the_generator_alone(self):
        for label in range(12):
            clip = motion_clip(label, np.random.default_rng(label))
            assert clip.shape == (24, 72, 72, 3)
            assert clip.dtype == np.uint8
            np.testing.assert_array_equal(clip, motion_clip(label, np.random.default_rng(label)))

    @pytest.mark.parametrize("pair", MOTION_PAIRS[:4])
    def test_of_a_reversal_pair_is_the_other_played_backwards(self, pair):
        first, second = (motion_clip(label, np.random.default_rng(0)) for label in pair)
        np.testing.assert_array_equal(first, second[::-1])


class TestPrepareMotion:
    def test_writes_readable_videos_into_class_folders(self, tiny):
        assert names(tiny) == ["motion.json", "train", "val"]
        assert names(tiny / "train") == names(tiny / "val") == list(MOTION_CLASSES)
        assert len(fingerprint(tiny)) == 12 * 3
        for file in tiny.rglob("*.mp4"):
            with VideoReader(file) as reader:
                assert (reader.num_frames, reader.fps) == (24, 12)
                assert reader.read([0]).shape == (1, 72, 72, 3)

    def test_videos_show_the_drawn_clips(self, tiny):
        label = MOTION_CLASSES.index("hop_then_pulse")
        with VideoReader(tiny / "train" / "hop_then_pulse" / "0001.mp4") as reader:
            frames = reader.read(range(24)).astype(float)
        drawn = motion_clip(label, np.random.default_rng((0, 0, label, 1))).astype(float)
        assert np.abs(frames - drawn).mean() < 8

    def test_all_clips_differ(self, tiny):
        assert len(set(fingerprint(tiny).values())) == 12 * 3

    def test_is_the_same_for_any_number_of_processes(self, tiny, tmp_path):
        assert fingerprint(prepare_motion(tmp_path / "m", workers=2, **TINY)) == fingerprint(tiny)

    def test_another_seed_gives_other_clips(self, tiny, tmp_path):
        other = fingerprint(prepare_motion(tmp_path / "m", seed=1, workers=1, **TINY))
        assert not set(other.values()) & set(fingerprint(tiny).values())

    def test_is_not_written_twice(self, tiny, monkeypatch):
        monkeypatch.setattr(motion, "_generate", lambda *args: pytest.fail("generated again"))
        assert prepare_motion(tiny, workers=1, **TINY) == tiny

    def test_takes_an_empty_folder(self, tmp_path):
        assert prepare_motion(tmp_path, workers=1, progress=False, train_per_class=1, val_per_class=0) == tmp_path
        assert len(fingerprint(tmp_path)) == 12

    def test_goes_to_the_cache_folder_by_default(self, tmp_path, monkeypatch):
        monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
        monkeypatch.setattr(motion, "_generate", lambda *args: None)
        assert prepare_motion(seed=5) == tmp_path / "timm_video_psn" / f"motion-{motion._VERSION}-seed5-128-50"
        monkeypatch.delenv("XDG_CACHE_HOME")
        monkeypatch.setattr(Path, "home", lambda: tmp_path / "home")
        assert prepare_motion().parent == tmp_path / "home" / ".cache" / "timm_video_psn"

    def test_shows_its_progress_in_a_terminal_only(self, tmp_path, capsys, monkeypatch):
        prepare_motion(tmp_path / "a", workers=1, train_per_class=1, val_per_class=0)
        assert capsys.readouterr().err == ""
        monkeypatch.setattr(sys.stderr, "isatty", lambda: True)
        prepare_motion(tmp_path / "b", workers=1, train_per_class=1, val_per_class=0)
        assert "generating motion clips: 100%" in capsys.readouterr().err


class TestInterruption:
    def test_leaves_nothing_behind_and_is_made_good(self, tiny, tmp_path, monkeypatch):
        written = []

        def write_some(path, frames):
            written.append(path)
            if len(written) == 5:
                raise KeyboardInterrupt
            path.write_bytes(b"half a video")

        with monkeypatch.context() as patch:
            patch.setattr(motion, "write_video", write_some)
            with pytest.raises(KeyboardInterrupt):
                prepare_motion(tmp_path / "m", workers=1, **TINY)
        assert names(tmp_path) == []
        assert fingerprint(prepare_motion(tmp_path / "m", workers=1, **TINY)) == fingerprint(tiny)

    def test_of_a_killed_process_does_not_pass_for_the_data_set(self, tiny, tmp_path):
        half = tmp_path / ".m-1234abcd" / "train" / "approach"  # what a killed process leaves
        half.mkdir(parents=True)
        (half / "0000.mp4").write_bytes(b"half a video")
        assert fingerprint(prepare_motion(tmp_path / "m", workers=1, **TINY)) == fingerprint(tiny)

    def test_the_first_of_two_processes_wins(self, tmp_path, monkeypatch):
        folder = tmp_path / "m"

        def overtaken(draft, *args):
            with monkeypatch.context() as patch:
                patch.setattr(motion, "_generate", lambda draft, *args: (draft / "winner").touch())
                prepare_motion(folder, **TINY)
            (draft / "loser").touch()

        monkeypatch.setattr(motion, "_generate", overtaken)
        assert prepare_motion(folder, **TINY) == folder
        assert names(folder) == ["motion.json", "winner"]
        assert names(tmp_path) == ["m"]


class TestForeignFolders:
    def test_are_not_touched(self, tmp_path):
        (tmp_path / "thesis.txt").write_text("mine")
        with pytest.raises(FileExistsError, match=r"exists and holds something else .* name a new or empty folder"):
            prepare_motion(tmp_path, workers=1, **TINY)
        assert names(tmp_path) == ["thesis.txt"]

    def test_with_other_settings_are_told(self, tiny):
        with pytest.raises(ValueError, match=r"holds a motion data set with .*'seed': 0.*, asked for was .*'seed': 1"):
            prepare_motion(tiny, seed=1, workers=1, **TINY)

    def test_of_another_version_are_told(self, tmp_path):
        (tmp_path / "motion.json").write_text(json.dumps({"version": 0}))
        with pytest.raises(ValueError, match="ask for what is there, name another folder, or remove this one"):
            prepare_motion(tmp_path, workers=1, **TINY)
