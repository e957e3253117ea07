"""The commands that look after a data set, end to end on real videos."""

import json
import shutil
import subprocess
import sys
from pathlib import Path

import av
import numpy as np
import pytest
from PIL import Image

from tests import miniatures
from tests.data.sample_videos import decoded_plainly, encoded, moving_noise
from tests.data.video.test_container import DEFAULT, FILM, NONE, SMALL, with_streams
from timm_video_psn.__main__ import prepare as main
from timm_video_psn.data.clips.sampling import tsm_indices, uniform_indices
from timm_video_psn.data.datasets.index import PathTable, VideoIndex
from timm_video_psn.data.tools import prepare
from timm_video_psn.data.tools.check import CheckedVideo, ListedVideo, advise, check_video, summarize
from timm_video_psn.data.video.reader import VideoReader


def contents(folder):
    return {path: path.read_bytes() for path in sorted(folder.rglob("*")) if path.is_file()}


class TestCheck:
    def test_names_the_unreadable_videos_and_describes_the_others(self, small_videos, tmp_path, capsys):
        report_path = tmp_path / "out" / "report.json"
        before = contents(small_videos)
        assert main(["check", "--data-dir", str(small_videos), "--report", str(report_path), "-j", "1"]) == 1
        assert {path: before[path] for path in before} == {path: contents(small_videos)[path] for path in before}
        report = json.loads(report_path.read_text())
        train, val = report["splits"]["train"], report["splits"]["val"]
        assert (train["videos"], train["readable"], val["videos"], val["readable"]) == (6, 5, 4, 4)
        (unreadable,) = train["unreadable"]
        assert unreadable["path"].endswith("turn_right/0.mp4")
        assert "the file is empty" in unreadable["reason"]
        assert val["unreadable"] == []
        assert (val["sizes"], val["fps"], val["classes"]) == ({"48x36": 4}, {"25": 4}, 2)
        assert val["frames"] == {"least": 10, "median": 10, "most": 10}
        assert "5 of 6 videos can be read" in capsys.readouterr().out
        assert [path.name for path in report_path.parent.iterdir()] == ["report.json"]

    def test_is_the_same_with_two_processes(self, small_videos, tmp_path, monkeypatch):
        texts = []
        monkeypatch.setattr(prepare, "_FEW", 5)
        for workers in ("1", "2"):
            path = tmp_path / f"{workers}.json"
            main(["check", "--data-dir", str(small_videos / "train"), "--report", str(path), "-j", workers])
            texts.append(path.read_text())
        assert texts[0] == texts[1]

    def test_names_the_videos_that_hold_several_video_streams(self, tmp_path, capsys):
        with_streams(tmp_path / "two.mkv", (SMALL, 12, NONE), (FILM, 12, DEFAULT))
        with_streams(tmp_path / "one.mkv", (FILM, 12, NONE))
        miniatures.write_text(tmp_path / "train.txt", "two.mkv 0", "one.mkv 1")
        _, splits = checked(tmp_path, "list", tmp_path, "--train-list", str(tmp_path / "train.txt"))
        note = "it holds 2 video streams (0: h264 32x24, 1: h264 64x48, default); stream 1 is read"
        assert splits["train"]["several_streams"] == [{"path": str(tmp_path / "two.mkv"), "note": note}]
        assert (
            f"1 of 2 train videos hold several video streams, {tmp_path / 'two.mkv'} ({note})"
            in capsys.readouterr().out
        )

    def test_goes_on_where_the_file_system_does_not_tell_of_a_file(self, small_videos, tmp_path):
        lines = ["turn_left/0.mp4 0", f"{'x' * 300}.mp4 1"]
        miniatures.write_text(tmp_path / "train.txt", *lines)
        miniatures.write_text(tmp_path / "val.txt", *lines)
        code, splits = checked(tmp_path, "list", small_videos / "val", *lists_in(tmp_path))
        assert (code, splits["train"]["readable"], splits["train"]["missing"]) == (1, 1, [])
        assert splits["train"]["unreadable"][0]["reason"] == "it cannot be reached (File name too long)"

    def test_names_validation_videos_that_are_training_videos(self, small_videos, tmp_path, capsys):
        names = sorted(str(path.relative_to(small_videos / "val")) for path in (small_videos / "val").glob("*/*.mp4"))
        miniatures.write_text(tmp_path / "train.txt", *(f"{name} 0" for name in names[1:]))
        miniatures.write_text(tmp_path / "val.txt", *(f"{name} 0" for name in names[:2]))
        code, splits = checked(tmp_path, "list", small_videos / "val", *lists_in(tmp_path))
        assert (code, splits["val"]["also_in_train"]) == (0, [names[1]])
        assert f"1 of 2 val videos are also training videos, {names[1]}: they" in capsys.readouterr().out

    def test_of_a_missing_folder_is_an_error(self, tmp_path, capsys):
        assert main(["check", "--data-dir", str(tmp_path / "gone"), "--report", str(tmp_path / "r.json")]) == 2
        assert "prepare check: error: data_dir=" in capsys.readouterr().err


