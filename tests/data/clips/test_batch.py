"""Batches of clips and of videos that cannot be read."""

import torch

from timm_video_psn.data.clips.batch import Sample, UnreadableVideo, collate


class TestCollate:
    def test_sets_unreadable_videos_apart(self):
        clip = torch.ones(2, 4, 4, 3, dtype=torch.uint8)
        unreadable = UnreadableVideo(7, "a.mp4", "gone")
        batch = collate([Sample(clip, 3, 5, 40), unreadable, Sample(2 * clip, 4, 6, 50)])
        assert batch.clip.shape == (2, 2, 4, 4, 3)
        assert batch.clip[:, 0, 0, 0, 0].tolist() == [1, 2]
        assert batch.label.tolist() == [3, 4]
        assert batch.index.tolist() == [5, 6]
        assert batch.num_frames.tolist() == [40, 50]
        assert batch.unreadable == [unreadable]
        assert {tensor.dtype for tensor in batch[1:4]} == {torch.int64}

    def test_of_unreadable_videos_alone_is_empty(self):
        batch = collate([UnreadableVideo(7, "a.mp4", "gone")])
        assert [len(tensor) for tensor in batch[:4]] == [0, 0, 0, 0]
        assert batch.clip.dtype == torch.uint8
        assert batch.label.dtype == torch.int64
        assert len(batch.unreadable) == 1
