"""What reading a video, or a whole split, has shown."""

from __future__ import annotations

import statistics
from collections import Counter
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any, NamedTuple

from timm_video_psn.data.datasets.index import VideoIndex, check_part
from timm_video_psn.data.datasets.labels import label_fingerprint
from timm_video_psn.data.datasets.releases import SPLIT_SIZES, known_label_order, label_order_digest, matching_releases
from timm_video_psn.data.video.errors import DecodeError
from timm_video_psn.data.video.frame_folder import ImageNames
from timm_video_psn.data.video.reader import VideoReader, is_there

_AT_A_TIME = 32  # frames in memory


class ListedVideo(NamedTuple):
    """A video as its data set lists it: its path, and which frames of the folder or file belong to it."""

    path: Path
    images: ImageNames | None = None
    first_frame: int = 0
    length: int = 0  # 0 where the list does not say


class VideoHealth(NamedTuple):
    """One video: its properties, or why it cannot be read."""

    path: Path
    num_frames: int = 0
    fps: float | None = None
    width: int = 0
    height: int = 0
    reason: str | None = None
    is_missing: bool = False


def listed_videos(index: VideoIndex) -> Iterator[ListedVideo]:
    """The videos of a split one by one."""
    for number, path in enumerate(index.paths):
        yield ListedVideo(index.root / path, index.images, *index.part(number))


def check_video(video: ListedVideo, thorough: bool = False) -> VideoHealth:
    """Opens a video and decodes its first, middle and last frame, or all of them.

    Args:
        video: file or frame folder.
        thorough: decode every frame.
    """
    path = video.path
    try:
        if not is_there(path):
            return VideoHealth(path, reason="there is no such file or folder", is_missing=True)
        if video.images is not None:
            return _check_images(video, video.images, thorough)
        with VideoReader(path) as reader:
            check_part(path, reader.num_frames, video.first_frame, video.length)
            frames = reader.frames() if thorough else reader.read(_probes(reader.num_frames))
            ((height, width),) = {frame.shape[:2] for frame in frames}  # the reader gives no others than of one size
            return VideoHealth(path, reader.num_frames, reader.fps, width, height)
    except DecodeError as error:
        return VideoHealth(path, reason=error.reason)


def _check_images(video: ListedVideo, images: ImageNames, thorough: bool) -> VideoHealth:
    """The same for a folder of numbered images, with the frames that its list states."""
    count = 0

    def first_frame(num_frames: int) -> list[int]:
        nonlocal count
        count = num_frames
        return [0]

    place = (video.path, video.first_frame, video.length)
    _, height, width, _ = images.decode(place[0], first_frame, *place[1:]).shape
    for indices in _portions(count) if thorough else [_probes(count)]:
        images.decode(place[0], lambda _, indices=indices: indices, *place[1:])  # type: ignore[misc]
    return VideoHealth(video.path, count, None, width, height)


def _probes(num_frames: int) -> list[int]:
    """The first, the middle and the last frame."""
    return [0, (num_frames - 1) // 2, num_frames - 1]


def _portions(num_frames: int) -> list[list[int]]:
    """All frames, not too many at a time."""
    return [list(range(start, min(start + _AT_A_TIME, num_frames))) for start in range(0, num_frames, _AT_A_TIME)]


def summarize(dataset: str, split: str, index: VideoIndex, results: Sequence[VideoHealth]) -> dict[str, Any]:
    """The report of a split, ready for JSON.

    Args:
        dataset: name of the data set, which selects the official counts.
        split: split of the data set.
        index: the videos.
        results: results of all videos.
    """
    good = [result for result in results if result.reason is None]
    lengths = [result.num_frames for result in good] or [0]
    sizes = Counter(f"{result.width}x{result.height}" for result in good)
    rates = Counter("unknown" if result.fps is None else f"{result.fps:.4g}" for result in good)
    labelled = int((index.labels >= 0).sum())
    return {
        "videos": len(results),
        "readable": len(good),
        "official_videos": {name: size[split] for name, size in SPLIT_SIZES.get(dataset, {}).items() if split in size},
        "counts_like": matching_releases(dataset, split, len(results)),
        "version": index.version or None,
        "classes": len(index.class_names),
        "classes_without_videos": index.classes_without_videos() if labelled else [],
        "labelled": labelled,
        "label_order_sha256": label_order_digest(index.class_names),
        "label_fingerprint": label_fingerprint(index.class_names),  # as in config.json, results.json and shards.json
        "label_order": known_label_order(index.class_names),
        "fingerprint": index.fingerprint(),
        "frames": {"least": min(lengths), "median": statistics.median(lengths), "most": max(lengths)},
        "sizes": dict(sizes.most_common()),
        "fps": dict(rates.most_common()),
        "missing": [str(result.path) for result in results if result.is_missing],
        "unreadable": [
            {"path": str(result.path), "reason": result.reason}
            for result in results
            if result.reason and not result.is_missing
        ],
        "notes": list(index.notes),
    }
