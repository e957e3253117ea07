"""What the known data sets are when they are whole: videos of each split, and the order of the classes."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping, Sequence

# data set -> release -> videos of each split
SPLIT_SIZES: Mapping[str, Mapping[str, Mapping[str, int]]] = {
    "sthv1": {"V1": {"train": 86017, "val": 11522, "test": 10960}},
    "sthv2": {"V2": {"train": 168913, "val": 24777, "test": 27157}},
    "k400": {  # its owners took videos out later; the Common Visual Data Foundation mirrors the first release
        "the release of 2017": {"train": 246534, "val": 19906, "test": 38685},
        "the mirror of the CVDF": {"train": 246534, "val": 19906, "test": 39805},
        "the later official lists": {"train": 219782, "val": 18035, "test": 35357},
    },
    "diving48": {"V1": {"train": 15943, "val": 2096}, "V2": {"train": 15027, "val": 1970}},
}
NUM_CLASSES: Mapping[str, int] = {"sthv1": 174, "sthv2": 174, "k400": 400, "diving48": 48}

_SORTED_SOMETHING = "Something-Something, sorted: the order of V2's labels.json, and of TSM, GST, GSM and TEA"
# digest of the class names in label order -> (data sets to which that order belongs, what it is)
_LABEL_ORDERS: Mapping[str, tuple[tuple[str, ...], str]] = {
    "a31a2ad624a558d609762c50f4d5d4778246d3ace6717cf24b993b0bf2d9a68b": (("sthv1", "sthv2"), _SORTED_SOMETHING),
    "28d842f1129a9320282494463f0e7bc09bf05ad9e06adab157a8f27e34466d87": (
        (),
        "Something-Something V1 in the unsorted order of its own label file, and of mmaction",
    ),
    "a8dafb93a1204d4ecfa904f943ce5ee0c62ddeeb1df71aa1f96983fca17d777e": (
        ("k400",),
        "Kinetics-400, sorted: the order of TSM, mmaction and torchvision",
    ),
    "7b00a489c98be1341296a979dd0089436227a8572ccfaa2785e6d4d902a2cac8": (
        ("diving48",),
        "Diving48 in the order of its vocabulary, the same for V1 and V2",
    ),
}


def matching_releases(dataset: str, split: str, count: int) -> list[str]:
    """Releases of a data set whose split has that many videos.

    Args:
        dataset: Name of the data set; an unknown one has no releases.
        split: "train", "val" or "test".
        count: Number of videos.
    """
    return [release for release, sizes in SPLIT_SIZES.get(dataset, {}).items() if sizes.get(split) == count]


def label_order_digest(class_names: Sequence[str]) -> str:
    """A digest that identifies class names in their order; blanks and underscores count as the same.

    Args:
        class_names: Class names in label order.
    """
    text = "\n".join(name.replace("_", " ") for name in class_names)
    return hashlib.sha256(text.encode("utf-8", "surrogateescape")).hexdigest()


def known_label_order(class_names: Sequence[str]) -> str | None:
    """The known data set and order that the class names follow; None if there is none.

    Args:
        class_names: Class names in label order.
    """
    known = _LABEL_ORDERS.get(label_order_digest(class_names))
    return known[1] if known else None


def is_canonical_order(dataset: str, class_names: Sequence[str]) -> bool | None:
    """Whether the class names are in the order of the data set's reader; None for a data set without such an order.

    Args:
        dataset: Name of the data set.
        class_names: Class names in label order.
    """
    if dataset not in NUM_CLASSES:
        return None
    known = _LABEL_ORDERS.get(label_order_digest(class_names))
    return known is not None and dataset in known[0]
