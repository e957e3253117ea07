"""Pictures of known trajectories."""

import numpy as np
import pytest

from timm_video_psn.data.datasets import motion_render
from timm_video_psn.data.datasets.motion_actions import NUM_FRAMES, SIZE_PX, Trajectory
from timm_video_psn.data.datasets.motion_render import SHAPES, render


def still(x: float, y: float, radius: float) -> Trajectory:
    return Trajectory(*(np.full(NUM_FRAMES, value) for value in (x, y, radius)))


def shape_mask(trajectory: Trajectory, seed: int) -> np.ndarray:
    """Where a clip differs from the same clip with the shape far away; (T, S, S)."""
    away = Trajectory(trajectory.x + 1000, trajectory.y, trajectory.radius)
    clips = [render(t, np.random.default_rng(seed)).astype(int) for t in (trajectory, away)]
    return np.abs(clips[0] - clips[1]).sum(-1) > 30


def test_clips_are_bytes_and_depend_on_the_generator_alone():
    trajectory = still(30, 40, 10)
    clip = render(trajectory, np.random.default_rng(0))
    assert clip.shape == (NUM_FRAMES, SIZE_PX, SIZE_PX, 3)
    assert clip.dtype == np.uint8
    assert clip.flags.c_contiguous
    np.testing.assert_array_equal(clip, render(trajectory, np.random.default_rng(0)))
    assert (clip != render(trajectory, np.random.default_rng(1))).any()


@pytest.mark.parametrize("shape", SHAPES)
def test_the_shape_is_where_the_trajectory_says(shape, monkeypatch):
    monkeypatch.setattr(motion_render, "SHAPES", (shape,) * len(SHAPES))
    for seed in range(5):
        for x, y, radius in ((20, 25, 8), (50, 40, 16)):
            mask = shape_mask(still(x, y, radius), seed)[0]
            rows, columns = np.nonzero(mask)
            assert abs(columns.mean() + 0.5 - x) < 0.55 * radius
            assert abs(rows.mean() + 0.5 - y) < 0.55 * radius
            assert np.hypot(columns + 0.5 - x, rows + 0.5 - y).max() < 1.25 * radius + 1
            assert 0.2 < mask.sum() / radius**2 < 3.4


def test_the_shape_stands_out():
    for seed in range(20):
        mask = shape_mask(still(36, 36, 12), seed)[0]
        clip = render(still(36, 36, 12), np.random.default_rng(seed))[0].astype(float)
        assert np.linalg.norm(clip[mask].mean(0) - clip[~mask].mean(0)) > 60


def test_the_camera_sways_on_a_closed_path_without_a_preferred_direction():
    clips = np.stack([render(still(1000, 0, 5), np.random.default_rng(i)) for i in range(40)]).astype(float)
    step = np.abs(np.diff(clips, axis=1)).mean((2, 3, 4))  # (clips, T - 1)
    closing = np.abs(clips[:, -1] - clips[:, 0]).mean((1, 2, 3))
    np.testing.assert_allclose(closing.mean(), step.mean(), rtol=0.15)
    assert step.mean() > 3


def test_radius_scales_the_texture_with_the_shape():
    small, big = (shape_mask(still(36, 36, radius), 0)[0].sum() for radius in (8, 16))
    np.testing.assert_allclose(big / small, 4, rtol=0.2)


def test_a_given_colour_is_that_of_the_shape(monkeypatch):
    monkeypatch.setattr(motion_render, "SHAPES", ("disc",) * len(SHAPES))
    for seed in range(5):
        clip = render(still(36, 36, 16), np.random.default_rng(seed), (60, 195, 60)).astype(float)
        middle = clip[:, 28:44, 28:44].mean((0, 1, 2))  # within the disc; its texture and the noise average out
        np.testing.assert_allclose(middle, (60, 195, 60), atol=20)
