"""Sums over neighbouring frames against plain loops."""

import pytest
import torch

from timm_video_psn.layers.taps import add_shifted, add_taps, weigh_taps


@pytest.mark.parametrize("offset", [-3, -1, 0, 1, 2, 5])
@pytest.mark.parametrize("num_frames", [1, 2, 4])
def test_frames_are_added_where_they_exist(num_frames, offset):
    out, x = torch.randn(2, num_frames, 3), torch.randn(2, num_frames, 3)
    expected = out.clone()
    for t in range(num_frames):
        if 0 <= t + offset < num_frames:
            expected[:, t] += x[:, t + offset]
    add_shifted(out, x, offset)
    assert torch.equal(out, expected)


@pytest.mark.parametrize("num_frames", [1, 2, 5])
@pytest.mark.parametrize("num_taps", [1, 3, 5])
def test_taps_meet_at_their_frame_and_are_left_alone(num_taps, num_frames):
    taps = [torch.randn(2, num_frames, 3) for _ in range(num_taps)]
    before = [tap.clone() for tap in taps]
    out = add_taps(taps)
    for t in range(num_frames):
        frames = [(k, t + k - num_taps // 2) for k in range(num_taps)]
        expected = sum(taps[k][:, s] for k, s in frames if 0 <= s < num_frames)
        torch.testing.assert_close(out[:, t], expected)
    assert all(map(torch.equal, taps, before))


@pytest.mark.parametrize("sets", [1, 2])
@pytest.mark.parametrize("num_taps", [3, 5])
def test_weighed_taps_are_a_channelwise_convolution_along_time(num_taps, sets):
    x = torch.randn(2, 4, 3, 2, 2, dtype=torch.float64, requires_grad=True)
    weights = torch.randn(sets, 3, num_taps, dtype=torch.float64, requires_grad=True)
    series = x.permute(0, 3, 4, 2, 1).flatten(1, 2)  # (B, H*W, C, T)
    expected = torch.stack(
        [
            torch.nn.functional.conv1d(clip, weights[b % sets][:, None], padding=num_taps // 2, groups=3)
            for b, clip in enumerate(series)
        ]
    )
    out = weigh_taps(x.flatten(3), weights).unflatten(3, (2, 2)).permute(0, 3, 4, 2, 1).flatten(1, 2)
    torch.testing.assert_close(out, expected)
    probe = torch.randn_like(out)
    ours = torch.autograd.grad(out, (x, weights), probe)
    for gradient, theirs in zip(ours, torch.autograd.grad(expected, (x, weights), probe), strict=True):
        torch.testing.assert_close(gradient, theirs)
