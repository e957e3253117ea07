"""Views in steps equal views at once; what coincides is run once; too little memory makes the steps smaller."""

import numpy as np
import pytest
import timm
import torch

import timm_video_psn  # noqa: F401  registers the models
from timm_video_psn.data.clips.views import VideoViews, View
from timm_video_psn.engine.precision import Precision
from timm_video_psn.engine.view_scores import ViewScorer, fuse

PRECISION = Precision(torch.device("cpu"), (0.5,) * 3, (0.5,) * 3)


def video(clips=10, crops=3, size=32, frames=8, seed=0):
    """A video of clips x crops views, all different."""
    generator = torch.Generator().manual_seed(seed)
    pixels = torch.randint(0, 256, (crops, clips * frames, size, size, 3), dtype=torch.uint8, generator=generator)
    views = tuple(
        View(0, crop, tuple(range(clip * frames, (clip + 1) * frames)))
        for clip in range(clips)
        for crop in range(crops)
    )
    return VideoViews((pixels,), views, (np.arange(len(views)),), 0, 0, clips * frames)


class Watched(torch.nn.Module):
    """A model that notes the shapes it was given, and may find them too large."""

    def __init__(self, model, limit=None):
        super().__init__()
        self.model, self.limit, self.shapes = model, limit, []

    def forward(self, clip):
        if self.limit and len(clip) > self.limit:
            raise torch.OutOfMemoryError("CUDA out of memory (as a GPU says it)")
        self.shapes.append(tuple(clip.shape))
        return self.model(clip)


@pytest.fixture(scope="module")
def model():
    torch.manual_seed(0)
    return timm.create_model("psn_test_resnet", num_classes=5, expand_init=1.0).eval()


@pytest.mark.parametrize("step", [1, 4, 7])
def test_thirty_views_in_steps_equal_thirty_at_once(model, step):
    at_once, in_steps = Watched(model), Watched(model)
    (expected,) = ViewScorer(at_once, PRECISION, 30).logits([video()])
    (found,) = ViewScorer(in_steps, PRECISION, step).logits([video()])
    assert at_once.shapes == [(30, 3, 8, 32, 32)]
    assert max(shape[0] for shape in in_steps.shapes) == step
    assert sum(shape[0] for shape in in_steps.shapes) == 30
    np.testing.assert_allclose(found, expected, rtol=1e-4, atol=1e-5)
    for fusion in ("logits", "probabilities"):
        np.testing.assert_allclose(fuse(found, fusion), fuse(expected, fusion), rtol=1e-4, atol=1e-5)


def test_views_of_several_videos_and_shapes_come_back_in_their_places(model):
    videos = [video(2, 1, 32, 4, seed=1), video(1, 3, 48, 4, seed=2), video(3, 1, 32, 8, seed=3)]
    scorer = ViewScorer(model, PRECISION, 4)
    together = scorer.logits(videos)
    assert scorer.views_seen == 2 + 3 + 3
    for one, found in zip(videos, together, strict=True):
        for number, values in enumerate(found):
            with torch.inference_mode():
                alone = model(PRECISION.clip(one.clip(number)[None]))[0].numpy()
            np.testing.assert_allclose(values, alone, rtol=1e-4, atol=1e-5)


def test_too_little_memory_makes_the_steps_smaller(model):
    small = Watched(model, limit=5)
    scorer = ViewScorer(small, PRECISION)
    (found,) = scorer.logits([video()])
    assert scorer.views_per_step == 4
    (expected,) = ViewScorer(model, PRECISION, 30).logits([video()])
    np.testing.assert_allclose(found, expected, rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize(("asked", "limit"), [(8, 5), (None, -1)])
def test_memory_that_never_does_is_an_error(model, asked, limit):
    with pytest.raises(
        ValueError, match=f"{asked or 1} views at once do not fit into the memory of cpu; use a smaller"
    ):
        ViewScorer(Watched(model, limit), PRECISION, asked).logits([video()])


def test_fusion_by_hand():
    shares = np.array([[0.5, 0.25, 0.25], [0.1, 0.1, 0.8]])
    logits = (np.log(shares) + np.array([[3], [-2]])).astype(np.float32)
    np.testing.assert_allclose(fuse(logits, "probabilities"), [0.3, 0.175, 0.525], rtol=1e-5)
    np.testing.assert_allclose(fuse(logits, "logits"), logits.mean(0), rtol=1e-5)
