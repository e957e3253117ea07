"""The demo's numbers and pictures on the embedded data set `motion`.

    python benchmarks/motion_demo.py table                      # PSN, TSM, TSN: the same command line, the same steps
    python benchmarks/motion_demo.py table --epochs 20 --models tsm_test_resnet
    python benchmarks/motion_demo.py picture --model output/psn_test_resnet-motion/best

`table` trains each model for each seed in a folder of its own under --output, goes on where an earlier call was
broken off, and prints a Markdown table from the runs' summary.csv.
"""

import argparse
import csv
import statistics
import subprocess
import sys
from pathlib import Path

import numpy as np

from timm_video_psn.data import decode_clip, read_index, segment_indices
from timm_video_psn.engine.load_model import load
from timm_video_psn.plotting import new_figure, save_figure

TRAIN = Path(__file__).parents[1] / "train_video.py"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    commands = parser.add_subparsers(dest="command", required=True)
    table = commands.add_parser("table")
    table.add_argument("--models", nargs="+", default=["psn_test_resnet", "tsm_test_resnet", "tsn_test_resnet"])
    table.add_argument("--seeds", nargs="+", type=int, default=[0, 1, 2])
    table.add_argument("--epochs", type=int, help="default: the recipe's")
    table.add_argument("--output", default="output/motion_demo")
    picture = commands.add_parser("picture")
    picture.add_argument("--model", required=True, help="best/ of a run on motion")
    picture.add_argument("--data-dir", type=Path)
    picture.add_argument("--output", type=Path, metavar="PNG", help="default: motion_clips.png beside the model folder")
    args = parser.parse_args()
    if args.command == "table":
        print_table(args)
    else:
        out = args.output or Path(args.model).parent / "motion_clips.png"
        draw_clips(args.model, args.data_dir, out)
        print(f"wrote {out}")


def print_table(args: argparse.Namespace) -> None:
    """Train what is missing, then print a line a model."""
    runs = {model: [run(model, seed, args) for seed in args.seeds] for model in args.models}
    print("| model | seeds | epochs | top-1, % | within pairs, % | training, s |")
    print("|---|---|---|---|---|---|")
    for model, rows_of_seeds in runs.items():
        last = [rows[-1] for rows in rows_of_seeds]
        seconds = statistics.mean(sum(float(row["seconds"]) for row in rows) for rows in rows_of_seeds)
        cells = [spread([float(row[key]) for row in last]) for key in ("val_top1", "val_pair_top1")]
        print(f"| {model} | {len(last)} | {last[0]['epoch']} | {cells[0]} | {cells[1]} | {seconds:.0f} |")


def run(model: str, seed: int, args: argparse.Namespace) -> list[dict[str, str]]:
    """Rows of the run's summary, trained now if they are not there."""
    name = f"{model}-seed{seed}" + (f"-{args.epochs}epochs" if args.epochs else "")
    command = [sys.executable, str(TRAIN), "--dataset", "motion", "--model", model, "--seed", str(seed)]
    command += ["--output", args.output, "--experiment", name, "--resume", "auto"]
    command += ["--epochs", str(args.epochs)] if args.epochs else []
    subprocess.run(command, check=True, stdout=sys.stderr)
    with (Path(args.output) / name / "summary.csv").open() as file:
        return list(csv.DictReader(file))


def spread(values: list[float]) -> str:
    """Mean, and the standard deviation where there are several values."""
    mean = statistics.mean(values)
    return f"{mean:.1f} ± {statistics.stdev(values):.1f}" if len(values) > 1 else f"{mean:.1f}"


def draw_clips(model: str, data_dir: Path | None, out: Path) -> None:
    """A row of frames for one validation clip of every class, with what the model says of it."""
    trained = load(model)
    index = read_index("motion", data_dir, "val")
    figure = new_figure(11, 15)
    axes = figure.subplots(len(index.class_names), 1)
    for label, (name, axis) in enumerate(zip(index.class_names, axes, strict=True)):
        path = index.root / index.paths[int(np.flatnonzero(index.labels == label)[0])]
        frames = decode_clip(path, lambda count: segment_indices(count, 8))
        first, second = trained.predict(path, topk=2).top
        axis.imshow(np.concatenate(list(frames), axis=1))
        axis.set_axis_off()
        said = f"{first.label} {first.probability:.0%}, then {second.label} {second.probability:.0%}"
        color = "darkgreen" if first.label == name else "darkred"
        axis.set_title(f"{name}: the model says {said}", loc="left", color=color, fontsize=11)
    save_figure(figure, out, dpi=80)


if __name__ == "__main__":
    main()
