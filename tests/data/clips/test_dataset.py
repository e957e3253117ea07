"""Clips, labels and unreadable videos as the data set hands them out."""

import numpy as np
import pytest
import torch

from tests.data.sample_videos import decoded_plainly
from timm_video_psn.data.clips.dataset import Sample, UnreadableVideo, VideoDataset
from timm_video_psn.data.clips.sampling import segment_indices
from timm_video_psn.data.clips.transforms import EvalTransform, TrainTransform
from timm_video_psn.data.datasets.index import LabelSets
from timm_video_psn.data.registry import PathTable, VideoIndex, read_folder


@pytest.fixture
def train(small_videos):
    return VideoDataset(read_folder(small_videos, "train"), 4, TrainTransform(32, crop_pct=1), training=True)


def test_test_clips_are_the_middle_frames(small_videos):
    index = read_folder(small_videos, "val")
    dataset = VideoDataset(index, 4, EvalTransform(36, crop_pct=1), training=False)
    assert len(dataset) == 4
    for number in range(4):
        sample = dataset[number]
        frames = decoded_plainly(small_videos / index.paths[number])[segment_indices(10, 4)]
        assert torch.equal(sample.clip, torch.from_numpy(frames)[:, :, 6:42])
        assert sample[1:] == (index.labels[number], number, 10)


def test_training_clips_depend_on_seed_epoch_and_number_alone(train, small_videos):
    first, again, next_epoch = train[0, 3], train[0, 3], train[0, 4]
    assert torch.equal(first.clip, again.clip)
    assert not torch.equal(first.clip, next_epoch.clip)
    assert torch.equal(train[0].clip, train[0, 0].clip)
    train.seed = 1
    assert not torch.equal(first.clip, train[0, 3].clip)


def test_a_video_that_cannot_be_decoded_is_told_not_replaced(train, small_videos):
    unreadable = train[3, 0]
    path = small_videos / "train" / "turn_right" / "0.mp4"
    assert unreadable == UnreadableVideo(3, str(path), "the file is empty (0 bytes); copy or download it again")


@pytest.mark.parametrize("key", [-1, 6, (6, 0)])
def test_numbers_outside_are_errors(train, key):
    with pytest.raises(IndexError, match="asked for, but the data set has 6"):
        train[key]


def test_no_frames_are_an_error(small_videos):
    with pytest.raises(ValueError, match="num_frames=0 leaves no clip"):
        VideoDataset(read_folder(small_videos, "val"), 0, EvalTransform(32), training=False)


class TestMirroring:
    @staticmethod
    def clips(small_videos, class_names, hflip):
        """The first training video once mirrored or not, with its label."""
        index = VideoIndex(PathTable.from_paths(["train/turn_left/0.mp4"]), np.array([0]), class_names, small_videos)
        transform = TrainTransform(36, crop_pct=1, hflip=hflip)
        return VideoDataset(index, 4, transform, training=True)[0]

    def test_swaps_left_and_right(self, small_videos):
        plain = self.clips(small_videos, ("turn_left", "turn_right"), 0)
        mirrored = self.clips(small_videos, ("turn_left", "turn_right"), 1)
        assert (plain.label, mirrored.label) == (0, 1)
        assert torch.equal(mirrored.clip, plain.clip.flip(2))

    def test_leaves_other_labels(self, small_videos):
        plain, mirrored = (self.clips(small_videos, ("hop", "turn_right"), hflip) for hflip in (0, 1))
        assert (plain.label, mirrored.label) == (0, 0)
        assert torch.equal(mirrored.clip, plain.clip.flip(2))

    def test_is_left_out_where_the_mirrored_class_is_missing(self, small_videos):
        plain, mirrored = (self.clips(small_videos, ("turn_left", "hop"), hflip) for hflip in (0, 1))
        assert (plain.label, mirrored.label) == (0, 0)
        assert torch.equal(mirrored.clip, plain.clip)
        assert mirrored.clip.is_contiguous()


def test_samples_are_named_tuples(train):
    sample = train[0]
    assert isinstance(sample, Sample)
    assert sample.clip.shape == (4, 32, 32, 3)
    assert (sample.index, sample.num_frames) == (0, 10)


class TestSeveralClassesOfAVideo:
    @staticmethod
    def dataset(small_videos, names, hflip):
        sets = LabelSets.from_sets([[2, 0]])
        paths = PathTable.from_paths(["train/turn_left/0.mp4"])
        index = VideoIndex(paths, sets.smallest(), names, small_videos, label_sets=sets)
        transform = TrainTransform(32, crop_pct=1, hflip=hflip)
        return VideoDataset(index, 4, transform, training=True)

    def test_are_ones_in_a_row_of_the_batch(self, small_videos):
        dataset = self.dataset(small_videos, ("a", "b", "c", "d"), 0.0)
        batch = dataset.collate([dataset[0], dataset[0]])
        assert batch.label.tolist() == [[1, 0, 1, 0]] * 2

    def test_are_all_swapped_in_a_mirrored_clip_or_it_is_turned_back(self, small_videos):
        plain = self.dataset(small_videos, ("turn left", "turn right", "c", "d"), 0.0)[0]
        mirrored = self.dataset(small_videos, ("turn left", "turn right", "c", "d"), 1.0)[0]
        assert mirrored.label.tolist() == [0, 1, 1, 0]
        assert torch.equal(mirrored.clip, plain.clip.flip(2))
        back = self.dataset(small_videos, ("a", "b", "turn left", "d"), 1.0)[0]
        assert back.label.tolist() == [1, 0, 1, 0]
        assert torch.equal(back.clip, plain.clip)
