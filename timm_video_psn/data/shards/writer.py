"""Packs the videos of a data set into tar shards, byte for byte, with an index beside them.

`sample` says what a shard holds of a video, `index` what the index holds. The videos of a split are packed
in a fixed random order, so that every shard is a fair sample of the classes. What is written depends on the data set
and the limits alone; an interrupted command resumes after the last complete shard.
"""

from __future__ import annotations

import io
import json
import tarfile
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from tqdm import tqdm

from timm_video_psn.data.datasets.index import VideoIndex
from timm_video_psn.data.datasets.labels import label_fingerprint
from timm_video_psn.data.shards.index import FORMAT, INDEX_NAME, PROGRESS_NAME
from timm_video_psn.data.shards.sample import Member, pack, sample_key
from timm_video_psn.files import atomic_path, file_sha256, remove_leftovers, write_bytes

ORDER_SEED = 0

Entry = dict[str, Any]  # of a shard in the index


class ShardLimits(NamedTuple):
    """Where a shard ends: before it would exceed either limit, but never without a video."""

    videos: int
    num_bytes: int


@dataclass
class Written:
    """What has been written of a data set."""

    new: int = 0  # shards
    kept: int = 0  # shards that were there already
    videos: int = 0
    num_bytes: int = 0
    missing: list[tuple[str, str]] = field(default_factory=list)  # (path, reason)


def write_shards(dataset: str, splits: Mapping[str, VideoIndex], out: Path, limits: ShardLimits) -> Written:
    """Writes the shards of a data set and their index.

    Args:
        dataset: Name of the data set.
        splits: Videos of each split; all splits have the same classes.
        out: Folder to write to, created if necessary.
        limits: Size limits of a shard.

    Returns:
        How much was written, and which videos were missing: their places in the shards say so.

    Raises:
        ValueError: The limits leave no room, or `out` lies among the originals, or holds other shards.
        OSError: A shard cannot be written; those before it are kept.
    """
    if min(limits) < 1:
        raise ValueError(f"shards of {limits.videos} videos and {limits.num_bytes} bytes hold nothing; use 1 or more")
    for index in splits.values():
        _check_apart(index.root, out)
        if index.label_sets is not None:
            raise ValueError(
                "the data set has videos of several classes, and shards hold one for each; train from files"
            )
    header = _header(dataset, splits, limits)
    finished = _finished(out, header)
    out.mkdir(parents=True, exist_ok=True)
    remove_leftovers(out)
    written = Written()
    entries: dict[str, list[Entry]] = {}
    with _Progress(out / PROGRESS_NAME, header, finished) as progress:
        for split, index in splits.items():
            if index.shared_split and entries:  # the same videos again
                entries[split] = next(iter(entries.values()))
                continue
            entries[split] = _write_split(split, index, out, limits, progress, written)
    write_bytes(out / INDEX_NAME, json.dumps(_index(header, splits, entries)).encode())
    (out / PROGRESS_NAME).unlink()
    return written


def _check_apart(source: Path, out: Path) -> None:
    here, there = source.resolve(), out.resolve()
    if here == there or here in there.parents:
        raise ValueError(f"the shards ({out}) would lie among the originals ({source}); name a folder elsewhere")


def _header(dataset: str, splits: Mapping[str, VideoIndex], limits: ShardLimits) -> Entry:
    """What two runs must share for one to go on with the shards of the other."""
    return {
        "format": FORMAT,
        "dataset": dataset,
        "videos": {split: index.fingerprint() for split, index in splits.items()},
        "limits": [*limits],
    }


def _finished(out: Path, header: Entry) -> dict[str, Entry]:
    """Entries of the shards that an earlier run has finished, by name."""
    entries: list[Entry] = []
    if (out / PROGRESS_NAME).exists():
        lines = (out / PROGRESS_NAME).read_text().split("\n")[:-1]  # what follows the last newline was cut off
        found, *entries = (json.loads(line) for line in lines) if lines else (header,)
    elif (out / INDEX_NAME).exists():
        index = json.loads((out / INDEX_NAME).read_text())
        found = {key: index.get(key) for key in header}
        entries = [entry for split in index["splits"].values() for entry in split["shards"]]
    else:
        return {}
    differing = [key for key in header if found.get(key) != header[key]]
    if differing:
        raise ValueError(
            f"{out} holds shards that differ in {', '.join(differing)} from those asked for (limits found: "
            f"{found.get('limits')}, asked for: {header['limits']}); repeat their settings, or name another folder"
        )
    return {entry["name"]: entry for entry in entries}


