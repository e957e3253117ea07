"""One run of benchmarks/gestures.py: training by the train command, and the tests of the trained model."""

import argparse
import csv
import json
import shutil
from pathlib import Path

import numpy as np
import timm
import torch

import timm_video_psn
from timm_video_psn.__main__ import train
from timm_video_psn.data import (
    ANNOTATED,
    SAMPLINGS,
    EvalTransform,
    VideoDataset,
    create_loader,
    normalize_clip,
    read_index,
)
from timm_video_psn.files import write_text

from .data import hold, write_lists
from .packed import describe_device
from .systems import RECIPE, SYSTEMS

SHUFFLES = 5  # orders of the order test


def run(args: argparse.Namespace) -> int:
    """Train, test and leave row.json in the run's folder; returns the exit code."""
    folder = args.output / f"{args.system}-fold{args.fold}-seed{args.seed}"
    folder.mkdir(parents=True, exist_ok=True)
    lists = write_lists(args.data_dir, args.fold, folder)
    cache = args.output / "frames"
    ANNOTATED["gestures"] = lambda *of: hold(ANNOTATED["list"](*of), cache)
    argv = [*RECIPE, *SYSTEMS[args.system].arguments, "--seed", str(args.seed)]
    argv += ["--epochs", str(args.epochs), *(["--amp", "--amp-dtype", "bfloat16"] if args.device != "cpu" else [])]
    places = ["--dataset", "gestures", "--data-dir", str(args.data_dir), "--train-list", str(lists[0])]
    places += ["--val-list", str(lists[1]), "--output", str(args.output), "--experiment", folder.name]
    places += ["--backbone-checkpoint", str(args.backbone_checkpoint), "--device", args.device, "--resume", "auto"]
    if code := train([*argv, *places]):
        return code
    with (folder / "summary.csv").open(newline="") as file:
        epochs = list(csv.DictReader(file))
    best = folder / "best-epochs" / f"epoch-{len(epochs):04d}"
    index = read_index("gestures", args.data_dir, "val", {"train": lists[0], "val": lists[1]})
    tested = test(best, index, args.device)
    top1 = 100 * np.mean([a == b for a, b in zip(tested["truth"], tested["predicted"], strict=True)])
    if abs(top1 - float(epochs[-1]["val_top1"])) > (0.01 if args.device == "cpu" else 5):
        raise RuntimeError(f"{best} has top-1 {top1:.2f}, and {epochs[-1]['val_top1']} at the end of its training")
    row = {
        "system": args.system,
        "fold": args.fold,
        "seed": args.seed,
        "top1": f"{top1:.2f}",
        "protocol": epochs[-1]["protocol"],
        "epochs": len(epochs),
        "seconds": round(sum(float(epoch["seconds"]) for epoch in epochs)),
        "device": describe_device(args.device),
        "settings": " ".join(argv),
        "version": f"timm_video_psn {timm_video_psn.__version__}, torch {torch.__version__}, timm {timm.__version__}",
        **tested,
        **{name: " ".join(epoch.get(name, "") or "-" for epoch in epochs) for name in ("train_ce", "train_top1")},
        "val_top1": " ".join(f"{epoch['epoch']}:{epoch['val_top1']}" for epoch in epochs if epoch["val_top1"]),
    }
    row["train_loss"] = row.pop("train_ce")
    write_text(folder / "row.json", json.dumps(row, indent=1))
    shutil.move(best, folder / "model")
    for leftover in ("best", "best-epochs", "checkpoints"):
        shutil.rmtree(folder / leftover, ignore_errors=True)
    (folder / "last.pt").unlink(missing_ok=True)
    return 0


def test(folder: Path, index, device: str) -> dict[str, str]:
    """Predicted classes of the test videos, a digit each: frames in order, reversed, and in five shuffled orders."""
    model = timm.create_model(f"local-dir:{folder}", pretrained=True).eval().to(device)
    sample, rng = SAMPLINGS["segments"], np.random.default_rng(0)
    orders = {
        "predicted": [lambda frames: frames],
        "reversed": [lambda frames: frames[::-1].copy()],
        "shuffled": [rng.permutation] * SHUFFLES,
    }
    result = {"truth": "".join(map(str, index.labels))}
    for name, each in orders.items():
        digits = [predict(model, index, lambda *of, order=order: order(sample(*of))) for order in each]
        result[name] = " ".join(digits)
    return result


@torch.inference_mode()
def predict(model, index, sampling) -> str:
    """The predicted class of each video, a digit each."""
    cfg = model.pretrained_cfg
    transform = EvalTransform(cfg["input_size"][-1], cfg["crop_pct"], cfg["interpolation"])
    loader = create_loader(VideoDataset(index, model.num_frames, transform, False, sampling=sampling), 16, False, 0)
    device = next(model.parameters()).device
    digits = ""
    for batch in loader:
        with torch.autocast(device.type, torch.bfloat16, enabled=device.type != "cpu"):
            logits = model(normalize_clip(batch.clip.to(device), cfg["mean"], cfg["std"]))
        digits += "".join(map(str, logits.argmax(1).tolist()))
    return digits
