"""The temporal shift against a plain loop."""

import copy

import pytest
import torch

from tests import reference
from timm_video_psn.layers import TemporalShift, fold_clip, unfold_clip


def shifted(clip: torch.Tensor, **settings) -> torch.Tensor:
    module = TemporalShift(clip.shape[1], clip.shape[2], **settings)
    return unfold_clip(module(fold_clip(clip)), clip.shape[2])


@pytest.mark.parametrize("shift_div", [2, 4, 8])
@pytest.mark.parametrize("num_frames", [1, 2, 5])
@pytest.mark.parametrize("channels", [8, 17])
def test_agrees_with_the_loop(channels, num_frames, shift_div):
    clip = torch.randn(2, channels, num_frames, 3, 2)
    assert torch.equal(shifted(clip, shift_div=shift_div), reference.temporal_shift(clip, shift_div))


def test_first_fold_comes_from_the_next_frame_and_second_from_the_one_before():
    clip = torch.randn(2, 16, 4, 3, 2)
    out = shifted(clip)
    assert torch.equal(out[:, :2, :-1], clip[:, :2, 1:])
    assert torch.equal(out[:, 2:4, 1:], clip[:, 2:4, :-1])
    assert torch.equal(out[:, 4:], clip[:, 4:])
    assert not out[:, :2, -1].any()
    assert not out[:, 2:4, 0].any()


def test_gradient_flows_back_along_the_shift():
    clip = torch.randn(1, 8, 3, 2, 2, requires_grad=True)
    weights = torch.randn(1, 8, 3, 2, 2)
    (shifted(clip) * weights).sum().backward()
    expected = torch.zeros_like(weights)
    expected[:, 0, 1:] = weights[:, 0, :-1]
    expected[:, 1, :-1] = weights[:, 1, 1:]
    expected[:, 2:] = weights[:, 2:]
    assert torch.equal(clip.grad, expected)


def test_takes_clips_of_another_length_than_it_was_built_for():
    module = TemporalShift(8, num_frames=8)
    module.num_frames = 3
    clip = torch.randn(2, 8, 3, 2, 2)
    assert torch.equal(unfold_clip(module(fold_clip(clip)), 3), reference.temporal_shift(clip))


def test_has_no_state_and_leaves_its_input_alone():
    module = TemporalShift(8, 4)
    assert module.state_dict() == {}
    x = torch.randn(4, 8, 2, 2)
    before = copy.deepcopy(x)
    module(x)
    assert torch.equal(x, before)


@pytest.mark.parametrize(("channels", "shift_div"), [(8, 1), (8, 0), (4, 8)])
def test_a_shift_of_none_or_all_channels_is_refused(channels, shift_div):
    with pytest.raises(ValueError, match=f"shift_div={shift_div} shifts none or all of {channels} channels; use 2 to"):
        TemporalShift(channels, shift_div=shift_div)