def lists_in(folder):
    return [f"--{split}-list={folder / split}.txt" for split in ("train", "val")]


def checked(tmp_path, dataset, root, *more):
    """Exit code and report of a check."""
    report = tmp_path / "report.json"
    code = main(["check", "--dataset", dataset, "--data-dir", str(root), "--report", str(report), "-j", "1", *more])
    return code, json.loads(report.read_text())["splits"]


class TestCheckOfKnownDataSets:
    def test_something_something(self, tmp_path, capsys):
        root = miniatures.sthv1(tmp_path / "data")
        frames = root / "20bn-something-something-v1"
        shutil.rmtree(frames / "100218")
        (frames / "100219" / "00005.jpg").write_bytes(b"no image")
        quick = checked(tmp_path, "sthv1", root)[1]["train"]
        assert quick["unreadable"] == []  # the first, the middle and the last of its 11 frames are well
        capsys.readouterr()
        code, splits = checked(tmp_path, "sthv1", root, "--thorough")
        train, test = splits["train"], splits["test"]
        assert code == 1
        assert train["missing"] == [str(frames / "100218")]
        (unreadable,) = train["unreadable"]
        assert (unreadable["path"], "00005.jpg" in unreadable["reason"]) == (str(frames / "100219"), True)
        assert (train["videos"], train["readable"], train["official_videos"]) == (8, 6, {"V1": 86017})
        assert (test["videos"], test["labelled"], test["readable"]) == (4, 0, 4)
        output = capsys.readouterr().out
        assert "the train annotations list 8 videos, officially 86017 in V1; 86009 are missing: get" in output
        assert f"1 of 8 train videos are missing, {frames / '100218'}: unpack or download them again" in output
        assert f"1 of 8 train videos are damaged, {unreadable['path']} ({unreadable['reason']}): copy" in output
        assert "4 classes, officially 174; names or order are not the official ones" in output
        assert "the test videos have no labels: predict them, but expect no accuracy" in output
        assert "training enlarges them, so leave the files as they are" in output

    @pytest.mark.parametrize(("prefix", "version"), [("V2_", "V2"), ("", "V1")])
    def test_diving48_states_its_version(self, tmp_path, capsys, prefix, version):
        code, splits = checked(tmp_path, "diving48", miniatures.diving48(tmp_path / "data", prefix))
        assert (code, list(splits)) == (0, ["train", "val"])
        assert splits["train"]["version"] == splits["val"]["version"] == version
        output = capsys.readouterr().out
        assert f"version {version}; " in output
        assert ("Diving48 V1 has wrong labels" in output) == (version == "V1")

    def test_kinetics(self, tmp_path, capsys):
        root = miniatures.k400(tmp_path / "data")
        next((root / "val" / "abseiling").iterdir()).unlink()
        code, splits = checked(tmp_path, "k400", root)
        assert (code, len(splits["val"]["missing"]), splits["val"]["readable"]) == (1, 1, 3)
        assert "absent" in splits["test"]
        output = capsys.readouterr().out
        assert "test: no annotations; only predictions need this split" in output
        assert "officially 19906 in the release of 2017, 19906 in the mirror of the CVDF, 18035" in output
        assert "state the number of validation videos beside every result" in output

    def test_of_validation_videos_alone(self, tmp_path, capsys):
        root = miniatures.k400(tmp_path / "data")
        (root / "kinetics-400_train.csv").unlink()
        code, splits = checked(tmp_path, "k400", root)
        assert (code, splits["val"]["readable"]) == (0, 4)
        assert "has no annotations for the split 'train'" in splits["train"]["absent"]
        (root / "kinetics-400_val.csv").unlink()
        capsys.readouterr()
        assert main(["check", "--dataset", "k400", "--data-dir", str(root), "--report", str(tmp_path / "r.json")]) == 2
        assert "error: " in capsys.readouterr().err
        assert not (tmp_path / "r.json").exists()

    def test_every_frame_of_a_file_is_decoded_where_asked(self, small_videos, tmp_path):
        path = small_videos / "val" / "turn_left" / "0.mp4"
        with VideoReader(path) as reader:
            expected = CheckedVideo(path, 10, reader.fps, 48, 36)
        for thorough in (False, True):
            assert check_video(ListedVideo(path), thorough) == expected

    def test_sthv2_with_answers_to_its_test_split(self, tmp_path):
        root = miniatures.sthv2(tmp_path / "data", first_release=False)
        code, splits = checked(tmp_path, "sthv2", root)
        assert (code, splits["test"]["labelled"], splits["test"]["fps"]) == (0, 4, {"12": 4})

    def test_lists_whose_folders_lack_frames(self, tmp_path):
        root = miniatures.frame_lists(tmp_path / "data")
        lines = (root / "train_videofolder.txt").read_text().replace(" 10 0", " 12 0", 1)
        elsewhere = tmp_path / "mine.txt"
        elsewhere.write_text(lines)
        code, splits = checked(tmp_path, "list", root, "--train-list", str(elsewhere))
        (unreadable,) = splits["train"]["unreadable"]
        assert (code, unreadable["path"].endswith("train_0_0")) == (1, True)
        assert "its annotation states 12 frames" in unreadable["reason"]
        assert splits["train"]["fps"] == {"unknown": 11}
        assert splits["val"]["label_order"] is None

    def test_a_split_that_cannot_be_read_is_told_of_and_the_others_are_checked(self, tmp_path, capsys):
        root = miniatures.sthv2(tmp_path / "data")
        (root / "something-something-v2-validation.json").write_text("[{]")
        code, splits = checked(tmp_path, "sthv2", root)
        assert (code, splits["train"]["readable"], splits["test"]["readable"]) == (1, 8, 4)
        assert "something-something-v2-validation.json:1: no valid JSON" in splits["val"]["error"]
        assert "val: " in capsys.readouterr().out


