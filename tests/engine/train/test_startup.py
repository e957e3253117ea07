"""What a run says before it begins."""

from timm_video_psn.__main__ import train as train_main
from timm_video_psn.data import read_index


def test_what_makes_the_accuracy_mean_less_is_told_before_the_run_begins(
    tiny_motion, arguments, tmp_path, caplog, capsys
):
    index = read_index("motion", tiny_motion, "val")
    lines = [f"{path} {label}\n" for path, label in zip(index.paths, index.labels, strict=True)]
    (tmp_path / "train.txt").write_text("".join(lines[:8] + lines[9:]))
    (tmp_path / "val.txt").write_text("".join(lines[7:]))
    lists = [f"--{split}-list={tmp_path / split}.txt" for split in ("train", "val")]
    more = ["--dataset", "list", "--data-dir", str(index.root), *lists, "--epochs", "1", "--model-ema"]
    assert train_main([*arguments, *more, "--model", "psn_test_resnet"]) == 0
    said = " ".join(caplog.messages)
    assert f"4 of 5 validation videos are training videos, too ({index.paths[7]} and 3 more)" in said
    assert "are still 100 % initial weights after the 1 updates of this run; --model-ema-decay" in said
    assert "1 classes have no video to train: 08" in said
