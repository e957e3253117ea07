"""The causal forms of temporal modules: what a frame sees of those before it, and that it sees none after it."""

import pytest
import torch
from torch import nn

from timm_video_psn.layers import TEMPORAL_MODULES, TemporalBank, TemporalShift, temporal_settings
from timm_video_psn.layers.baselines.gate_shift import GateShift
from timm_video_psn.layers.past import Past

CAUSAL = [name for name in TEMPORAL_MODULES if "causal" in temporal_settings(name)]
CHANNELS, FRAMES = 32, 9
# how many frames ago a frame sees something: psn's dilated kernels 2 and 1, 4 and 2, 6 and 3
SEEN = {
    "tsm": [0, 1],
    "gsm": [0, 1, 2, 3],
    "psn": [0, 1, 2, 3, 4, 6],
    "rf_s": [0, 1, 2],
    "rf_l": [0, 1, 2, 3, 4],
    "rf_l_inception": [0, 1, 2, 3, 4],
    "rf_l_inception_t": [0, 1, 2, 3, 4],
}


def build(name: str) -> nn.Module:
    torch.manual_seed(0)
    module = TEMPORAL_MODULES[name][0](CHANNELS, FRAMES, causal=True).double().eval()
    with torch.no_grad():
        for parameter in module.parameters():
            parameter.add_(0.3 * torch.randn_like(parameter))
    return module


def test_every_module_with_a_causal_form_is_looked_at():
    assert set(SEEN) == set(CAUSAL)


@pytest.mark.parametrize("memory_format", [torch.contiguous_format, torch.channels_last])
@pytest.mark.parametrize("name", CAUSAL)
def test_a_frame_sees_the_past_as_far_as_it_should_and_no_future(name, memory_format):
    module = build(name)
    frames = torch.randn(FRAMES, CHANNELS, 6, 5, dtype=torch.float64).to(memory_format=memory_format)
    changed = frames.clone()
    changed[1] += torch.randn_like(changed[1])
    differs = (module(frames) != module(changed)).flatten(1).any(1)
    assert differs.nonzero().flatten().tolist() == [1 + ago for ago in SEEN[name]]


@pytest.mark.parametrize("name", CAUSAL)
def test_a_shorter_clip_gives_the_beginning_of_a_longer_one(name):
    module = build(name)
    frames = torch.randn(FRAMES, CHANNELS, 6, 5, dtype=torch.float64)
    whole = module(frames)
    for length in (1, 2, 5):
        module.num_frames = length
        torch.testing.assert_close(module(frames[:length]), whole[:length])


@pytest.mark.parametrize("kind", ["max", "avg", "none"])
@pytest.mark.parametrize("dilated", [True, False])
def test_the_bank_agrees_with_plain_loops(dilated, kind):
    sizes = [1, 3, 5, 7]
    bank = TemporalBank(10, sizes, kind, dilated, causal=True).double()
    x = torch.randn(2 * 6, 10, 1, 1, dtype=torch.float64)
    clips = x.reshape(2, 6, 10)
    expected = torch.zeros_like(clips)
    starts = [sum(bank.widths[:i]) for i in range(len(bank.widths) + 1)]
    for i, (size, start, end) in enumerate(zip([*sizes, 3], starts, starts[1:], strict=False)):
        group = clips[:, :, start:end]
        for t in range(6):
            seen = group[:, max(0, t - size + 1) : t + 1]
            if i == len(sizes):
                expected[:, t, start:end] = seen.amax(1) if kind == "max" else seen.mean(1)
            elif size == 1:
                expected[:, t, start:end] = group[:, t]
            else:
                kernel = bank.branches[i].weight[..., 0]  # (c, c, taps), the last tap on the frame itself
                taps = kernel.shape[2]
                step = (size - 1) // (taps - 1)
                for k in range(taps):
                    if t - (taps - 1 - k) * step >= 0:
                        expected[:, t, start:end] += group[:, t - (taps - 1 - k) * step] @ kernel[:, :, k].T
    torch.testing.assert_close(bank(x, 6).reshape(2, 6, 10), expected)


def test_a_causal_bank_has_the_parameters_of_the_centred_one():
    shapes = [
        {k: v.shape for k, v in TemporalBank(10, [1, 3, 5], causal=c).state_dict().items()} for c in (True, False)
    ]
    assert shapes[0] == shapes[1]


def test_the_online_shift_moves_the_first_block_forward():
    clip = torch.randn(2 * 4, 16, 3, 2)
    out = TemporalShift(16, 4, causal=True)(clip).unflatten(0, (2, 4))
    clip = clip.unflatten(0, (2, 4))
    assert torch.equal(out[:, 1:, :2], clip[:, :-1, :2])
    assert not out[:, 0, :2].any()
    assert torch.equal(out[:, :, 2:], clip[:, :, 2:])


def test_gate_shift_agrees_with_its_formula():
    module = build("gsm")
    assert isinstance(module, GateShift)
    x = torch.randn(FRAMES, CHANNELS, 6, 5, dtype=torch.float64)
    taps = module.gate(module.act(module.norm(x)))  # (T, 6, H, W)
    expected = torch.empty_like(x)
    moving = torch.zeros_like(x)
    half = CHANNELS // 2
    for t in range(FRAMES):
        for i in range(2):
            total = sum(taps[t - 2 + k, 3 * i + k] for k in range(3) if t - 2 + k >= 0) + module.gate_bias[i]
            part = slice(i * half, (i + 1) * half)
            moving[t, part] = x[t, part] * torch.tanh(total)
        expected[t] = x[t] - moving[t] + (moving[t - 1] if t else 0)
    torch.testing.assert_close(module(x), expected)


def test_what_is_before_a_clip_is_padding():
    x = torch.randn(2, 3, 4, 5)
    assert torch.equal(Past(2, dim=2, value=7.0)(x), torch.cat([torch.full((2, 3, 2, 5), 7.0), x], dim=2))
    assert torch.equal(Past(1, dim=1)(x), torch.cat([torch.zeros(2, 1, 4, 5), x], dim=1))
