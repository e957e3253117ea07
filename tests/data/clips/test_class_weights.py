"""Weights of classes, judged by scikit-learn and by hand."""

from pathlib import Path

import numpy as np
import pytest
from sklearn.utils.class_weight import compute_class_weight

from timm_video_psn.data import PathTable, VideoIndex
from timm_video_psn.data.clips.class_weights import class_weights
from timm_video_psn.data.datasets.index import LabelSets

LABELS = np.array([0] * 6 + [1] * 3 + [2])


def index(labels=LABELS, names=("run", "jump, high", "sit"), sets=None):
    paths = PathTable.from_paths(f"{number}.mp4" for number in range(len(labels)))
    return VideoIndex(paths, np.asarray(labels), names, Path(), label_sets=sets)


def test_balanced_weights_are_scikit_learns_and_absent_classes_have_1():
    expected = compute_class_weight("balanced", classes=np.arange(3), y=LABELS)
    np.testing.assert_allclose(class_weights("balanced", index()), expected, rtol=1e-6)
    found = class_weights("balanced", index(names=("run", "jump", "sit", "nap")))
    np.testing.assert_allclose(found, [*expected, 1], rtol=1e-6)


def test_of_several_classes_a_video_they_are_negatives_over_positives():
    sets = LabelSets.from_sets([[0], [0, 1], [2, 0], [0]])
    found = class_weights("balanced", index(sets.smallest(), sets=sets), several=True)
    np.testing.assert_allclose(found, [0, 3, 3])


@pytest.mark.parametrize("text", ["2\n1\n0.5\n", 'class,weight\nsit,0.5\nrun,2\n"jump, high",1\n'])
def test_a_file_gives_weights_by_order_or_by_name(tmp_path, text):
    (tmp_path / "w.csv").write_text(text)
    assert class_weights(str(tmp_path / "w.csv"), index()).tolist() == [2, 1, 0.5]


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("1\n2\n", "2 weights for 3 classes; without one: sit"),
        ("run,1\nruns,1\nsit,1", "2: 'runs' is no class of the data; nearest: run"),
        ("1\n-2\n3", "2: weight -2 is out of range"),
        ("1\ntwo\n3", "2: 'two' ends in no weight"),
        (
            'run,1\nrun,1\nsit,1\n"jump, high",1',
            "has 4 weights for 3 classes; without one: none, so that some have two",
        ),
    ],
)
def test_a_file_that_does_not_fit_says_why(tmp_path, text, message):
    (tmp_path / "w.csv").write_text(text)
    with pytest.raises(ValueError, match=message):
        class_weights(str(tmp_path / "w.csv"), index())


def test_a_missing_file_is_told_what_is_accepted():
    with pytest.raises(FileNotFoundError, match="no such file; use `balanced`, or a file of"):
        class_weights("balnced", index())
