"""Mirrored names, and the label map read off them."""

from pathlib import Path

import numpy as np
import pytest

from timm_video_psn.data.datasets.labels import check_class_names, flip_label_map, mirror_name

# All 174 classes in the order of the official file of V1, which is not sorted.
OFFICIAL_V1 = (Path(__file__).parent / "something_something_v1_labels.csv").read_text().splitlines()
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


@pytest.mark.parametrize(
    ("names", "pairs"),
    [
        (sorted(OFFICIAL_V1), {86: 87, 93: 94, 166: 167}),  # the order of V2's labels.json, and of GST, GSM and TAM
        (OFFICIAL_V1, {2: 4, 30: 41, 52: 66}),  # mmaction's order
    ],
)
def test_every_pair_of_something_something_is_swapped_in_either_order(names, pairs):
    assert len(names) == 174
    expected = np.arange(174)
    for left, right in pairs.items():
        expected[[left, right]] = right, left
    assert flip_label_map(names).tolist() == expected.tolist()


def test_right_as_an_adverb_is_no_side():
    names = ["pulling it right out", "Walk Right There, left", "lean right out", "lean left out", "rightout right"]
    assert flip_label_map(names).tolist() == [0, -1, 3, 2, -1]


class TestCheckClassNames:
    def test_the_same_names_pass(self):
        check_class_names(["a", "b"], ("a", "b"), "the model", "the data")

    def test_the_difference_is_shown(self):
        with pytest.raises(
            ValueError,
            match=r"the 2 classes of the model .* 7 of the data; only in the model: 'b'; only in the data: 'c', ",
        ) as error:
            check_class_names(["a", "b"], ["a", *"cdefgh"], "the model", "the data")
        assert "'g' and 1 more; the same label" in str(error.value)

    def test_another_order_is_shown(self):
        with pytest.raises(ValueError, match="in another order: label 1 is 'b' and 'c', 2 is 'c' and 'b';"):
            check_class_names("abcd", "acbd", "the model", "the data")

    def test_a_name_twice_is_no_match(self):
        with pytest.raises(ValueError, match="the 2 classes of the model are not the 3 of the data"):
            check_class_names(["a", "b"], ["a", "b", "b"], "the model", "the data")
