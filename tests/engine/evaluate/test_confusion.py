"""The picture of a confusion matrix is large enough to be read, whatever the number of classes."""

import numpy as np
import pytest
from PIL import Image

from timm_video_psn.engine.evaluate.confusion import draw_confusion


@pytest.mark.parametrize("count", [1, 5, 174])
def test_each_class_has_room_for_a_line_of_text(count, tmp_path):
    names = [f"[something] {k} for $something" for k in range(count)]
    confusion = np.diag(np.arange(count))  # a class without videos, too
    path = tmp_path / "confusion.png"
    draw_confusion(confusion, names, path, "8x1x1@224/256 segments logits")
    with Image.open(path) as image:
        pixels = np.asarray(image.convert("RGB")).astype(int)
    assert min(pixels.shape[:2]) > 14 * count
    assert max(pixels.shape[:2]) < 6000
    rows, columns = np.nonzero(pixels[..., 2] - pixels[..., 0] > 80)  # the dark blue cells of the diagonal
    if count > 1:
        assert rows.max() - rows.min() > 12 * (count - 1)
        assert columns.max() - columns.min() > 12 * (count - 1)
        left = pixels[rows.min() :, : columns.min() - 20 * (count > 5)]
        assert (left.min((1, 2)) < 100).sum() > 5 * (count - 1)  # ink of a name beside each row
