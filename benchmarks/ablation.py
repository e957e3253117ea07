"""The paper's ablations (Tables 1 and 2) replayed at small scale, on the embedded data set `motion`.

    python benchmarks/ablation.py                       # train what is missing of 12 systems x 3 seeds, then write
    python benchmarks/ablation.py --systems tsn dense --seeds 0
    python benchmarks/ablation.py --epochs 24 --seeds 0 1 2 3 4 5 6 7 --device cuda --jobs 12 --minutes 8
    python benchmarks/ablation.py --write-only          # docs/ablation.md and its picture from the rows there are

Every run is the train command with the same recipe (`timm_video_psn/recipes/motion.yaml`); only the system differs. A
finished run becomes a row of docs/ablation.csv and is not trained again; one that was broken off resumes from its
checkpoint under --output. The frames come from memory, so that a GPU can take many runs at a time: the third command,
repeated until nothing is left, compares ceilings instead of speeds of learning.
"""

import argparse
import csv
import json
import statistics
import sys
from dataclasses import dataclass
from pathlib import Path

import torch
from evidence.data import hold
from evidence.packed import describe_device, run_packed

import timm_video_psn
from timm_video_psn.__main__ import train as train_command
from timm_video_psn.data import DATASETS, prepare_motion
from timm_video_psn.files import write_csv, write_text

ROOT = Path(__file__).parents[1]
ROWS = ROOT / "docs" / "ablation.csv"
PAGE = ROOT / "docs" / "ablation.md"
PICTURE = ROOT / "docs" / "images" / "ablation.png"
RESULTS = ["top1", "pair_top1", "train_loss"]
KEY = ("system", "seed", "epochs")
COLUMNS = [*KEY, *RESULTS, "seconds", "threads", "machine", "torch", "version"]


@dataclass(frozen=True)
class System:
    """A row of the paper's Table 1 or 2, and the arguments of train_video.py that make it here."""

    title: str
    paper_top1: float
    arguments: tuple[str, ...]


def _video_net(temporal: str, *settings: str) -> tuple[str, ...]:
    return ("--model", "video_net", "--model-kwargs", "backbone=test_resnet", f"temporal={temporal}", *settings)


def _psn(fusion: str, alpha: float = 0.0, beta: float = 0.0) -> tuple[str, ...]:
    settings = ("receptive_field=(5,5,5)", "proportion=1.0", f"fusion={fusion}")
    losses = ("--alpha", str(alpha), "--beta", str(beta))
    return ("--model", "psn_test_resnet", "--model-kwargs", *settings, *losses)


# test_resnet is so narrow that PSN takes all channels instead of a quarter, the baselines' shares growing alike: with
# half of the 48 channels of layer2, channel dropout could not keep a quarter of each of the 4 groups.
SYSTEMS = {
    "tsn": System("TSN", 14.90, ("--model", "tsn_test_resnet")),
    "tsm": System("TSM", 42.11, ("--model", "tsm_test_resnet")),
    "rf_s": System("RF-S", 43.72, _video_net("rf_s", "proportion=0.6667", "expand_init=1.0")),
    "rf_l_inception_t_dilated": System(
        "RF-L-Inception-T", 44.23, _video_net("rf_l_inception_t", "proportion=1.0", "expand_init=1.0", "dilated=true")
    ),
    "rf_l_inception_t": System(
        "RF-L-Inception-T, kernels without dilation",
        44.23,
        _video_net("rf_l_inception_t", "proportion=1.0", "expand_init=1.0"),
    ),
    "grouping": System("PSN, channel grouping", 43.84, _psn("grouping")),
    "dropout": System("PSN, channel dropout", 44.64, _psn("dropout")),
    "shuffle": System("PSN, channel shuffling", 45.01, _psn("shuffle")),
    "dense": System("PSN, dense", 45.44, _psn("dense")),
    "dense_interaction": System("PSN, dense, interaction loss", 46.12, _psn("dense", alpha=0.01)),
    "dense_capacity": System("PSN, dense, capacity loss", 45.88, _psn("dense", beta=0.001)),
    "dense_both": System("PSN, dense, both losses", 46.41, _psn("dense", alpha=0.01, beta=0.001)),
}


