import pytest
import torch

from timm_video_psn.data import Batch, UnreadableVideo
from timm_video_psn.engine.evaluate.evaluate import evaluate
from timm_video_psn.engine.precision import Precision

PRECISION = Precision(torch.device("cpu"), (0.0, 0.0, 0.0), (1 / 255,) * 3)


class FirstPixel(torch.nn.Module):
    """Reads its answer off the clip: the logits of class k are the mean of the pixels of frame k."""

    def forward(self, clip):
        return clip.mean((1, 3, 4))


def batch(answers, labels, unreadable=()):
    """Clips of which frame `answer` alone is bright, so that `FirstPixel` answers so."""
    clip = torch.zeros(len(answers), 6, 2, 2, 3, dtype=torch.uint8)
    for i, answer in enumerate(answers):
        clip[i, answer] = 255
    index = torch.arange(len(answers))
    return Batch(clip, torch.tensor(labels, dtype=torch.int64), index, torch.full_like(index, 6), list(unreadable))


def test_accuracy_is_counted_by_hand():
    batches = [batch([0, 1, 2], [0, 1, 3]), batch([5], [5])]
    result = evaluate(FirstPixel(), batches, PRECISION, num_expected=4)
    assert result.top1 == 75.0
    assert (result.num_videos, result.num_expected, result.pair_top1) == (4, 4, None)
    paired = evaluate(FirstPixel(), batches, PRECISION, num_expected=4, reversal_pairs=((2, 3), (1, 4)))
    assert paired.pair_top1 == 50.0  # of the second and the third video
    assert 75.0 <= result.top5 <= 100.0


def test_a_video_that_cannot_be_read_is_left_out_and_reported():
    unreadable = UnreadableVideo(2, "c.mp4", "no frames")
    result = evaluate(FirstPixel(), [batch([0], [0], [unreadable]), batch([], [], [])], PRECISION, num_expected=2)
    assert (result.num_videos, result.num_expected, result.unreadable) == (1, 2, (unreadable,))
    with pytest.raises(ValueError, match=r"none of the 1 videos to evaluate could be read: c\.mp4: no frames"):
        evaluate(FirstPixel(), [batch([], [], [unreadable])], PRECISION, num_expected=1)


def test_logits_that_are_not_finite_are_wrong_and_told_of(caplog):
    def spoil(clip):
        logits = FirstPixel()(clip)
        logits[0] = torch.nan
        return logits

    spoiled = FirstPixel()
    spoiled.forward = spoil
    result = evaluate(spoiled, [batch([0, 1, 2, 3], [0, 1, 2, 5])], PRECISION, num_expected=4)
    assert result.top1 == 50.0
    assert result.top5 <= 75.0
    assert "the logits of 1 of 4 videos are not finite, which counts as wrong" in caplog.text


def test_of_several_classes_a_video_any_is_a_hit_and_there_is_map():
    clips = batch([0, 1, 2], [0, 0, 0])
    several = clips._replace(label=torch.tensor([[1.0, 1, 0, 0, 0, 0], [0, 1, 1, 0, 0, 0], [1, 0, 0, 1, 0, 0]]))
    result = evaluate(FirstPixel(), [several], PRECISION, num_expected=3, loss="bce")
    assert result.top1 == pytest.approx(200 / 3)
    assert 0 < result.mean_ap < 100
    single = evaluate(FirstPixel(), [batch([0, 1, 2], [0, 1, 2])], PRECISION, num_expected=3, loss="bce")
    assert single.mean_ap == 100.0
    assert evaluate(FirstPixel(), [batch([0], [0])], PRECISION, num_expected=1).mean_ap is None
