"""Shards of strangers: whatever they hold, a run goes on, and what cannot be read is an unreadable video."""

import gzip
import io
import json
import shutil
import tarfile
import tracemalloc

import numpy as np
import pytest

from tests.data.shards.test_loader import clips, epoch_of
from tests.miniatures import pictures, write_images, write_mp4
from timm_video_psn.data.datasets.class_folders import read_folder
from timm_video_psn.data.loaders import create_loader
from timm_video_psn.data.shards.index import read_shards
from timm_video_psn.data.shards.writer import ShardLimits, write_shards

FOLDER, FILE = 0, 1  # numbers of the first videos: frames and a file


@pytest.fixture(scope="module")
def written(tmp_path_factory):
    """Two shards of two videos each; one of the first shard is a folder of frames, the other a file."""
    root = tmp_path_factory.mktemp("videos")
    write_images(root / "in" / "a" / "0", pictures(0))
    for number, name in enumerate("abb", 1):
        write_mp4(root / "in" / name / f"{number}.mp4", pictures(number))
    index = read_folder(root / "in", "train")
    order = [int(np.flatnonzero([path == name for path in index.paths])[0]) for name in ("a/0", "a/1.mp4")]
    write_shards("folder", {"train": index}, root / "shards", ShardLimits(2, 10**9))
    return root / "shards", order


@pytest.fixture
def shards(written, tmp_path):
    return shutil.copytree(written[0], tmp_path / "shards")


def numbers_of(shards, shard):
    return json.loads((shards / "shards.json").read_text())["splits"]["train"]["shards"][shard]["numbers"]


def rewrite(shards, shard, change):
    """Changes the bytes of a shard, and its size in the index."""
    path = shards / f"train-00000{shard}.tar"
    path.write_bytes(change(path.read_bytes()))
    index = json.loads((shards / "shards.json").read_text())
    index["splits"]["train"]["shards"][shard]["bytes"] = path.stat().st_size
    (shards / "shards.json").write_text(json.dumps(index))


def members_of(content):
    with tarfile.open(fileobj=io.BytesIO(content)) as tar:
        return [(info, tar.extractfile(info).read()) for info in tar]


def tar_of(members, format=tarfile.USTAR_FORMAT):
    file = io.BytesIO()
    with tarfile.open(fileobj=file, mode="w", format=format) as tar:
        for info, content in members:
            info.size = len(content)
            tar.addfile(info, io.BytesIO(content))
    return file.getvalue()


def reasons(shards, training=True):
    """Why videos could not be read, by number, in an epoch that gives each video once."""
    dataset = clips(read_shards(shards, "train"), training)
    batches = epoch_of(create_loader(dataset, 3, shuffle=training, workers=0))
    found = {item.index: item.reason for batch in batches for item in batch.unreadable}
    assert sorted([*found, *(number for batch in batches for number in batch.index.tolist())]) == [0, 1, 2, 3]
    return found


def test_shards_that_nobody_has_touched_are_read(shards):
    assert reasons(shards) == {}


DESCRIPTIONS = {
    "no JSON": b"{",
    "no object": b"[1, 2]",
    "no text": b"\xff\xfe{}",
    "deep JSON": b"[" * 200_000,
    "deep JSON in an entry": b'{"index": %d, "sha256": ' + b"[" * 200_000,
    "long JSON": b" " * 2**21 + b"{}",
    "a number of 5,000 digits": b'{"index": ' + b"9" * 5000 + b"}",
    "no entries": b"{}",
    **{
        f"{key}={value!r:.40}": {key: value}
        for key, values in {
            "index": (None, -1, 1.0, True, "1", [], 10**30),
            "part": (
                1,
                [1],
                [1, 2, 3],
                [-1, 2],
                [0, -5],
                [0.5, 1],
                ["a", 1],
                [None, 1],
                {"a": 1},
                [0, 10**12],
                [10**9, 1],
            ),
            "frames": (0, -3, 10**12, 2.5, "ten", [], True, 10**30),
            "missing": (1, [], {}, True),
            "sha256": (None, 1, [], "0" * 64),
        }.items()
        for value in values
    },
}


