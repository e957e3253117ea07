"""Clips out of shards: the same as from the files, each once, from a folder and from a web server, whole or damaged."""

import json
import pickle
import shutil
import threading
from functools import partial
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer

import pytest
import torch

from timm_video_psn.data.clips.dataset import VideoDataset
from timm_video_psn.data.clips.transforms import EvalTransform, TrainTransform
from timm_video_psn.data.loaders import create_loader
from timm_video_psn.data.registry import read_index
from timm_video_psn.data.shards import stream
from timm_video_psn.data.shards.index import read_shards
from timm_video_psn.data.shards.writer import ShardLimits, write_shards

pytestmark = pytest.mark.filterwarnings("ignore:This DataLoader will create")

CLASSES, EACH = ("turn_left", "turn_right"), 6  # training videos of a class


@pytest.fixture(scope="module")
def source(tmp_path_factory, video):
    """12 training and 6 validation videos; training video 6 is damaged."""
    folder = tmp_path_factory.mktemp("source")
    names = ("b_frames.mp4", "vp9.webm", "b_frames.mkv", "odd_size.mkv", "uneven_rate.mp4", "mpeg4.avi")
    for split, count in (("train", EACH), ("val", EACH // 2)):
        for name in CLASSES:
            (folder / split / name).mkdir(parents=True)
            for number, video_name in enumerate(names[:count]):
                shutil.copy(video(video_name), folder / split / name / f"{number}_{video_name}")
    (folder / "train" / "turn_right" / f"0_{names[0]}").write_bytes(b"")
    return folder


@pytest.fixture(scope="module")
def written(source, tmp_path_factory):
    """Its shards: 4 to train, 3 to validate."""
    out = tmp_path_factory.mktemp("shards")
    splits = {split: read_index("folder", source, split) for split in ("train", "val")}
    write_shards("folder", {"train": splits["train"]}, out / "train", ShardLimits(3, 10**9))
    write_shards("folder", {"val": splits["val"]}, out / "val", ShardLimits(2, 10**9))
    return out


@pytest.fixture
def shards(written, tmp_path):
    """A copy of the training shards, to be damaged."""
    return shutil.copytree(written / "train", tmp_path / "shards")


def clips(index, training, seed=5):
    transform = TrainTransform(24) if training else EvalTransform(24)
    return VideoDataset(index, 4, transform, training=training, seed=seed)


def loader_of(location, split="train", workers=0, batch_size=4, **options):
    training = split == "train"
    dataset = clips(read_shards(location, split), training)
    return create_loader(dataset, batch_size, shuffle=training, workers=workers, seed=3, **options)


def epoch_of(loader, epoch=0, start=0):
    loader.batch_sampler.set_epoch(epoch, start)
    return list(loader)


def seen(batches):
    """Numbers of the videos, in order, with the unreadable ones at the end of their batch."""
    return [
        number
        for batch in batches
        for number in (*batch.index.tolist(), *(unreadable.index for unreadable in batch.unreadable))
    ]


def unreadable_of(batches):
    return {unreadable.index: unreadable for batch in batches for unreadable in batch.unreadable}


def assert_same(batches, expected):
    assert len(batches) == len(expected)
    for batch, other in zip(batches, expected, strict=True):
        assert all(torch.equal(mine, its) for mine, its in zip(batch[:4], other[:4], strict=True))
        assert batch.unreadable == other.unreadable


class TestClips:
    @pytest.mark.parametrize("split", ["train", "val"])
    def test_are_those_of_the_files(self, source, written, split):
        training = split == "train"
        files = clips(read_index("folder", source, split), training)
        for epoch in (0, 3):
            batches = epoch_of(loader_of(written / split, split), epoch)
            assert sorted(seen(batches)) == list(range(len(files)))
            for batch in batches:
                for place, number in enumerate(batch.index.tolist()):
                    expected = files[number, epoch]
                    assert torch.equal(batch.clip[place], expected.clip)
                    assert int(batch.label[place]) == expected.label
                    assert int(batch.num_frames[place]) == expected.num_frames
                for unreadable in batch.unreadable:
                    assert unreadable.reason == files[unreadable.index, epoch].reason
                    assert files[unreadable.index, epoch].path.endswith(unreadable.path)
            assert set(unreadable_of(batches)) == ({6} if training else set())

    def test_are_of_the_same_videos_and_classes(self, source, written):
        files, packed = read_index("folder", source, "train"), read_shards(written / "train", "train")
        assert list(packed.paths) == list(files.paths)
        assert packed.labels.tolist() == files.labels.tolist()
        assert (packed.class_names, packed.named) == (files.class_names, files.named)

    def test_asked_for_out_of_order_are_an_error(self, written):
        with pytest.raises(ValueError, match="asked for out of order; shards are read from start to end"):
            clips(read_shards(written / "train", "train"), training=True)[0]


class TestBatches:
    def test_are_the_same_for_any_number_of_workers(self, written):
        expected = [epoch_of(loader_of(written / "train", workers=0), epoch) for epoch in (0, 1)]
        orders = [seen(batches) for batches in expected]
        assert orders[0] != orders[1]
        assert sorted(orders[0]) == sorted(orders[1]) == list(range(12))
        for workers in (1, 2, 3):
            loader = loader_of(written / "train", workers=workers)
            for epoch in (0, 1, 0):
                assert_same(epoch_of(loader, epoch), expected[epoch])

    @pytest.mark.parametrize("workers", [1, 2, 3])
    def test_of_all_ranks_hold_each_validation_video_once(self, written, workers):
        ranks = [loader_of(written / "val", "val", workers, batch_size=2, rank=rank, world_size=2) for rank in (0, 1)]
        for _ in range(2):
            assert sorted(number for loader in ranks for number in seen(epoch_of(loader))) == list(range(6))

    @pytest.mark.parametrize("workers", [0, 1, 2, 3])
    def test_of_all_ranks_hold_each_training_video_at_most_once(self, written, workers):
        options = {"batch_size": 5, "world_size": 2, "workers": workers, "drop_last": True}
        ranks = [loader_of(written / "train", rank=rank, **options) for rank in (0, 1)]
        for epoch in (0, 1):
            by_rank = [epoch_of(loader, epoch) for loader in ranks]
            assert [len(batches) for batches in by_rank] == [len(loader) for loader in ranks] == [1, 1]
            numbers = [number for batches in by_rank for number in seen(batches)]
            assert len(numbers) == len(set(numbers)) == 10

    @pytest.mark.parametrize("workers", [0, 2])
    def test_go_on_within_an_epoch(self, written, workers):
        loader = loader_of(written / "train", workers=workers, batch_size=2)
        whole = epoch_of(loader, 4)
        for start in (1, 3, 6):
            assert_same(epoch_of(loader, 4, start), whole[start:])
        loader.batch_sampler.set_epoch(4)
        next(iter(loader))  # a pass that is broken off leaves nothing behind
        assert_same(epoch_of(loader, 4), whole)
        with pytest.raises(ValueError, match="start=7 lies outside the epoch of 6 batches; use 0 to 6"):
            loader.batch_sampler.set_epoch(0, start=7)

    def test_can_be_sent_to_spawned_workers(self, written):
        batches = pickle.loads(pickle.dumps(loader_of(written / "val", "val").loaders[0].dataset))
        assert_same([batches[0, number] for number in range(2)], epoch_of(loader_of(written / "val", "val")))

    def test_in_any_order_are_the_same(self, written):
        expected = epoch_of(loader_of(written / "train", batch_size=1))
        batches = loader_of(written / "train", batch_size=1).loaders[0].dataset
        for number in (3, 0, 11, 8, 3, 4):
            assert_same([batches[0, number]], [expected[number]])

    def test_leave_the_global_random_state_alone(self, written):
        before = torch.get_rng_state()
        epoch_of(loader_of(written / "train"))
        assert torch.equal(torch.get_rng_state(), before)

    def test_of_few_shards_use_few_workers_and_say_so(self, source, tmp_path, caplog):
        write_shards("folder", {"val": read_index("folder", source, "val")}, tmp_path / "out", ShardLimits(100, 10**9))
        loader = loader_of(tmp_path / "out", "val", workers=4)
        assert len(loader.loaders) == 2
        assert "2 of 4 workers are used, the most that can read 1 shards" in caplog.text
        assert sorted(seen(epoch_of(loader))) == list(range(6))


class Server(SimpleHTTPRequestHandler):
    """Serves a folder; connections break off after `limits[name]` bytes, as often as `breaks[name]` says."""

    limits: dict[str, int]
    breaks: dict[str, int]
    asked: list[str]

    def do_GET(self):
        name = self.path.rsplit("/", 1)[-1]
        self.asked.append(name)
        self.breaking = self.breaks.get(name, 0) > 0
        if self.breaking:
            self.breaks[name] -= 1
        super().do_GET()

    def copyfile(self, source, outputfile):
        name = self.path.rsplit("/", 1)[-1]
        if self.breaking:
            outputfile.write(source.read(self.limits[name]))
            self.close_connection = True
        else:
            super().copyfile(source, outputfile)

    def log_message(self, *args):
        """Nothing on the screen."""


@pytest.fixture
def serve():
    servers = []

    def start(folder, limits=None, breaks=None):
        handler = type("Handler", (Server,), {"limits": limits or {}, "breaks": breaks or {}, "asked": []})
        server = ThreadingHTTPServer(("127.0.0.1", 0), partial(handler, directory=str(folder)))
        servers.append(server)
        threading.Thread(target=server.serve_forever, daemon=True).start()
        return f"http://127.0.0.1:{server.server_address[1]}", handler

    yield start
    for server in servers:
        server.shutdown()
        server.server_close()


class TestUrl:
    @pytest.mark.parametrize("ending", ["", "/", "/shards.json"])
    def test_gives_the_batches_of_the_folder(self, written, serve, ending):
        url, _ = serve(written)
        loader = loader_of(f"{url}/train{ending}", workers=2)
        for epoch in (0, 1):
            assert_same(epoch_of(loader, epoch), epoch_of(loader_of(written / "train"), epoch))

    def test_reads_every_shard_no_more_often_than_lanes_need(self, written, serve):
        url, handler = serve(written / "val")
        epoch_of(loader_of(url, "val", batch_size=2))
        assert handler.asked[0] == "shards.json"
        assert sorted(set(handler.asked[1:])) == [f"val-00000{number}.tar" for number in range(3)]
        assert len(handler.asked) == 4  # three batches in three lanes, each a shard

    def test_that_drops_the_connection_is_asked_again(self, written, serve, caplog, monkeypatch):
        monkeypatch.setattr(stream, "FIRST_DELAY_SEC", 0.01)
        name = "train-000001.tar"
        size = (written / "train" / name).stat().st_size
        url, _ = serve(written / "train", limits={name: size // 2}, breaks={name: 2})
        assert_same(epoch_of(loader_of(url)), epoch_of(loader_of(written / "train")))
        assert f"{name} breaks off after" in caplog.text
        assert "opening it again in 0.01 s" in caplog.text

    def test_that_keeps_dropping_the_connection_reports_the_videos(self, written, serve, monkeypatch):
        monkeypatch.setattr(stream, "FIRST_DELAY_SEC", 0.01)
        name = "train-000001.tar"
        url, _ = serve(written / "train", limits={name: 2000}, breaks={name: 10**6})
        batches = epoch_of(loader_of(url))
        self.assert_reported(batches, read_shards(url, "train"), name)

    def test_that_lacks_a_shard_reports_its_videos(self, shards, serve, monkeypatch):
        monkeypatch.setattr(stream, "FIRST_DELAY_SEC", 0.01)
        (shards / "train-000001.tar").unlink()
        url, _ = serve(shards)
        batches = epoch_of(loader_of(url, workers=1))
        self.assert_reported(batches, read_shards(url, "train"), "train-000001.tar")
        assert "after 0 of 3 videos (HTTP Error 404: File not found)" in next(
            unreadable.reason for unreadable in unreadable_of(batches).values() if unreadable.index != 6
        )

    @staticmethod
    def assert_reported(batches, index, name):
        lost = {int(number) for shard in index.shards for number in shard.numbers if shard.name == name}
        unreadable = unreadable_of(batches)
        assert sorted(seen(batches)) == list(range(12))
        assert set(unreadable) == lost | {6}
        assert all(name in unreadable[number].reason for number in lost)
        assert {unreadable[number].path for number in lost} == {index.paths[number] for number in lost}

    def test_without_an_index_is_an_error(self, tmp_path, serve):
        url, _ = serve(tmp_path)
        with pytest.raises(OSError, match=r"no shard index could be read from http://127.*/shards.json .*404"):
            read_shards(url, "train")
        with pytest.raises(OSError, match=r"no shard index could be read from http://127.0.0.1:9/x/shards.json"):
            read_shards("http://127.0.0.1:9/x", "train")


class TestDamage:
    def test_to_a_video_is_reported_of_that_video_alone(self, shards, written):
        path = shards / "train-000001.tar"
        content = bytearray(path.read_bytes())
        start = content.index(b"ustar", content.index(b"ustar") + 100) + 2000  # within the first video
        content[start] ^= 0xFF
        path.write_bytes(content)
        number = int(read_shards(shards, "train").shards[1].numbers[0])
        batches = epoch_of(loader_of(shards, workers=1))
        assert sorted(seen(batches)) == list(range(12))
        assert set(unreadable_of(batches)) == {number, 6}
        assert "its bytes in the shard are not those that were written" in unreadable_of(batches)[number].reason

    def test_to_the_tar_file_is_reported_of_all_that_follows(self, shards):
        path = shards / "train-000002.tar"
        content = bytearray(path.read_bytes())
        numbers = read_shards(shards, "train").shards[2].numbers.tolist()
        header = content.index(f"{numbers[1]:09d}.json".encode())
        content[header : header + 512] = b"\xaa" * 512
        path.write_bytes(content)
        batches = epoch_of(loader_of(shards))
        assert sorted(seen(batches)) == list(range(12))
        lost = set(numbers[1:]) | {6}
        assert set(unreadable_of(batches)) == lost
        assert all(
            "train-000002.tar breaks off after 1 of 3" in unreadable_of(batches)[number].reason for number in lost - {6}
        )

    def test_that_is_no_tar_file_is_reported_of_all_videos(self, shards):
        path = shards / "train-000002.tar"
        path.write_bytes(b"x" * path.stat().st_size)
        batches = epoch_of(loader_of(shards))
        assert sorted(seen(batches)) == list(range(12))
        lost = set(read_shards(shards, "train").shards[2].numbers.tolist())
        assert set(unreadable_of(batches)) == lost | {6}
        assert all("train-000002.tar" in unreadable_of(batches)[number].reason for number in lost)

    def test_of_a_shard_that_goes_away_during_a_run_is_reported(self, shards):
        loader = loader_of(shards)
        lost = set(loader.loaders[0].dataset.index.shards[0].numbers.tolist())
        (shards / "train-000000.tar").unlink()
        batches = epoch_of(loader)
        assert sorted(seen(batches)) == list(range(12))
        assert set(unreadable_of(batches)) == lost | {6}
        assert "No such file" in unreadable_of(batches)[min(lost - {6})].reason

    def test_of_shards_that_were_exchanged_is_reported(self, shards):
        names = [shards / f"train-00000{number}.tar" for number in (0, 1)]
        contents = [path.read_bytes() for path in names]
        size = max(map(len, contents))
        for path, content in zip(names, reversed(contents), strict=True):
            path.write_bytes(content.ljust(size, b"\0"))
        index = json.loads((shards / "shards.json").read_text())
        for entry in index["splits"]["train"]["shards"][:2]:
            entry["bytes"] = size
        (shards / "shards.json").write_text(json.dumps(index))
        batches = epoch_of(loader_of(shards))
        assert sorted(seen(batches)) == list(range(12))
        assert len(unreadable_of(batches)) >= 6
        assert any(
            "not laid out as the index says" in unreadable.reason for unreadable in unreadable_of(batches).values()
        )

    def test_that_can_be_seen_beforehand_is_an_error(self, shards):
        path = shards / "train-000001.tar"
        content = path.read_bytes()
        path.write_bytes(content[:-512])
        with pytest.raises(ValueError, match=r"train-000001.tar has [\d,]+ bytes, not the [\d,]+ that its"):
            read_shards(shards, "train")
        path.unlink()
        with pytest.raises(FileNotFoundError, match=r"1 of 4 shards are not in .*: train-000001.tar; copy them there"):
            read_shards(shards, "train")


class TestIndex:
    @pytest.mark.parametrize(
        ("change", "message"),
        [
            (
                lambda index: index.update(format="other"),
                "its format is 'other', 'timm_video_psn shards 1' was",
            ),
            (lambda index: index.pop("named"), "'named' is missing"),
            (lambda index: index["class_names"].reverse(), "label_order_sha256 differs"),
            (lambda index: index["splits"].update(train={"paths": [], "labels": [], "shards": []}), "holds no videos"),
            (lambda index: index["splits"]["train"]["shards"].pop(), "do not hold each of its 12 videos once"),
            (lambda index: index["splits"]["train"]["labels"].__setitem__(0, 2), "its labels lie from 0 to 2"),
            (
                lambda index: index["splits"]["train"]["shards"][0].update(name="../secret.tar"),
                "'../secret.tar' is not a name of a shard",
            ),
            (lambda index: index["splits"]["train"]["shards"][0].update(videos=7), "has 7 videos, but numbers for 3"),
            (
                lambda index: index["splits"]["train"]["labels"].__setitem__(0, 10**30),
                "'labels' holds more than whole num",
            ),
            (
                lambda index: index["splits"]["train"]["labels"].__setitem__(0, 0.5),
                "'labels' holds more than whole num",
            ),
            (lambda index: index["splits"]["train"].update(labels={}), "'labels' is a dict, a list was expected"),
            (lambda index: index["splits"]["train"]["paths"].__setitem__(0, 7), "'paths' holds more than texts"),
            (lambda index: index["splits"]["train"]["paths"].__setitem__(0, "\ud83d"), "can be the name of no file"),
            (lambda index: index["splits"]["train"]["shards"].__setitem__(0, 3), "not subscriptable"),
            (lambda index: index["splits"]["train"]["shards"][0].update(bytes=-1), "has -1 bytes"),
            (
                lambda index: index["splits"]["train"]["shards"][0].update(numbers=[-1, 2, 3]),
                "'numbers' holds more than",
            ),
            (lambda index: index.update(class_names=["a", 2]), "'class_names' holds more than texts"),
            (lambda index: index.update(reversal_pairs=[[0, 9]]), "its reversal_pairs are not pairs of labels below 2"),
            (lambda index: index.update(reversal_pairs=[[0]]), "its reversal_pairs are not pairs of labels below 2"),
            (lambda index: index.update(notes="abc"), "'notes' is a str, a list was expected"),
            (lambda index: index.update(named=1), "'named' is a int, a bool was expected"),
            (lambda index: index.update(splits=[]), "split 'train' was asked for; there are none"),
        ],
    )
    def test_that_is_damaged_is_an_error(self, shards, change, message):
        index = json.loads((shards / "shards.json").read_text())
        change(index)
        (shards / "shards.json").write_text(json.dumps(index))
        with pytest.raises(ValueError, match=rf"shard index .*shards.json: .*{message}"):
            read_shards(shards, "train")

    @pytest.mark.parametrize(
        "content", [b"[" * 200_000, b"[]", b"3", b"\xff", b"", b'{"format": ' + b"9" * 5000 + b"}"]
    )
    def test_that_is_none_is_an_error(self, shards, content):
        (shards / "shards.json").write_bytes(content)
        with pytest.raises(ValueError, match=r"shard index .*shards.json: "):
            read_shards(shards, "train")

    def test_that_is_not_there_or_lacks_the_split_is_an_error(self, shards, tmp_path):
        with pytest.raises(FileNotFoundError, match=r"no shard index .*nowhere/shards.json; data_dir is the folder"):
            read_shards(tmp_path / "nowhere", "train")
        with pytest.raises(ValueError, match="split 'val' was asked for; there are train; write the shards with"):
            read_shards(shards, "val")
        with pytest.raises(ValueError, match="asked for without data_dir"):
            read_index("shards", None, "train")
        with pytest.raises(ValueError, match=r"has no annotation files, but a.txt was given"):
            read_index("shards", shards, "train", {"train": "a.txt"})

    def test_tells_shards_of_the_same_videos_apart(self, source, written, tmp_path):
        write_shards(
            "folder", {"train": read_index("folder", source, "train")}, tmp_path / "other", ShardLimits(5, 10**9)
        )
        one, again, other = (
            read_shards(folder, "train").fingerprint()
            for folder in (written / "train", written / "train", tmp_path / "other")
        )
        assert one == again != other


class TestCreateLoader:
    def test_refuses_a_decoder_that_needs_files(self, written):
        packed = clips(read_shards(written / "train", "train"), training=True)
        packed.decoder = "torchcodec"
        with pytest.raises(ValueError, match="'torchcodec' cannot decode videos of shards; use 'pyav'"):
            create_loader(packed, 2, shuffle=True, workers=0)
