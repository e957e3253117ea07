"""Comparisons against a hand-made example and a bootstrap of videos."""

from dataclasses import replace

import numpy as np
import pytest

from timm_video_psn.engine.evaluate.compare import compare
from timm_video_psn.engine.evaluate.report import comparison_lines
from timm_video_psn.engine.evaluate.scores import Scores

CLASSES = ("cut", "pour", "stir")


def answers(given, labels, videos=None):
    """Scores of a model that gives these answers."""
    values = np.eye(3, dtype=np.float32)[list(given)]
    videos = videos or tuple(f"{number}.mp4" for number in range(len(labels)))
    return Scores(values, np.array(labels, dtype=np.int64), videos, CLASSES, "8x1x1", "logits", len(labels))


def test_a_hand_made_example():
    #          cut         pour     stir   unlabelled
    labels = [0, 0, 0, 0, 1, 1, 1, 2, 2, 2, -1]
    first = answers([0, 0, 0, 1, 1, 2, 2, 2, 0, 0, 0], labels)
    second = answers([0, 0, 2, 1, 1, 1, 1, 2, 2, 0, 1], labels)
    result = compare(first, second, ("A", "B"))
    assert (result.num_videos, result.only_first, result.only_second) == (10, 1, 3)
    assert (result.first.value, result.second.value) == (50.0, 70.0)
    assert result.difference.value == pytest.approx(20.0)
    assert result.p_value == pytest.approx(2 * (1 + 4) / 16)  # 0 or 1 of 4, on either side
    changes = {change.name: (change.videos, change.first, change.second) for change in result.classes}
    assert changes["cut"] == (4, 75.0, 50.0)
    assert changes["pour"] == (3, pytest.approx(100 / 3), 100.0)
    assert changes["stir"] == (3, pytest.approx(100 / 3), pytest.approx(200 / 3))
    assert [change.name for change in result.classes] == ["pour", "stir", "cut"]
    assert result.classes[0].gain.value == pytest.approx(200 / 3)


def test_every_line_of_accuracy_says_of_how_many_videos_it_is():
    first, second = (answers(given, [0, 1, 2, -1]) for given in ([0, 0, 0, 0], [0, 1, 0, 0]))
    second = replace(second, num_expected=6)  # two of them could not be read
    lines = list(comparison_lines(compare(first, second, ("a.npz", "b.npz")), ("a.npz", "b.npz")))
    for beginning in ("A  8x1x1", "B  8x1x1", "B - A"):
        (line,) = [line for line in lines if line.startswith(beginning)]
        assert "(3 of 6 videos)" in line


def test_the_difference_is_known_better_than_from_the_two_accuracies():
    """Drawing videos with both answers kept together, in a plain loop."""
    rng = np.random.default_rng(0)
    labels = rng.integers(3, size=300)
    right = rng.random(300) < 0.6
    a = np.where(right, labels, (labels + 1) % 3)
    b = np.where(rng.random(300) < 0.1, (labels + 2) % 3, a)
    result = compare(answers(a, labels), answers(b, labels), ("A", "B"))
    drawn = []
    for _ in range(3000):
        rows = rng.integers(300, size=300)
        drawn.append(100 * ((b == labels)[rows].mean() - (a == labels)[rows].mean()))
    low, high = np.percentile(drawn, [2.5, 97.5])
    assert result.difference.low == pytest.approx(low, abs=0.6)
    assert result.difference.high == pytest.approx(high, abs=0.6)
    width = result.difference.high - result.difference.low
    assert width < (result.first.high - result.first.low) * 0.7


def test_the_same_answers_do_not_differ():
    labels = [0, 1, 2]
    result = compare(answers(labels, labels), answers(labels, labels), ("A", "B"))
    assert (result.difference.value, result.p_value) == (0.0, 1.0)
    assert result.difference.low < 0 < result.difference.high


def test_what_does_not_fit_is_refused():
    with pytest.raises(ValueError, match=r"only in A: 0\.mp4; only in B: x\.mp4"):
        compare(answers([0], [0]), answers([0], [0], ("x.mp4",)), ("A", "B"))
    spoiled = replace(answers([0], [0]), scores=np.full((1, 3), np.nan, dtype=np.float32))
    with pytest.raises(ValueError, match=r"B: the scores of 0\.mp4 are not finite"):
        compare(answers([0], [0]), spoiled, ("A", "B"))
    with pytest.raises(ValueError, match="none of the 1 videos of A has a label"):
        compare(answers([0], [-1]), answers([0], [-1]), ("A", "B"))
