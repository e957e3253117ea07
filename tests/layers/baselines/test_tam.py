"""The temporal adaptive module against plain loops after the official formulas."""

import pytest
import torch
from torch import Tensor

from timm_video_psn.layers import TemporalAdaptive, fold_clip, unfold_clip


def normed(x: Tensor, p: dict[str, Tensor], name: str, training: bool) -> Tensor:
    """Batch norm of (N, C) and ReLU."""
    mean, var = (
        (x.mean(0), x.var(0, unbiased=False)) if training else (p[f"{name}.running_mean"], p[f"{name}.running_var"])
    )
    return ((x - mean) / (var + 1e-5).sqrt() * p[f"{name}.weight"] + p[f"{name}.bias"]).clamp(min=0)


def official(clip: Tensor, p: dict[str, Tensor], training: bool) -> Tensor:
    """`TAM.forward` of liu-zhy/temporal-adaptive-module, as loops over clips, channels, frames and taps."""
    batch, channels, frames = clip.shape[:3]
    theta = clip.mean((3, 4))  # (B, C, T)
    wide, narrow = p["local_branch.0.weight"], p["local_branch.3.weight"]
    taps = wide.shape[2]

    def along(b: int, t: int) -> Tensor:
        reached = [(k, t + k - taps // 2) for k in range(taps)]
        return sum(wide[:, :, k] @ theta[b, :, s] for k, s in reached if 0 <= s < frames)

    squeezed = normed(
        torch.stack([along(b, t) for b in range(batch) for t in range(frames)]), p, "local_branch.1", training
    ).unflatten(0, (batch, frames))
    hidden = normed(
        torch.stack([p["global_branch.0.weight"] @ theta[b, c] for b in range(batch) for c in range(channels)]),
        p,
        "global_branch.1",
        training,
    ).unflatten(0, (batch, channels))
    out = []
    for b in range(batch):
        kernels = [torch.softmax(p["global_branch.3.weight"] @ hidden[b, c], 0) for c in range(channels)]
        gates = [torch.sigmoid(narrow[:, :, 0] @ squeezed[b, t]) for t in range(frames)]
        for c in range(channels):
            for t in range(frames):
                total = torch.zeros_like(clip[b, c, t])
                for k in range(taps):
                    s = t + k - taps // 2
                    if 0 <= s < frames:
                        total = total + kernels[c][k] * gates[s][c] * clip[b, c, s]
                out.append(total)
    return torch.stack(out).unflatten(0, (batch, channels, frames))


@pytest.mark.parametrize("kernel_size", [3, 5])
@pytest.mark.parametrize("training", [False, True])
@pytest.mark.parametrize("num_frames", [1, 2, 4])
def test_agrees_with_the_loop_in_values_and_gradients(num_frames, training, kernel_size):
    module = TemporalAdaptive(8, num_frames, kernel_size).double().train(training)
    for name, tensor in module.state_dict().items():
        if tensor.is_floating_point() and tensor.ndim == 1:
            torch.nn.init.uniform_(tensor, 0.1, 0.6 if "mean" in name else 1.5)
    clip = torch.randn(2, 8, num_frames, 3, 2, dtype=torch.float64, requires_grad=True)
    values = {name: value.clone() for name, value in module.named_buffers()} | dict(module.named_parameters())
    expected = official(clip, values, training)
    found = unfold_clip(module(fold_clip(clip)), num_frames)
    torch.testing.assert_close(found, expected)
    probe = torch.randn_like(expected)
    inputs = (clip, *module.parameters())
    ours, theirs = (torch.autograd.grad(out, inputs, probe) for out in (found, expected))
    torch.testing.assert_close(ours, theirs)


def test_channels_last_memory_stays():
    module = TemporalAdaptive(8, 4)
    x = torch.randn(8, 8, 3, 5)
    nested = module(x.to(memory_format=torch.channels_last))
    assert nested.is_contiguous(memory_format=torch.channels_last)
    torch.testing.assert_close(nested, module(x))


def test_another_number_of_frames_is_refused_and_the_reason_said():
    module = TemporalAdaptive(8, num_frames=4)
    module.num_frames = 4
    with pytest.raises(
        ValueError, match=r"num_frames=8: TAM's global branch is built for clips of 4 frames; .* num_frames=8"
    ):
        module.num_frames = 8
    assert module.num_frames == 4


@pytest.mark.parametrize(
    ("channels", "kernel_size", "text"),
    [(3, 3, "channels=3 is too few: the local branch"), (8, 2, "kernel_size=2 is even; use an odd number")],
)
def test_wrong_sizes_are_refused(channels, kernel_size, text):
    with pytest.raises(ValueError, match=text):
        TemporalAdaptive(channels, kernel_size=kernel_size)
