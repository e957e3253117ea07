"""Views of real files: the frames they hold, and how often anything is decoded."""

import pickle

import numpy as np
import pytest
import torch

from timm_video_psn.data import EvalTransform, ThreeCropTransform, VideoReader
from timm_video_psn.data.clips.sampling import clip_indices
from timm_video_psn.data.clips.views import MultiViewDataset, ViewPlan
from timm_video_psn.data.datasets.index import PathTable, VideoIndex
from timm_video_psn.data.loaders import create_loader
from timm_video_psn.data.shards.index import read_shards
from timm_video_psn.data.shards.writer import ShardLimits, write_shards
from timm_video_psn.data.video.errors import DecodeError
from timm_video_psn.data.video.pyav_backend import VideoFile
from timm_video_psn.data.video.write_video import write_video

CENTRE = ViewPlan(4, 1, 1, 32, 36, "segments")
TWICE = ViewPlan(4, 2, 1, 32, 36, "twice")
DENSE = ViewPlan(8, 10, 3, 32, 36, "dense")
LARGE = ViewPlan(4, 1, 3, 48, 48, "segments")


@pytest.fixture(scope="module")
def index(tmp_path_factory):
    """A video of 100 frames, one of 12, one that is none, one that is not there."""
    root = tmp_path_factory.mktemp("videos")
    rng = np.random.default_rng(0)
    for name, length in (("long.mp4", 100), ("short.mp4", 12)):
        write_video(root / name, rng.integers(0, 256, (length, 48, 64, 3), dtype=np.uint8))
    (root / "broken.mp4").write_bytes(b"no video")
    names = ["long.mp4", "broken.mp4", "short.mp4", "missing.mp4"]
    return VideoIndex(PathTable.from_paths(names), np.array([0, 1, 1, -1]), ("a", "b"), root)


def views_of(plan, path):
    """The views of a plan, each frame read and transformed on its own."""
    with VideoReader(path) as reader:
        expected = []
        for clip in clip_indices(plan.sampling, reader.num_frames, plan.num_frames, plan.num_clips):
            frames = torch.from_numpy(reader.read(clip.tolist()))
            share = plan.img_size / plan.short_side
            if plan.num_crops == 3:
                expected += list(ThreeCropTransform(plan.img_size, share)(frames))
            else:
                expected.append(EvalTransform(plan.img_size, share)(frames))
        return torch.stack(expected)


@pytest.mark.parametrize("number", [0, 2])
def test_views_are_those_that_each_plan_alone_would_read(index, number):
    plans = [CENTRE, TWICE, DENSE, LARGE]
    item = MultiViewDataset(index, plans)[number]
    assert (item.label, item.index, item.num_frames) == (number // 2, number, (100, 0, 12)[number])
    for plan, numbers in zip(plans, item.plans, strict=True):
        clips = torch.stack([item.clip(view) for view in numbers])
        assert torch.equal(clips, views_of(plan, index.root / index.paths[number]))


def test_what_is_the_same_view_is_held_once(index):
    dataset = MultiViewDataset(index, [CENTRE, TWICE, DENSE])
    long, short = dataset[0], dataset[2]
    assert len(long.views) == 2 + 30  # the one clip is the first of the two
    assert len(short.views) == 2 + 3  # all dense windows of a short video are the same
    assert short.plans[2].tolist() == [2, 3, 4] * 10
    wanted = {tuple(view.rows) for view in long.views}
    assert long.frames[0].shape[1] == len({row for rows in wanted for row in rows})


def test_each_video_is_opened_once_and_each_frame_decoded_once(index, monkeypatch):
    opened, read = [], []
    init, original = VideoFile.__init__, VideoFile.read

    def open_file(self, path, *args, **options):
        opened.append(path)
        init(self, path, *args, **options)

    def read_file(self, indices, *args):
        read.append(list(indices))
        return original(self, indices, *args)

    monkeypatch.setattr(VideoFile, "__init__", open_file)
    monkeypatch.setattr(VideoFile, "read", read_file)
    MultiViewDataset(index, [CENTRE, TWICE, DENSE, LARGE])[0]
    assert len(opened) == len(read) == 1
    union = set()
    for plan in (CENTRE, TWICE, DENSE, LARGE):
        union |= set(clip_indices(plan.sampling, 100, plan.num_frames, plan.num_clips).ravel().tolist())
    assert read[0] == sorted(union)


@pytest.mark.parametrize("workers", [0, 1])
def test_batches_keep_the_order_and_set_unreadable_videos_apart(index, workers):
    batches = list(create_loader(MultiViewDataset(index, [CENTRE]), 3, False, workers))
    assert [[video.index for video in batch.videos] for batch in batches] == [[0, 2], []]
    assert [unreadable.index for batch in batches for unreadable in batch.unreadable] == [1, 3]
    assert batches[1].unreadable[0].path.endswith("missing.mp4")
    (some,) = create_loader(MultiViewDataset(index, [CENTRE]), 3, False, 0, rank=0, world_size=2)
    assert [video.index for video in some.videos] == [0, 2]


@pytest.mark.parametrize("workers", [0, 2])
def test_views_out_of_shards_are_those_of_the_files_each_once_over_all_ranks(index, tmp_path, workers):
    write_shards("folder", {"val": index}, tmp_path, ShardLimits(2, 10**9))
    files = MultiViewDataset(index, [CENTRE, DENSE])
    packed = MultiViewDataset(read_shards(tmp_path, "val"), [CENTRE, DENSE])
    batches = [batch for rank in (0, 1) for batch in create_loader(packed, 1, False, workers, rank=rank, world_size=2)]
    assert sorted(unreadable.index for batch in batches for unreadable in batch.unreadable) == [1, 3]
    videos = {video.index: video for batch in batches for video in batch.videos}
    assert sorted(videos) == [0, 2]
    for number, video in videos.items():
        expected = files[number]
        assert (video.views, video.label, video.num_frames) == (expected.views, expected.label, expected.num_frames)
        assert all(torch.equal(mine, its) for mine, its in zip(video.frames, expected.frames, strict=True))


def test_plans_that_cannot_be_are_refused(index):
    with pytest.raises(ValueError, match="give at least one plan"):
        MultiViewDataset(index, [])
    with pytest.raises(ValueError, match="num_crops=5 asked for; use 1 or 3"):
        MultiViewDataset(index, [CENTRE._replace(num_crops=5)])
    with pytest.raises(ValueError, match="has 2"):
        MultiViewDataset(index, [TWICE._replace(num_clips=3)])
    with pytest.raises(IndexError, match="video 4 asked for"):
        MultiViewDataset(index, [CENTRE])[4]


def test_the_data_set_can_be_sent_to_a_worker(index):
    again = pickle.loads(pickle.dumps(MultiViewDataset(index, [CENTRE, DENSE])))
    assert torch.equal(again[2].frames[0], MultiViewDataset(index, [CENTRE, DENSE])[2].frames[0])
    with pytest.raises(DecodeError):
        again.index.decode(3, lambda count: [0])
