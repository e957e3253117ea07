"""What the interaction loss (Eq. 2) does to a trained T, on the embedded data set `motion`.

    python benchmarks/interaction_loss.py                     # train what is missing of 7 arms x 3 seeds
    python benchmarks/interaction_loss.py --arms plain printed --seeds 0

Arms differ only in the norm of Eq. 2 and in the start of T. Everything else is `timm_video_psn/recipes/motion.yaml`, on
40 training videos of each class instead of 128 and 4 frames of 32 pixels: enough to see what the loss does to T, and
far too little to compare accuracies. A finished run becomes a row of docs/interaction_loss.csv and is not trained
again; one that was broken off resumes. `benchmarks/psn_paper_tables.py` prints the rows as a table of docs/paper.md.
"""

import argparse
import csv
import sys
from pathlib import Path

import timm
import torch
from evidence.data import hold

import timm_video_psn
from timm_video_psn.__main__ import train as train_command
from timm_video_psn.data import DATASETS, prepare_motion
from timm_video_psn.files import write_csv
from timm_video_psn.interactions import drop_rate
from timm_video_psn.losses import interaction_loss

ROOT = Path(__file__).parents[1]
ROWS = ROOT / "docs" / "interaction_loss.csv"
THRESHOLDS = (0.1, 0.25, 0.5)
COLUMNS = (
    *("arm", "seed", "epochs", "top1", "mean_norm", "least_norm", "sigmoid", "sites"),
    *(f"{name}_{threshold:g}" for threshold in THRESHOLDS for name in ("interactions", "drop_rate")),
)
ZERO_START = ("fusion_init=0",)
ARMS: dict[str, tuple[float, str, tuple[str, ...]]] = {  # alpha, norm, further settings of the model
    "plain": (0.0, "sum", ()),
    "printed": (0.01, "sum", ()),
    "relative": (0.01, "relative", ()),
    "plain, T = 0": (0.0, "sum", ZERO_START),
    "printed, T = 0": (0.01, "sum", ZERO_START),
    "printed x100, T = 0": (1.0, "sum", ZERO_START),
    "relative x100": (1.0, "relative", ()),
}


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--arms", nargs="+", choices=list(ARMS), default=list(ARMS), metavar="ARM")
    parser.add_argument("--seeds", nargs="+", type=int, default=[0, 1, 2], metavar="SEED")
    parser.add_argument("--epochs", type=int, default=2)
    parser.add_argument("--train-per-class", type=int, default=40, metavar="N", help="training videos of each class")
    parser.add_argument("--img-size", type=int, default=32)
    parser.add_argument("--num-frames", type=int, default=4)
    parser.add_argument("--output", type=Path, default=ROOT / "output" / "interaction_loss", help="folder of the runs")
    parser.add_argument("--device", default="cpu")
    args = parser.parse_args()
    read_motion, folder = DATASETS["motion"], args.output / f"motion-{args.train_per_class}"
    if not folder.exists():
        prepare_motion(folder, workers=1, train_per_class=args.train_per_class, val_per_class=10)
    DATASETS["motion"] = lambda _, split: hold(read_motion(folder, split), args.output / "frames")
    for seed in args.seeds:
        for arm in args.arms:
            done = {(row["arm"], row["seed"], row["epochs"]) for row in read_rows()}
            if (arm, str(seed), str(args.epochs)) in done:
                continue
            if code := train(arm, seed, args):
                return code
    return 0


def train(arm: str, seed: int, args: argparse.Namespace) -> int:
    """Train one arm with one seed and add its row; returns the exit code."""
    alpha, norm, settings = ARMS[arm]
    name = f"{arm.replace(', T = 0', '-zero').replace(' ', '-')}-seed{seed}-epochs{args.epochs}"
    argv = ["--dataset", "motion", "--model", "psn_test_resnet", "--model-kwargs", "proportion=1.0", *settings]
    argv += ["receptive_field=(5,5,5)", "--alpha", str(alpha), "--beta", "0", "--interaction-norm", norm]
    argv += ["--img-size", str(args.img_size), "--num-frames", str(args.num_frames)]
    argv += ["--epochs", str(args.epochs), "--val-interval", str(args.epochs), "--seed", str(seed), "--workers", "0"]
    argv += ["--output", str(args.output), "--experiment", name, "--resume", "auto", "--device", args.device]
    if code := train_command(argv):
        return code
    with (args.output / name / "summary.csv").open(newline="") as file:
        (*_, last) = csv.DictReader(file)
    model = timm.create_model(f"local-dir:{args.output / name / 'best'}", pretrained=True)
    row = [arm, seed, args.epochs, last["val_top1"], *measure(model)]
    write_csv(ROWS, COLUMNS, [*([row[name] for name in COLUMNS] for row in read_rows()), row])
    return 0


def measure(model: torch.nn.Module) -> list[float | str]:
    """The columns of COLUMNS that describe T: norms of all blocks, Eq. 2, and the last rows of the paper's Table 2."""
    maps = timm_video_psn.interaction_map(model)
    norms = torch.cat([torch.from_numpy(each.norms).flatten() for each in maps.values()])
    fusions = [module.fusion for module in model.modules() if hasattr(module, "fusion")]
    values = [interaction_loss(each.routing(), each.in_widths, each.out_widths) for each in fusions]
    found: list[float | str] = [round(float(norms.mean()), 3), round(float(norms.min()), 3)]
    found += [round(-float(torch.stack(values).mean()), 4)]
    found += [" ".join(f"{site}:{each.norms.mean():.3f}" for site, each in maps.items())]
    for threshold in THRESHOLDS:
        found += [timm_video_psn.ir_interactions(model, threshold).total, round(drop_rate(model, threshold), 4)]
    return found


def read_rows() -> list[dict[str, str]]:
    """The finished runs."""
    if not ROWS.exists():
        return []
    with ROWS.open(newline="", encoding="utf-8") as file:
        return list(csv.DictReader(file))


if __name__ == "__main__":
    sys.exit(main())
