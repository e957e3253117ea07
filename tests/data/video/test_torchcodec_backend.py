"""Torchcodec against the same judge as PyAV, where it can be loaded; what is said where it cannot."""

import sys

import numpy as np
import pytest

from tests.data.sample_videos import NUM_FRAMES, VIDEOS, decoded_plainly, encoded, moving_noise
from tests.data.video.test_orientation import MATRICES, turned
from timm_video_psn.data.video import torchcodec_backend
from timm_video_psn.data.video.errors import DecodeError
from timm_video_psn.data.video.reader import VideoReader, check_decoder

# Chroma of this one is scaled with another filter than FFmpeg's own conversion to RGB: the frames are the same, their
# colours are a little off.
OTHER_COLOURS = {"interlaced.mp4"}


def loads() -> bool:
    try:
        check_decoder("torchcodec")
    except ImportError:
        return False
    return True


needs_torchcodec = pytest.mark.skipif(not loads(), reason="torchcodec is not installed, or finds no FFmpeg libraries")


def read(path, indices, decoder="torchcodec"):
    with VideoReader(path, decoder) as reader:
        return reader.read(indices)


@needs_torchcodec
class TestExactFrames:
    @pytest.mark.parametrize("name", sorted(set(VIDEOS) - OTHER_COLOURS))
    @pytest.mark.parametrize("indices", [range(NUM_FRAMES), [3, 9, 15, 21, 27, 33, 39, 45], [47], [30, 2, 30]])
    def test_equal_those_of_a_plain_decode(self, name, indices, video):
        np.testing.assert_array_equal(read(video(name), indices), decoded_plainly(video(name))[list(indices)])

    @pytest.mark.parametrize("name", sorted(OTHER_COLOURS))
    def test_are_the_right_ones_where_colours_differ(self, name, video):
        truth, frames = decoded_plainly(video(name)).astype(int), read(video(name), range(NUM_FRAMES))
        nearest = [int(np.abs(truth - frame).mean((1, 2, 3)).argmin()) for frame in frames]
        assert nearest == list(range(NUM_FRAMES))

    def test_one_after_the_other(self, video):
        with VideoReader(video("b_frames.mp4"), "torchcodec") as reader:
            np.testing.assert_array_equal(np.stack(list(reader.frames())), decoded_plainly(video("b_frames.mp4")))

    def test_of_a_single_frame(self, tmp_path):
        path = encoded(moving_noise(num_frames=1), "libx264", {}, "yuv420p", tmp_path / "one.mp4")
        np.testing.assert_array_equal(read(path, [0]), decoded_plainly(path))

    @pytest.mark.parametrize("name", sorted(MATRICES))
    def test_are_turned_as_pyav_turns_them(self, name, video, tmp_path):
        path = turned(video("b_frames.mp4"), MATRICES[name][0], tmp_path / "phone.mp4")
        np.testing.assert_array_equal(read(path, [0, 30]), read(path, [0, 30], "pyav"))

    @pytest.mark.parametrize("hidden", [1, 5, 20])
    def test_count_from_where_an_edit_list_starts(self, hidden, edited_video):
        path = edited_video(hidden)
        truth = decoded_plainly(path)
        with VideoReader(path, "torchcodec") as reader:
            assert reader.num_frames == len(truth)
            np.testing.assert_array_equal(reader.read([0, 5, len(truth) - 1]), truth[[0, 5, -1]])

    def test_are_told_by_the_same_rate(self, video):
        with VideoReader(video("b_frames.mp4"), "torchcodec") as reader:
            assert reader.fps == 25


@needs_torchcodec
@pytest.mark.parametrize("content", [b"", b"no video\n" * 200])
def test_files_that_are_none_get_the_same_answer(content, tmp_path):
    path = tmp_path / "broken.mp4"
    path.write_bytes(content)
    reasons = []
    for decoder in ("pyav", "torchcodec"):
        with pytest.raises(DecodeError) as caught:
            VideoReader(path, decoder)
        reasons.append(caught.value.reason)
    assert reasons[0] == reasons[1]


def test_without_torchcodec_the_error_says_how_to_get_it(monkeypatch):
    monkeypatch.setitem(sys.modules, "torchcodec.decoders", None)
    asked = "not installed; pip install 'timm-video-psn\\[torchcodec\\]', or use the decoder 'pyav'"
    with pytest.raises(ImportError, match=asked):
        check_decoder("torchcodec")


def test_where_it_finds_no_ffmpeg_the_error_says_so(tmp_path, monkeypatch):
    package = tmp_path / "torchcodec"
    package.mkdir()
    (package / "__init__.py").write_text("raise RuntimeError('Could not load libtorchcodec.\\nTried FFmpeg 4 to 8.')")
    for name in [name for name in sys.modules if name.partition(".")[0] == "torchcodec"]:
        monkeypatch.delitem(sys.modules, name)
    monkeypatch.syspath_prepend(tmp_path)
    with pytest.raises(ImportError, match=r"does not load here \(Could not load libtorchcodec.\); it needs FFmpeg's"):
        check_decoder("torchcodec")


def test_an_unknown_decoder_is_an_error(video):
    with pytest.raises(ValueError, match="decoder='decord' is unknown; use one of auto, pyav, torchcodec"):
        VideoReader(video("b_frames.mp4"), "decord")


@pytest.mark.parametrize("fails", ["open", "read"])
def test_what_it_does_not_give_comes_from_pyav_with_one_warning(video, monkeypatch, caplog, fails):
    error = RuntimeError("Requested next frame while there are no more frames left to decode.")

    class GivesUp:
        def __init__(self, path, **options):
            if fails == "open":
                raise error

        def __len__(self):
            return NUM_FRAMES

        def get_frames_at(self, indices):
            raise error

    monkeypatch.setattr(torchcodec_backend, "decoder_class", lambda: GivesUp)
    monkeypatch.setattr(torchcodec_backend, "_left", [])
    path = video("b_frames.mkv")
    for _ in range(2):
        np.testing.assert_array_equal(read(path, [5, 47]), decoded_plainly(path)[[5, 47]])
    (warning,) = caplog.messages
    assert warning.startswith(f"torchcodec does not {fails} {path} (Requested next frame ")
    assert "PyAV decodes it" in warning
