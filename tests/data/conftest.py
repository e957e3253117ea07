"""The videos that the tests of the data part read."""

import struct
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from tests.data.sample_videos import B_FRAMES, VIDEOS, encoded, moving_noise


@pytest.fixture(scope="session")
def video(tmp_path_factory: pytest.TempPathFactory) -> Callable[[str], Path]:
    """Path of a video of `VIDEOS` by its name; encoded when it is first asked for."""
    folder = tmp_path_factory.mktemp("videos")

    def find(name: str) -> Path:
        path = folder / name
        if not path.exists():
            codec, options, pix_fmt = VIDEOS[name]
            frames = moving_noise(47, 65) if name.startswith("odd") else moving_noise()
            encoded(frames, codec, options, pix_fmt, path)
        return path

    return find


@pytest.fixture(params=sorted(VIDEOS))
def any_video(request: pytest.FixtureRequest, video: Callable[[str], Path]) -> Path:
    """Each of the videos in turn."""
    return video(request.param)


@pytest.fixture
def edited_video(video: Callable[[str], Path], tmp_path: Path) -> Callable[[int], Path]:
    """Path of an mp4 file whose edit list hides a number of frames at the start."""

    def edit(hidden: int) -> Path:
        content = bytearray(video("b_frames.mp4").read_bytes())
        place = content.index(b"elst") + 16  # version and flags, number of entries, duration; then the first media time
        (media_time,) = struct.unpack_from(">i", content, place)
        struct.pack_into(">i", content, place, media_time + hidden * 512)  # one frame is 512 units long
        path = tmp_path / "edited.mp4"
        path.write_bytes(content)
        return path

    return edit


@pytest.fixture
def small_videos(tmp_path: Path) -> Path:
    """A folder data set: 6 training and 4 validation videos in two classes, one training video damaged."""
    frames = moving_noise(36, 48, num_frames=10)
    for split, count in (("train", 3), ("val", 2)):
        for label, name in enumerate(("turn_left", "turn_right")):
            (tmp_path / split / name).mkdir(parents=True)
            for number in range(count):
                shifted = np.roll(frames, 5 * (number + 3 * label), axis=2)
                encoded(shifted, "libx264", B_FRAMES, "yuv420p", tmp_path / split / name / f"{number}.mp4")
    (tmp_path / "train" / "turn_right" / "0.mp4").write_bytes(b"")
    return tmp_path
