"""The picture and the table of classes that gained and lost."""

import csv

import numpy as np
import pytest
from PIL import Image

from tests.insights.tiny_runs import LONG_NAMES, assert_all_is_in_the_picture
from timm_video_psn.engine.evaluate.compare import Comparison, compare
from timm_video_psn.engine.evaluate.scores import Scores
from timm_video_psn.insights.class_gain import draw_class_gains, most_changed, save_class_gains


def comparison(first: np.ndarray, second: np.ndarray, labels: np.ndarray, names: tuple[str, ...]) -> Comparison:
    """Of two models with these scores."""
    videos = tuple(map(str, range(len(labels))))
    parts = [Scores(values, labels, videos, names, "4x1x1", "logits", len(labels)) for values in (first, second)]
    return compare(*parts, ("A", "B"))


def test_the_ends_the_picture_and_the_table(tmp_path):
    rng = np.random.default_rng(0)
    names = tuple(f"class {number}" for number in range(30))
    labels = np.repeat(np.arange(30), 8)
    found = comparison(*(rng.random((240, 30)) + 0.5 * np.eye(30)[labels] for _ in range(2)), labels, names)
    gains = list(found.classes)
    assert len(gains) == 30
    assert most_changed(gains, 3) == gains[:3] + gains[-3:]
    assert most_changed(gains, 15) == gains
    with Image.open(draw_class_gains(found, tmp_path / "gains.png", count=5)) as picture:
        assert picture.size == (800, 420)
    with save_class_gains(found, tmp_path / "gains.csv").open() as file:
        rows = list(csv.DictReader(file))
    assert [row["class"] for row in rows] == [one.name for one in gains]
    numbers = [[float(row[key]) for row in rows] for key in ("gain", "low", "high")]
    expected = [[one.gain[place] for one in gains] for place in range(3)]
    for row, values in zip(numbers, expected, strict=True):
        assert row == pytest.approx(values, abs=1e-4)


def test_long_names_leave_room_for_the_bars(tmp_path, figures):
    labels = np.arange(60) % 30
    found = comparison(np.eye(30)[(labels + 1) % 30], np.eye(30)[labels], labels, LONG_NAMES)
    draw_class_gains(found, tmp_path / "gains.png")
    (figure,) = figures
    assert figure.axes[0].get_position().width * figure.get_size_inches()[0] > 4
    assert_all_is_in_the_picture(figure)
