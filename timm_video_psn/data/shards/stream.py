"""Videos out of tar shards, in the order in which they lie there, from a folder or a web server.

The tar files are read from start to end, as far as needed. Every video that is asked for comes out: as it is, or as the
reason why its shard does not give it. A connection that drops is opened again.

Shards may come from strangers. Only plain tar files are read, as `prepare shards` writes them: nothing that is packed,
sparse or extended can take more memory than the file has bytes.
"""

from __future__ import annotations

import logging
import tarfile
import time
from collections.abc import Iterator, Sequence
from contextlib import closing
from http.client import HTTPException
from pathlib import Path
from typing import Any, BinaryIO
from urllib.parse import quote
from urllib.request import urlopen

import numpy as np
import numpy.typing as npt

from timm_video_psn.console import printable
from timm_video_psn.data.shards.index import TIMEOUT_SEC, Shard, ShardedIndex, is_url
from timm_video_psn.data.shards.sample import PackedVideo, sample_key

ATTEMPTS = 4  # to open a shard on a web server, without a video gained in between
FIRST_DELAY_SEC = 0.5  # doubled with each attempt

# What a damaged or vanished shard makes the reading of its headers and the connection raise.
_STREAM_ERRORS = (OSError, EOFError, ValueError, HTTPException, tarfile.TarError)

_logger = logging.getLogger(__name__)


def read_videos(index: ShardedIndex, positions: npt.NDArray[np.int64]) -> Iterator[tuple[int, PackedVideo]]:
    """Reads videos from the shards.

    Args:
        index: Index of the videos and their shards.
        positions: Positions of the videos, counted over all shards; increasing within a shard, one shard after the
            other.

    Yields:
        Each position, with its video or the reason why there is none.
    """
    starts = np.cumsum([0, *(len(shard.numbers) for shard in index.shards)])
    owners = np.searchsorted(starts, positions, side="right") - 1
    ends = np.flatnonzero((np.diff(owners) != 0) | (np.diff(positions) < 0)) + 1
    for run in np.split(np.arange(len(positions)), ends):
        if not len(run):
            continue
        shard, start = index.shards[owners[run[0]]], int(starts[owners[run[0]]])
        for place, video in read_shard(index, shard, (positions[run] - start).tolist()):
            yield start + place, video


def read_shard(index: ShardedIndex, shard: Shard, places: Sequence[int]) -> Iterator[tuple[int, PackedVideo]]:
    """Reads videos of one shard.

    Args:
        index: Index that the shard belongs to.
        shard: The tar file.
        places: Positions of the videos in the shard, increasing.

    Yields:
        Each place, with its video or the reason why there is none.
    """
    reader = _ShardReader(index, shard, list(places))
    attempts = ATTEMPTS if is_url(index.location) else 1
    failures = 0
    while True:
        before = len(reader.places)
        yield from reader.read()
        if not reader.places:
            return
        failures = failures + 1 if len(reader.places) == before else 1
        if failures == attempts:
            yield from reader.give_up()
            return
        delay_sec = FIRST_DELAY_SEC * 2 ** (failures - 1)
        _logger.warning("%s; opening it again in %g s", reader.reason, delay_sec)
        time.sleep(delay_sec)


class _ShardReader:
    """The videos that are still wanted from a shard, and why the last attempt ended."""

    def __init__(self, index: ShardedIndex, shard: Shard, places: list[int]) -> None:
        self.index = index
        self.shard = shard
        self.places = places
        self.source = f"{index.location}/{shard.name}"
        self.total = len(shard.numbers)
        self.reason = ""

    def read(self) -> Iterator[tuple[int, PackedVideo]]:
        """Goes through the shard once, as far as its wanted videos reach or it can be read."""
        place = -1
        samples = self._samples()
        while self.places:
            try:
                key, members = next(samples, ("", {}))
            except _STREAM_ERRORS as error:
                self.reason = (
                    f"shard {self.source} breaks off after {place + 1} of {self.total} videos ({_words(error)})"
                )
                return
            if not members:
                self.reason = f"shard {self.source} ends after {place + 1} of {self.total} videos"
                return
            place += 1
            if place == self.places[0]:
                number = int(self.shard.numbers[place])
                path = Path(self.index.paths[number])
                if key != sample_key(number):
                    self.reason = f"shard {self.source} is not laid out as the index says from video {place + 1} on"
                    return
                del self.places[0]
                yield place, PackedVideo.unpack(members, number, path)

    def give_up(self) -> Iterator[tuple[int, PackedVideo]]:
        """The videos that are still wanted, with the reason why they are not there."""
        for place in self.places:
            path = Path(self.index.paths[int(self.shard.numbers[place])])
            yield place, PackedVideo(path, reason=self.reason)

    def _samples(self) -> Iterator[tuple[str, dict[str, bytes]]]:
        """The key of each sample and its members, in the order of the tar file."""
        key, members = "", dict[str, bytes]()
        with closing(_open(self.index.location, self.shard.name)) as stream:
            try:
                for other, name, content in _members(stream, self.shard.num_bytes):
                    if other != key and members:
                        yield key, members
                        members = {}
                    key, members[name] = other, content
            except (ValueError, tarfile.TarError):  # of what follows; a connection that drops leaves half a sample
                if members:
                    yield key, members
                raise
        if members:
            yield key, members


def _members(stream: BinaryIO, num_bytes: int) -> Iterator[tuple[str, str, bytes]]:
    """Key, rest of the name, and content of each file in a tar stream of so many bytes at most."""
    while (header := _exactly(stream, tarfile.BLOCKSIZE)).count(0) < tarfile.BLOCKSIZE:
        info = tarfile.TarInfo.frombuf(header, "utf-8", "surrogateescape")
        num_bytes -= tarfile.BLOCKSIZE
        if info.type not in (tarfile.REGTYPE, tarfile.AREGTYPE):
            raise ValueError(f"it holds {printable(info.name)}, which is not a plain file; write the shard again")
        if not 0 <= info.size <= num_bytes:
            raise ValueError(f"{printable(info.name)} claims {info.size:,} bytes, more than the shard holds")
        content = _exactly(stream, info.size)
        num_bytes -= info.size + len(_exactly(stream, -info.size % tarfile.BLOCKSIZE))
        key, _, rest = info.name.partition(".")
        yield key, rest.lower(), content


def _exactly(stream: BinaryIO, count: int) -> bytes:
    """So many bytes; an error where there are fewer."""
    content = stream.read(count)
    if len(content) < count:
        raise EOFError(f"{count - len(content):,} bytes are missing at its end")
    return content


def _open(location: str, name: str) -> BinaryIO:
    """The bytes of a shard."""
    if is_url(location):
        response: Any = urlopen(f"{location}/{quote(name)}", timeout=TIMEOUT_SEC)
        return response
    return (Path(location) / name).open("rb")


def _words(error: Exception) -> str:
    """Message of an error."""
    return getattr(error, "strerror", None) or str(error) or type(error).__name__
