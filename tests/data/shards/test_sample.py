"""What comes out of a sample is what the file or folder would have given."""

import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from tests.data.sample_videos import decoded_plainly
from tests.miniatures import pictures, write_images
from timm_video_psn.data.datasets.index import PathTable, VideoIndex
from timm_video_psn.data.shards.sample import PackedVideo, pack
from timm_video_psn.data.video.errors import DecodeError
from timm_video_psn.data.video.frame_folder import ImageNames
from timm_video_psn.data.video.reader import VideoReader

WANTED = (0, 1, 5, 7)


def index_of(path, **settings):
    labels = np.zeros(1, dtype=np.int64)
    return VideoIndex(PathTable.from_paths([path.name]), labels, ("one",), path.parent, **settings)


def packed(index, change=lambda members: None):
    members = dict(pack(index, 0)[0])
    change(members)
    return PackedVideo.unpack(members, 0, Path(index.paths[0]))


def reason(video, choose=lambda count: range(count)):
    with pytest.raises(DecodeError) as error:
        video.decode(choose)
    return error.value.reason


class TestVideoFiles:
    def test_of_every_kind_give_the_same_frames_from_memory(self, any_video):
        frames = packed(index_of(any_video)).decode(lambda count: (*WANTED, count - 1))
        judge = decoded_plainly(any_video)
        with VideoReader(any_video) as reader:
            assert np.array_equal(frames, reader.read((*WANTED, reader.num_frames - 1)))
            assert reader.num_frames == len(judge)
        if "intra_refresh" not in any_video.name and "interlaced" not in any_video.name:
            assert np.array_equal(frames, judge[[*WANTED, len(judge) - 1]])

    def test_keep_their_bytes_and_their_ending(self, video):
        path = video("vp9.webm")
        (about_name, about), (name, content) = pack(index_of(path), 0)[0]
        assert (about_name, name, content) == ("json", "webm", path.read_bytes())
        about = json.loads(about)
        del about["sha256"]
        assert about == {"index": 0, "path": "vp9.webm", "label": 0, "label_name": "one", "frames": None}

    def test_that_are_damaged_are_so_in_the_same_words(self, video, tmp_path):
        whole = video("b_frames.mp4").read_bytes()
        damages = {
            "empty.mp4": b"",
            "cut.mp4": whole[: whole.index(b"moov") + 100],
            "headless.mp4": whole[: whole.index(b"moov")],
            "text.mp4": b"no video at all\n" * 100,
            "short.mkv": video("b_frames.mkv").read_bytes()[:-1000],
        }
        for name, content in damages.items():
            (tmp_path / name).write_bytes(content)
            with pytest.raises(DecodeError) as error, VideoReader(tmp_path / name):
                pass
            assert reason(packed(index_of(tmp_path / name))) == error.value.reason

    def test_that_hold_more_than_the_video_give_its_part(self, video):
        path = video("b_frames.mp4")
        judge = decoded_plainly(path)

        def part(first, length):
            columns = {"first_frames": np.array([first], np.int32), "lengths": np.array([length], np.int32)}
            return packed(index_of(path, **columns))

        assert np.array_equal(part(10, 5).decode(range), judge[10:15])
        assert np.array_equal(part(40, 0).decode(range), judge[40:])
        assert reason(part(40, 9)) == "it has 48 frames; its annotation states 9 from frame 40 on"
        assert reason(part(48, 0)) == "it has 48 frames; its annotation states some from frame 48 on"

    def test_that_are_playlists_open_nothing_else(self, video, tmp_path):
        path = tmp_path / "list.m3u8"
        path.write_text(f"#EXTM3U\n#EXT-X-TARGETDURATION:9\n#EXTINF:9,\n{video('b_frames.mp4')}\n#EXT-X-ENDLIST\n")
        assert "it is not a video" in reason(packed(index_of(path)))

    def test_that_are_missing_say_so(self, tmp_path):
        members, why = pack(index_of(tmp_path / "gone.mp4"), 0)
        assert [name for name, _ in members] == ["json"]
        assert "the file cannot be read" in why
        assert reason(packed(index_of(tmp_path / "gone.mp4"))) == f"{why} (when the shard was written)"


