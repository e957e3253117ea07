"""The gate-shift module against plain loops after the official formulas."""

import pytest
import torch
from torch import Tensor

from timm_video_psn.layers import GateShift, fold_clip, unfold_clip


def official(clip: Tensor, p: dict[str, Tensor], training: bool, shuffle: bool) -> Tensor:
    """`gsmModule.forward` of swathikirans/GSM, frame by frame and pixel by pixel, with the weights of ours."""
    batch, channels, frames, height, width = clip.shape
    half = channels // 2
    dims = (0, 2, 3, 4)
    mean, var = (
        (clip.mean(dims), clip.var(dims, unbiased=False))
        if training
        else (p["norm.running_mean"], p["norm.running_var"])
    )
    shape = (1, -1, 1, 1, 1)
    normed = (clip - mean.view(shape)) / (var.view(shape) + 1e-5).sqrt()
    active = (normed * p["norm.weight"].view(shape) + p["norm.bias"].view(shape)).clamp(min=0)
    kernel = p["gate.weight"].unflatten(0, (2, 3))  # (half, tap, C/2, 3, 3)

    def gate(h: int, t: int, y: int, x: int) -> Tensor:
        total = p["gate_bias"][h].expand(batch)
        for k in range(3):
            for i in range(3):
                for j in range(3):
                    s, v, u = t + k - 1, y + i - 1, x + j - 1
                    if 0 <= s < frames and 0 <= v < height and 0 <= u < width:
                        total = total + active[:, h * half : (h + 1) * half, s, v, u] @ kernel[h, k, :, i, j]
        return total.tanh()[:, None]

    halves = []
    for h, source in ((0, 1), (1, -1)):  # the first half hears from the next frame, the second from the one before
        x = clip[:, h * half : (h + 1) * half]
        points = []
        for t in range(frames):
            for v in range(height):
                for u in range(width):
                    out = x[:, :, t, v, u] * (1 - gate(h, t, v, u))
                    if 0 <= t + source < frames:
                        out = out + gate(h, t + source, v, u) * x[:, :, t + source, v, u]
                    points.append(out)
        out = torch.stack(points, -1).unflatten(-1, (frames, height, width))
        if shuffle:
            order = [q * (half // 2) + c for c in range(half // 2) for q in (0, 1)]
            out = out[:, order]
        halves.append(out)
    return torch.cat(halves, 1)


def randomised(channels: int, num_frames: int, **settings) -> GateShift:
    module = GateShift(channels, num_frames, **settings).double()
    for tensor in (*module.parameters(), module.norm.running_mean, module.norm.running_var):
        torch.nn.init.uniform_(tensor, 0.1, 0.6)
    return module


@pytest.mark.parametrize("shuffle", [False, True])
@pytest.mark.parametrize("training", [False, True])
@pytest.mark.parametrize("num_frames", [1, 2, 4])
def test_agrees_with_the_loop_in_values_and_gradients(num_frames, training, shuffle):
    module = randomised(8, num_frames, shuffle=shuffle).train(training)
    clip = torch.randn(2, 8, num_frames, 3, 2, dtype=torch.float64, requires_grad=True)
    values = {name: value.clone() for name, value in module.named_buffers()} | dict(module.named_parameters())
    expected = official(clip, values, training, shuffle)
    found = unfold_clip(module(fold_clip(clip)), num_frames)
    torch.testing.assert_close(found, expected)
    probe = torch.randn_like(expected)
    inputs = (clip, *module.parameters())
    ours, theirs = (torch.autograd.grad(out, inputs, probe) for out in (found, expected))
    torch.testing.assert_close(ours, theirs)


def test_starts_as_the_identity_and_with_the_shuffle_as_a_shuffle_of_channels():
    x = torch.randn(4, 8, 3, 2)
    assert torch.equal(GateShift(8, 4)(x), x)
    assert torch.equal(GateShift(8, 4, shuffle=True)(x), x[:, [0, 2, 1, 3, 4, 6, 5, 7]])


def test_the_shuffle_is_nothing_that_reordered_weights_are_not():
    order = [0, 2, 1, 3, 4, 6, 5, 7]
    shuffled, plain = randomised(8, 4, shuffle=True).eval(), GateShift(8, 4).double().eval()
    state = shuffled.state_dict()
    for name in ("norm.weight", "norm.bias", "norm.running_mean", "norm.running_var"):
        state[name] = state[name][order]
    state["gate.weight"] = state["gate.weight"][:, order[:4]]
    plain.load_state_dict(state)
    x = torch.randn(8, 8, 3, 3).double()
    torch.testing.assert_close(plain(x[:, order]), shuffled(x))


def test_channels_last_memory_stays():
    module = randomised(8, 4).float()
    x = torch.randn(8, 8, 3, 5)
    nested = module(x.to(memory_format=torch.channels_last))
    assert nested.is_contiguous(memory_format=torch.channels_last)
    torch.testing.assert_close(nested, module(x))


@pytest.mark.parametrize(("channels", "shuffle", "parts"), [(7, False, 2), (6, True, 4)])
def test_channels_that_cannot_be_parted_are_refused(channels, shuffle, parts):
    with pytest.raises(
        ValueError, match=f"shuffle={shuffle} needs a multiple of {parts} channels, found channels={channels}"
    ):
        GateShift(channels, shuffle=shuffle)
