"""What reading a video, or a whole split, has shown, and what to do about it."""

from __future__ import annotations

import statistics
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

from timm_video_psn.data.datasets.index import VideoIndex, check_part
from timm_video_psn.data.datasets.labels import label_fingerprint
from timm_video_psn.data.datasets.releases import (
    NUM_CLASSES,
    SPLIT_SIZES,
    is_canonical_order,
    known_label_order,
    label_order_digest,
    matching_releases,
)
from timm_video_psn.data.video.errors import DecodeError
from timm_video_psn.data.video.frame_folder import ImageNames
from timm_video_psn.data.video.limits import MAX_PIXELS
from timm_video_psn.data.video.reader import VideoReader, is_there
from timm_video_psn.files import first_names

_AT_A_TIME = 32  # frames in memory
_SMALL_PX, _LARGE_PX = 224, 320  # short sides: below, training enlarges; above, it decodes more than it needs
_RESIZE = "timm-video-psn prepare resize --short-side 256"


class ListedVideo(NamedTuple):
    """A video as its data set lists it: its path, and which frames of the folder or file belong to it."""

    path: Path
    images: ImageNames | None = None
    first_frame: int = 0
    length: int = 0  # 0 where the list does not say


class CheckedVideo(NamedTuple):
    """One video: its properties, or why it cannot be read."""

    path: Path
    num_frames: int = 0
    fps: float | None = None
    width: int = 0
    height: int = 0
    reason: str | None = None
    is_missing: bool = False
    note: str = ""  # which of several video streams is read


def listed_videos(index: VideoIndex) -> Iterator[ListedVideo]:
    """The videos of a split one by one."""
    for number, path in enumerate(index.paths):
        yield ListedVideo(index.root / path, index.images, *index.part(number))


def check_video(video: ListedVideo, thorough: bool = False, max_pixels: int = MAX_PIXELS) -> CheckedVideo:
    """Opens a video and decodes its first, middle and last frame, or all of them.

    Args:
        video: File or frame folder.
        thorough: Decode every frame.
        max_pixels: As `VideoReader` takes it.
    """
    path = video.path
    try:
        if not is_there(path):
            return CheckedVideo(path, reason="there is no such file or folder", is_missing=True)
        if video.images is not None:
            return _check_images(video, video.images, thorough, max_pixels)
        with VideoReader(path, max_pixels=max_pixels) as reader:
            check_part(path, reader.num_frames, video.first_frame, video.length)
            frames = reader.frames() if thorough else reader.read(_probes(reader.num_frames))
            ((height, width),) = {frame.shape[:2] for frame in frames}  # the reader gives no others than of one size
            return CheckedVideo(path, reader.num_frames, reader.fps, width, height, note=reader.note)
    except DecodeError as error:
        return CheckedVideo(path, reason=error.reason)


def _check_images(video: ListedVideo, images: ImageNames, thorough: bool, max_pixels: int) -> CheckedVideo:
    """The same for a folder of numbered images, with the frames that its list states."""
    count = 0

    def first_frame(num_frames: int) -> list[int]:
        nonlocal count
        count = num_frames
        return [0]

    place = (video.path, video.first_frame, video.length)
    _, height, width, _ = images.decode(place[0], first_frame, *place[1:], max_pixels=max_pixels).shape
    for indices in _portions(count) if thorough else [_probes(count)]:
        images.decode(
            place[0],
            lambda _, indices=indices: indices,  # type: ignore[misc]
            *place[1:],
            max_pixels=max_pixels,
        )
    return CheckedVideo(video.path, count, None, width, height)