class TestFrameFolders:
    def test_are_in_natural_order(self, tmp_path):
        write_images(tmp_path / "video", pictures(0, 12), "frame{}.png", first=1)
        index = index_of(tmp_path / "video")
        assert [name for name, _ in pack(index, 0)[0]] == ["json", *(f"{frame:06d}.png" for frame in range(12))]
        assert np.array_equal(packed(index).decode(range), pictures(0, 12))

    def test_with_a_template_are_the_frames_of_the_video_alone(self, tmp_path):
        write_images(tmp_path / "video", pictures(0, 12), "img_{:05d}.png", first=1)
        write_images(tmp_path / "video", pictures(1, 12), "flow_x_{:05d}.png", first=1)
        images = ImageNames("img_{:05d}.png", 1)
        first, lengths = np.array([2], dtype=np.int32), np.array([6], dtype=np.int32)
        for settings in ({}, {"first_frames": first}, {"first_frames": first, "lengths": lengths}):
            index = index_of(tmp_path / "video", images=images, **settings)
            assert np.array_equal(packed(index).decode(range), index.decode(0, range))

    def test_whose_names_repeat_that_of_the_folder_are_packed(self, tmp_path):
        write_images(tmp_path / "78687", pictures(0, 12), "78687_{:06d}.png")
        index = index_of(tmp_path / "78687", images=ImageNames.found_in(tmp_path / "78687"))
        assert np.array_equal(packed(index).decode(range), pictures(0, 12))

    def test_that_lack_frames_are_damaged_where_those_are_wanted(self, tmp_path):
        write_images(tmp_path / "video", pictures(0, 5))
        index = index_of(tmp_path / "video", images=ImageNames("{:05d}.jpg", 1), lengths=np.array([8], dtype=np.int32))
        video = packed(index)
        assert np.array_equal(video.decode(lambda count: [0, 4]), index.decode(0, lambda count: [0, 4]))
        with pytest.raises(DecodeError, match=r"00006.jpg cannot be read"):
            index.decode(0, range)
        assert reason(video).startswith("frame 5 is missing: 5 of the 8 frames that its annotation states were there")

    def test_with_a_damaged_image_are_damaged(self, tmp_path):
        write_images(tmp_path / "video", pictures(0, 3))
        (tmp_path / "video" / "00002.jpg").write_bytes(b"no image")
        index = index_of(tmp_path / "video")
        assert "image 000001 cannot be read" in reason(packed(index))
        with pytest.raises(DecodeError, match=r"image 00002.jpg cannot be read"):
            index.decode(0, range)

    def test_that_are_missing_or_empty_say_so(self, tmp_path):
        (tmp_path / "empty").mkdir()
        assert "holds no frame image" in pack(index_of(tmp_path / "empty"), 0)[1]
        images = ImageNames("{:05d}.jpg", 1)
        assert "there is no such folder" in pack(index_of(tmp_path / "gone", images=images), 0)[1]


class TestUnpack:
    @pytest.mark.parametrize("ending", ["mp4", "json"])
    def test_finds_a_changed_byte(self, video, ending):
        def change(members):
            content = bytearray(members[ending])
            content[len(content) // 2] ^= 1
            members[ending] = bytes(content)

        why = reason(packed(index_of(video("b_frames.mp4")), change))
        assert "not those that were written" in why or "cannot be read" in why or "another video" in why

    def test_finds_another_video_and_members_too_many_or_too_few(self, video):
        index = index_of(video("b_frames.mp4"))
        members = dict(pack(index, 0)[0])
        other = PackedVideo.unpack(members, 1, Path("b.mp4"))
        assert "holds another video in its place (b_frames.mp4)" in reason(other)
        assert "description in the shard cannot be read" in reason(packed(index, lambda members: members.pop("json")))
        assert "not those that were written" in reason(packed(index, lambda members: members.pop("mp4")))
        assert "2 files of it, not one" in reason(packed(index, lambda members: members.update(more=b"")))

    def test_knows_test_videos_without_a_label(self, video):
        index = replace(index_of(video("b_frames.mp4")), labels=np.array([-1]))
        assert json.loads(pack(index, 0)[0][0][1])["label_name"] is None