@pytest.mark.parametrize("case", DESCRIPTIONS)
@pytest.mark.parametrize("video", ["frames", "file"])
def test_a_description_that_cannot_be_is_an_unreadable_video(shards, written, video, case):
    number = written[1][video == "file"]
    shard = next(place for place in (0, 1) if number in numbers_of(shards, place))

    def describe(content):
        change = DESCRIPTIONS[case]
        if isinstance(change, bytes):
            return change.replace(b"%d", str(number).encode())
        return json.dumps({**json.loads(content), **change}).encode()

    def change(content):
        return tar_of(
            [
                (info, describe(content) if info.name == f"{number:09d}.json" else content)
                for info, content in members_of(content)
            ]
        )

    rewrite(shards, shard, change)
    assert [*reasons(shards)] == [number]


def claims(size):
    def change(content):
        (first, _), *_ = members_of(content)
        first.size = size
        header = first.tobuf(tarfile.GNU_FORMAT)[: tarfile.BLOCKSIZE]
        return header + content[tarfile.BLOCKSIZE :]

    return change


def with_member(kind, **attributes):
    """A member of another kind before all others."""

    def change(content):
        info = tarfile.TarInfo("000000000.mp4")
        info.type = kind
        for name, value in attributes.items():
            setattr(info, name, value)
        return info.tobuf(tarfile.GNU_FORMAT) + content

    return change


def sparse(content):
    """A file of 1 TB in a few bytes, as tarfile would read it."""
    info = tarfile.TarInfo("000000000.mp4")
    info.pax_headers = {"GNU.sparse.major": "0", "GNU.sparse.size": str(10**12), "GNU.sparse.map": "0,0"}
    return info.tobuf(tarfile.PAX_FORMAT) + content


TARS = {
    "claims 8 GB": claims(8 * 2**30),
    "claims a byte more than there is": claims(10**6),
    "claims less than nothing": claims(-1),
    "is packed": gzip.compress,
    "is sparse": sparse,
    "has a long name": with_member(tarfile.GNUTYPE_LONGNAME, size=2**40),
    "has extended headers": with_member(tarfile.XHDTYPE, size=2**40),
    "has a link": with_member(tarfile.SYMTYPE, linkname="/etc/passwd"),
    "has a hard link": with_member(tarfile.LNKTYPE, linkname="/etc/passwd"),
    "has a device": with_member(tarfile.CHRTYPE),
    "has a pipe": with_member(tarfile.FIFOTYPE),
    "has a folder": with_member(tarfile.DIRTYPE),
    "is empty": lambda content: b"",
    "is half a block": lambda content: content[:300],
    "is zeros": lambda content: bytes(10_000),
    "has other names": lambda content: content.replace(b"000000", b"../../"),
}


@pytest.mark.parametrize("case", TARS)
def test_a_shard_that_cannot_be_is_unreadable_videos_and_takes_no_memory(shards, case):
    lost = numbers_of(shards, 0)
    rewrite(shards, 0, TARS[case])
    tracemalloc.start()
    try:
        found = reasons(shards, training=False)
        peak = tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()
    assert sorted(found) == sorted(lost)
    assert all("shard" in reason and reason.isprintable() for reason in found.values())
    assert peak < 30e6


def test_names_that_come_twice_and_members_that_are_missing_are_unreadable_videos(shards):
    lost = numbers_of(shards, 0)
    whole = (shards / "train-000000.tar").read_bytes()
    *_, (last, content) = members_of(whole)
    rewrite(shards, 0, lambda _: tar_of([*members_of(whole), (last, content)]))
    assert reasons(shards) == {}  # the same once more
    rewrite(shards, 0, lambda _: tar_of([*members_of(whole), (last, content[::-1])]))
    assert [*reasons(shards)] == lost[-1:]
    rewrite(shards, 0, lambda _: tar_of([member for member in members_of(whole) if ".json" in member[0].name]))
    assert sorted(reasons(shards)) == sorted(lost)


def test_shards_that_were_damaged_at_random_are_read_or_told_of(shards, written):
    rng, unread = np.random.default_rng(0), 0
    whole = {path.name: path.read_bytes() for path in shards.glob("*.tar")}
    for _ in range(60):
        name = sorted(whole)[int(rng.integers(2))]
        content = bytearray(whole[name])
        for place in rng.integers(0, len(content), int(rng.integers(1, 30))):
            content[place] = rng.integers(256)
        start, length = (int(value) for value in rng.integers(0, 4000, 2))
        if rng.random() < 0.3:
            content[start : start + length] = rng.bytes(length)
        (shards / name).write_bytes(content[: len(whole[name])].ljust(len(whole[name]), b"\0"))
        unread += len(reasons(shards, training=False))
        (shards / name).write_bytes(whole[name])
    assert unread > 30