class TestAdvice:
    """On data sets of official size, which no test can have as files."""

    @staticmethod
    def report(dataset, split, count, names, healthy, version=""):
        paths = PathTable.from_paths(f"{number}.mp4" for number in range(count))
        labels = np.arange(count) % len(names)
        index = VideoIndex(paths, labels, tuple(names), Path("/data"), version=version)
        results = [healthy._replace(path=Path(path)) for path in paths]
        report = summarize(dataset, split, index, results)
        return report, advise(dataset, split, report, index.class_names)

    def test_a_whole_data_set_needs_none(self):
        names = (Path(__file__).parents[1] / "datasets" / "diving48_dives.txt").read_text().splitlines()
        healthy = CheckedVideo(Path(), 100, 30.0, 340, 256)
        report, advice = self.report("diving48", "train", 15027, names, healthy, "V2")
        assert (report["counts_like"], report["sizes"], report["fps"]) == (["V2"], {"340x256": 15027}, {"30": 15027})
        assert report["label_order"].startswith("Diving48 in the order of its vocabulary")
        assert advice == []

    def test_what_is_too_large_or_in_another_order_or_without_videos(self):
        healthy = CheckedVideo(Path(), 100, 30.0, 1920, 1080)
        labels = (Path(__file__).parents[1] / "datasets" / "something_something_v1_labels.csv").read_text().splitlines()
        _, advice = self.report("sthv1", "val", 173, labels, healthy)
        text = "\n".join(advice)
        assert "173 of 173 videos are larger than training needs: timm-video-psn prepare resize" in text
        assert "they are Something-Something V1 in the unsorted order" in text
        assert f"1 classes have no val video, {labels[-1]}: check the annotations" in text
        assert "11349 are missing" in text
        _, advice = self.report("sthv1", "val", 11523, labels, healthy)
        assert "1 are too many" in advice[0]


