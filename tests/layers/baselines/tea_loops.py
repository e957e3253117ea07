"""TEA's official formulas (`MEModule`, `ShiftModule`, `Bottle2neckShift`) as plain loops."""

import torch
import torch.nn.functional as F
from torch import Tensor


def norm(x: Tensor, p: dict[str, Tensor], name: str, training: bool) -> Tensor:
    """Batch norm of (N, C, H, W)."""
    mean, var = (
        (x.mean((0, 2, 3)), x.var((0, 2, 3), unbiased=False))
        if training
        else (p[f"{name}.running_mean"], p[f"{name}.running_var"])
    )
    shape = (1, -1, 1, 1)
    x = (x - mean.view(shape)) / (var.view(shape) + 1e-5).sqrt()
    return x * p[f"{name}.weight"].view(shape) + p[f"{name}.bias"].view(shape)


def excite(clip: Tensor, p: dict[str, Tensor], training: bool) -> Tensor:
    """`MEModule.forward` of Phoenix1327/tea-action-recognition, frame by frame; clip (B, T, C, H, W)."""
    batch, frames = clip.shape[:2]
    reduced = norm(F.conv2d(clip.flatten(0, 1), p["reduce.weight"]), p, "reduce_norm", training)
    reduced = reduced.unflatten(0, (batch, frames))
    kernel, width = p["transform.weight"], reduced.shape[2]
    rows = []
    for b in range(batch):
        for t in range(frames):
            if t + 1 < frames:
                difference = F.conv2d(reduced[b, t + 1][None], kernel, padding=1, groups=width)[0] - reduced[b, t]
            else:
                difference = torch.zeros_like(reduced[b, t])
            rows.append(p["expand.weight"] @ difference.mean((1, 2)))
    weights = norm(torch.stack(rows)[:, :, None, None], p, "expand_norm", training)
    weights = (torch.sigmoid(weights) - 0.5).unflatten(0, (batch, frames))
    return clip + clip * weights


def along_time(clip: Tensor, weight: Tensor) -> Tensor:
    """`ShiftModule.forward`: each channel's own three taps."""
    out = []
    for t in range(clip.shape[1]):
        total = torch.zeros_like(clip[:, 0])
        for k in range(3):
            if 0 <= t + k - 1 < clip.shape[1]:
                total = total + clip[:, t + k - 1] * weight[:, k, None, None]
        out.append(total)
    return torch.stack(out, 1)


def aggregate(clip: Tensor, p: dict[str, Tensor], training: bool, scale: int, stride: int, stage: bool) -> Tensor:
    """The middle of `Bottle2neckShift.forward`."""
    batch, frames, channels = clip.shape[:3]
    width = channels // scale
    parts = [clip[:, :, i * width : (i + 1) * width] for i in range(scale)]
    outputs: list[Tensor] = []
    for i in range(scale - 1):
        part = parts[i] if i == 0 or stage else outputs[-1] + parts[i]
        part = along_time(part, p[f"convolved.{i}.temporal.weight"]).flatten(0, 1)
        part = F.conv2d(part, p[f"convolved.{i}.conv.weight"], stride=stride, padding=1)
        part = norm(part, p, f"convolved.{i}.norm", training).clamp(min=0)
        outputs.append(part.unflatten(0, (batch, frames)))
    last = along_time(parts[-1], p["last.weight"])
    if stage:
        last = F.avg_pool2d(last.flatten(0, 1), 3, stride, padding=1).unflatten(0, (batch, frames))
    return torch.cat([*outputs, last], 2)


def official(clip: Tensor, p: dict[str, Tensor], training: bool, scale: int, stride: int, stage: bool) -> Tensor:
    inner = {
        part: {name.removeprefix(f"{part}."): value for name, value in p.items() if name.startswith(f"{part}.")}
        for part in ("excitation", "aggregation")
    }
    out = excite(clip.transpose(1, 2), inner["excitation"], training)
    return aggregate(out, inner["aggregation"], training, scale, stride, stage).transpose(1, 2)
