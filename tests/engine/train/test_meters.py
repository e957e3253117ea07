import os
import time

import pytest
import torch

from tests.engine.runs import settled
from timm_video_psn.engine.evaluate.evaluate import Evaluation
from timm_video_psn.engine.train.meters import (
    DataTimer,
    LossMeter,
    best_epochs,
    data_wait_advice,
    describe_epoch,
    validation_columns,
)


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

    timing = DataTimer(slow())
    for _ in timing:
        time.sleep(0.01)
    assert 0.6 < timing.share < 0.95


TRAINED = {
    "epoch": 3,
    "lr": 0.01,
    "train_loss": 2.0,
    "train_ce": 2.01,
    "train_top1": 50.0,
    "data_wait": 0.1,
    "seconds": 7,
}


def test_the_best_epochs_are_those_of_the_highest_accuracy_then_of_the_lowest_loss_then_the_earliest():
    results = [(50.0, 1.0), None, (60.0, 0.9), (60.0, 0.8), (50.0, 1.0), (40.0, 0.1)]
    history = [
        {"epoch": epoch, **({} if result is None else {"val_top1": result[0], "val_loss": result[1]})}
        for epoch, result in enumerate(results, start=1)
    ]
    assert best_epochs(history, 9) == [4, 3, 1, 5, 6]
    assert best_epochs(history, 2) == [4, 3]
    assert best_epochs(history[1:2], 2) == []


def test_an_epoch_is_described_with_what_is_known_of_it():
    assert "loss 2.000 (ce 2.010)  train top-1 50.0  not validated" in describe_epoch(TRAINED, 8)
    evaluation = Evaluation(1.23456789, 61.23456, 90.0, None, num_videos=11, num_expected=12)
    columns = validation_columns(evaluation, "8x1x1@224/256 segments logits")
    assert "val_pair_top1" not in columns
    assert columns["val_loss"] == 1.234568
    line = describe_epoch({**TRAINED, **columns, "val_pair_top1": 75.0}, 8)
    assert line.startswith("epoch 3/8")
    assert "val top-1 61.2, top-5 90.0, within pairs 75.0 (11 of 12 videos, 8x1x1@224/256 segments logits)" in line


def test_up_to_thirty_percent_nothing_is_said():
    assert data_wait_advice(0.30, settled()) is None


def test_the_remedies_are_commands_that_fit_the_run(monkeypatch):
    monkeypatch.setattr(os, "cpu_count", lambda: 16)
    advice = data_wait_advice(0.42, settled("--workers", "4", "--img-size", "112"))
    assert advice is not None
    assert advice.startswith("42% of the epoch")
    for remedy in (
        "--workers 8 (now 4, and this machine has 16 cores)",
        "timm-video-psn prepare resize",
        "--short-side 128",
    ):
        assert remedy in advice
    assert "--decoder torchcodec" in advice


def test_what_is_done_already_is_not_advised(monkeypatch):
    monkeypatch.setattr(os, "cpu_count", lambda: 4)
    advice = data_wait_advice(0.9, settled("--dataset", "motion", "--workers", "4", "--decoder", "torchcodec"))
    assert advice is not None
    for remedy in ("--workers", "resize", "torchcodec"):
        assert remedy not in advice


def test_what_shards_cannot_do_is_not_advised():
    advice = data_wait_advice(0.9, settled("--dataset", "shards", "--data-dir", "https://host/shards"))
    assert advice is not None
    assert "resize" not in advice
    assert "torchcodec" not in advice


@pytest.mark.parametrize(("workers", "more"), [("0", "1"), ("3", "4")])
def test_workers_are_doubled_up_to_the_cores(monkeypatch, workers, more):
    monkeypatch.setattr(os, "cpu_count", lambda: 4)
    assert f"--workers {more} " in (data_wait_advice(0.5, settled("--workers", workers)) or "")