def main() -> int:
    """Run the command; returns the exit code."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--systems", nargs="+", choices=list(SYSTEMS), default=list(SYSTEMS), metavar="SYSTEM")
    parser.add_argument("--seeds", nargs="+", type=int, default=[0, 1, 2], metavar="SEED")
    parser.add_argument("--epochs", type=int, default=4, help="passes over the training videos (the recipe: 4)")
    parser.add_argument("--output", type=Path, default=ROOT / "output" / "ablation", help="folder of the runs")
    parser.add_argument("--device", default="cpu", help="cpu, or cuda (with bfloat16)")
    parser.add_argument("--jobs", type=int, default=1, help="runs at a time")
    parser.add_argument("--threads", type=int, default=1, help="CPU threads of a run")
    parser.add_argument("--minutes", type=float, default=float("inf"), help="stop after so long; runs resume later")
    parser.add_argument("--write-only", action="store_true", help="train nothing")
    parser.add_argument("--one", action="store_true", help=argparse.SUPPRESS)  # the run of one process
    args = parser.parse_args()
    if args.one:
        return train(args.systems[0], args.seeds[0], args)
    code = 0 if args.write_only else train_all(args)
    collect(args.output)
    rows = read_rows()
    PAGE.write_text(page(rows))
    draw([row for row in rows if row["epochs"] == "4"])
    print(f"wrote {PAGE} and {PICTURE} from the {len(rows)} runs of {ROWS}")
    return code


def train_all(args: argparse.Namespace) -> int:
    """Train what is missing, a first seed of every system before a second one of any."""
    prepare_motion(None)  # once, before several runs ask for it
    collect(args.output)
    done = {tuple(row[name] for name in KEY) for row in read_rows()}
    jobs = [(system, str(seed), str(args.epochs)) for seed in args.seeds for system in args.systems]
    common = ["--output", str(args.output), "--device", args.device]
    commands = {}
    for system, seed, epochs in (job for job in jobs if job not in done):
        own = ["--one", "--systems", system, "--seeds", seed, "--epochs", epochs, *common]
        commands[run_name(system, seed, epochs)] = [sys.executable, str(Path(__file__).resolve()), *own]
    return run_packed(commands, args.output, args.jobs, args.threads, args.minutes, lambda: collect(args.output))


def run_name(system: str, seed: int | str, epochs: int | str) -> str:
    """Folder of a run."""
    return f"{system}-seed{seed}-epochs{epochs}"


def read_rows() -> list[dict[str, str]]:
    """The finished runs."""
    if not ROWS.exists():
        return []
    with ROWS.open(newline="") as file:
        return list(csv.DictReader(file))


def train(system: str, seed: int, args: argparse.Namespace) -> int:
    """Train one system with one seed, its frames in memory, and leave row.json; returns the exit code."""
    read_motion, frames = DATASETS["motion"], args.output / "frames"
    DATASETS["motion"] = lambda *of: hold(read_motion(*of), frames)
    name = run_name(system, seed, args.epochs)
    argv = ["--dataset", "motion", *SYSTEMS[system].arguments, "--epochs", str(args.epochs), "--workers", "0"]
    argv += ["--seed", str(seed), "--output", str(args.output), "--experiment", name, "--resume", "auto"]
    argv += ["--val-interval", str(args.epochs), "--device", args.device]  # the last epoch is the one that counts
    argv += ["--amp", "--amp-dtype", "bfloat16"] if args.device != "cpu" else []
    if code := train_command(argv):
        return code
    with (args.output / name / "summary.csv").open(newline="") as file:
        epochs = list(csv.DictReader(file))
    row = {
        "system": system,
        "seed": seed,
        "epochs": len(epochs),
        "top1": epochs[-1]["val_top1"],
        "pair_top1": epochs[-1]["val_pair_top1"],
        "train_loss": epochs[-1]["train_ce"],
        "seconds": round(sum(float(epoch["seconds"]) for epoch in epochs)),
        "threads": torch.get_num_threads(),
        "machine": describe_device(args.device),
        "torch": torch.__version__,
        "version": timm_video_psn.__version__,
    }
    write_text(args.output / name / "row.json", json.dumps(row))
    return 0


def collect(output: Path) -> None:
    """Add the rows of finished runs to docs/ablation.csv."""
    rows = {tuple(row[name] for name in KEY): row for row in read_rows()}
    for path in sorted(output.glob("*/row.json")):
        row = {name: str(value) for name, value in json.loads(path.read_text()).items()}
        rows.setdefault(tuple(row[name] for name in KEY), row)
    write_csv(ROWS, COLUMNS, ([row[name] for name in COLUMNS] for row in rows.values()))


def page(rows: list[dict[str, str]]) -> str:
    """docs/ablation.md."""
    short = [row for row in rows if row["epochs"] == "4"]
    lines = [
        "# The paper's ablations at small scale",
        "",
        "Written by `python benchmarks/ablation.py`; do not edit. [ablation.csv](ablation.csv) has one line per run.",
        "",
        "The systems of the paper's Tables 1 and 2, trained from scratch on the generated data set `motion`, all with",
        "the same recipe on a tiny backbone (test_resnet). The paper's column is its top-1 on Something-Something V1,",
        "with ResNet-50 from ImageNet weights at 112 x 112. Task and size differ, so compare the order of the rows,",
        'not the values. "Within pairs" is the accuracy when the model only chooses between a class and its reversed',
        "counterpart, which no single frame distinguishes: guessing gives 50 %.",
        "",
        *table(short),
    ]
    lines += ["", "Mean ± standard deviation over seeds, after the last epoch of each run (not its best epoch).", ""]
    lines += [
        "![Accuracy of each run, beside the paper's](images/ablation.png)",
        "",
        "## Do the paper's claims hold here?",
        "",
    ]
    lines += [*findings(short), "", *slow_runs(short)]
    for epochs in sorted({int(row["epochs"]) for row in rows} - {4}):
        longer = [row for row in rows if row["epochs"] == str(epochs)]
        lines += ["", f"## The same with {epochs} epochs", "", *table(longer), "", *findings(longer)]
    machines = sorted({f"{row['machine']}, torch {row['torch']}, threads a run: {row['threads']}" for row in rows})
    total = sum(int(row["seconds"]) for row in rows) / 3600
    lines += [
        "",
        f"{len(rows)} runs took {total:.1f} hours, some of them while the machine had other work, so the table",
        f"gives the shortest run of each system. Machine: {'; '.join(machines)}.",
        "",
    ]
    return "\n".join(lines)


def by_system(rows: list[dict[str, str]]) -> dict[str, list[dict[str, str]]]:
    """The runs of each system."""
    return {system: [row for row in rows if row["system"] == system] for system in SYSTEMS}


def table(rows: list[dict[str, str]]) -> list[str]:
    """A row a system."""
    lines = ["| system | paper, top-1 % | runs | top-1, % | within pairs, % | training loss | shortest run, s |"]
    lines += ["|---|---|---|---|---|---|---|"]
    for name, runs in by_system(rows).items():
        cells = [spread(runs, key, digits) for key, digits in zip(RESULTS, (1, 1, 3), strict=True)]
        cells.append(str(min((int(row["seconds"]) for row in runs), default="-")))
        system = SYSTEMS[name]
        lines.append(f"| {system.title} | {system.paper_top1:.2f} | {len(runs)} | {' | '.join(cells)} |")
    return lines


def findings(rows: list[dict[str, str]]) -> list[str]:
    """Whether each of the paper's claims held, from the numbers: a difference counts beyond two standard errors."""
    runs = by_system(rows)
    claims = [
        ("tsn", "tsm", "a temporal module helps (TSM over TSN)"),
        (
            "tsm",
            "rf_l_inception_t_dilated",
            "learned multi-scale temporal kernels beat shifts (RF-L-Inception-T over TSM)",
        ),
        ("rf_s", "dense", "synthesized kernels beat one cube (dense over RF-S)"),
        (
            "rf_l_inception_t_dilated",
            "dense",
            "spatial and temporal scales beat temporal ones (dense over RF-L-Inception-T)",
        ),
        ("grouping", "dropout", "irregular kernels help, even a few (dropout over grouping)"),
        ("grouping", "shuffle", "irregular kernels help (shuffling over grouping)"),
        ("shuffle", "dense", "a learned fusion beats a fixed one (dense over shuffling)"),
        ("dense", "dense_interaction", "the interaction loss helps"),
        ("dense", "dense_capacity", "the capacity loss helps"),
        ("dense", "dense_both", "both losses help"),
    ]
    lines = ["| the paper's claim | paper, points | ours, points | holds here? |", "|---|---|---|---|"]
    for weaker, stronger, claim in claims:
        paper = SYSTEMS[stronger].paper_top1 - SYSTEMS[weaker].paper_top1
        ours = [[float(row["top1"]) for row in runs[name]] for name in (weaker, stronger)]
        if min(map(len, ours)) < 2:
            lines.append(f"| {claim} | {paper:+.2f} | not enough runs | |")
            continue
        difference = statistics.mean(ours[1]) - statistics.mean(ours[0])
        error = sum(statistics.variance(values) / len(values) for values in ours) ** 0.5
        held = "yes" if difference > 2 * error else "no, the opposite" if difference < -2 * error else "undecided"
        lines.append(f"| {claim} | {paper:+.2f} | {difference:+.1f} ± {error:.1f} | {held} |")
    return [
        *lines,
        "",
        "± is the standard error of the difference. Differences below two standard errors are undecided.",
    ]


