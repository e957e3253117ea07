"""The index of a folder of tar shards: which videos of a data set lie in which shard, and in what order.

`shards.json` lies beside the shards, in a folder or at a URL. It says all that training must know before it reads a
shard: classes, the paths and labels of all videos, and the numbers of the videos in each shard. What an epoch goes
through, and in what order, is therefore planned without opening a shard, and a video that does not come out of its
shard is known by name.
"""

from __future__ import annotations

import hashlib
import json
import os
import re
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any
from urllib.request import urlopen

import numpy as np
import numpy.typing as npt

from timm_video_psn.data.datasets.index import PathTable, VideoIndex
from timm_video_psn.data.datasets.labels import label_fingerprint, plain_name
from timm_video_psn.data.shards.sample import PackedVideo
from timm_video_psn.data.video.reader import Decoder
from timm_video_psn.files import first_names

INDEX_NAME = "shards.json"
PROGRESS_NAME = "shards.progress.jsonl"  # of a writer that has not finished
FORMAT = "timm_video_psn shards 1"
TIMEOUT_SEC = 60

# A name from an index of a stranger becomes part of a path and of a URL.
_SHARD_NAME = re.compile(r"[A-Za-z0-9_][A-Za-z0-9_.-]*\.tar")
_MOST = 2**31 - 1  # videos, and labels
_MOST_BYTES = 2**30  # of an index from a web server: ten million videos


@dataclass(frozen=True)
class Shard:
    """A tar file, and the numbers of its videos in the order in which they lie in it."""

    name: str
    num_bytes: int
    sha256: str
    numbers: npt.NDArray[np.int64]


@dataclass(frozen=True, eq=False)
class ShardedIndex(VideoIndex):
    """The videos of one split that lie in shards; `root` is empty, since nothing lies at their paths.

    Args:
        dataset: Name of the data set that was packed.
        location: Folder or URL of the shards.
        shards: Shards that hold the videos.
        held: Videos that have come out of a shard and wait to be decoded, by number.
    """

    dataset: str = ""
    location: str = ""
    shards: tuple[Shard, ...] = ()
    held: dict[int, PackedVideo] = field(default_factory=dict)

    def fingerprint(self) -> str:
        """Tells these videos in these shards from others: the shards take part in the order of training."""
        return hashlib.sha256("\n".join([super().fingerprint(), *(x.sha256 for x in self.shards)]).encode()).hexdigest()

    def decode(
        self, number: int, choose: Callable[[int], Iterable[int]], decoder: Decoder = "auto"
    ) -> npt.NDArray[np.uint8]:
        """Decodes frames of a video that is held; as `VideoIndex.decode`."""
        if number not in self.held:
            raise ValueError(
                f"video {number} of {self.location} was asked for out of order; shards are read from start to end, by "
                "the loader that create_loader makes"
            )
        return self.held[number].decode(choose, self.max_pixels)


def is_url(location: str | os.PathLike[str]) -> bool:
    """Whether shards lie on a web server.

    Args:
        location: Folder or URL.
    """
    return isinstance(location, str) and location.lower().startswith(("http://", "https://"))


def read_shards(location: str | os.PathLike[str] | None, split: str) -> ShardedIndex:
    """Reads which videos of a split lie in the shards of a folder.

    Args:
        location: Folder, or its http(s):// URL, or either with the name of the index at the end.
        split: "train", "val" or "test".

    Raises:
        FileNotFoundError: No index, or shards are missing in the folder.
        ValueError: No such split, or the index is damaged, or shards in the folder are cut short.
    """
    if location is None:
        raise ValueError(
            "the data set 'shards' was asked for without data_dir; name the folder that `timm-video-psn prepare "
            "shards` has written, or its URL"
        )
    place = os.fspath(location).removesuffix(INDEX_NAME).rstrip("/") or "/"
    content = _fetch(place) if is_url(place) else _load(Path(place))
    source = f"{place}/{INDEX_NAME}"
    try:
        index = json.loads(content)
        if index["format"] != FORMAT:
            raise ValueError(f"its format is {index['format']!r}, {FORMAT!r} was expected")
        if split not in index["splits"]:
            there = ", ".join(index["splits"]) or "none"
            raise ValueError(f"split {split!r} was asked for; there are {there}; write the shards with --split {split}")
        result = _from_json(index, index["splits"][split], place)
    except (KeyError, TypeError, ValueError, RecursionError) as error:
        what = f"{error.args[0]!r} is missing" if isinstance(error, KeyError) else error
        raise ValueError(f"shard index {source}: {what}") from error
    if not is_url(place):
        _check_files(Path(place), result.shards)
    return result


def holds_shards(location: str | os.PathLike[str]) -> bool:
    """Whether `read_shards` is the one to read a location: a URL, or a folder with the index of shards.

    Args:
        location: Folder or URL, as for `read_shards`.
    """
    place = os.fspath(location).removesuffix(INDEX_NAME) or "."
    return is_url(place) or (Path(place) / INDEX_NAME).is_file()


