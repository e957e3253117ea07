"""Gains of classes, counted by hand; intervals that hold the truth as often as they say."""

import csv
from dataclasses import replace

import numpy as np
import pytest
from PIL import Image

from tests.insights.tiny_runs import LONG_NAMES, assert_all_is_in_the_picture
from timm_video_psn.engine.evaluate.scores import Scores
from timm_video_psn.insights.class_gain import (
    class_gains,
    draw_class_gains,
    most_changed,
    paired_interval,
    save_class_gains,
)

NAMES = ("a", "b", "c")


def scores(predicted: list[int], labels: list[int], videos: list[str]) -> Scores:
    return Scores(np.eye(3)[predicted], np.array(labels), tuple(videos), NAMES, "4x1x1", "logits", len(labels))


def test_gains_are_counted_class_by_class_on_common_videos_in_any_order():
    before = scores([0, 1, 1, 2, 0], [0, 0, 1, 1, 2], ["v0", "v1", "v2", "v3", "only before"])
    after = scores([2, 1, 0, 0, 1], [1, 1, 0, 0, 0], ["v3", "v2", "v1", "v0", "only after"])
    gains = class_gains(before, after)
    assert [(one.name, one.before, one.after, one.gain, one.num_videos) for one in gains] == [
        ("a", 50, 100, 50, 2),
        ("b", 50, 50, 0, 2),
    ]
    assert all(one.low <= one.gain <= one.high for one in gains)


def test_intervals_hold_the_truth_in_about_95_of_100_cases():
    rng = np.random.default_rng(0)
    for joint in ([0.5, 0.2, 0.1, 0.2], [0.8, 0.1, 0.02, 0.08], [0.05, 0.45, 0.1, 0.4]):
        truth = joint[1] - joint[2]  # gained less lost
        held = 0
        for _ in range(1000):
            cells = rng.choice(4, 40, p=joint)  # both, gained, lost, neither
            low, high = paired_interval(np.isin(cells, (0, 2)), np.isin(cells, (0, 1)))
            held += low <= truth <= high
        assert 0.93 <= held / 1000 <= 0.99


def test_the_interval_is_that_of_the_paper():
    """Newcombe 1998, Table II: 36 pairs right in both, 12 in the one alone, 2 in the other alone, 0 in neither."""
    cells = np.repeat(np.arange(4), (36, 12, 2, 0))
    low, high = paired_interval(np.isin(cells, (0, 2)), np.isin(cells, (0, 1)))
    assert (round(low, 4), round(high, 4)) == (0.0569, 0.3404)


def test_intervals_turn_round_with_the_models_and_are_never_empty():
    rng = np.random.default_rng(1)
    old, new = rng.random(30) < 0.4, rng.random(30) < 0.7
    low, high = paired_interval(old, new)
    assert paired_interval(new, old) == pytest.approx((-high, -low))
    low, high = paired_interval(np.ones(10, dtype=bool), np.ones(10, dtype=bool))
    assert low < 0 < high


def test_pairs_that_agree_make_the_interval_narrower():
    old = np.arange(40) < 20
    agreeing, opposed = np.arange(40) < 24, np.arange(40) >= 16
    widths = [high - low for low, high in (paired_interval(old, new) for new in (agreeing, opposed))]
    assert widths[0] < widths[1]


def test_the_ends_the_picture_and_the_table(tmp_path):
    rng = np.random.default_rng(0)
    names = tuple(f"class {number}" for number in range(30))
    labels = np.repeat(np.arange(30), 8)
    parts = [
        Scores(
            rng.random((240, 30)) + 0.5 * np.eye(30)[labels],
            *(labels, tuple(map(str, range(240))), names, "4x1x1", "logits", 240),
        )
        for _ in range(2)
    ]
    gains = class_gains(*parts)
    assert len(gains) == 30
    assert most_changed(gains, 3) == gains[:3] + gains[-3:]
    assert most_changed(gains, 15) == gains
    with Image.open(draw_class_gains(gains, tmp_path / "gains.png", count=5)) as picture:
        assert picture.size == (800, 420)
    with save_class_gains(gains, tmp_path / "gains.csv").open() as file:
        rows = list(csv.DictReader(file))
    assert [row["class"] for row in rows] == [one.name for one in gains]
    assert [float(row["gain"]) for row in rows] == pytest.approx([one.gain for one in gains])


def test_long_names_leave_room_for_the_bars(tmp_path, figures):
    labels = np.arange(60) % 30
    right, wrong = (
        Scores(np.eye(30)[said], labels, tuple(map(str, range(60))), LONG_NAMES, "4x1x1", "logits", 60)
        for said in (labels, (labels + 1) % 30)
    )
    draw_class_gains(class_gains(wrong, right), tmp_path / "gains.png")
    (figure,) = figures
    assert figure.axes[0].get_position().width * figure.get_size_inches()[0] > 4
    assert_all_is_in_the_picture(figure)


def test_videos_without_labels_are_said_so():
    unknown = scores([0, 1], [-1, -1], ["x", "y"])
    with pytest.raises(ValueError, match="none of the 2 videos in common has a label"):
        class_gains(unknown, unknown)


def test_files_of_different_data_cannot_be_compared():
    one = scores([0, 1], [0, 1], ["x", "y"])
    with pytest.raises(ValueError, match="no video in common"):
        class_gains(one, scores([0], [0], ["z"]))
    with pytest.raises(ValueError, match="other labels"):
        class_gains(one, scores([0, 1], [0, 2], ["x", "y"]))
    with pytest.raises(ValueError, match="other classes"):
        class_gains(one, replace(one, class_names=("a", "b", "d")))
