"""Mixup and cutmix of clips against plain loops."""

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from timm.data.mixup import Mixup, mixup_target
from timm.loss import SoftTargetCrossEntropy

from timm_video_psn.data.clips.mixup import ClipMixup

NUM_CLASSES, SIZE = 5, 16


def batch(count=4, num_frames=3):
    clip = torch.randn(count, num_frames, SIZE, SIZE, 3, generator=torch.Generator().manual_seed(0))
    return clip.permute(0, 4, 1, 2, 3), torch.arange(count) % NUM_CLASSES  # as `normalize_clip` gives it


def mixup(**options):
    return ClipMixup(NUM_CLASSES, SIZE, **{"mixup": 0.0, "cutmix": 0.0, **options})


def shares(label, partner, share):
    target = torch.zeros(len(label), NUM_CLASSES)
    for row, (own, other) in enumerate(zip(label.tolist(), partner.tolist(), strict=True)):
        target[row, own] += share
        target[row, other] += 1 - share
    return target


@pytest.mark.parametrize("count", [1, 2, 4, 5])
def test_a_blend_is_of_the_reversed_batch_with_the_shares_of_the_target(count):
    for epoch in range(5):
        clip, label = batch(count)
        mixed, target = mixup(mixup=0.8).mix(clip.clone(), label, epoch, 0)
        share = float(target[0, label[0]]) if label[0] != label[-1] else 0.5
        expected = torch.stack([share * clip[i] + (1 - share) * clip[count - 1 - i] for i in range(count)])
        torch.testing.assert_close(mixed, expected, atol=1e-5, rtol=1e-5)
        torch.testing.assert_close(target, shares(label, label.flip(0), share), atol=1e-5, rtol=1e-5)


def test_clips_of_several_classes_have_the_shares_of_both_sets():
    clip, _ = batch(2)
    several = torch.tensor([[1.0, 1, 0, 0, 0], [0, 1, 0, 1, 0]])
    mixed, target = mixup(mixup=0.8).mix(clip.clone(), several, 0, 0)
    share = float(target[0, 0])
    torch.testing.assert_close(mixed, share * clip + (1 - share) * clip.flip(0), atol=1e-5, rtol=1e-5)
    torch.testing.assert_close(target[0], torch.tensor([share, 1, 0, 1 - share, 0]))


@pytest.mark.parametrize("options", [{"cutmix": 1.0}, {"cutmix_minmax": (0.2, 0.8)}])
def test_a_box_is_the_same_in_all_frames_and_its_area_is_the_share(options):
    areas = []
    for epoch in range(30):
        clip, label = batch()
        mixed, target = mixup(**options).mix(clip.clone(), label, epoch, 3)
        foreign = (mixed != clip).all(1)  # (B, T, H, W)
        assert (foreign == foreign[:1, :1]).all()
        rows, columns = foreign[0, 0].any(1), foreign[0, 0].any(0)
        assert torch.equal(foreign[0, 0], rows[:, None] & columns[None])  # a rectangle
        for edge in (rows, columns):
            assert (edge.int().diff() != 0).sum() <= 2  # without gaps
        torch.testing.assert_close(mixed, torch.where(foreign[:, None], clip.flip(0), clip))
        area = int(foreign[0, 0].sum())
        torch.testing.assert_close(target, shares(label, label.flip(0), 1 - area / SIZE**2))
        areas.append((int(rows.sum()), int(columns.sum())))
    assert len(set(areas)) > 5
    if "cutmix_minmax" in options:
        assert all(3 <= side < 12 for area in areas for side in area)  # timm: from int(16 * 0.2) to below int(16 * 0.8)


def test_what_is_drawn_is_what_timm_draws():
    """A clip of one frame is an image: timm's own class gives the same, with numpy's generator at the same place."""
    options = {"mixup_alpha": 0.8, "cutmix_alpha": 1.0, "prob": 0.7, "switch_prob": 0.4}
    judge = Mixup(**options, label_smoothing=0.0, num_classes=NUM_CLASSES)
    ours = mixup(mixup=0.8, cutmix=1.0, prob=0.7, switch_prob=0.4, seed=9)
    kinds = set()
    for epoch in range(20):
        clip, label = batch(num_frames=1)
        np.random.seed((9, epoch, 2))  # noqa: NPY002
        expected, expected_target = judge(clip[:, :, 0].clone(), label)
        mixed, target = ours.mix(clip.clone(), label, epoch, 2)
        torch.testing.assert_close(mixed[:, :, 0], expected)
        torch.testing.assert_close(target, expected_target)
        kinds.add((bool((mixed == clip).any()), bool((mixed == clip).all())))
    assert len(kinds) == 3  # blended, boxed, left alone


def test_draws_follow_seed_epoch_and_first_video_and_nothing_else():
    def target(seed, epoch, first):
        return mixup(mixup=0.8, seed=seed).mix(*batch(), epoch, first)[1]

    np.random.seed(5)  # noqa: NPY002
    once = target(1, 2, 3)
    after = np.random.rand()  # noqa: NPY002
    np.random.seed(5)  # noqa: NPY002
    assert after == np.random.rand()  # noqa: NPY002
    assert torch.equal(once, target(1, 2, 3))
    for other in ((0, 2, 3), (1, 0, 3), (1, 2, 0)):
        assert not torch.equal(once, target(*other))


def test_smoothing_by_the_loss_is_timms():
    clip, label = batch()
    _, target = mixup(mixup=0.8).mix(clip, label, 0, 0)
    share, logits = float(target[0, label[0]]), torch.randn(4, NUM_CLASSES)
    expected = SoftTargetCrossEntropy()(logits, mixup_target(label, NUM_CLASSES, share, smoothing=0.1))
    torch.testing.assert_close(F.cross_entropy(logits, target, label_smoothing=0.1), expected)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"mixup": -1}, "mixup=-1 is out of range"),
        ({"cutmix": float("nan")}, "cutmix=nan is out of range"),
        ({"prob": 1.5}, "mixup_prob=1.5 is not a probability"),
        ({"switch_prob": -0.1}, "mixup_switch_prob=-0.1 is not a probability"),
        ({"cutmix_minmax": (0.8, 0.2)}, r"cutmix_minmax=\(0.8, 0.2\) leaves no box to draw in a frame of 16 pixels"),
        ({"cutmix_minmax": (0.50, 0.51)}, "leaves no box to draw"),
        ({"cutmix_minmax": (0.5,)}, "leaves no box to draw"),
    ],
)
def test_bad_options_are_errors(options, message):
    with pytest.raises(ValueError, match=message):
        mixup(**options)
