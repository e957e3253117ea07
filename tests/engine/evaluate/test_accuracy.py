"""Accuracy against plain loops; bootstrap intervals against closed forms and against a bootstrap of videos."""

import math

import numpy as np
import pytest
import torch

from timm_video_psn.engine.evaluate.accuracy import bootstrap_mean, measure, top1_of
from timm_video_psn.engine.evaluate.evaluate import pair_accuracy
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
            assert row.taken_for_videos == max(wrong.values())
            assert wrong[int(row.taken_for.split()[1])] == max(wrong.values())


@pytest.mark.parametrize(("share", "videos"), [(0.3, 400), (0.5, 100), (0.97, 1000)])
def test_an_interval_is_that_of_the_binomial_distribution(share, videos):
    hits = np.arange(videos) < share * videos
    interval = bootstrap_mean(hits, 20_000, seed=0)
    assert interval.value == pytest.approx(100 * share)
    # 2.5 % and 97.5 % points of Binomial(n, p) / n, from its probabilities added up one by one
    below, bounds = 0.0, []
    for k in range(videos + 1):
        log = math.lgamma(videos + 1) - math.lgamma(k + 1) - math.lgamma(videos - k + 1)
        below += math.exp(log + k * math.log(share) + (videos - k) * math.log1p(-share))
        if len(bounds) == 0 and below >= 0.025:
            bounds.append(k)
        if below >= 0.975:
            bounds.append(k)
            break
    one_video = 100 / videos
    assert interval.low == pytest.approx(100 * bounds[0] / videos, abs=1.01 * one_video)
    assert interval.high == pytest.approx(100 * bounds[1] / videos, abs=1.01 * one_video)
    normal = 1.96 * 100 * math.sqrt(share * (1 - share) / videos)
    assert (interval.high - interval.low) / 2 == pytest.approx(normal, rel=0.12)


def test_intervals_are_those_of_resampled_videos(some):
    """Videos drawn with replacement, and everything measured anew: slow, and what the fast draws must equal."""
    accuracy = measure(some, resamples=4000, seed=1)
    rng = np.random.default_rng(2)
    predicted = top1_of(some)
    drawn = {"top1": [], "mean_class": [], "class 0": []}
    for _ in range(2000):
        rows = rng.integers(len(some), size=len(some))
        hits, labels = predicted[rows] == some.labels[rows], some.labels[rows]
        drawn["top1"].append(hits.mean())
        drawn["mean_class"].append(np.mean([hits[labels == label].mean() for label in np.unique(labels)]))
        drawn["class 0"].append(hits[labels == 0].mean())
    ours = {"top1": accuracy.top1, "mean_class": accuracy.mean_class, "class 0": accuracy.classes[0].accuracy}
    for name, values in drawn.items():
        low, high = 100 * np.percentile(values, [2.5, 97.5])
        assert ours[name].low == pytest.approx(low, abs=1.3), name
        assert ours[name].high == pytest.approx(high, abs=1.3), name


def test_intervals_are_seeded(some):
    assert measure(some, seed=3).top1 == measure(some, seed=3).top1
    assert measure(some, seed=3).mean_class != measure(some, seed=4).mean_class


def test_pairs_are_counted_as_in_training(some):
    pairs = ((0, 1), (2, 6))
    tied = make([[1, 1, 0], [0, 2, 0], [0, 2, 0]], [0, 1, 0])
    assert measure(tied, ((0, 1),)).pair_top1.value == pytest.approx(50)
    ours = measure(some, pairs).pair_top1
    theirs = pair_accuracy(torch.from_numpy(some.scores), torch.from_numpy(some.labels), pairs)
    assert ours.value == pytest.approx(theirs)
    assert ours.low < ours.value < ours.high
    assert measure(some).pair_top1 is None


def test_of_equal_scores_the_class_listed_first_comes_first():
    accuracy = measure(make(np.zeros((8, 8)), range(8)))
    assert (accuracy.top1.value, accuracy.top5.value) == (100 / 8, 500 / 8)


def test_fewer_classes_than_five_are_always_among_the_first_five():
    assert measure(make([[1, 0, 0], [1, 0, 0]], [2, 1])).top5.value == 100.0


def test_videos_without_a_label_do_not_count():
    accuracy = measure(make([[1, 0], [1, 0], [0, 1]], [0, -1, 0]))
    assert (accuracy.num_videos, accuracy.top1.value) == (2, 50.0)
    with pytest.raises(ValueError, match="none of the 1 videos has a label"):
        measure(make([[1, 0]], [-1]))


def test_a_perfect_result_has_no_spread_and_spoiled_scores_are_refused():
    assert measure(make([[1, 0], [0, 1]], [0, 1])).top1 == (100.0, 100.0, 100.0)
    with pytest.raises(ValueError, match=r"scores of 1\.mp4 are not finite"):
        measure(make([[1, 0], [np.nan, 1]], [0, 1]))
