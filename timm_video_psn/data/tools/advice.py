"""What a report on a data set means for training, and what to do about it."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

from timm_video_psn.data.datasets.releases import NUM_CLASSES, is_canonical_order

_SHOWN = 3  # names in a sentence
_SMALL_PX, _LARGE_PX = 224, 320  # short sides: below, training enlarges; above, it decodes more than it needs
_RESIZE = "timm-video-psn prepare resize --short-side 256"


def advise(dataset: str, split: str, report: Mapping[str, Any], class_names: tuple[str, ...]) -> list[str]:
    """Sentences, each with a remedy; none if everything is in order.

    Args:
        dataset: name of the data set.
        split: split of the data set.
        report: report on the split, from `health.summarize`.
        class_names: class names in label order.
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
            f"{len(missing)} of {report['videos']} {split} videos are missing, {_some(missing)}: unpack or download "
            "them again; train_video.py skips them, lists them in skipped.csv and stops if there are more than "
            "--max-unreadable; accuracy covers the other videos"
        )
    if unreadable:
        named = _some(["{path} ({reason})".format(**item) for item in unreadable])
        yield (
            f"{len(unreadable)} of {report['videos']} {split} videos are damaged, {named}: copy them again from their "
            "source; the report lists them all"
        )
    if shared:
        yield (
            f"{len(shared)} of {report['videos']} {split} videos are also training videos, {_some(shared)}: they "
            "inflate the accuracy; check the annotations"
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
        yield f"{len(empty)} classes have no {split} video, {_some(empty)}: check the annotations"
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


def _some(names: list[str]) -> str:
    """The first names of many."""
    return ", ".join(names[:_SHOWN]) + (" ..." if len(names) > _SHOWN else "")
