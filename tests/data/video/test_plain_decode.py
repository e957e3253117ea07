"""Whatever is read of a generated file is what FFmpeg's plain decode shows, or is refused."""

from __future__ import annotations

from collections import Counter

import av
import numpy as np
import pytest

from tests.data.video.generated_videos import (
    Made,
    Plain,
    digest,
    expected_pictures,
    follows_a_sign,
    generate,
    plain_decode,
)
from timm_video_psn.data.clips.dataset import VideoDataset
from timm_video_psn.data.clips.sampling import segment_indices
from timm_video_psn.data.datasets.index import PathTable, VideoIndex
from timm_video_psn.data.tools.check import ListedVideo, check_video
from timm_video_psn.data.video.errors import DecodeError
from timm_video_psn.data.video.pyav_backend import VideoFile
from timm_video_psn.data.video.reader import VideoReader
from timm_video_psn.data.video.stream import FrameStream

CLIP = 6
SHARE_IN_TURN = 0.99  # all of them in the short test


class Judge:
    """Compares what the readers give with the plain decode, and counts."""

    def __init__(self) -> None:
        self.counts: Counter[str] = Counter()
        self.faults: list[str] = []

    def look_at(self, made: Made, decoder: str = "pyav") -> None:
        """Reads a file in every way."""
        self.counts["files"] += 1
        try:
            plain = plain_decode(made.path)
        except (av.FFmpegError, AttributeError):
            plain = None  # FFmpeg does not open it
        try:
            reader = VideoReader(made.path, decoder)
        except DecodeError as error:
            self.counts["files refused"] += 1
            if made.is_whole and (plain is None or plain.pictures):
                self._fault(made, f"whole, and refused: {error.reason}")
            self._check_refused(made)
            return
        with reader:
            if plain is None:
                self._fault(made, "read, though FFmpeg does not open it")
                return
            alone = self._one_by_one(made, reader, plain)
            self._together(made, reader, alone)
            self._in_turn(made, reader, alone)
            if decoder == "pyav":
                self._tools(made, alone)

    def _fault(self, made: Made, what: str) -> None:
        self.faults.append(f"{made.path.name} ({made.source}, {made.times}, {made.damage}, lost {made.lost}): {what}")

    def _check_refused(self, made: Made) -> None:
        for read in (FrameStream, lambda path: VideoFile(path, path.read_bytes())):
            try:
                read(made.path)
            except DecodeError:
                continue
            self._fault(made, "refused by one reader and not by the other")
        if check_video(ListedVideo(made.path)).reason is None:
            self._fault(made, "refused, and passed by check")

    def _one_by_one(self, made: Made, reader: VideoReader, plain: Plain) -> list[np.ndarray | None]:
        """Every frame for itself; None if it is refused."""
        expected = expected_pictures(plain, reader.num_frames)
        alone: list[np.ndarray | None] = []
        for number in range(reader.num_frames):
            try:
                frame = reader.read([number])[0]
            except DecodeError:
                alone.append(None)
                self.counts["frames refused"] += 1
                if made.is_whole:
                    self._fault(made, f"whole, and frame {number} refused")
                continue
            alone.append(frame)
            self.counts["frames given"] += 1
            picture = expected[number] if number < len(expected) else None
            if picture is None and digest(frame) in made.originals and not made.is_whole:
                self.counts["frames given that FFmpeg loses, as they were before the damage"] += 1
            elif picture is None or not np.array_equal(frame, plain.pictures[picture]):
                self._fault(made, f"frame {number} of {reader.num_frames} is not what a plain decode shows")
            elif digest(frame) not in made.originals:
                if follows_a_sign(plain, plain.positions[picture]):
                    self._fault(made, f"frame {number} is spoilt, and given as good")
                self.counts["frames given that are altered without a sign"] += 1
        return alone

    def _together(self, made: Made, reader: VideoReader, alone: list[np.ndarray | None]) -> None:
        """Frames in company are the same, and are refused exactly if one of them is."""
        rng = np.random.default_rng(len(alone))
        for size in (2, 3, 8, len(alone)):
            indices = rng.integers(0, len(alone), size).tolist() if size < len(alone) else list(range(len(alone)))
            good = _fit_together([alone[index] for index in indices])
            try:
                frames = reader.read(indices)
            except DecodeError:
                if good:
                    self._fault(made, f"frames {indices} are refused together, and given alone")
                continue
            if not good:
                self._fault(made, f"frames {indices} are given together, and refused alone")
            elif not np.array_equal(frames, np.stack([alone[index] for index in indices])):
                self._fault(made, f"frames {indices} are others together than alone")

    def _in_turn(self, made: Made, reader: VideoReader, alone: list[np.ndarray | None]) -> None:
        """All frames in order, up to the first that is refused."""
        bad = (number for number in range(len(alone)) if alone[number] is None)
        odd = (number for number in range(len(alone)) if not _fit_together([alone[0], alone[number]]))
        stops = {"frames()": next(odd, len(alone)), "FrameStream": next(bad, len(alone))}
        for name, start in (("frames()", reader.frames), ("FrameStream", lambda: _stream(made))):
            first_bad = stops[name]
            given, error = [], None
            try:
                given.extend(start())
            except DecodeError as caught:
                error = caught
            # Where damage changes the order in which frames come out, both stop with the first that is out of order.
            if (error is None) != (first_bad == len(alone)) or len(given) > first_bad:
                self._fault(made, f"{name} gives {len(given)} of {len(alone)} frames, the first bad is {first_bad}!")
            self.counts[f"{name}: frames before the first bad"] += first_bad
            self.counts[f"{name}: frames given"] += len(given)
            if not all(np.array_equal(*pair) for pair in zip(given, alone, strict=False)):
                self._fault(made, f"{name} gives other frames")

    def _tools(self, made: Made, alone: list[np.ndarray | None]) -> None:
        """What check says, what a training epoch and a test see, and what content in memory gives."""
        last = len(alone) - 1
        for thorough, wanted in ((True, range(len(alone))), (False, (0, last // 2, last))):
            passed = check_video(ListedVideo(made.path), thorough).reason is None
            if passed != _fit_together([alone[number] for number in wanted]):
                self._fault(made, f"check with thorough={thorough} says {passed}")
        index = VideoIndex(PathTable.from_paths([made.path]), np.zeros(1, int), ("a",), made.path.parent)
        for training in (True, False):
            indices = segment_indices(len(alone), CLIP, np.random.default_rng((0, 3, 0)) if training else None)
            dataset = VideoDataset(index, CLIP, _Unchanged(), training)
            item = dataset[0, 3]
            if hasattr(item, "reason") == _fit_together([alone[number] for number in indices]):
                self._fault(made, f"training={training} judges otherwise")
            elif not hasattr(item, "reason") and not np.array_equal(item.clip, np.stack([alone[i] for i in indices])):
                self._fault(made, f"training={training} sees other frames")
        in_memory = VideoReader(made.path, source=VideoFile(made.path, made.path.read_bytes()))
        good = [number for number, frame in enumerate(alone) if frame is not None][:CLIP]
        together = [alone[number] for number in good]
        if _fit_together(together) and not np.array_equal(in_memory.read(good), np.stack(together)):
            self._fault(made, "in memory it gives other frames")


def _fit_together(frames: list[np.ndarray | None]) -> bool:
    """Whether all of them are good, and of one size."""
    return all(frame is not None for frame in frames) and len({frame.shape for frame in frames}) == 1


class _Unchanged:
    """The clip as it is decoded."""

    def __call__(self, clip, rng=None):
        return clip if rng is None else (clip, False)


def _stream(made: Made):
    with FrameStream(made.path) as stream:
        yield from (frame.rgb() for frame in stream)


def look_at_all(folder, count, seed=0, decoder="pyav"):
    """Generates files, reads each in every way, and removes it."""
    judge = Judge()
    for made in generate(folder, count, seed):
        judge.look_at(made, decoder)
        made.path.unlink()
    return judge


def check_little_is_lost_in_turn(judge):
    """Of the frames before the first bad one, `SHARE_IN_TURN` come out in order."""
    for name in ("frames()", "FrameStream"):
        good = judge.counts[f"{name}: frames before the first bad"]
        assert SHARE_IN_TURN * good <= judge.counts[f"{name}: frames given"] <= good


def test_what_is_read_is_what_ffmpeg_shows_or_is_refused(tmp_path, costly):
    judge = look_at_all(tmp_path, 56)
    assert judge.faults == []
    assert judge.counts["frames given"] > 800
    assert judge.counts["frames refused"] > 30
    check_little_is_lost_in_turn(judge)


@pytest.mark.slow
def test_what_is_read_of_many_files_is_what_ffmpeg_shows_or_is_refused(tmp_path):
    judge = look_at_all(tmp_path, 700, seed=1)
    assert judge.faults == []
    check_little_is_lost_in_turn(judge)