def _load(folder: Path) -> bytes:
    """The index of a folder."""
    try:
        return (folder / INDEX_NAME).read_bytes()
    except FileNotFoundError as error:
        begun = (folder / PROGRESS_NAME).exists()
        hint = "; it is unfinished: run the command again to complete it" if begun else ""
        raise FileNotFoundError(
            f"no shard index {folder / INDEX_NAME}{hint}; data_dir is the folder, or the http(s):// URL of the "
            "folder, that `timm-video-psn prepare shards --output` has written"
        ) from error


def _fetch(url: str) -> bytes:
    """The index at a URL."""
    try:
        with urlopen(f"{url}/{INDEX_NAME}", timeout=TIMEOUT_SEC) as response:
            content = bytes(response.read(_MOST_BYTES + 1))
    except OSError as error:
        raise OSError(
            f"no shard index could be read from {url}/{INDEX_NAME} ({error}); data_dir is the URL of the folder that "
            f"holds {INDEX_NAME} and the shards"
        ) from error
    if len(content) > _MOST_BYTES:
        raise ValueError(
            f"the shard index {url}/{INDEX_NAME} has more than {_MOST_BYTES:,} bytes; write smaller splits"
        )
    return content


def _from_json(index: Mapping[str, Any], split: Mapping[str, Any], location: str) -> ShardedIndex:
    """The split, checked as far as it can be without the shards: an index may come from a stranger."""
    written = _texts(index, "class_names")
    if label_fingerprint(written) != index["label_order_sha256"]:
        raise ValueError("its class names are not those that it was written with: label_order_sha256 differs")
    labels, paths = _numbers(split, "labels", least=-1), PathTable.from_paths(_texts(split, "paths"))
    shards = tuple(_shard(entry) for entry in _typed(split, "shards", list))
    numbers = np.concatenate([np.empty(0, dtype=np.int64), *(shard.numbers for shard in shards)])
    if not len(labels) == len(paths) == len(numbers) or not np.array_equal(np.sort(numbers), np.arange(len(labels))):
        raise ValueError(f"its shards do not hold each of its {len(paths)} videos once")
    if not len(labels):
        raise ValueError("the split holds no videos")
    if labels.max() >= len(written):
        raise ValueError(f"its labels lie from {labels.min()} to {labels.max()}, but there are {len(written)} classes")
    pairs = [_numbers({"reversal_pairs": pair}, "reversal_pairs") for pair in _typed(index, "reversal_pairs", list)]
    if any(len(pair) != 2 or pair.max() >= len(written) for pair in pairs):
        raise ValueError(f"its reversal_pairs are not pairs of labels below {len(written)}")
    return ShardedIndex(
        paths=paths,
        labels=labels,
        class_names=tuple(map(plain_name, written)),
        root=Path(),
        shared_split=_typed(index, "shared_split", bool),
        reversal_pairs=tuple((int(first), int(second)) for first, second in pairs),
        named=_typed(index, "named", bool),
        version=_typed(index, "version", str),
        notes=(
            f"shards of {_typed(index, 'dataset', str)} in {location}; name its recipe with --recipe",
            *_texts(index, "notes"),
        ),
        dataset=index["dataset"],
        location=location,
        shards=shards,
    )


def _shard(entry: Any) -> Shard:
    name = _typed(entry, "name", str)
    if not _SHARD_NAME.fullmatch(name):
        raise ValueError(f"{name!r} is not a name of a shard; accepted are names like train-000000.tar")
    numbers = _numbers(entry, "numbers")
    if len(numbers) != entry["videos"]:
        raise ValueError(f"{name} has {entry['videos']} videos, but numbers for {len(numbers)}")
    if _typed(entry, "bytes", int) < 0:
        raise ValueError(f"{name} has {entry['bytes']} bytes")
    return Shard(name, entry["bytes"], _typed(entry, "sha256", str), numbers)


def _typed(entry: Any, key: str, kind: type) -> Any:
    """A value of the type that it must have."""
    value = entry[key]
    if type(value) is not kind:
        raise TypeError(f"{key!r} is a {type(value).__name__}, a {kind.__name__} was expected")
    return value


def _texts(entry: Any, key: str) -> list[str]:
    """A list of texts."""
    values: list[str] = _typed(entry, key, list)
    if not all(type(value) is str for value in values):
        raise TypeError(f"{key!r} holds more than texts")
    return values


def _numbers(entry: Any, key: str, least: int = 0) -> npt.NDArray[np.int64]:
    """A list of whole numbers that arrays can hold."""
    values = _typed(entry, key, list)
    if not all(type(value) is int and least <= value <= _MOST for value in values):
        raise ValueError(f"{key!r} holds more than whole numbers from {least} to {_MOST:,}")
    return np.array(values, dtype=np.int64)


def _check_files(folder: Path, shards: Sequence[Shard]) -> None:
    """Raises for shards that are not whole, before a run has begun."""
    missing = [shard.name for shard in shards if not (folder / shard.name).is_file()]
    if missing:
        raise FileNotFoundError(
            f"{len(missing)} of {len(shards)} shards are not in {folder}: {first_names(missing, 5)}; copy them there, "
            "or give the command that wrote them again"
        )
    for shard in shards:
        found = (folder / shard.name).stat().st_size
        if found != shard.num_bytes:
            raise ValueError(
                f"shard {folder / shard.name} has {found:,} bytes, not the {shard.num_bytes:,} that its index states; "
                "copy it again, or give the command that wrote it again"
            )
