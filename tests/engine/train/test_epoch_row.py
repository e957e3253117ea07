from timm_video_psn.engine.evaluate.evaluate import Evaluation
from timm_video_psn.engine.train.epoch_row import best_epochs, describe_epoch, validation_columns

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
