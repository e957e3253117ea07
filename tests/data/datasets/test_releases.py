"""Counts and label orders of the official releases."""

from pathlib import Path

import pytest
from torchvision.models import video

from timm_video_psn.data.datasets.releases import (
    NUM_CLASSES,
    SPLIT_SIZES,
    is_canonical_order,
    known_label_order,
    label_order_digest,
    matching_releases,
)

HERE = Path(__file__).parent
SOMETHING = (HERE / "something_something_v1_labels.csv").read_text().splitlines()  # in the order of the official file
DIVES = (HERE / "diving48_dives.txt").read_text().splitlines()  # in label order
KINETICS = video.R3D_18_Weights.KINETICS400_V1.meta["categories"]


@pytest.mark.parametrize(
    ("dataset", "names", "words"),
    [
        ("sthv1", sorted(SOMETHING), "Something-Something, sorted: the order of V2's labels.json"),
        ("sthv2", sorted(SOMETHING), "Something-Something, sorted"),
        ("k400", KINETICS, "Kinetics-400, sorted"),
        ("k400", sorted(name.replace(" ", "_") for name in KINETICS), "Kinetics-400, sorted"),  # names of folders
        ("diving48", DIVES, "Diving48 in the order of its vocabulary"),
    ],
)
def test_the_orders_of_the_readers_are_known(dataset, names, words):
    assert len(names) == NUM_CLASSES[dataset]
    assert words in known_label_order(names)
    assert is_canonical_order(dataset, names) is True
    assert is_canonical_order("list", names) is None
    swapped = [names[1], names[0], *names[2:]]
    assert known_label_order(swapped) is None
    assert is_canonical_order(dataset, swapped) is False
    assert label_order_digest(swapped) != label_order_digest(names)


def test_the_unsorted_order_is_known_and_not_the_readers():
    assert "unsorted order of its own label file, and of mmaction" in known_label_order(SOMETHING)
    assert is_canonical_order("sthv1", SOMETHING) is False
    assert is_canonical_order("k400", sorted(SOMETHING)) is False


def test_counts_tell_the_release():
    assert matching_releases("diving48", "train", 15027) == ["V2"]
    assert matching_releases("diving48", "val", 2096) == ["V1"]
    assert matching_releases("sthv1", "train", 86017) == ["V1"]
    assert matching_releases("sthv2", "test", 27157) == ["V2"]
    assert len(matching_releases("k400", "val", 19906)) == 2
    assert matching_releases("k400", "val", 19761) == matching_releases("folder", "train", 86017) == []


def test_the_splits_add_up_to_the_totals_that_the_owners_state():
    assert sum(SPLIT_SIZES["sthv1"]["V1"].values()) == 108499
    assert sum(SPLIT_SIZES["sthv2"]["V2"].values()) == 220847
    assert sum(SPLIT_SIZES["diving48"]["V1"].values()) == 18039
