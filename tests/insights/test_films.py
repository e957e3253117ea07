"""Films and animations: what they play, and that nothing half-written is left."""

import av
import numpy as np
import pytest
from PIL import Image

from timm_video_psn.insights.films import save_film, save_gif


def test_films_play_what_they_were_given(tmp_path):
    frames = np.stack([np.full((35, 49, 3), 40 * number, dtype=np.uint8) for number in range(5)])
    with av.open(str(save_film(frames, tmp_path / "film.mp4", fps=5))) as film:
        shown = [frame.to_ndarray(format="rgb24") for frame in film.decode(video=0)]
        assert float(film.streams.video[0].average_rate) == 5
    assert [frame.shape for frame in shown] == [(34, 48, 3)] * 5
    assert [round(frame.mean() / 40) for frame in shown] == [0, 1, 2, 3, 4]


def test_animations_keep_every_picture(tmp_path):
    frames = [np.full((20, 30, 3), 100 * number, dtype=np.uint8) for number in range(3)]
    with Image.open(save_gif(frames, tmp_path / "film.gif", fps=4)) as film:
        assert (film.n_frames, film.size, film.info["duration"]) == (3, (30, 20), 250)


def test_what_fails_leaves_nothing_behind(tmp_path):
    with pytest.raises(ValueError, match="accepted are uint8"):
        save_film(np.zeros((2, 8, 8, 3)), tmp_path / "film.mp4", fps=5)
    assert list(tmp_path.iterdir()) == []
