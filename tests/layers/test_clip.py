"""Folding clips into batches, and frames into rows, without copies."""

import pytest
import torch

from timm_video_psn.layers import fold_clip, frames_to_rows, rows_to_frames, unfold_clip


def test_frame_t_of_clip_b_is_folded_to_place_b_t():
    clip = torch.randn(2, 3, 4, 5, 6)
    folded = fold_clip(clip)
    for b in range(2):
        for t in range(4):
            assert torch.equal(folded[b * 4 + t], clip[b, :, t])


@pytest.mark.parametrize("num_frames", [1, 2, 3, 6])
def test_unfold_undoes_fold(num_frames):
    x = torch.randn(6, 3, 5, 4)
    assert torch.equal(fold_clip(unfold_clip(x, num_frames)), x)
    assert unfold_clip(x, num_frames).shape == (6 // num_frames, 3, num_frames, 5, 4)


def test_rows_are_frames_and_columns_are_pixels():
    x = torch.randn(6, 3, 5, 4)
    rows = frames_to_rows(x, 3)
    assert rows.shape == (2, 3, 3, 20)
    for b in range(2):
        for t in range(3):
            assert torch.equal(rows[b, :, t], x[b * 3 + t].flatten(1))


@pytest.mark.parametrize("memory_format", [torch.contiguous_format, torch.channels_last])
@pytest.mark.parametrize("num_frames", [1, 3, 6])
def test_rows_to_frames_undoes_frames_to_rows(num_frames, memory_format):
    x = torch.randn(6, 3, 5, 4).to(memory_format=memory_format)
    assert torch.equal(rows_to_frames(frames_to_rows(x, num_frames), 5, 4), x)


@pytest.mark.parametrize("num_frames", [1, 3, 6])
def test_rows_share_storage_in_channels_last_memory(num_frames):
    x = torch.randn(6, 3, 5, 4).to(memory_format=torch.channels_last)
    rows = frames_to_rows(x, num_frames)
    assert rows.data_ptr() == x.data_ptr()
    assert rows.is_contiguous(memory_format=torch.channels_last)
    frames = rows_to_frames(rows, 5, 4)
    assert frames.data_ptr() == x.data_ptr()
    assert frames.stride() == x.stride()


def test_a_decoded_video_folds_without_a_copy():
    video = torch.randn(2, 4, 5, 6, 3)  # (B, T, H, W, C), as a decoder writes it
    clip = video.permute(0, 4, 1, 2, 3)  # (B, C, T, H, W)
    folded = fold_clip(clip)
    assert folded.data_ptr() == video.data_ptr()
    assert folded.is_contiguous(memory_format=torch.channels_last)
    assert unfold_clip(folded, 4).data_ptr() == video.data_ptr()


@pytest.mark.parametrize("function", [unfold_clip, frames_to_rows])
def test_a_batch_of_no_whole_clips_is_named(function):
    with pytest.raises(
        ValueError, match="folded batch of 6 frames does not hold whole clips of num_frames=4; set num_f"
    ):
        function(torch.zeros(6, 3, 5, 4), 4)