class TestResize:
    def arguments(self, source, target, *more):
        return ["resize", "--data-dir", str(source), "--output", str(target), "--short-side", "24", "-j", "1", *more]

    def test_keeps_every_frame_and_the_rate_and_leaves_the_originals(self, small_videos, tmp_path, capsys):
        before, target = contents(small_videos / "val"), tmp_path / "small"
        assert main(self.arguments(small_videos / "val", target)) == 0
        assert contents(small_videos / "val") == before
        assert "4 converted, 0 already complete, 0 failed" in capsys.readouterr().out
        copies = sorted(path.relative_to(target).as_posix() for path in target.rglob("*.*"))
        assert copies == ["turn_left/0.mp4", "turn_left/1.mp4", "turn_right/0.mp4", "turn_right/1.mp4"]
        with VideoReader(target / "turn_left" / "0.mp4") as reader:
            assert (reader.num_frames, reader.fps, reader.read([0]).shape) == (10, 25, (1, 24, 32, 3))

    @pytest.mark.parametrize(("more", "keys"), [((), [0, 16, 32]), (("--key-frame-interval", "40"), [0])])
    def test_has_near_key_frames_and_its_index_at_the_start(self, tmp_path, more, keys):
        source = tmp_path / "long" / "0.mp4"
        source.parent.mkdir()
        encoded(moving_noise(num_frames=40), "libx264", {"x264-params": "scenecut=0"}, "yuv420p", source)
        assert main(self.arguments(source.parent, tmp_path / "small", *more)) == 0
        copy = tmp_path / "small" / "0.mp4"
        with av.open(str(copy)) as container:
            packets = [packet for packet in container.demux(video=0) if packet.size]
        found = [number for number, packet in enumerate(packets) if packet.is_keyframe]
        assert set(keys) <= set(found)
        assert max(np.diff([*found, len(packets)])) <= (16 if not more else 40)
        content = copy.read_bytes()
        assert content.index(b"moov") < content.index(b"mdat")

    def test_shows_the_same_pictures(self, small_videos, tmp_path):
        main(self.arguments(small_videos / "val", tmp_path / "same", "--crf", "1", "--short-side", "36"))
        source = decoded_plainly(small_videos / "val" / "turn_left" / "0.mp4").astype(float)
        copy = decoded_plainly(tmp_path / "same" / "turn_left" / "0.mp4")
        errors = np.array([[np.abs(one - other).mean() for other in source] for one in copy])
        assert errors.argmin(1).tolist() == list(range(10))

    def test_goes_on_where_it_was(self, small_videos, tmp_path, capsys):
        target = tmp_path / "small"
        main(self.arguments(small_videos / "val", target))
        (target / "turn_left" / "1.mp4").unlink()
        kept = (target / "turn_left" / "0.mp4").stat().st_mtime_ns
        assert main(self.arguments(small_videos / "val", target)) == 0
        assert "1 converted, 3 already complete, 0 failed" in capsys.readouterr().out
        assert (target / "turn_left" / "0.mp4").stat().st_mtime_ns == kept

    def test_names_what_it_cannot_read_and_leaves_no_half_copy(self, small_videos, tmp_path, capsys):
        assert main(self.arguments(small_videos / "train", tmp_path / "small")) == 1
        output = capsys.readouterr()
        assert "5 converted, 0 already complete, 1 failed" in output.out
        assert "turn_right/0.mp4: the file is empty" in output.err
        assert len(list((tmp_path / "small").rglob("*.*"))) == 5

    def test_leaves_no_half_copy_where_it_is_stopped(self, small_videos, tmp_path, monkeypatch, capsys):
        def stopped(reader):
            yield from reader.read([0, 1, 2])
            raise KeyboardInterrupt

        monkeypatch.setattr(VideoReader, "frames", stopped)
        assert main(self.arguments(small_videos / "val", tmp_path / "small")) == 130
        assert list((tmp_path / "small").rglob("*.*")) == []
        line = "prepare resize: stopped; finished files are kept, the same command resumes\n"
        assert capsys.readouterr().err.endswith(line)

    def test_never_enlarges(self, small_videos, tmp_path):
        main([*self.arguments(small_videos / "val", tmp_path / "large"), "--short-side", "256"])
        with VideoReader(tmp_path / "large" / "turn_left" / "0.mp4") as reader:
            assert reader.read([0]).shape == (1, 36, 48, 3)

    def test_never_writes_among_the_originals(self, small_videos, capsys):
        for target in (small_videos, small_videos / "val" / "small", small_videos.parent):
            assert main(self.arguments(small_videos, target)) == 2
            assert "would lie among the originals" in capsys.readouterr().err

    def test_of_two_videos_that_would_become_one_is_an_error(self, small_videos, tmp_path, capsys):
        one = small_videos / "val" / "turn_left" / "0.mp4"
        one.with_suffix(".mkv").write_bytes(one.read_bytes())
        assert main(self.arguments(small_videos / "val", tmp_path / "small")) == 2
        assert "would both become" in capsys.readouterr().err


