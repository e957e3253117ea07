"""Something-Something V1 and V2 as their owners ship them (Goyal et al., 2017; Mahdisoltani et al., 2018)."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from timm_video_psn.data.datasets.index import VideoIndex
from timm_video_psn.data.datasets.labels import plain_name
from timm_video_psn.data.datasets.locate import locate_videos
from timm_video_psn.data.datasets.parsing import (
    NoAnnotationsError,
    ParseErrors,
    annotation_of,
    data_folder,
    find_file,
    note_of_names,
    parse_json,
    raise_item_errors,
    read_names,
    read_text,
    unknown_name,
)

_ANNOTATION_FOLDERS = (
    *("", "labels", "annotations"),
    *("20bn-something-something-download-package-labels/labels", "something-something-download-package-labels/labels"),
)
_OFFICIAL_SPLIT = {"train": "train", "val": "validation", "test": "test"}


class _Rows(NamedTuple):
    """What an annotation file lists: ids of videos, their templates ("" in a test split), and where each stands."""

    ids: list[str]
    templates: list[str]
    text: str  # of the file, whence the lines of JSON items are told


def read_sthv1(data_dir: Path | None, split: str, files: Mapping[str, Path]) -> VideoIndex:
    """Reads Something-Something V1.

    Accepted layout, every part also under its other names:

    - annotations: `something-something-v1-{train,validation,test}.csv` (lines `id;template`, in test just `id`) and
      `something-something-v1-labels.csv` (a template a line, in any order), or `{train,validation,test,labels}.csv`;
      in the folder itself, in `labels/` or in `annotations/`.
    - frames: `20bn-something-something-v1/<id>/00001.jpg`; also in `rawframes/`, `frames/`, `videos/` or any other
      folder, or re-encoded as `<id>.mp4` or `.webm`.

    Labels follow the sorted class names, in whatever order the files list them.

    Args:
        data_dir: Folder of the data set.
        split: "train", "val" or "test".
        files: Annotation files of splits that lie elsewhere.
    """
    what = "Something-Something V1"
    folders = ("20bn-something-something-v1", "rawframes", "frames", "img", "videos", "")
    return _read(data_dir, split, files, what, "csv", "something-something-v1", folders, official="")


def read_sthv2(data_dir: Path | None, split: str, files: Mapping[str, Path]) -> VideoIndex:
    """Reads Something-Something V2.

    Accepted layout, every part also under its other names:

    - annotations: `something-something-v2-{train,validation,test,labels}.json` or just
      `{train,validation,test,labels}.json`; in the folder itself, in `labels/`, in `annotations/` or in
      `20bn-something-something-download-package-labels/labels/`. Beside test.json, `test-answers.csv` (`id;template`)
      gives the labels of the test videos.
    - videos: `20bn-something-something-v2/<id>.webm`; also in `videos/` or any other folder, as `<id>.mp4`, or as
      frame folders `<id>/` in `rawframes/` or `frames/`.

    Labels follow the sorted class names, in whatever order the files list them.

    Args:
        data_dir: Folder of the data set.
        split: "train", "val" or "test".
        files: Annotation files of splits that lie elsewhere.
    """
    what = "Something-Something V2"
    folders = ("20bn-something-something-v2", "videos", "rawframes", "frames", "")
    return _read(data_dir, split, files, what, "json", "something-something-v2", folders, official=".webm")


def _read(
    data_dir: Path | None,
    split: str,
    files: Mapping[str, Path],
    what: str,
    kind: str,
    title: str,
    folders: Sequence[str],
    official: str,
) -> VideoIndex:
    """Reads either version: `kind` is the ending of its annotations, `title` how they begin in the first release."""
    root = data_folder(data_dir, files, what)
    read = _read_csv if kind == "csv" else _read_json

    def names_of(part: str) -> tuple[str, ...]:
        return (f"{title}-{part}.{kind}", f"{part}.{kind}")

    def rows_of(wanted: str) -> tuple[Path, _Rows]:
        names = names_of(_OFFICIAL_SPLIT[wanted])
        path = annotation_of(wanted, files, root, _ANNOTATION_FOLDERS, names, what)
        return path, read(path, labelled=wanted != "test")

    def training_rows() -> tuple[Path, _Rows]:
        try:
            return rows_of("train")
        except NoAnnotationsError:  # the validation videos alone can do without
            if split == "test":
                raise
            return path, rows

    path, rows = rows_of(split)
    label_files = names_of("labels")
    listed = find_file(path.parent, ("",), label_files) or find_file(root, _ANNOTATION_FOLDERS, label_files)
    if listed:
        named_in, known = listed, read_names(listed)
    else:
        named_in, train = (path, rows) if split == "train" else training_rows()
        known = train.templates
    class_names = tuple(sorted({plain_template(name) for name in known}))
    notes: tuple[str, ...] = (note_of_names(path),) if split != "train" and named_in == path else ()
    if listed and tuple(map(plain_template, known)) != class_names:
        notes += (
            f"labels follow the sorted class names, not the order of {listed.name}, which scores and weights of other "
            "code may follow",
        )
    labels = _labels(path, rows, class_names, named_in, official_json=kind == "json")
    if split == "test":
        labels = _answers(path.with_name("test-answers.csv"), rows, labels, class_names, named_in)
    place = locate_videos(root, rows.ids, folders, official, what)
    return VideoIndex(
        paths=place.paths(rows.ids),
        labels=labels,
        class_names=class_names,
        root=root,
        images=place.images,
        version=what.rpartition(" ")[2],  # V1 or V2
        notes=notes,
    )


def plain_template(template: str) -> str:
    """Class name of a template: "Putting [something] on [a surface]" is "Putting something on a surface"."""
    return plain_name(template.replace("[", "").replace("]", "").strip())


def _labels(
    path: Path, rows: _Rows, class_names: Sequence[str], named_in: Path, official_json: bool
) -> np.ndarray[Any, Any]:
    """Labels by name, -1 without a template; a template that is not a class is an error."""
    label_of = {name: label for label, name in enumerate(class_names)} | {"": -1}
    wrong = {
        number: unknown_name(name, class_names, named_in)
        for number, name in enumerate(rows.templates)
        if name not in label_of
    }
    if wrong and official_json:
        raise_item_errors(path, rows.text, wrong)
    if wrong:
        errors = ParseErrors(path)
        numbers = [number for number, line in enumerate(rows.text.splitlines(), 1) if line.strip()]
        for row, reason in wrong.items():
            errors.add(numbers[row], reason)
        errors.raise_if_any()
    return np.array([label_of[name] for name in rows.templates], dtype=np.int64)


def _read_csv(path: Path, labelled: bool) -> _Rows:
    """Lines `id;template`, or `id` without labels; no header."""
    rows, errors = _Rows([], [], read_text(path)), ParseErrors(path)
    for number, line in enumerate(rows.text.splitlines(), 1):
        video, separator, template = line.partition(";")
        if not line.strip():
            continue
        if not re.fullmatch(r"\s*[\w-]+\s*", video) or (labelled and not template.strip()):
            expected = "id;template" if labelled else "id"
            errors.add(number, f"{line[:80]!r} is not `{expected}`")
        rows.ids.append(video.strip())
        rows.templates.append(plain_template(template) if separator else "")
    return _checked(rows, errors)


def _read_json(path: Path, labelled: bool) -> _Rows:
    """A list of objects with id and template, of which the test split has the id alone."""
    rows = _Rows([], [], read_text(path))
    keep = {"id", "template"}  # nothing else, since 200,000 objects add up

    def kept(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
        return {key: value for key, value in pairs if key in keep}

    items = parse_json(path, rows.text, object_pairs_hook=kept)
    if not isinstance(items, list):
        raise ValueError(f"{path}: expected a list of objects with id and template, found a {type(items).__name__}")
    wrong: dict[int, str] = {}
    unlabelled = 0
    for number, item in enumerate(items):
        video, template = (item.get("id"), item.get("template", "")) if isinstance(item, dict) else (None, "")
        if not isinstance(video, (str, int)) or not str(video).strip():
            wrong[number] = "an object with an id was expected"
        elif labelled and not (isinstance(template, str) and template.strip()):
            wrong[number] = f"video {video} has no template"
            unlabelled += 1
        rows.ids.append(str(video))
        rows.templates.append(plain_template(str(template)))
    if items and unlabelled == len(items):
        raise ValueError(f"{path} has no labels, as the test split's file has none; name the file of this split")
    raise_item_errors(path, rows.text, wrong)
    return _checked(rows, ParseErrors(path))


def _checked(rows: _Rows, errors: ParseErrors) -> _Rows:
    """The rows if there are any and nothing is wrong with them."""
    errors.raise_if_any()
    if not rows.ids:
        raise ValueError(f"{errors.path} lists no videos; download it again")
    return rows


def _answers(
    answers: Path, rows: _Rows, labels: np.ndarray[Any, Any], class_names: Sequence[str], named_in: Path
) -> np.ndarray[Any, Any]:
    """The labels of the test split by the file of answers, if there is one; -1 for a video that it lacks."""
    if not answers.is_file():
        return labels
    found = _read_csv(answers, labelled=True)
    label_of = dict(
        zip(found.ids, _labels(answers, found, class_names, named_in, official_json=False).tolist(), strict=True)
    )
    return np.array([label_of.get(video, -1) for video in rows.ids], dtype=np.int64)
