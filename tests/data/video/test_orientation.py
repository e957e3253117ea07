"""The display matrix of phone videos, with QuickTime's definition as the judge."""

import struct

import numpy as np
import pytest

from tests.data.sample_videos import B_FRAMES, decoded_plainly, encoded, moving_noise
from timm_video_psn.data.video.orientation import upright
from timm_video_psn.data.video.reader import VideoReader

ONE = 1 << 16  # fixed point
# what players do -> ((a, b, c, d), the same in numpy's words)
MATRICES = {
    "nothing": ((ONE, 0, 0, ONE), lambda frame: frame),
    "quarter turn clockwise": ((0, ONE, -ONE, 0), lambda frame: np.rot90(frame, -1)),
    "half turn": ((-ONE, 0, 0, -ONE), lambda frame: np.rot90(frame, 2)),
    "quarter turn counterclockwise": ((0, -ONE, ONE, 0), lambda frame: np.rot90(frame, 1)),
    "mirrored": ((-ONE, 0, 0, ONE), lambda frame: frame[:, ::-1]),
    "upside down": ((ONE, 0, 0, -ONE), lambda frame: frame[::-1]),
    "mirrored along the diagonal": ((0, ONE, ONE, 0), lambda frame: frame.transpose(1, 0, 2)),
}


def turned(path, matrix, target):
    """A copy of an mp4 file with another matrix in its track header."""
    content = bytearray(path.read_bytes())
    a, b, c, d = matrix
    struct.pack_into(">9i", content, content.index(b"tkhd") + 44, a, b, 0, c, d, 0, 0, 0, 1 << 30)
    target.write_bytes(content)
    return target


@pytest.mark.parametrize("name", MATRICES)
def test_frames_are_shown_as_players_show_them(name, video, tmp_path):
    matrix, expected = MATRICES[name]
    path = turned(video("b_frames.mp4"), matrix, tmp_path / "phone.mp4")
    with VideoReader(path) as reader:
        frames = reader.read([0, 7, 30])
    stored = decoded_plainly(path)[[0, 7, 30]]  # FFmpeg's decoder leaves the turning to players
    np.testing.assert_array_equal(frames, np.stack([expected(frame) for frame in stored]))


@pytest.mark.parametrize("name", MATRICES)
def test_each_pixel_goes_where_the_definition_says(name):
    (a, b, c, d), _ = MATRICES[name]
    pixels = np.arange(5 * 7 * 3, dtype=np.uint8).reshape(5, 7, 3)
    shown = upright(pixels, (a, b, c, d))
    places = {(x, y): ((a * x + c * y) // ONE, (b * x + d * y) // ONE) for x in range(7) for y in range(5)}
    left, top = (min(place[axis] for place in places.values()) for axis in (0, 1))
    for (x, y), (right, down) in places.items():
        assert (shown[down - top, right - left] == pixels[y, x]).all()


def test_a_slight_tilt_turns_nothing():
    pixels = np.zeros((5, 7, 3), np.uint8)
    assert upright(pixels, (ONE, 9000, -9000, ONE)).shape == (5, 7, 3)
    assert upright(pixels, (9000, ONE, -ONE, 9000)).shape == (7, 5, 3)


@pytest.mark.parametrize("matrix", [None, (0, 0, 0, 0)])
def test_without_a_matrix_or_with_an_empty_one_the_frame_stays(matrix):
    pixels = np.zeros((5, 7, 3), np.uint8)
    assert upright(pixels, matrix) is pixels


def test_the_way_that_pyav_writes_a_turn_is_understood(tmp_path):
    av = pytest.importorskip("av", minversion="18")
    path = encoded(moving_noise(), "libx264", B_FRAMES, "yuv420p", tmp_path / "plain.mp4")
    target = tmp_path / "turned.mp4"
    with av.open(str(path)) as source, av.open(str(target), "w") as container:
        stream = container.add_stream_from_template(source.streams.video[0])
        stream.set_display_rotation(-90)  # counterclockwise, in degrees
        for packet in source.demux(video=0):
            if packet.dts is not None:
                packet.stream = stream
                container.mux(packet)
    with VideoReader(target) as reader:
        np.testing.assert_array_equal(reader.read([4])[0], np.rot90(decoded_plainly(path)[4], -1))
