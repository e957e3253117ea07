import time

import pytest
import torch

from timm_video_psn.engine.train.meters import LossMeter, Waiting


def step(meter, number, loss, clips, correct):
    logits = torch.eye(2)[[0] * clips]
    label = torch.tensor([0] * correct + [1] * (clips - correct))
    meter.update(number, {"loss": torch.tensor(loss), "ce": torch.tensor(loss / 2)}, logits, label)


def test_averages_weigh_each_step_by_its_clips():
    meter = LossMeter()
    step(meter, 0, 1.0, clips=3, correct=3)
    step(meter, 1, 2.0, clips=1, correct=0)
    assert meter.averages() == pytest.approx({"loss": 1.25, "ce": 0.625, "top1": 75.0})


def test_a_mixed_clip_is_correct_to_the_share_of_the_answered_class():
    meter = LossMeter()
    logits = torch.tensor([[2.0, 1.0], [0.0, 1.0]])
    meter.update(0, {"loss": torch.tensor(1.0)}, logits, torch.tensor([[0.75, 0.25], [0.9, 0.1]]))
    assert meter.averages()["top1"] == pytest.approx(100 * (0.75 + 0.1) / 2)


def test_averages_go_on_from_a_saved_state():
    meter, again = LossMeter(), LossMeter()
    step(meter, 0, 1.0, clips=3, correct=3)
    again.load_state_dict(meter.state_dict())
    for one in (meter, again):
        step(one, 1, 2.0, clips=1, correct=0)
    assert meter.averages() == again.averages()


@pytest.mark.parametrize("value", [float("nan"), float("inf")])
def test_a_loss_that_is_not_finite_stops_with_the_step_and_what_to_try(value):
    meter = LossMeter()
    step(meter, 6, 0.5, clips=1, correct=1)
    step(meter, 7, value, clips=1, correct=1)
    with pytest.raises(FloatingPointError, match=r"loss of step 7 is not finite .*last losses were 0\.5, .*--lr"):
        meter.flush()


def test_waiting_measures_the_share_of_time_spent_on_data():
    def slow():
        for item in range(3):
            time.sleep(0.03)
            yield item

    timing = Waiting(slow())
    for _ in timing:
        time.sleep(0.01)
    assert 0.6 < timing.share < 0.95