def _probes(num_frames: int) -> list[int]:
    """The first, the middle and the last frame."""
    return [0, (num_frames - 1) // 2, num_frames - 1]


def _portions(num_frames: int) -> list[list[int]]:
    """All frames, not too many at a time."""
    return [list(range(start, min(start + _AT_A_TIME, num_frames))) for start in range(0, num_frames, _AT_A_TIME)]


def summarize(dataset: str, split: str, index: VideoIndex, results: Sequence[CheckedVideo]) -> dict[str, Any]:
    """The report of a split, ready for JSON.

    Args:
        dataset: Name of the data set, which selects the official counts.
        split: Split of the data set.
        index: The videos.
        results: Results of all videos.
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
        "several_streams": [{"path": str(result.path), "note": result.note} for result in good if result.note],
        "notes": list(index.notes),
    }


def advise(dataset: str, split: str, report: Mapping[str, Any], class_names: tuple[str, ...]) -> list[str]:
    """Sentences, each with a remedy; none if everything is in order.

    Args:
        dataset: Name of the data set.
        split: Split of the data set.
        report: Report on the split, from `summarize`.
        class_names: Class names in label order.
    """
    return [
        *_on_counts(split, report),
        *_on_files(split, report),
        *_on_classes(dataset, split, report, class_names),
        *_on_version(dataset, report),
        *_on_sizes(report),
    ]


def _on_counts(split: str, report: Mapping[str, Any]) -> Iterator[str]:
    official, count = report["official_videos"], report["videos"]
    if not official or report["counts_like"]:
        return
    sizes = ", ".join(f"{size} in {release}" for release, size in official.items())
    nearest = min(official.values(), key=lambda size: abs(size - count))
    change = f"{nearest - count} are missing" if count < nearest else f"{count - nearest} are too many"
    yield (
        f"the {split} annotations list {count} videos, officially {sizes}; {change}: get the annotations from the data "
        "set's page, or state this subset beside every result"
    )


def _on_files(split: str, report: Mapping[str, Any]) -> Iterator[str]:
    missing, unreadable, shared = report["missing"], report["unreadable"], report.get("also_in_train")
    if missing:
        yield (
            f"{len(missing)} of {report['videos']} {split} videos are missing, {first_names(missing, 3)}: unpack or "
            "download them again; training skips them, lists them in skipped.csv and stops if there are more "
            "than --max-unreadable; accuracy covers the other videos"
        )
    if unreadable:
        named = first_names(["{path} ({reason})".format(**item) for item in unreadable], 3)
        yield (
            f"{len(unreadable)} of {report['videos']} {split} videos are damaged, {named}: copy them again from their "
            "source; the report lists them all"
        )
    if several := report.get("several_streams"):
        named = first_names(["{path} ({note})".format(**item) for item in several], 3)
        yield (
            f"{len(several)} of {report['videos']} {split} videos hold several video streams, {named}: if that is not "
            "the film, keep its stream alone (ffmpeg -map); the report lists them all"
        )
    if shared:
        yield (
            f"{len(shared)} of {report['videos']} {split} videos are also training videos, {first_names(shared, 3)}: "
            "they inflate the accuracy; check the annotations"
        )


def _on_classes(dataset: str, split: str, report: Mapping[str, Any], class_names: tuple[str, ...]) -> Iterator[str]:
    if is_canonical_order(dataset, class_names) is False:
        found = report["label_order"]
        is_of = f"they are {found}" if found else "names or order are not the official ones"
        yield (
            f"{report['classes']} classes, officially {NUM_CLASSES[dataset]}; {is_of}: labels differ from other code, "
            "so weights trained elsewhere do not fit; get the official label file"
        )
    empty = report["classes_without_videos"]
    if empty and split != "test":
        yield f"{len(empty)} classes have no {split} video, {first_names(empty, 3)}: check the annotations"
    if split == "test" and not report["labelled"]:
        yield "the test videos have no labels: predict them, but expect no accuracy"


def _on_version(dataset: str, report: Mapping[str, Any]) -> Iterator[str]:
    if dataset == "diving48" and report["version"] == "V1":
        yield (
            "Diving48 V1 has wrong labels and V2 corrects them, so their results are not comparable (the PSN paper's "
            "lie in the range of V1); for V2, put Diving48_V2_train.json and Diving48_V2_test.json here"
        )
    if dataset == "k400" and (report["missing"] or not report["counts_like"]):
        yield (
            "copies of Kinetics-400 differ because videos disappear from YouTube, and results differ by up to a "
            "reported point; state the number of validation videos beside every result"
        )


def _on_sizes(report: Mapping[str, Any]) -> Iterator[str]:
    sides: dict[int, int] = {}
    for size, count in report["sizes"].items():
        side = min(map(int, size.split("x")))
        sides[side] = sides.get(side, 0) + count
    total = sum(sides.values())
    large = sum(count for side, count in sides.items() if side > _LARGE_PX)
    small = sum(count for side, count in sides.items() if side < _SMALL_PX)
    if 2 * large > total:
        yield f"{large} of {total} videos are larger than training needs: {_RESIZE} speeds up loading"
    if 2 * small > total:
        yield (
            f"{small} of {total} videos have a short side below {_SMALL_PX} pixels (the official frames of "
            "Something-Something V1 have 100): training enlarges them, so leave the files as they are"
        )
