"""Predictions over time, against predictions of videos that end where the frames end."""

import av
import numpy as np
import pytest
from PIL import Image

from tests.insights.tiny_runs import CLASSES, LONG_NAMES, assert_all_is_in_the_picture, moving_square, write_frames
from timm_video_psn.insights.temporal_evolution import Evolution, draw_evolution, film_evolution, temporal_evolution


def test_a_constant_video_has_a_flat_evolution(trained, tmp_path):
    video = write_frames(tmp_path / "still", moving_square(3, 1).repeat(9, axis=0))
    found = temporal_evolution(trained, video)
    assert found.arrived.tolist() == list(range(1, 10))
    for values in (found.growing, found.sliding):
        assert values.sum(1) == pytest.approx(np.ones(9), abs=1e-6)
        assert values == pytest.approx(np.broadcast_to(values[0], values.shape), abs=1e-5)


def test_every_step_is_the_prediction_of_the_frames_so_far(trained, tmp_path):
    frames = moving_square(4, 11)
    found = temporal_evolution(trained, write_frames(tmp_path / "all", frames), steps=4, window=5)
    assert found.arrived.tolist() == [1, 4, 8, 11]
    for row, count in enumerate(found.arrived.tolist()):
        for kind, part in (("growing", frames[:count]), ("sliding", frames[max(0, count - 5) : count])):
            said = trained.predict(write_frames(tmp_path / f"{kind}{count}", part), topk=len(CLASSES))
            expected = {item.label: item.probability for item in said.top}
            values = dict(zip(CLASSES, getattr(found, kind)[row].tolist(), strict=True))
            assert values == pytest.approx(expected, abs=1e-5)


def test_leading_classes_are_those_that_come_nearest_to_one(trained, video):
    found = temporal_evolution(trained, video, steps=3)
    best = np.maximum(found.growing.max(0), found.sliding.max(0))
    assert best[found.leading(2)].tolist() == sorted(best.tolist(), reverse=True)[:2]


def test_the_picture_and_the_film(trained, video, tmp_path):
    found = temporal_evolution(trained, video, steps=4)
    with Image.open(draw_evolution(found, CLASSES, tmp_path / "evolution.png")) as picture:
        assert picture.size == (1000, 540)
        still = np.asarray(picture.convert("RGB")).astype(int)
    with av.open(str(film_evolution(found, CLASSES, tmp_path / "evolution.mp4"))) as film:
        frames = [frame.to_ndarray(format="rgb24").astype(int) for frame in film.decode(video=0)]
    assert len(frames) == 4
    differences = [np.abs(frame - still).mean() for frame in frames]
    assert differences == sorted(differences, reverse=True)  # it grows until it is the picture
    assert differences[-1] < 3 < differences[0]


def test_long_names_leave_room_for_the_curves(tmp_path, figures):
    shares = np.random.default_rng(0).dirichlet(np.ones(30), 6)
    found = Evolution(np.arange(1, 7), shares, shares, 3, 6, np.zeros((6, 32, 32, 3), np.uint8))
    draw_evolution(found, LONG_NAMES, tmp_path / "evolution.png")
    (figure,) = figures
    curves = figure.axes[-2:]
    assert all(axes.get_window_extent().width > 400 for axes in curves)
    assert all(axes.get_window_extent().height > 150 for axes in curves)
    assert_all_is_in_the_picture(figure)


def test_steps_and_windows_are_counted_from_one(trained, video):
    with pytest.raises(ValueError, match="steps=0"):
        temporal_evolution(trained, video, steps=0)
    with pytest.raises(ValueError, match="window=0"):
        temporal_evolution(trained, video, window=0)
