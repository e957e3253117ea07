"""Accuracy against plain loops."""

from dataclasses import replace

import numpy as np
import pytest

from timm_video_psn.engine.evaluate.accuracy import measure
from timm_video_psn.engine.evaluate.intervals import mean_interval, share_interval
from timm_video_psn.engine.evaluate.scores import Scores


def make(values, labels, num_classes=None):
    values = np.asarray(values, dtype=np.float32)
    names = tuple(f"class {k}" for k in range(num_classes or values.shape[1]))
    videos = tuple(f"{number}.mp4" for number in range(len(values)))
    return Scores(values, np.asarray(labels, dtype=np.int64), videos, names, "8x1x1", "logits", len(values))


@pytest.fixture(scope="module")
def some():
    """200 videos of 7 classes, one of which has none; about half are named correctly."""
    rng = np.random.default_rng(0)
    labels = rng.choice([0, 1, 2, 3, 4, 6], size=200, p=[0.4, 0.2, 0.2, 0.1, 0.05, 0.05])
    values = rng.normal(size=(200, 7))
    values[np.arange(200), labels] += 1.5
    return make(values, labels)


def test_numbers_are_those_of_plain_loops(some):
    accuracy = measure(some)
    right = of_five = 0
    by_class = {}
    confusion = np.zeros((7, 7), dtype=int)
    for values, label in zip(some.scores.tolist(), some.labels.tolist(), strict=True):
        order = sorted(range(7), key=lambda k: -values[k])
        right += order[0] == label
        of_five += label in order[:5]
        by_class.setdefault(label, []).append(order[0] == label)
        confusion[label, order[0]] += 1
    assert accuracy.top1.value == pytest.approx(100 * right / 200)
    assert accuracy.top5.value == pytest.approx(100 * of_five / 200)
    mean = sum(sum(hits) / len(hits) for hits in by_class.values()) / len(by_class)
    assert accuracy.mean_class.value == pytest.approx(100 * mean)
    assert np.array_equal(accuracy.confusion, confusion)
    for row in accuracy.classes:
        hits = by_class.get(row.label, [])
        assert (row.videos, row.correct) == (len(hits), sum(hits))
        assert (row.accuracy is None) == (not hits)
        if hits:
            assert row.accuracy.value == pytest.approx(100 * sum(hits) / len(hits))
            wrong = {k: confusion[row.label, k] for k in range(7) if k != row.label}
            assert row.confused_videos == max(wrong.values())
            assert wrong[int(row.most_confused_with.split()[1])] == max(wrong.values())


def test_each_share_has_its_wilson_interval(some):
    accuracy = measure(some)
    hits = round(accuracy.top1.value * 2)
    assert accuracy.top1 == share_interval(hits, 200)
    row = accuracy.classes[0]
    assert row.accuracy == share_interval(row.correct, row.videos)
    present = [row for row in accuracy.classes if row.videos]
    counts = (np.array(column) for column in zip(*((row.correct, row.videos) for row in present), strict=True))
    assert accuracy.mean_class == mean_interval(*counts)


def test_within_pairs_only_the_two_classes_compete_and_a_tie_counts_half(some):
    pairs = ((0, 1), (2, 6))
    tied = make([[1, 1, 0], [0, 2, 0], [0, 2, 0]], [0, 1, 0])
    assert measure(tied, ((0, 1),)).pair_top1.value == pytest.approx(50)
    other = {0: 1, 1: 0, 2: 6, 6: 2}
    rows = [(values, label) for values, label in zip(some.scores, some.labels.tolist(), strict=True) if label in other]
    ours = measure(some, pairs).pair_top1
    assert ours.value == pytest.approx(100 * np.mean([values[label] > values[other[label]] for values, label in rows]))
    assert ours.low < ours.value < ours.high
    assert measure(some).pair_top1 is None


def test_of_equal_scores_the_class_listed_first_comes_first():
    accuracy = measure(make(np.zeros((8, 8)), range(8)))
    assert (accuracy.top1.value, accuracy.top5.value) == (100 / 8, 500 / 8)


def test_five_classes_have_no_top_5_and_six_have():
    assert measure(make(np.eye(5), range(5))).top5 is None
    assert measure(make(np.eye(6), range(6))).top5.value == 100.0


def test_videos_without_a_label_do_not_count():
    accuracy = measure(make([[1, 0], [1, 0], [0, 1]], [0, -1, 0]))
    assert (accuracy.num_videos, accuracy.top1.value) == (2, 50.0)
    with pytest.raises(ValueError, match="none of the 1 videos has a label"):
        measure(make([[1, 0]], [-1]))


def test_spoiled_scores_are_refused():
    with pytest.raises(ValueError, match=r"scores of 1\.mp4 are not finite"):
        measure(make([[1, 0], [np.nan, 1]], [0, 1]))


def test_of_several_classes_a_video_any_is_a_hit_and_each_class_is_found_by_itself():
    targets = np.array([[1, 1, 0], [0, 1, 0], [1, 0, 1], [0, 0, 1]], dtype=bool)
    values = np.array([[-1, 3, 1], [2, 1, -1], [1, -1, 2], [3, 2, -2]])
    scores = replace(make(values, [0, 1, 0, 2]), targets=targets, activation="sigmoid")
    accuracy = measure(scores)
    assert accuracy.top1 == share_interval(2, 4)  # the first and the third video
    assert accuracy.confusion is None
    assert [(row.videos, row.correct) for row in accuracy.classes] == [(2, 1), (2, 2), (2, 1)]
    precisions = [row.average_precision for row in accuracy.classes]
    assert precisions == pytest.approx(
        [100 * (1 / 3 + 2 / 4) / 2, 100 * (1 / 1 + 2 / 3) / 2, 100 * (1 / 1 + 2 / 4) / 2]
    )
    assert accuracy.mean_ap == pytest.approx(np.mean(precisions))


def test_map_of_single_classes_takes_the_label_for_the_only_one():
    values = np.array([[2.0, 1, 0], [0, 1, 2], [2, 1, 0]])
    accuracy = measure(replace(make(values, [0, 1, 2]), activation="sigmoid"))
    assert accuracy.mean_ap == pytest.approx(100 * (1 + 1 / 3 + 1 / 3) / 3, abs=20)
    assert accuracy.confusion.tolist() == [[1, 0, 0], [0, 0, 1], [1, 0, 0]]
    assert measure(make(values, [0, 1, 2])).mean_ap is None