def slow_runs(rows: list[dict[str, str]]) -> list[str]:
    """How many runs were too short, TSN's left out: no number of epochs would take it over 50 %."""
    able = [row for row in rows if row["system"] != "tsn"]
    low = [f"{SYSTEMS[row['system']].title} with seed {row['seed']}" for row in able if float(row["top1"]) < 50]
    if not low:
        return []
    return [
        f"Of the {len(able)} runs whose model can distinguish all classes, {len(low)} ended below 50 %:",
        f"{', '.join(low)}.",
        "Four epochs from scratch were too short for them, so much of the table compares training speed.",
    ]


def spread(rows: list[dict[str, str]], key: str, digits: int) -> str:
    """Mean and standard deviation of a column."""
    values = [float(row[key]) for row in rows]
    if not values:
        return "-"
    mean = f"{statistics.mean(values):.{digits}f}"
    return f"{mean} ± {statistics.stdev(values):.{digits}f}" if len(values) > 1 else mean


def draw(rows: list[dict[str, str]]) -> None:
    """Every run as a point, the means as bars, the paper's numbers beside them on an axis of their own."""
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    figure = Figure(figsize=(11, 4.4), layout="constrained")
    FigureCanvasAgg(figure)
    ours, pairs, paper = figure.subplots(1, 3, sharey=True)
    places = range(len(SYSTEMS))
    for axis, key, title in ((ours, "top1", "motion\ntop-1, %"), (pairs, "pair_top1", "motion\nwithin pairs, %")):
        for place, name in enumerate(SYSTEMS):
            values = [float(row[key]) for row in rows if row["system"] == name]
            if values:
                axis.barh(place, statistics.mean(values), color="tab:blue", alpha=0.35)
                axis.plot(values, [place] * len(values), "o", color="tab:blue", markersize=4)
        axis.set_title(title, fontsize=10)
    paper.barh(places, [system.paper_top1 for system in SYSTEMS.values()], color="tab:gray", alpha=0.5)
    paper.set_title("the paper, Something-Something V1\ntop-1, %", fontsize=10)
    ours.set_yticks(places, [system.title for system in SYSTEMS.values()])
    ours.invert_yaxis()
    for axis in (ours, pairs, paper):
        axis.grid(axis="x", alpha=0.3)
    figure.savefig(PICTURE, dpi=100)


if __name__ == "__main__":
    sys.exit(main())
