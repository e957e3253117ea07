"""Mirrored names, and the label map read off them."""

import numpy as np
import pytest

from timm_video_psn.data.labels import flip_label_map, mirror_name

SOMETHING_SOMETHING = [
    "Pulling something from left to right",
    "Pulling something from right to left",
    "Pushing something from left to right",
    "Pushing something from right to left",
    "Putting something upright on the table",
    "Turning the camera left while filming something",
    "Turning the camera right while filming something",
    "Turning the camera upwards while filming something",
]


@pytest.mark.parametrize(
    ("name", "mirrored"),
    [
        ("slide_left", "slide_right"),
        ("right_then_left", "left_then_right"),
        ("Left Turn", "Right Turn"),
        ("TURN RIGHT", "TURN LEFT"),
        ("left2right", "right2left"),
        ("Putting something upright", "Putting something upright"),
        ("leftover", "leftover"),
        ("brightly lit", "brightly lit"),
        ("nach-links (left)", "nach-links (right)"),
        ("", ""),
    ],
)
def test_left_and_right_are_swapped_as_words(name, mirrored):
    assert mirror_name(name) == mirrored
    assert mirror_name(mirrored) == name


def test_something_something_classes_swap_in_pairs():
    assert flip_label_map(SOMETHING_SOMETHING).tolist() == [1, 0, 3, 2, 4, 6, 5, 7]


def test_the_map_follows_the_names_in_whatever_order():
    order = np.random.default_rng(0).permutation(len(SOMETHING_SOMETHING))
    names = [SOMETHING_SOMETHING[i] for i in order]
    assert [names[label] for label in flip_label_map(names)] == [mirror_name(name) for name in names]


def test_a_class_without_its_mirrored_class_is_marked():
    assert flip_label_map(["turn left", "sit", "slide right", "slide left"]).tolist() == [-1, 1, 3, 2]


def test_without_left_and_right_labels_stay():
    labels = flip_label_map(["run", "sit", "stand upright"])
    assert labels.dtype == np.int64
    assert labels.tolist() == [0, 1, 2]
