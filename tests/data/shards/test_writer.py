"""Shards as any reader of WebDataset's form sees them; stopping and going on."""

import hashlib
import json
import shutil
import tarfile

import numpy as np
import pytest
import webdataset

from tests.data.sample_videos import moving_noise
from tests.miniatures import sthv1, write_images
from timm_video_psn.__main__ import prepare as main
from timm_video_psn.data.registry import read_index
from timm_video_psn.data.shards.writer import ShardLimits, write_shards
from timm_video_psn.data.video.write_video import write_video


def contents(folder):
    return {path.relative_to(folder): path.read_bytes() for path in sorted(folder.rglob("*")) if path.is_file()}


def arguments(source, out, *more):
    return ["shards", "--data-dir", str(source), "--output", str(out), "--max-videos-per-shard", "2", *more]


def samples(path):
    return list(webdataset.WebDataset(str(path), shardshuffle=False))


@pytest.fixture
def source(small_videos, tmp_path_factory):
    return shutil.copytree(small_videos, tmp_path_factory.mktemp("source") / "videos")


class TestShards:
    def test_hold_every_video_once_byte_for_byte(self, source, tmp_path, capsys):
        before = contents(source)
        assert main(arguments(source, tmp_path / "out")) == 0
        assert contents(source) == before
        assert "10 videos" in capsys.readouterr().out
        index = json.loads((tmp_path / "out" / "shards.json").read_text())
        assert sorted(path.name for path in (tmp_path / "out").iterdir()) == [
            "shards.json",
            *(f"train-00000{number}.tar" for number in range(3)),
            *(f"val-00000{number}.tar" for number in range(2)),
        ]
        for split, count in (("train", 6), ("val", 4)):
            videos = read_index("folder", source, split)
            seen = {}
            for shard in index["splits"][split]["shards"]:
                path = tmp_path / "out" / shard["name"]
                assert (shard["bytes"], shard["videos"]) == (path.stat().st_size, 2)
                assert shard["sha256"] == hashlib.sha256(path.read_bytes()).hexdigest()
                for number, sample in zip(shard["numbers"], samples(path), strict=True):
                    about = json.loads(sample["json"])
                    assert about["index"] == number
                    assert about["label_name"] == videos.class_names[about["label"]]
                    seen[number] = (about["path"], about["label"], sample["mp4"])
            assert seen == {
                number: (videos.paths[number], videos.labels[number], (source / videos.paths[number]).read_bytes())
                for number in range(count)
            }
            assert index["splits"][split]["labels"] == videos.labels.tolist()
            assert index["splits"][split]["paths"] == list(videos.paths)
        assert index["class_names"] == ["turn_left", "turn_right"]
        assert (index["named"], index["dataset"]) == (True, "folder")
        # A shard is a fair sample, not the videos of one class in turn.
        assert [n for shard in index["splits"]["train"]["shards"] for n in shard["numbers"]] != list(range(6))

    def test_of_frame_folders_hold_a_member_for_each_frame(self, tmp_path):
        source = sthv1(tmp_path / "source")
        options = ["--dataset", "sthv1", "--split", "train,val,test", "--max-videos-per-shard", "100"]
        assert main(arguments(source, tmp_path / "out", *options)) == 0
        videos = read_index("sthv1", source, "train")
        for sample in samples(tmp_path / "out" / "train-000000.tar"):
            folder = source / videos.paths[int(sample["__key__"])]
            images = [sample[f"{frame:06d}.jpg"] for frame in range(len(list(folder.iterdir())))]
            assert images == [path.read_bytes() for path in sorted(folder.iterdir())]
        index = json.loads((tmp_path / "out" / "shards.json").read_text())
        assert index["class_names"] == list(videos.class_names)
        assert index["splits"]["test"]["labels"] == [-1] * 4

    def test_are_limited_in_bytes_and_in_videos(self, source, tmp_path):
        splits = {"train": read_index("folder", source, "train")}
        sizes = {}
        for num_bytes in (1, 12_000, 10**9):
            write_shards("folder", splits, tmp_path / str(num_bytes), ShardLimits(4, num_bytes))
            sizes[num_bytes] = [path.stat().st_size for path in sorted((tmp_path / str(num_bytes)).glob("*.tar"))]
        assert len(sizes[1]) == 6  # never without a video
        assert len(sizes[10**9]) == 2
        assert 2 < len(sizes[12_000]) < 6
        assert max(sizes[12_000]) <= 12_000

    def test_of_a_data_set_that_is_not_parted_are_written_once(self, tmp_path):
        for name in ("a", "b"):
            for number in range(2):
                (tmp_path / "source" / name).mkdir(parents=True, exist_ok=True)
                write_video(tmp_path / "source" / name / f"{number}.mp4", moving_noise(16, 16, 3))
        assert main(arguments(tmp_path / "source", tmp_path / "out")) == 0
        assert [path.name for path in sorted((tmp_path / "out").glob("*.tar"))] == [
            "train-000000.tar",
            "train-000001.tar",
        ]
        train, val = (read_index("shards", tmp_path / "out", split) for split in ("train", "val"))
        assert train.shared_split
        assert [shard.name for shard in train.shards] == [shard.name for shard in val.shards]

    def test_name_the_videos_that_are_missing(self, tmp_path, capsys):
        source = sthv1(tmp_path / "source")
        gone = source / "20bn-something-something-v1" / "100218"
        shutil.rmtree(gone)
        assert main(arguments(source, tmp_path / "out", "--dataset", "sthv1")) == 1
        out, err = capsys.readouterr()
        assert "1 videos are missing" in out
        assert f"{gone.relative_to(source)}: there is no such folder" in err
        assert len(read_index("shards", tmp_path / "out", "train")) == 8


