"""What is known at the end of an epoch: its row of summary.csv, its line of the report, its rank among all epochs."""

from typing import Any

from timm_video_psn.engine.evaluate.evaluate import Evaluation
from timm_video_psn.engine.train.run_folder import Row


def validation_columns(evaluation: Evaluation, protocol: str) -> Row:
    """What validation adds to the row of an epoch.

    Args:
        evaluation: of the epoch's weights.
        protocol: how validation looks at a video.
    """
    pairs = {} if evaluation.pair_top1 is None else {"val_pair_top1": round(evaluation.pair_top1, 3)}
    return {
        "val_loss": round(evaluation.loss, 6),
        "val_top1": round(evaluation.top1, 3),
        "val_top5": round(evaluation.top5, 3),
        **pairs,
        "val_videos": evaluation.num_videos,
        "val_expected": evaluation.num_expected,
        "protocol": protocol,
    }


def describe_epoch(row: dict[str, Any], epochs: int) -> str:
    """The line of the report.

    Args:
        row: of the epoch.
        epochs: of the whole run.
    """
    terms = ", ".join(
        f"{name} {row['train_' + name]:.3f}" for name in ("ce", "interaction", "capacity") if f"train_{name}" in row
    )
    pairs = f", within pairs {row['val_pair_top1']:.1f}" if "val_pair_top1" in row else ""
    validation = (
        f"val top-1 {row['val_top1']:.1f}, top-5 {row['val_top5']:.1f}{pairs} "
        f"({row['val_videos']} of {row['val_expected']} videos, {row['protocol']})"
        if "val_top1" in row
        else "not validated"
    )
    return (
        f"epoch {row['epoch']}/{epochs}  loss {row['train_loss']:.3f} ({terms})  train top-1 {row['train_top1']:.1f}  "
        f"{validation}  lr {row['lr']:.2e}  data wait {row['data_wait']:.0%}  {row['seconds']:.0f} s"
    )


def best_epochs(history: list[Row], count: int) -> list[int]:
    """Numbers of the best epochs, best first: by top-1, then by the loss; of equals the earlier one.

    Args:
        history: a row an epoch; those without validation do not count.
        count: how many to name at most.
    """
    validated = [row for row in history if "val_top1" in row]
    return [row["epoch"] for row in sorted(validated, key=lambda row: (-row["val_top1"], row["val_loss"]))[:count]]