class _Progress:
    """The shards that are finished, a line each, after a line that says of what."""

    def __init__(self, path: Path, header: Entry, finished: Mapping[str, Entry]) -> None:
        self.finished = finished
        lines = [json.dumps(line) + "\n" for line in (header, *finished.values())]
        write_bytes(path, "".join(lines).encode())
        self._file = path.open("a")

    def __enter__(self) -> _Progress:
        return self

    def __exit__(self, *error: object) -> None:
        self._file.close()

    def add(self, entry: Entry) -> None:
        """Notes a finished shard."""
        self._file.write(json.dumps(entry) + "\n")
        self._file.flush()


def _write_split(
    split: str, index: VideoIndex, out: Path, limits: ShardLimits, progress: _Progress, written: Written
) -> list[Entry]:
    """Writes the shards of a split that are not there yet."""
    order = np.random.default_rng(ORDER_SEED).permutation(len(index)).tolist()
    entries: list[Entry] = []
    done = 0
    with tqdm(total=len(order), desc=f"shards {split}", unit="video", disable=None) as bar:
        while done < len(order):
            name = f"{split}-{len(entries):06d}.tar"
            entry = progress.finished.get(name)
            if entry is not None and _is_there(out, entry, order[done : done + entry["videos"]]):
                bar.update(entry["videos"])
                written.kept += 1
            else:
                entry = _write_shard(out / name, index, order[done:], limits, bar)
                progress.add(entry)
                written.new += 1
            entries.append(entry)
            done += entry["videos"]
            written.videos += entry["videos"]
            written.num_bytes += entry["bytes"]
            written.missing += [(index.paths[number], reason) for number, reason in entry["missing"]]
    return entries


def _is_there(out: Path, entry: Entry, numbers: Sequence[int]) -> bool:
    path = out / entry["name"]
    return entry["numbers"] == numbers and path.is_file() and path.stat().st_size == entry["bytes"]


def _write_shard(path: Path, index: VideoIndex, order: Sequence[int], limits: ShardLimits, bar: Any) -> Entry:
    """Writes the first of some videos, as many as the limits allow."""
    numbers: list[int] = []
    missing: list[tuple[int, str]] = []
    with atomic_path(path) as temporary:
        with tarfile.open(temporary, "w", format=tarfile.USTAR_FORMAT) as tar:
            for number in order[: limits.videos]:
                members, reason = pack(index, number)
                if numbers and _closed_size(tar.offset, members) > limits.num_bytes:
                    break
                for ending, content in members:
                    info = tarfile.TarInfo(f"{sample_key(number)}.{ending}")  # no time, no owner: always the same bytes
                    info.size = len(content)
                    tar.addfile(info, io.BytesIO(content))
                numbers.append(number)
                missing += [] if reason is None else [(number, reason)]
                bar.update()
        return {
            "name": path.name,
            "videos": len(numbers),
            "bytes": temporary.stat().st_size,
            "sha256": file_sha256(temporary),
            "numbers": numbers,
            "missing": missing,
        }


def _closed_size(offset: int, members: Sequence[Member]) -> int:
    """Bytes of a tar file that ends with some members: blocks, one more a name, two at the end, whole records."""
    block, record = tarfile.BLOCKSIZE, tarfile.RECORDSIZE
    end = offset + sum(block + -(-len(content) // block) * block for _, content in members) + 2 * block
    return -(-end // record) * record


def _index(header: Entry, splits: Mapping[str, VideoIndex], entries: Mapping[str, list[Entry]]) -> Entry:
    """What `shards.json` holds."""
    first = next(iter(splits.values()))
    return {
        **header,
        "version": first.version,
        "class_names": list(first.class_names),
        "label_order_sha256": label_fingerprint(first.class_names),
        "named": first.named,
        "reversal_pairs": [list(pair) for pair in first.reversal_pairs],
        "shared_split": first.shared_split,
        "notes": list(dict.fromkeys(note for index in splits.values() for note in index.notes)),
        "splits": {
            split: {"paths": list(index.paths), "labels": index.labels.tolist(), "shards": entries[split]}
            for split, index in splits.items()
        },
    }
