"""Diving48 as its owners ship it, with the first or the corrected labels (Li, Li, and Vasconcelos, 2018)."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np

from timm_video_psn.data.datasets.index import VideoIndex
from timm_video_psn.data.datasets.labels import plain_name
from timm_video_psn.data.datasets.locate import locate_videos
from timm_video_psn.data.datasets.parsing import (
    annotation_of,
    data_folder,
    find_file,
    parse_json,
    raise_item_errors,
    read_text,
)
from timm_video_psn.data.datasets.releases import SPLIT_SIZES

_ANNOTATION_FOLDERS = ("", "annotations", "labels")
_VIDEO_FOLDERS = ("rgb", "videos", "rawframes", "frames", "")
_VOCAB = ("Diving48_vocab.json", "diving48_vocab.json", "vocab.json")
_OFFICIAL_SPLIT = {"train": "train", "val": "test"}
_OFFICIAL_SIZES = {
    (count, split): version for version, sizes in SPLIT_SIZES["diving48"].items() for split, count in sizes.items()
}


def read_diving48(data_dir: Path | None, split: str, files: Mapping[str, Path]) -> VideoIndex:
    """Reads Diving48; "val" is its official test split.

    Accepted layout:

    - annotations: `Diving48_V2_{train,test}.json`, or `Diving48_{train,test}.json` of V1, or `Diving48_V1_...`: lists
      of `{"vid_name": ..., "label": ..., "start_frame": ..., "end_frame": ...}`; and `Diving48_vocab.json`, a list of
      the 48 dives in label order. In the folder itself, in `annotations/` or in `labels/`. Where both versions lie,
      V2 is read, since V1 has wrong labels; `--train-list` and `--val-list` choose otherwise.
    - videos: `rgb/<vid_name>.mp4`; also in `videos/` or any other folder, or as frame folders in `rawframes/` or
      `frames/`. They are cut already: end_frame is not a reliable length, and is not used.

    The version is told by the number of videos where it is an official one, else by the name of the file; it is in
    `VideoIndex.version` and in the notes, because results on the two cannot be compared. The labels come from the file;
    a class name has the four parts of a dive ("Back 15som 05Twis FREE").

    Args:
        data_dir: Folder of the data set.
        split: "train" or "val".
        files: Annotation files of splits that lie elsewhere.

    Raises:
        ValueError: Malformed annotations, or name and number of videos tell different versions.
        FileNotFoundError: Annotations, vocabulary or all videos are missing.
    """
    what = "Diving48"
    if split not in _OFFICIAL_SPLIT:
        raise ValueError(f"split={split!r} of {what} asked for; its official test split is named 'val' here")
    root = data_folder(data_dir, files, what)
    part = _OFFICIAL_SPLIT[split]
    names = [f"Diving48_{version}{part}.json" for version in ("V2_", "", "V1_")]
    path = annotation_of(split, files, root, _ANNOTATION_FOLDERS, names, what)
    vocab = find_file(root, _ANNOTATION_FOLDERS, _VOCAB) or find_file(path.parent, ("",), _VOCAB)
    if vocab is None:
        raise FileNotFoundError(
            f"{root} lacks the class names of {what}; looked for {', '.join(_VOCAB)} in the folder itself, "
            "annotations and labels; it is on the data set's page beside the other annotations"
        )
    class_names = _read_vocab(vocab)
    videos, labels = _read_items(path, len(class_names))
    place = locate_videos(root, videos, _VIDEO_FOLDERS, ".mp4", what)
    version = _version(path, split, len(videos))
    return VideoIndex(
        paths=place.paths(videos),
        labels=np.array(labels, dtype=np.int64),
        class_names=class_names,
        root=root,
        images=place.images,
        version=version,
        notes=(f"{what} labels {version} ({path.name}): results are comparable only with other results on {version}",),
    )


def _version(path: Path, split: str, count: int) -> str:
    """V1 or V2, by the number of videos and the name of the file."""
    by_name = "V2" if "v2" in path.stem.lower() else "V1"
    by_count = _OFFICIAL_SIZES.get((count, split), by_name)
    if by_count != by_name and "_v" in path.stem.lower():
        raise ValueError(
            f"{path} is named like {by_name}, but its {count} videos are the number of {by_count}; rename it back"
        )
    return by_count


def _read_vocab(path: Path) -> tuple[str, ...]:
    """Names of the dives in label order."""
    vocab = parse_json(path, read_text(path))
    if not isinstance(vocab, list) or not all(isinstance(parts, list) and parts for parts in vocab) or not vocab:
        raise ValueError(f'{path}: expected a list of dives like ["Back", "15som", "05Twis", "FREE"]')
    return tuple(plain_name(" ".join(map(str, parts))) for parts in vocab)


def _read_items(path: Path, num_classes: int) -> tuple[list[str], list[int]]:
    """Names and labels of the videos."""
    text = read_text(path)
    items = parse_json(path, text)
    if not isinstance(items, list) or not items:
        raise ValueError(f"{path}: expected a list of objects with vid_name and label, found {str(items)[:60]!r}")
    wrong = {number: reason for number, item in enumerate(items) if (reason := _item_error(item, num_classes))}
    raise_item_errors(path, text, wrong)
    return [item["vid_name"] for item in items], [item["label"] for item in items]


def _item_error(item: Any, num_classes: int) -> str:
    """What is wrong with an item, or nothing."""
    video = item.get("vid_name") if isinstance(item, dict) else None
    if not isinstance(video, str) or not video:
        return "an object with a vid_name was expected"
    label = item.get("label")
    if type(label) is not int or not 0 <= label < num_classes:
        return f"video {video}: label {label!r} is not a whole number from 0 to {num_classes - 1}"
    return ""
