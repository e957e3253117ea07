"""Which videos a data set has and what they show: one reader for each data set, all with one result."""

from __future__ import annotations

import difflib
import os
from collections.abc import Callable, Mapping
from dataclasses import replace
from pathlib import Path

from timm_video_psn.data.datasets.class_folders import read_folder
from timm_video_psn.data.datasets.diving48 import read_diving48
from timm_video_psn.data.datasets.index import PathTable, VideoIndex
from timm_video_psn.data.datasets.kinetics import read_k400
from timm_video_psn.data.datasets.list_file import read_list
from timm_video_psn.data.datasets.motion import MOTION_PAIRS, check_motion_folder, is_motion_folder, prepare_motion
from timm_video_psn.data.datasets.something_something import read_sthv1, read_sthv2
from timm_video_psn.data.shards.index import read_shards

__all__ = [
    "ANNOTATED",
    "DATASETS",
    "STREAMED",
    "PathTable",
    "VideoIndex",
    "read_folder",
    "read_index",
    "read_motion",
    "splits_of",
]

SPLITS = ("train", "val")  # of every data set; an annotated one may have a test split, too

Reader = Callable[[Path | None, str], VideoIndex]  # (data_dir, split)
AnnotationReader = Callable[[Path | None, str, Mapping[str, Path]], VideoIndex]  # and annotation files by split
StreamReader = Callable[[str | os.PathLike[str] | None, str], VideoIndex]  # data_dir may be a URL


def read_index(
    dataset: str,
    data_dir: str | os.PathLike[str] | None,
    split: str,
    files: Mapping[str, str | os.PathLike[str]] | None = None,
) -> VideoIndex:
    """Reads which videos a split of a data set has.

    Args:
        dataset: A name in `DATASETS`, `ANNOTATED` or `STREAMED`; the reader there says what layout it accepts.
        data_dir: Folder of the data set; None only for data sets that need none (motion), or with files. For
            data sets in `STREAMED` it may be a URL.
        split: "train" or "val"; "test" where the data set has such annotations, labels are -1 where they lack.
        files: Annotation files by split, where they are not at an official place in `data_dir`.

    Raises:
        ValueError: Unknown data set or split, or a data set that is not laid out as its reader expects.
        FileNotFoundError: No data set there.
    """
    known = sorted({*DATASETS, *ANNOTATED, *STREAMED})
    if dataset not in known:
        near = difflib.get_close_matches(dataset, known, n=3, cutoff=0.4)
        hint = f"; near names: {', '.join(near)}" if near else ""
        raise ValueError(f"dataset={dataset!r} is unknown{hint}; known data sets: {', '.join(known)}")
    splits = SPLITS if dataset == "motion" else (*SPLITS, "test")  # a reader that has none says more about it
    if split not in splits:
        accepted = f"{', '.join(splits[:-1])} and {splits[-1]}"
        raise ValueError(f"split={split!r} of data set {dataset!r} asked for; there are {accepted}")
    folder = None if data_dir is None else Path(data_dir)
    if dataset in ANNOTATED:
        return ANNOTATED[dataset](folder, split, {name: Path(path) for name, path in (files or {}).items()})
    if files:
        raise ValueError(
            f"data set {dataset!r} has no annotation files, but {', '.join(map(str, files.values()))} was given; use "
            "--dataset list for lists of videos"
        )
    if dataset in STREAMED:
        return STREAMED[dataset](data_dir, split)
    return DATASETS[dataset](folder, split)


def splits_of(dataset: str) -> tuple[str, ...]:
    """Splits that a data set may have; annotated ones and shards may have "test" too, with or without labels.

    Args:
        dataset: A name in `DATASETS`, `ANNOTATED` or `STREAMED`.
    """
    return SPLITS if dataset in (*DATASETS, *TEST_IS_VAL) else (*SPLITS, "test")


def read_motion(data_dir: str | os.PathLike[str] | None, split: str) -> VideoIndex:
    """Reads the embedded motion data set, which is generated where it is not there yet (`motion.prepare_motion`)."""
    present = data_dir is not None and is_motion_folder(Path(data_dir))
    folder = Path(data_dir) if data_dir is not None and present else prepare_motion(data_dir)
    index = read_folder(folder, split)
    check_motion_folder(folder, split, index.class_names, len(index))
    return replace(index, reversal_pairs=MOTION_PAIRS)


# A further data set is one reader and one entry: here where its folders say everything ...
DATASETS: dict[str, Reader] = {"folder": read_folder, "motion": read_motion}
# ... here where the videos come in a stream, with their annotations ...
STREAMED: dict[str, StreamReader] = {"shards": read_shards}
# ... and here where annotation files do.
ANNOTATED: dict[str, AnnotationReader] = {
    "sthv1": read_sthv1,
    "sthv2": read_sthv2,
    "k400": read_k400,
    "diving48": read_diving48,
    "list": read_list,
}
TEST_IS_VAL = ("diving48",)  # whose official test split is our "val"