class TestGoingOn:
    def test_leaves_finished_shards_alone_and_ends_with_the_same_bytes(self, source, tmp_path, capsys):
        assert main(arguments(source, tmp_path / "whole")) == 0
        out = tmp_path / "stopped"
        (out / "train-000002.tar").mkdir(parents=True)  # the third shard cannot take its name
        assert main(arguments(source, out)) == 2
        assert "train-000002.tar" in capsys.readouterr().err
        times = {path: path.stat().st_mtime_ns for path in out.glob("*.tar") if path.is_file()}
        assert [path.name for path in sorted(times)] == ["train-000000.tar", "train-000001.tar"]
        assert not (out / "shards.json").exists()
        with pytest.raises(FileNotFoundError, match="it is unfinished: run the command again"):
            read_index("shards", out, "train")
        (out / "train-000002.tar").rmdir()
        with (out / "shards.progress.jsonl").open("a") as file:
            file.write('{"name": "train-0000')  # as a process leaves it that was killed while it wrote
        (out / ".train-000002.tar.1.tmp").write_bytes(b"half a shard")
        assert main(arguments(source, out)) == 0
        assert "3 shards written, 2 already complete" in capsys.readouterr().out
        assert {path: path.stat().st_mtime_ns for path in times} == times
        assert contents(out) == contents(tmp_path / "whole")

    def test_writes_again_what_was_deleted_or_cut_short(self, source, tmp_path, capsys):
        out = tmp_path / "out"
        main(arguments(source, out))
        whole = contents(out)
        (out / "train-000001.tar").unlink()
        (out / "val-000000.tar").write_bytes(b"")
        capsys.readouterr()
        assert main(arguments(source, out)) == 0
        assert "2 shards written, 3 already complete" in capsys.readouterr().out
        assert contents(out) == whole

    def test_with_other_settings_is_an_error(self, source, tmp_path, capsys):
        out = tmp_path / "out"
        main(arguments(source, out))
        whole = contents(out)
        assert main(arguments(source, out, "--max-shard-bytes", "1000")) == 2
        assert "holds shards that differ in limits" in capsys.readouterr().err
        assert main(arguments(source, out, "--split", "train")) == 2
        assert "holds shards that differ in videos" in capsys.readouterr().err
        assert contents(out) == whole


def test_bad_settings_are_errors(source, tmp_path, capsys):
    assert main(arguments(source, source / "shards")) == 2
    assert "would lie among the originals" in capsys.readouterr().err
    assert main(arguments(source, tmp_path / "out", "--max-shard-bytes", "0")) == 2
    assert "hold nothing; use 1 or more" in capsys.readouterr().err
    assert main(arguments(source, tmp_path / "out", "--split", "training")) == 2
    assert "split='training' of data set 'folder' asked for" in capsys.readouterr().err
    assert not (tmp_path / "out").exists()


def test_images_are_written_in_the_order_of_the_frames_not_of_the_names(tmp_path):
    for split in ("train", "val"):
        for name in ("a", "b"):
            write_images(tmp_path / "source" / split / name / "video", np.zeros((11, 8, 8, 3), np.uint8), "{}.png", 1)
    assert main(arguments(tmp_path / "source", tmp_path / "out")) == 0
    with tarfile.open(tmp_path / "out" / "val-000000.tar") as tar:
        names = tar.getnames()
    assert names[:3] == [f"{names[0].split('.')[0]}.{ending}" for ending in ("json", "000000.png", "000001.png")]
    assert len(names) == 2 * 12
