"""The non-local block against plain loops."""

import pytest
import timm
import torch
from torch import Tensor, nn

from timm_video_psn.layers import fold_clip, unfold_clip
from timm_video_psn.layers.baselines.non_local import NonLocal


def by_loops(clip: Tensor, module: NonLocal, p: dict[str, Tensor], training: bool) -> Tensor:
    """The paper's Eq. 1 with the embedded Gaussian, pixel by pixel; clip (B, C, T, H, W)."""
    batch, _, frames, height, width = clip.shape

    def project(x: Tensor, name: str) -> Tensor:
        return (
            torch.einsum("oi,bithw->bothw", p[f"{name}.weight"][..., 0, 0], x) + p[f"{name}.bias"][:, None, None, None]
        )

    pooled = nn.functional.max_pool3d(clip, (1, 2, 2))
    theta, phi, g = project(clip, "theta"), project(pooled, "phi"), project(pooled, "g")
    rows = []
    for b in range(batch):
        for t in range(frames):
            for i in range(height):
                for j in range(width):
                    query = theta[b, :, t, i, j]
                    scores = torch.einsum("c,cthw->thw", query, phi[b]) * len(query) ** -0.5
                    weights = scores.flatten().softmax(0)
                    rows.append(g[b].flatten(1) @ weights)
    y = torch.stack(rows).view(batch, frames, height, width, -1).movedim(-1, 1)
    y = project(y, "out")
    mean, var = p["norm.running_mean"].clone(), p["norm.running_var"].clone()
    return clip + nn.functional.batch_norm(y, mean, var, p["norm.weight"], p["norm.bias"], training)


@pytest.mark.parametrize("training", [True, False])
@pytest.mark.parametrize("frames", [1, 3])
def test_agrees_with_the_loops_in_values_and_gradients(frames, training):
    module = NonLocal(6, frames).double().train(training)
    for tensor in (*module.parameters(), module.norm.running_mean, module.norm.running_var):
        nn.init.uniform_(tensor, 0.2, 1)
    clip = torch.randn(2, 6, frames, 4, 5, dtype=torch.float64, requires_grad=True)
    values = {name: value.clone() for name, value in module.named_buffers()} | dict(module.named_parameters())
    expected = by_loops(clip, module, values, training)
    found = unfold_clip(module(fold_clip(clip)), frames)
    torch.testing.assert_close(found, expected)
    probe, inputs = torch.randn_like(expected), (clip, *module.parameters())
    ours, theirs = (torch.autograd.grad(out, inputs, probe) for out in (found, expected))
    for a, b in zip(ours, theirs, strict=True):
        torch.testing.assert_close(a, b)


def test_starts_as_the_identity_and_takes_maps_of_one_pixel():
    x = torch.randn(4, 6, 1, 3)
    assert torch.equal(NonLocal(6, 2)(x), x)


@pytest.mark.parametrize(
    ("backbone", "places"), [("resnet50", [[1, 3], [1, 3, 5]]), ("resnet101", [[1, 3], [6, 13, 20]])]
)
def test_five_blocks_are_where_the_official_networks_have_them(backbone, places):
    with torch.device("meta"):
        model = timm.create_model("video_net", backbone=backbone, temporal="nl")
    names = [name.split(".") for name, module in model.named_modules() if isinstance(module, NonLocal)]
    assert [[int(name[2]) for name in names if name[1] == stage] for stage in ("layer2", "layer3")] == places
    assert len(names) == 5


def test_a_single_channel_has_no_half():
    with pytest.raises(ValueError, match="channels=1 is too few: non-local"):
        NonLocal(1)
