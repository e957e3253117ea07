"""Average precision against plain loops, and its picture."""

import numpy as np
import pytest
from PIL import Image

from timm_video_psn.engine.evaluate.ranking import average_precisions, draw_ranking_curves, mean_average_precision


@pytest.fixture(scope="module")
def ranked():
    """60 videos of 4 classes, one of which none shows; scores that say something about the truth."""
    rng = np.random.default_rng(0)
    targets = rng.random((60, 4)) < (0.2, 0.5, 0.1, 0.0)
    return rng.normal(size=(60, 4)) + 1.5 * targets, targets


def test_average_precision_is_the_mean_precision_at_the_hits(ranked):
    scores, targets = ranked
    expected = []
    for label in range(3):
        hits, precisions = 0, []
        for place, video in enumerate(np.argsort(-scores[:, label]), 1):
            hits += targets[video, label]
            if targets[video, label]:
                precisions.append(hits / place)
        expected.append(100 * sum(precisions) / len(precisions))
    found = average_precisions(scores, targets)
    np.testing.assert_allclose(found[:3], expected)
    assert np.isnan(found[3])
    assert mean_average_precision(scores, targets) == pytest.approx(sum(expected) / 3)


@pytest.mark.parametrize("classes", [4, 30])
def test_curves_are_drawn_for_few_classes_and_for_many(ranked, tmp_path, classes):
    scores, targets = (np.tile(part, (1, 8))[:, :classes] for part in ranked)
    draw_ranking_curves(scores, targets, [f"class {k}" for k in range(classes)], tmp_path / "curves.png", "8x1x1")
    colours = Image.open(tmp_path / "curves.png").convert("RGB").getcolors(1 << 20)
    saturated = {rgb for count, rgb in colours if max(rgb) - min(rgb) > 120 and count > 100}
    assert bool(saturated) == (classes <= 10)  # more classes than can be told apart are grey
