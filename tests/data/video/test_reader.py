"""`VideoReader` against a plain decode of the whole file, and its answers to files that are none."""

import pickle
from collections.abc import Callable
from pathlib import Path
from typing import ClassVar

import av
import numpy as np
import pytest
from PIL import Image

from tests.data.sample_videos import B_FRAMES, NUM_FRAMES, REAL_CLIPS, decoded_plainly, encoded, moving_noise
from timm_video_psn.data.video import packet_scan, pyav_backend
from timm_video_psn.data.video.errors import DecodeError
from timm_video_psn.data.video.pyav_backend import VideoFile
from timm_video_psn.data.video.reader import VideoReader, decode_clip
from timm_video_psn.data.video.stream import FrameStream

Find = Callable[[str], Path]


def index_patterns(num_frames: int) -> list[list[int]]:
    """All that a sampler may ask for: dense, sparse, one, backwards, repeated."""
    spread = [int(num_frames / 16 + num_frames / 8 * i) for i in range(8)]
    middle = [min(num_frames // 2 + i, num_frames - 1) for i in range(8)]
    draws = [np.random.default_rng(i).integers(0, num_frames, 5).tolist() for i in range(8)]
    every = list(range(num_frames))
    return [every, every[::-1], spread, middle, middle[::2], [0], [num_frames - 1], [3, 3, 0, 3], *draws]


def assert_reads(path: Path, truth: np.ndarray, patterns: list[list[int]]) -> None:
    with VideoReader(path) as reader:
        assert reader.num_frames == len(truth)
        for indices in patterns:
            np.testing.assert_array_equal(reader.read(indices), truth[indices], err_msg=f"indices {indices}")


class TestExactFrames:
    def test_equal_those_of_a_plain_decode(self, any_video):
        truth = decoded_plainly(any_video)
        assert len(truth) == NUM_FRAMES
        assert_reads(any_video, truth, [[i] for i in range(NUM_FRAMES)] + index_patterns(NUM_FRAMES))

    def test_one_after_the_other_equal_those_of_a_plain_decode(self, any_video):
        with VideoReader(any_video) as reader:
            frames = list(reader.frames())
            np.testing.assert_array_equal(np.stack(frames), decoded_plainly(any_video))
            assert len(list(reader.frames())) == NUM_FRAMES  # and once more

    def test_of_real_clips_equal_those_of_a_plain_decode(self, costly):
        clips = sorted(path for path in REAL_CLIPS.glob("*.*") if path.suffix in (".mp4", ".avi"))
        if not clips:
            pytest.skip("no folder shared/clips with real videos beside the repository")
        for path in clips:
            truth = decoded_plainly(path)
            assert_reads(path, truth, index_patterns(len(truth))[2:])

    def test_do_not_depend_on_the_packet_table(self, any_video, monkeypatch):
        truth = decoded_plainly(any_video)
        monkeypatch.setattr(packet_scan.PacketTable, "from_marks", lambda *marks: None)
        assert_reads(any_video, truth, index_patterns(NUM_FRAMES))

    @pytest.mark.parametrize("name", ["one.mp4", "one.webm", "one.avi", "one.mkv"])
    def test_of_a_single_frame(self, name, tmp_path):
        codec, options = {"webm": ("libvpx-vp9", {}), "avi": ("mpeg4", {})}.get(name[4:], ("libx264", {}))
        path = encoded(moving_noise(num_frames=1), codec, options, "yuv420p", tmp_path / name)
        assert_reads(path, decoded_plainly(path), [[0], [0, 0, 0]])

    def test_of_uneven_rate_are_numbered_one_by_one(self, video):
        with av.open(str(video("uneven_rate.mp4"))) as container:
            times = [frame.time for frame in container.decode(video=0)]
        gaps = np.diff(times)
        assert gaps.max() > 3 * gaps.min()

    def test_of_a_file_too_large_to_hold_in_memory(self, video, monkeypatch):
        monkeypatch.setattr(packet_scan, "_HELD_BYTES", 1000)
        assert_reads(video("b_frames.mp4"), decoded_plainly(video("b_frames.mp4")), index_patterns(NUM_FRAMES))

    @pytest.mark.parametrize("hidden", [1, 5, 20])
    def test_count_from_where_an_edit_list_starts(self, hidden, edited_video):
        path = edited_video(hidden)
        truth = decoded_plainly(path)
        assert len(truth) == NUM_FRAMES - hidden
        assert_reads(path, truth, index_patterns(len(truth)))

    def test_where_time_stamps_occur_twice(self, video, tmp_path):
        path = tmp_path / "twice.mkv"
        with av.open(str(video("one_group.mp4"))) as source, av.open(str(path), "w") as target:
            stream = target.add_stream_from_template(source.streams.video[0])
            for packet in source.demux(video=0):
                if packet.size:
                    packet.pts = packet.dts = packet.dts // 1024 * 1024
                    packet.stream = stream
                    target.mux(packet)
        truth = decoded_plainly(path)
        assert_reads(path, truth, index_patterns(len(truth)))

    def test_rate_is_that_of_the_file(self, video):
        with VideoReader(video("b_frames.mp4")) as reader:
            assert reader.fps == 25


class TestTimesThatContradictTheDecoder:
    """The container says other times than the order in which the decoder gives the frames: that order is the truth."""

    @pytest.fixture(params=["h264.mp4", "h264.mkv", "hevc.mp4", "hevc.mkv"])
    def with_times(self, request, tmp_path):
        """A copy of a video with B frames whose packets have other times, given in frames and in decoding order."""
        codec, _, ending = request.param.partition(".")
        options = {"x265-params": "bframes=3:keyint=12:log-level=none"} if codec == "hevc" else B_FRAMES
        source = encoded(
            moving_noise(), {"h264": "libx264", "hevc": "libx265"}[codec], options, "yuv420p", tmp_path / f"a.{ending}"
        )

        def remuxed(change):
            path = tmp_path / f"times.{ending}"
            with av.open(str(source)) as container, av.open(str(path), "w") as target:
                video = container.streams.video[0]
                packets = [packet for packet in container.demux(video) if packet.size]
                times = change(np.argsort(np.argsort([packet.pts for packet in packets])))
                stream, unit = target.add_stream_from_template(video), round(1 / (25 * video.time_base))
                for number, (packet, time) in enumerate(zip(packets, times.tolist(), strict=True)):
                    packet.stream, packet.dts, packet.pts = stream, number * unit, (time + NUM_FRAMES) * unit
                    target.mux(packet)
            return path

        return remuxed

    CHANGES: ClassVar = {
        "times of decoding": np.sort,
        "times of other frames": lambda times: np.random.default_rng(0).permutation(times),
        "backwards within seconds": lambda times: times // 12 * 12 + 11 - times % 12,
        "two swapped": lambda times: np.where(times == 20, 21, np.where(times == 21, 20, times)),
    }

    @pytest.mark.parametrize("change", CHANGES)
    def test_do_not_change_the_frames(self, change, with_times, costly):
        path = with_times(self.CHANGES[change])
        truth = decoded_plainly(path)
        assert_reads(path, truth, [[i] for i in range(len(truth))] + index_patterns(len(truth)))
        for frames in (VideoReader(path).frames(), (frame.rgb() for frame in FrameStream(path))):
            np.testing.assert_array_equal(np.stack(list(frames)), truth)

    def test_that_are_right_are_trusted(self, with_times):
        path = with_times(lambda times: times)
        assert not VideoFile(path).table.is_counted
        assert_reads(path, decoded_plainly(path), index_patterns(NUM_FRAMES))


class TestAfterDamage:
    """Nothing is good until the next key frame, whichever frames are asked for."""

    @pytest.fixture
    def damaged(self, tmp_path):
        """A video with key frames at 0, 12, 24 and 36 and no B frames, in whose frame 14 the decoder finds an error."""
        path = encoded(
            moving_noise(),
            *("libx264", {"x264-params": "keyint=12:scenecut=0:bframes=0:cabac=0"}, "yuv420p"),
            tmp_path / "damaged.mp4",
        )
        content = bytearray(path.read_bytes())
        with av.open(str(path)) as container:
            packet = [packet for packet in container.demux(video=0) if packet.size][14]
            content[packet.pos + 20 : packet.pos + packet.size] = bytes(packet.size - 20)
        whole = decoded_plainly(path)
        path.write_bytes(content)
        return path, whole

    def test_frames_up_to_the_next_key_frame_are_refused(self, damaged):
        path, whole = damaged
        with VideoReader(path) as reader:
            for number in range(NUM_FRAMES):
                if 14 <= number < 24:
                    with pytest.raises(DecodeError, match=rf"frames asked for do not come out of it: \[{number}\]"):
                        reader.read([number])
                else:
                    np.testing.assert_array_equal(reader.read([number])[0], whole[number])

    @pytest.mark.parametrize("indices", [[15], [13, 15], [15, 30], range(NUM_FRAMES), [23], [0, 23, 47]])
    def test_they_are_refused_in_any_company(self, indices, damaged):
        with pytest.raises(DecodeError, match="the file is damaged"):
            decode_clip(damaged[0], lambda num_frames: indices)

    def test_the_others_are_given_in_any_company(self, damaged):
        path, whole = damaged
        for indices in ([13, 24], [0, 12, 47], [*range(14), *range(24, NUM_FRAMES)]):
            np.testing.assert_array_equal(decode_clip(path, lambda num_frames, wanted=indices: wanted), whole[indices])

    def test_all_in_turn_end_with_the_last_good_one(self, damaged):
        path, whole = damaged
        for start in (lambda: VideoReader(path).frames(), lambda: (frame.rgb() for frame in FrameStream(path))):
            given = []
            with pytest.raises(DecodeError, match="not all of its frames come out of it: 14 of 48"):
                given.extend(start())
            np.testing.assert_array_equal(np.stack(given), whole[:14])


class TestDecodesLittle:
    def test_converts_only_wanted_frames(self, video, monkeypatch):
        converted = []

        def counted(file, count, short_side, converter=pyav_backend.VideoFile._converter):
            convert = converter(file, count, short_side)
            return lambda frame: converted.append(frame.pts) or convert(frame)

        monkeypatch.setattr(pyav_backend.VideoFile, "_converter", counted)
        for name in ("b_frames.mp4", "mpeg4.avi"):
            converted.clear()
            with VideoReader(video(name)) as reader:
                reader.read([5, 30, 5, 17])
            assert len(converted) == 3

    def test_decodes_from_the_last_key_frame_on_what_others_refer_to(self, video, monkeypatch):
        runs = []

        def counted(decoder, packets, decode=pyav_backend.decode_packets):
            runs.append([position for position, _ in packets])
            return decode(decoder, packets)

        monkeypatch.setattr(pyav_backend, "decode_packets", counted)
        with VideoReader(video("b_frames.mp4")) as reader:  # key frames at 0, 12, 24, 36
            reader.read([1, 24])
        assert len(runs) == 2
        assert len(runs[0]) == 4  # a B frame and what it refers to
        assert runs[1] == [24]


class TestDamagedFiles:
    @pytest.mark.parametrize(
        ("name", "content", "reason"),
        [
            ("empty.mp4", b"", r"the file is empty \(0 bytes\); copy or download it again"),
            ("words.mp4", b"no video\n" * 200, "it is not a video, or damaged from the start"),
            ("words.txt", b"no video\n" * 200, "it is not a video, or of a kind that is not accepted"),
        ],
    )
    def test_that_are_no_videos(self, name, content, reason, tmp_path):
        path = tmp_path / name
        path.write_bytes(content)
        with pytest.raises(DecodeError, match=f"cannot decode .*{name}: {reason}"):
            VideoReader(path)

    def test_with_sound_only(self, tmp_path):
        path = tmp_path / "sound.mp4"
        with av.open(str(path), "w") as container:
            stream = container.add_stream("aac", rate=8000)
            silence = av.AudioFrame.from_ndarray(np.zeros((1, 1024), np.float32), format="fltp", layout="mono")
            silence.rate = 8000
            container.mux(stream.encode(silence))
            container.mux(stream.encode(None))
        with pytest.raises(DecodeError, match="it holds no video, only sound"):
            VideoReader(path)

    def test_that_do_not_exist(self, tmp_path):
        with pytest.raises(DecodeError, match="there is no such file or folder; check the name"):
            decode_clip(tmp_path / "gone.mp4", lambda num_frames: [0])

    def test_that_the_file_system_does_not_tell_of(self, tmp_path):
        with pytest.raises(DecodeError, match=r"it cannot be reached \(File name too long\)"):
            VideoReader(tmp_path / f"{'x' * 300}.mp4")

    def test_that_go_away_while_they_are_read(self, video, tmp_path, monkeypatch):
        monkeypatch.setattr(packet_scan, "_HELD_BYTES", 1000)
        path = tmp_path / "large.mp4"
        path.write_bytes(video("b_frames.mp4").read_bytes())
        with VideoReader(path) as reader:
            path.unlink()
            with pytest.raises(DecodeError, match=r"it cannot be read \(No such file or directory\)"):
                reader.read([0, 40])

    def test_cut_short_before_the_table_of_contents(self, video, tmp_path):
        path = cut(video("b_frames.mp4"), 0.8, tmp_path)
        with pytest.raises(DecodeError, match=r"its table of contents \(mp4 'moov'\) is missing: .* cut short"):
            VideoReader(path)

    @pytest.mark.parametrize("name", ["vp9.webm", "b_frames.mkv", "mpeg4.avi"])
    @pytest.mark.parametrize("share", [0.4, 0.66, 0.9])
    def test_cut_short_later(self, name, share, video, tmp_path):
        with pytest.raises(DecodeError, match=r"it is cut short by [\d,]+ bytes; copy or download it again"):
            VideoReader(cut(video(name), share, tmp_path))

    def test_cut_short_behind_the_table_of_contents(self, tmp_path):
        path = tmp_path / "whole.mp4"
        with av.open(str(path), "w", options={"movflags": "+faststart"}) as container:
            stream = container.add_stream("libx264", rate=25, options=B_FRAMES)
            stream.height, stream.width, stream.pix_fmt = 48, 64, "yuv420p"
            for frame in moving_noise():
                container.mux(stream.encode(av.VideoFrame.from_ndarray(frame, format="rgb24")))
            container.mux(stream.encode(None))
        with pytest.raises(DecodeError, match="it is cut short by"):
            VideoReader(cut(path, 0.6, tmp_path))

    def test_within_give_frames_of_undamaged_groups_and_no_other_frame(self, video, tmp_path):
        path = tmp_path / "damaged.mp4"
        whole, content = decoded_plainly(video("b_frames.mp4")), bytearray(video("b_frames.mp4").read_bytes())
        with av.open(str(video("b_frames.mp4"))) as container:
            key = [packet for packet in container.demux(video=0) if packet.is_keyframe][2]  # shows frame 24
            content[key.pos + 50 : key.pos + key.size] = b"\xff" * (key.size - 50)
        path.write_bytes(content)
        with VideoReader(path) as reader:
            assert reader.num_frames == NUM_FRAMES
            intact = [0, 5, 11, 12, 23, 36, 47]
            np.testing.assert_array_equal(reader.read(intact), whole[intact])
            with pytest.raises(DecodeError, match="the file is damaged, and frames asked for do not come out of it"):
                reader.read([0, 24])
            given = []
            with pytest.raises(DecodeError, match="damaged, and not all of its frames come out of it: 24 of 48"):
                given.extend(reader.frames())
            np.testing.assert_array_equal(np.stack(given), whole[:24])

    def test_whose_frames_change_size(self, tmp_path):
        parts = [
            encoded(moving_noise(*size, 4), "libx264", {}, "yuv420p", tmp_path / f"{number}.h264")
            for number, size in enumerate([(48, 64), (32, 32)])
        ]
        path = tmp_path / "both.h264"
        path.write_bytes(b"".join(part.read_bytes() for part in parts))
        with VideoReader(path) as reader:
            assert reader.num_frames == 8
            assert reader.read([1, 2]).shape == (2, 48, 64, 3)
            assert reader.read([7]).shape == (1, 32, 32, 3)
            with pytest.raises(DecodeError, match=r"differ in size, \(height, width\) is \[\(32, 32\), \(48, 64\)\]"):
                reader.read([1, 7])
            with pytest.raises(DecodeError, match="differ in size"):
                list(reader.frames())

    def test_are_named_by_an_error_that_travels_between_processes(self):
        error = pickle.loads(pickle.dumps(DecodeError("a/b.mp4", "it is gone")))
        assert (error.path, error.reason, str(error)) == (
            Path("a/b.mp4"),
            "it is gone",
            "cannot decode a/b.mp4: it is gone",
        )


class TestIndices:
    @pytest.mark.parametrize("index", [-1, NUM_FRAMES])
    def test_outside_the_video_are_errors(self, index, video):
        with (
            VideoReader(video("b_frames.mp4")) as reader,
            pytest.raises(IndexError, match=f"frame {index} of .*has 48 frames; use indices from 0 to 47"),
        ):
            reader.read([0, index])

    def test_are_needed(self, video):
        with VideoReader(video("b_frames.mp4")) as reader, pytest.raises(ValueError, match="give at least one index"):
            reader.read([])

    def test_are_chosen_by_the_length(self, video):
        clip = decode_clip(video("b_frames.mp4"), lambda num_frames: np.array([0, num_frames - 1]))
        np.testing.assert_array_equal(clip, decoded_plainly(video("b_frames.mp4"))[[0, -1]])


class TestFrameFolder:
    @pytest.fixture
    def folder(self, tmp_path):
        for number, frame in enumerate(moving_noise(num_frames=12)):
            Image.fromarray(frame).save(tmp_path / f"frame{number}.png")  # 10 sorts before 9 as text
        (tmp_path / "notes.txt").write_text("no frame")
        (tmp_path / "._frame0.png").write_bytes(b"no frame either")
        return tmp_path

    def test_is_read_in_natural_order(self, folder):
        assert_reads(folder, moving_noise(num_frames=12), index_patterns(12))
        with VideoReader(folder) as reader:
            np.testing.assert_array_equal(np.stack(list(reader.frames())), moving_noise(num_frames=12))
        with VideoReader(folder) as reader:
            assert reader.fps is None

    def test_may_hold_grey_images(self, folder):
        Image.fromarray(np.full((48, 64), 7, np.uint8)).save(folder / "frame3.png")
        with VideoReader(folder) as reader:
            assert (reader.read([3]) == 7).all()

    def test_without_images_is_an_error(self, tmp_path):
        with pytest.raises(DecodeError, match=r"the folder holds no frame image \(.jpeg, .jpg, .png\)"):
            VideoReader(tmp_path)

    def test_with_a_damaged_image_is_an_error_where_that_is_wanted(self, folder):
        content = (folder / "frame4.png").read_bytes()
        (folder / "frame4.png").write_bytes(content[: len(content) // 2])
        with VideoReader(folder) as reader:
            assert reader.read([3, 5]).shape == (2, 48, 64, 3)
            with pytest.raises(DecodeError, match=r"image frame4.png cannot be read"):
                reader.read([3, 4])

    def test_with_images_of_two_sizes_is_an_error(self, folder):
        Image.fromarray(np.zeros((8, 8, 3), np.uint8)).save(folder / "frame4.png")
        with VideoReader(folder) as reader, pytest.raises(DecodeError, match="differ in size"):
            reader.read([3, 4])


def cut(path: Path, share: float, folder: Path) -> Path:
    """A copy that lacks the end."""
    content = path.read_bytes()
    shorter = folder / f"cut_{path.name}"
    shorter.write_bytes(content[: int(share * len(content))])
    return shorter