class TestFrames:
    def test_are_those_of_the_video(self, small_videos, tmp_path, capsys):
        argv = ["frames", "--data-dir", str(small_videos / "val"), "--output", str(tmp_path / "jpg"), "-j", "1"]
        assert main(argv) == 0
        folder = tmp_path / "jpg" / "turn_left" / "0"
        assert sorted(path.name for path in folder.iterdir()) == [f"{number:05d}.jpg" for number in range(1, 11)]
        source = decoded_plainly(small_videos / "val" / "turn_left" / "0.mp4").astype(float)
        with VideoReader(folder) as reader:
            errors = [[np.abs(one - other).mean() for other in source] for one in reader.read(range(10))]
        assert np.argmin(errors, 1).tolist() == list(range(10))
        assert main(argv) == 0
        assert "0 converted, 4 already complete, 0 failed" in capsys.readouterr().out


class TestShow:
    def test_draws_the_frames_that_validation_takes(self, small_videos, tmp_path):
        path, output = small_videos / "val" / "turn_left" / "0.mp4", tmp_path / "sheet.png"
        assert main(["show", str(path), "--output", str(output), "--num-frames", "4", "--draws", "0"]) == 0
        # 10 frames, 4 parts: the first middle is frame 1, in validation and in the test
        self.assert_shows(output, path, [1, 1])
        assert [path.name for path in tmp_path.glob("*.png")] == ["sheet.png"]

    def test_draws_what_training_may_take_and_the_clips_of_a_test(self, small_videos, tmp_path):
        path, output = small_videos / "val" / "turn_left" / "0.mp4", tmp_path / "sheet.png"
        shown = ["show", str(path), "--output", str(output), "--num-frames", "2", "--draws", "1"]
        assert main([*shown, "--sampling", "tsm", "--test-sampling", "twice"]) == 0
        drawn = int(tsm_indices(10, 2, np.random.default_rng((0, 0)))[0])
        self.assert_shows(output, path, [drawn, 2, 2, 0])
        assert main([*shown, "--sampling", "uniform", "--test-sampling", "segments", "--test-clips", "5"]) == 0
        drawn = int(uniform_indices(10, 2, np.random.default_rng((0, 0)))[0])
        self.assert_shows(output, path, [drawn, 2, 0, 1, 2, 3, 4])

    @staticmethod
    def assert_shows(sheet, video, first_frames):
        """Every row of the sheet begins with that frame, and there are no more rows."""
        frames = decoded_plainly(video)
        with Image.open(sheet) as opened:
            picture = np.asarray(opened)
        assert len(picture) == 32 + 134 * len(first_frames)
        for row, frame in enumerate(first_frames):
            top = 48 + 134 * row
            expected = np.asarray(Image.fromarray(frames[frame]).resize((128, 96)))
            np.testing.assert_array_equal(picture[top : top + 96, 96:224], expected, err_msg=f"row {row}")

    def test_of_clips_that_a_sampling_does_not_have_is_an_error(self, small_videos, tmp_path, capsys):
        path = str(small_videos / "val" / "turn_left" / "0.mp4")
        assert main(["show", path, "--output", str(tmp_path / "s.png"), "--sampling", "tsm", "--test-clips", "2"]) == 2
        assert "2 clips asked for, but sampling 'tsm' has 1" in capsys.readouterr().err
        assert main(["show", path, "--output", str(tmp_path / "s.png"), "--num-frames", "0"]) == 2
        assert "a clip has at least 1 frame" in capsys.readouterr().err

    def test_of_no_video_is_an_error(self, tmp_path, capsys):
        assert main(["show", str(tmp_path / "gone.mp4"), "--output", str(tmp_path / "sheet.png")]) == 2
        assert "there is no such file or folder" in capsys.readouterr().err
        assert not (tmp_path / "sheet.png").exists()


def test_it_runs_as_a_module():
    command = [sys.executable, "-m", "timm_video_psn", "prepare", "--help"]
    said = subprocess.run(command, capture_output=True, text=True, check=True)
    assert all(command in said.stdout for command in ("check", "resize", "frames", "show"))
    assert "RuntimeWarning" not in said.stderr
