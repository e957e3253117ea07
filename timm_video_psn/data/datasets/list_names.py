"""What the classes of a list are called: by a file beside it, or by the folders of its videos."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from pathlib import Path

from timm_video_psn.data.datasets.labels import plain_name
from timm_video_psn.data.datasets.parsing import find_file, read_names

NAME_FILES = (
    *("classes.txt", "category.txt", "categories.txt", "label_map.txt", "labels.txt", "class_names.txt"),
    *("labels.json", "classes.json", "classids.json", "kinetics_classnames.json"),
)


def named_by_file(root: Path, path: Path, folders: Sequence[str]) -> list[str] | None:
    """Class names from a file beside the list or in the data folder, if there is one.

    Args:
        root: the data folder.
        path: path of the list.
        folders: folders to search in, below the data folder.
    """
    found = find_file(path.parent, ("",), NAME_FILES) or find_file(root, folders, NAME_FILES)
    return read_names(found) if found else None


def names_by_folder(paths: Iterable[str], labels: Iterable[int]) -> list[str] | None:
    """Class names from the folders of the videos, if each label has a folder of its own, and each folder a label.

    Args:
        paths: paths of the videos.
        labels: labels of the videos.
    """
    folder_of: dict[int, str] = {}
    for path, label in zip(paths, labels, strict=True):
        folder = path.rpartition("/")[0].rpartition("/")[2]
        if not folder or folder_of.setdefault(label, folder) != folder:
            return None
    names = [plain_name(folder_of.get(label, "")) for label in range(max(folder_of, default=-1) + 1)]
    return names if len(set(names)) == len(names) > 1 and all(names) else None
