"""The paper's tables beside ours: parameters, interactions, drop rates, multiply-adds, and every system by its name.

    python benchmarks/psn_paper_tables.py > docs/paper.md

The paper's values are data of this script, copied as printed. Ours are measured from the models when it runs.
Where our number differs from the paper's, the row needs a note that explains it; without one the script stops. Two
tables come from files that slower scripts write: docs/official_parity.csv (`benchmarks/official_parity.py`) and
docs/interaction_loss.csv (`benchmarks/interaction_loss.py`).
"""

import csv
import statistics
from collections.abc import Iterator
from functools import cache
from pathlib import Path
from typing import NamedTuple

import timm
import torch
from torch import nn
from torch.utils.flop_counter import FlopCounterMode

import timm_video_psn
from timm_video_psn.models import create_model

DOCS = Path(__file__).parents[1] / "docs"
TABLE_SITES = ("layer1", "layer2", "layer3", "layer4")
FIVE = {"receptive_field": (5, 5, 5)}  # of all ablations; the paper's best, 5x5x7, is our default (7, 5, 5)

INTRO = """\
# The paper's tables and ours

Written by `python benchmarks/psn_paper_tables.py`; do not edit. The "paper" columns are copied from Tian, Zhai and Gao,
"Perceptron Synthesis Network" (arXiv 2007.11460). The command counts the other columns from this package's models. All
models of Tables 1 to 5 below use ResNet-50, except GST on ResNet-101 in Table 1. The tables leave out the paper's
accuracies, because we have reproduced none of them. The paper's supplementary material, which describes its baselines,
is not available.

conv1 to conv4 are the sites named in the paper's text and our default: after the stem's pool, layer1, layer2, layer3.
We write receptive fields as T x H x W; the paper writes W x H x T.

Choices where the paper is silent or contradicts itself:

- Eq. 2 and Eq. 3 are for one synthesizer; both losses here are means over the synthesizers of a model.
- Eq. 4 has vectors T_ij, as Fig. 2 does: channel k of an output is a weighted sum of channel k of every group. Vectors
  move no channel to another place, so only a dense T (Fig. 3) contains the channel shuffle. `fusion="shuffle"` is
  ShuffleNet's permutation.
- Fig. 5 names an identity (I), Eq. 1 a kernel of size 1: `unit="identity"` is the default, `unit="conv"` the kernel.

- [Every system by its name](#every-system-that-the-papers-tables-name), with parity with official code
- [Table 1](#table-1-parameters), [2](#table-2-feature-fusion), [3](#table-3-parameters-of-the-blocks-designs),
  [4](#table-4-cost-on-something-something-v1), [5](#table-5-cost-on-kinetics-400)
- [What Eq. 2 does to a trained T](#what-eq-2-does-to-a-trained-t)
"""


class Row(NamedTuple):
    """A row of a table: the paper's name and number, our model, and what to say where they differ."""

    label: str
    paper: str
    model: str
    settings: dict
    note: str = ""


class FusionRow(NamedTuple):
    """A row of Table 2: ir-interactions, drop rate and parameters in millions as the paper prints them."""

    label: str
    fusion: str
    interactions: str
    drop_rate: str
    parameters: str
    note: str = ""


class CostRow(NamedTuple):
    """A row of Table 4 or 5, for one view of a video."""

    label: str
    paper: str
    model: str
    num_frames: int
    size_px: int
    note: str = ""


class System(NamedTuple):
    """A system of the paper's tables: what it is called there and here, on which clips it was counted, and a note.

    `model` is "" where there is none here, and the note says why. `parity` is a system of docs/official_parity.csv, or
    a sentence.
    """

    tables: str
    label: str
    parameters: str
    cost: str
    model: str
    num_frames: int
    size_px: int
    num_classes: int
    parity: str
    note: str = ""


NO_CODE = "no official code"
OWN = "the paper's own"
BN_INCEPTION = "The paper's row has BN-Inception, which timm lacks; ours has ResNet-50."
SYSTEMS = [
    System("1", "TSN, ResNet-50", "23.87", "", "tsn_resnet50", 8, 224, 174, "no module of its own"),
    System("4, 5", "TSN, BN-Inception, 8 frames", "", "16", "tsn_resnet50", 8, 224, 174, "as above", BN_INCEPTION),
    System("5", "TSN, BN-Inception, 25 frames", "", "53", "tsn_resnet50", 25, 224, 400, "as above", BN_INCEPTION),
    System("6", "TSN", "", "", "tsn_resnet50", 8, 224, 48, "as above"),
    System("1, 4, 5", "TSM, 8 frames", "23.87", "33", "tsm_resnet50", 8, 224, 174, "TSM"),
    System("4, 5", "TSM, 16 frames", "", "65", "tsm_resnet50", 16, 224, 174, "TSM"),
    System("1, 4", "GST, 8 frames", "21.04", "29.5", "gst_resnet50", 8, 224, 174, "GST", "See Table 4."),
    System("4, 6", "GST, 16 frames", "", "59", "gst_resnet50", 16, 224, 174, "GST", "See Table 4."),
    System("1", "GST, ResNet-101", "37.52", "", "gst_resnet101", 8, 224, 174, "GST"),
    System("1", "RF-S", "27.57", "", "rf_s_resnet50", 8, 224, 174, OWN, "Parameters: see Table 1."),
    System("1", "RF-L", "27.35", "", "rf_l_resnet50", 8, 224, 174, OWN, "Parameters: see Table 1."),
    System("1", "RF-L-Inception", "27.56", "", "rf_l_inception_resnet50", 8, 224, 174, OWN, "Parameters: see Table 1."),
    System(
        *("1", "RF-L-Inception-T", "27.28", "", "rf_l_inception_t_resnet50", 8, 224, 174, OWN),
        "Parameters: see Table 1.",
    ),
    System("1 to 5", "Ours, 8 frames", "27.55", "36.19", "psn_resnet50", 8, 224, 174, OWN, "See Tables 1 and 4."),
    System("1, 4", "Ours, 8 frames of 112 px", "", "9.12", "psn_resnet50", 8, 112, 174, OWN, "See Table 4."),
    System("4 to 6", "Ours, 16 frames", "", "72.38", "psn_resnet50", 16, 224, 174, OWN, "See Table 4."),
    System(
        *("4, 5", "TEA, 8 frames", "", "35", "tea_res2net50_26w_4s", 8, 224, 174, "TEA"),
        "The paper rounds up; TEA's own paper gives 24.46 M parameters, as we count.",
    ),
    System("4, 5", "TEA, 16 frames", "", "70", "tea_res2net50_26w_4s", 16, 224, 174, "TEA", "Twice the row above."),
    System(
        *("4, 5", "STM, 16 frames", "", "67", "stm_resnet50", 16, 224, 174, f"{NO_CODE}; plain loops in the tests"),
        "The number is from STM's own paper, which does not say what it counts.",
    ),
    System(
        *("4", "I3D, 3D-ResNet-50", "", "153", "i3d_resnet50", 32, 256, 174, "I3D"),
        "The number fits clips of 256 pixels, not of 224.",
    ),
    System(
        *("5", "I3D, Inception V1", "", "108", "", 64, 224, 400, "Sonnet and TensorFlow 1"),
        "No Inception V1 in timm; `i3d_resnet50` inflates a ResNet.",
    ),
    System(
        *("5", "I3D+NL, 3D-ResNet-101", "", "359", "i3d_nl_resnet101", 32, 256, 400, "I3D+NL"),
        "We count convolutions, linear layers and attention.",
    ),
    System(
        *("4", "GCN+Non-local", "", "303", "", 32, 224, 174, NO_CODE),
        "A graph of regions from a region proposal network: no public code, and no detector in this package.",
    ),
    System(
        *("4, 5", "ECO(En), BN-Inception + 3D-ResNet-18", "", "267", "eco_resnet18", 92, 224, 174, "Caffe only"),
        "(En) is an ensemble on 16, 20, 24 and 32 frames, with a BN-Inception as trunk; ours is one ResNet-18 with its "
        "late stages in 3D.",
    ),
    System(
        *("4", "MultiScale TRN, BN-Inception", "", "16.37", "trn_resnet50", 8, 224, 174, "TRN"),
        BN_INCEPTION,
    ),
    System("6", "TRN", "", "", "trn_resnet50", 8, 224, 48, "TRN"),
    System(
        *("4, 5", "R(2+1)D, ResNet-34", "", "152", "r2plus1d_resnet34", 32, 224, 400),
        "Caffe2; 3D convolutions in the tests",
        "The number fits clips of 224 pixels, R(2+1)D's paper has 112.",
    ),
    System(
        *("4", "S3D-G, Inception V1", "", "71.38", "torchvision:s3d", 64, 224, 174, "torchvision's own network"),
        "torchvision has S3D, without the gates of S3D-G.",
    ),
    System(
        *("5", "SlowFast, 3D-ResNet-50", "", "36.1", "slow_resnet50", 4, 224, 400, "Slow"),
        "`slow_resnet50` is its slow pathway. Two pathways in one network are out of reach of surgery on one backbone, "
        "and neither torchvision nor transformers has them.",
    ),
    System(
        *("5", "SlowFast+NL, 3D-ResNet-101", "", "234", "", 24, 224, 400, "NL (the block alone)"),
        'As above; its non-local block is `temporal="nl"`.',
    ),
    System("6", "P3D-ResNet50", "", "", "p3d_resnet50", 16, 224, 48, "Caffe; 3D convolutions in the tests"),
    System("6", "C3D-ResNet50", "", "", "c3d_resnet50", 16, 224, 48, "none of its own; 3D convolutions in the tests"),
    System("6", "CorrNet-101", "", "", "corr_resnet101", 32, 224, 48, f"{NO_CODE}; plain loops in the tests"),
    System("6", "GSM, Inception V3", "", "", "gsm_inception_v3", 16, 229, 48, "GSM"),
    System(
        *("6", "Kanojia, Kumawat and Raman", "", "", "", 64, 224, 48, NO_CODE),
        "Attention over regions of DenseNet features, 64 frames: no public code.",
    ),
]

CAPTION = "Fig. 4's caption says that kernels of size 5 are dilated, but the paper's number above fits undilated ones."
TABLE_1 = [
    Row("TSN", "23.87", "tsn_resnet50", {}, "23,864,558 rounds to 23.86; the paper seems to have rounded up."),
    Row("TSM", "23.87", "tsm_resnet50", {}, "As TSN: a shift has no parameters."),
    Row("GST", "21.04", "gst_resnet50", {}),
    Row("GST, ResNet-101", "37.52", "gst_resnet101", {}),
    Row("RF-S", "27.57", "rf_s_resnet50", {}),
    Row("RF-L", "27.35", "rf_l_resnet50", {}),
    Row("RF-L, one dilated stage", "", "rf_l_resnet50", {"dilated": True}, CAPTION),
    Row("RF-L-Inception", "27.56", "rf_l_inception_resnet50", {}),
    Row("RF-L-Inception, dilated", "", "rf_l_inception_resnet50", {"dilated": True}, CAPTION),
    Row(
        "RF-L-Inception-T",
        "27.28",
        "rf_l_inception_t_resnet50",
        {},
        "Fig. 4 (d) shows only a temporal bank; the paper's text does not say what else its model has.",
    ),
    Row(
        "Ours",
        "27.55",
        "psn_resnet50",
        FIVE,
        "Evidently counted after layer1 to layer4; the paper's text does not explain the other 0.03 M.",
    ),
    Row("Ours-1/16", "24.05", "psn_resnet50", {"proportion": 1 / 16, **FIVE}),
]

TRAINED = "The paper counts a trained network; ours is freshly initialised, with every path open."
PAIRS = "The paper counts all c channels of every connected pair of groups, including pairs i = j."

TABLE_2 = [
    FusionRow("Channel grouping", "grouping", "0", "0", "0"),
    FusionRow("Channel dropout", "dropout", "1856", "0.75", "0", PAIRS),
    FusionRow("Channel shuffling", "shuffle", "1856", "0", "0", PAIRS),
    FusionRow("Ours", "dense", "< 1856", "> 0", "0.086", TRAINED),
    FusionRow("Ours + L_i", "dense", "~ 1856", "> 0", "0.086", "As above: a loss does not change the count."),
    FusionRow("Ours + L_c", "dense", "< 1856", "0", "0.086", "As above."),
    FusionRow("Ours + L_i and L_c", "dense", "~ 1856", "0", "0.086", "As above."),
    FusionRow(
        "T_ij as vectors (Fig. 2)", "channelwise", "", "", "", "Not in the paper's table: its Fig. 3 has dense T_ij."
    ),
]

UNIT = (
    "Not in the paper's table. Eq. 1 has a kernel of size 1, which Fig. 5 calls an identity (I). "
    '`unit="conv"` makes it a 1x1 convolution with norm and ReLU: within 0.04 M of 27.55, 27.95 and 27.45.'
)
REST = "0.03 M less than the paper's, as in Table 1."
TABLE_3 = [
    Row("Avg Pool", "27.55", "psn_resnet50", {"pool": "avg", **FIVE}, REST),
    Row("Max Pool", "27.55", "psn_resnet50", FIVE, REST),
    Row(
        "Without Max Pool",
        "27.55",
        "psn_resnet50",
        {"pool": "none", **FIVE},
        "Ours splits the same channels among three branches instead of four; the paper seems to keep the widths.",
    ),
    Row(
        "Without Max Pool, its channels passed on",
        "",
        "psn_resnet50",
        {"pool": "identity", **FIVE},
        "Not in the paper's table: `pool=\"identity\"` keeps the widths, and the parameters as the paper's row does.",
    ),
    Row("Without inter ReLU", "27.55", "psn_resnet50", {"inter_act": False, **FIVE}, REST),
    Row("Without dilation", "27.95", "psn_resnet50", {"dilated": False, **FIVE}, "0.04 M less than the paper's."),
    Row("(1+1+1)D", "27.45", "psn_resnet50", {"spatial_conv": "1+1d", **FIVE}, "0.06 M less than the paper's."),
    Row("(2+1)D", "27.55", "psn_resnet50", FIVE, REST),
    Row("(2+1)D, 1x1x1 kernel", "", "psn_resnet50", {"unit": "conv", **FIVE}, UNIT),
    Row("Without dilation, 1x1x1 kernel", "", "psn_resnet50", {"unit": "conv", "dilated": False, **FIVE}, UNIT),
    Row("(1+1+1)D, 1x1x1 kernel", "", "psn_resnet50", {"unit": "conv", "spatial_conv": "1+1d", **FIVE}, UNIT),
]

NORMS = "With norms and a receptive field of 5x5x5 (last row), ours equals the paper's number."
TABLE_4 = [
    CostRow("TSM", "33", "tsm_resnet50", 8, 224),
    CostRow("TSM", "65", "tsm_resnet50", 16, 224),
    CostRow(
        "GST", "29.5", "gst_resnet50", 8, 224, "The number is from GST's own paper, which does not say what it counts."
    ),
    CostRow("GST", "59", "gst_resnet50", 16, 224, "As above."),
    CostRow("TSN", "", "tsn_resnet50", 8, 112, "The paper's TSN uses BN-Inception."),
    CostRow("TSN", "", "tsn_resnet50", 8, 224, "As above."),
    CostRow("TSN", "", "tsn_resnet50", 16, 224, "As above."),
    CostRow(
        "Ours",
        "9.12",
        "psn_resnet50",
        8,
        112,
        "Our last level has 4x4 pixels, more than a quarter of the 7x7 at 224; the paper's cost is nearly a quarter.",
    ),
    CostRow("Ours", "36.19", "psn_resnet50", 8, 224, NORMS),
    CostRow("Ours", "72.38", "psn_resnet50", 16, 224, "The paper's is twice its 36.19; ours is twice our 35.99."),
]
TABLE_5 = [
    CostRow("TSM", "33", "tsm_resnet50", 8, 224),
    CostRow("TSM", "65", "tsm_resnet50", 16, 224),
    CostRow("Ours", "36.19", "psn_resnet50_k400", 8, 224, "As in Table 4; the 400 classes add almost nothing."),
    CostRow("Ours", "72.38", "psn_resnet50_k400", 16, 224, "As in Table 4."),
]


def main() -> None:
    print(document(), end="")


def document() -> str:
    """All tables, in markdown."""
    tables = (systems(), table_1(), table_2(), table_3(), table_4(), table_5(), trained_routing())
    return "\n".join([INTRO, *("\n".join(table) + "\n" for table in tables)])


def systems() -> Iterator[str]:
    """Every system that the paper's tables name."""
    yield from heading(
        "Every system that the paper's tables name",
        "Parameters in millions and multiply-adds in billions for one view, on clips of the given frames and pixels.\n"
        "The paper prints parameters in Tables 1 to 3. Parity: the largest difference from the official code, in\n"
        "outputs and gradients, with random weights in float64, in evaluation and training mode\n"
        "(`benchmarks/official_parity.py`). Differences are relative to the largest value of the output or gradient;\n"
        "for a gradient, to at least 1e-3 of the largest of all gradients, because some are zero up to rounding.\n"
        "`trn_` differs from `tsn_` in its consensus.",
    )
    yield from header(
        *("tables", "system", "name here", "clip", "parameters, paper", "ours", "multiply-adds, paper", "ours"),
        *("parity", "note"),
    )
    errors = parity_errors()
    for row in SYSTEMS:
        counted = ("-", "-")
        if row.model:
            model = build(row.model, (("num_classes", row.num_classes), ("num_frames", row.num_frames)))
            plain, _ = multiply_adds_of(model, row.num_frames, row.size_px)
            counted = (f"{parameters_of(model) / 1e6:.2f}", f"{plain:.2f}")
            digits = (len(row.parameters.partition(".")[2]), len(row.cost.partition(".")[2]))
            agrees = all(
                printed in ("", "23.87", f"{float(value):.{places}f}")
                for printed, value, places in zip((row.parameters, row.cost), counted, digits, strict=True)
            )
            if not agrees and not row.note:
                raise SystemExit(f"{row.label}: {counted} differs and has no note")
        name = f"`{row.model}`" if row.model else "none"
        clip = f"{row.num_frames} x {row.size_px} px"
        parity = errors.get(row.parity, row.parity)
        yield line(
            row.tables, row.label, name, clip, row.parameters, counted[0], row.cost, counted[1], parity, row.note
        )
    yield from official_codes()


def official_codes() -> Iterator[str]:
    """docs/official_parity.csv as a table."""
    rows = read_rows("official_parity.csv")
    yield "\n### Parity with official codes\n"
    yield from header("system", "official code", "mode", "output", "gradients")
    for row in rows:
        yield line(*row.values())
    yield ""
    yield "GSM's module is compared alone, with `shuffle=True`. Its Inception v3 has other norms (epsilon 1e-5 for"
    yield "1e-3) and biases before them, so that GSM's checkpoints have no exact counterpart on timm's `inception_v3`."


def parity_errors() -> dict[str, str]:
    """The largest difference of each system."""
    errors: dict[str, float] = {}
    for row in read_rows("official_parity.csv"):
        worst = max(float(row["output"]), float(row["gradients"]))
        errors[row["system"]] = max(worst, errors.get(row["system"], 0.0))
    return {system: f"{worst:.0e}" if worst else "0" for system, worst in errors.items()}


ARMS = {
    "plain": "none",
    "printed": "Eq. 2 as printed, weight 0.01",
    "relative": "`--interaction-norm relative`, weight 0.01",
    "printed x100": "Eq. 2 as printed, weight 1",
    "relative x100": "`--interaction-norm relative`, weight 1",
}


def trained_routing() -> Iterator[str]:
    """What docs/interaction_loss.csv says, a row an arm."""
    rows = read_rows("interaction_loss.csv")
    yield from heading(
        "What Eq. 2 does to a trained T",
        "PSN (5x5x5, proportion 1) on test_resnet, trained from scratch on 480 videos of `motion` (4 frames of 32 "
        "pixels) by\n`benchmarks/interaction_loss.py`; [interaction_loss.csv](interaction_loss.csv) has a line a run. "
        '"Eq. 2" is the mean of sigmoid(||T_ij||_1), which\nthe loss maximises. ir-interactions (all i, j) and the '
        "drop rate count paths stronger than a share of the strongest\nblock. Mean ± standard deviation over seeds.",
    )
    thresholds = ("0.1", "0.25", "0.5")
    yield from header(
        *("T at the start", "interaction loss", "runs", "epochs", "mean norm", "smallest norm", "Eq. 2"),
        *(f"ir-interactions over {share}" for share in thresholds),
        *(f"drop rate over {share}" for share in thresholds),
        "top-1, %",
    )
    columns = ["mean_norm", "least_norm", "sigmoid", *(f"interactions_{share}" for share in thresholds)]
    columns += [*(f"drop_rate_{share}" for share in thresholds), "top1"]
    for arm, epochs in dict.fromkeys((row["arm"], row["epochs"]) for row in rows):
        runs = [row for row in rows if (row["arm"], row["epochs"]) == (arm, epochs)]
        loss, _, start = arm.partition(", ")
        yield line(start or "random", ARMS[loss], len(runs), epochs, *(spread(runs, column) for column in columns))
    yield ""
    yield "Mean norm and smallest norm against the same start without the loss, ± standard error of the difference:"
    yield ""
    yield from header("T at the start", "interaction loss", "mean norm", "smallest norm", "moves T?")
    for arm in dict.fromkeys(row["arm"] for row in rows):
        loss, comma, start = arm.partition(", ")
        runs, plain = ([row for row in rows if row["arm"] == name] for name in (arm, f"plain{comma}{start}"))
        if loss != "plain" and min(len(runs), len(plain)) > 1:
            found = [difference(runs, plain, column) for column in ("mean_norm", "least_norm")]
            moves = "yes" if any(abs(change) > 2 * error for change, error in found) else "within the noise"
            cells = [f"{change:+.3f} ± {error:.3f}" for change, error in found]
            yield line(start or "random", ARMS[loss], *cells, moves)
    yield ""
    strong = [row for row in rows if row["arm"] == "printed x100, T = 0"]
    counts, total = " or ".join(sorted({row["interactions_0.5"] for row in strong})), strong[0]["interactions_0.1"]
    yield "With the paper's weight of 0.01, Eq. 2 has too little gradient to move T in these runs. With a weight of"
    yield "1, the mean and the smallest norm rise, the smallest by the larger factor. From T = 0,"
    yield f"{counts} of {total} paths then have at least half of the strongest block's strength."
    yield "Accuracies after 40 updates are near chance, 8.3 %."


def difference(runs: list[dict[str, str]], plain: list[dict[str, str]], column: str) -> tuple[float, float]:
    """Difference of the means, and its standard error."""
    values, others = ([float(run[column]) for run in each] for each in (runs, plain))
    error = sum(statistics.variance(each) / len(each) for each in (values, others)) ** 0.5
    return statistics.mean(values) - statistics.mean(others), error


def spread(runs: list[dict[str, str]], column: str) -> str:
    """Mean and standard deviation over the seeds."""
    values = [float(run[column]) for run in runs]
    mean = statistics.mean(values)
    return f"{mean:.4g} ± {statistics.stdev(values):.2g}" if len(values) > 1 else f"{mean:.4g}"


def read_rows(name: str) -> list[dict[str, str]]:
    """A file that another script has written."""
    with (DOCS / name).open(newline="", encoding="utf-8") as file:
        return list(csv.DictReader(file))


def table_1() -> Iterator[str]:
    yield from heading(
        "Table 1: parameters",
        "Millions, 174 classes, receptive field 5x5x5 except for RF-S. The paper's numbers fit modules after layer1 to "
        "layer4;\nonly its last row fits the sites named in its text.",
    )
    yield from parameter_rows("method", TABLE_1)


def table_3() -> Iterator[str]:
    yield from heading("Table 3: parameters of the block's designs", "Millions, 174 classes, 5x5x5, proportion 1/4.")
    yield from parameter_rows("design", TABLE_3)


def parameter_rows(first: str, rows: list[Row]) -> Iterator[str]:
    """A line a row: the paper's count, and ours at both choices of sites."""
    yield from header(first, "paper", "ours, layer1 to layer4", "ours, conv1 to conv4", "difference")
    for row in rows:
        late = {"sites": TABLE_SITES} if row.model.startswith(("psn", "rf")) else {}
        ours = [f"{parameters(row.model, **row.settings, **sites) / 1e6:.2f}" for sites in (late, {})]
        check(row, agrees=row.paper in ours)
        yield line(row.label, row.paper, *ours, row.note)


def table_2() -> Iterator[str]:
    yield from heading(
        "Table 2: feature fusion",
        "5x5x5, proportion 1/4, conv1 to conv4. An ir-interaction is a channel of a temporal group that receives input "
        "from a\nspatial group; the drop rate is the share of channels that no group receives. Parameters are the "
        "fusion's, in\nmillions.",
    )
    yield from header(
        "method",
        "ir-interactions, paper",
        "ours, i ≠ j",
        "ours, all i, j",
        "c for each connected i, j",
        "drop rate, paper",
        "ours",
        "parameters, paper",
        "ours",
        "difference",
    )
    for row in TABLE_2:
        model = psn_with(row.fusion)
        found = timm_video_psn.ir_interactions(model)
        connected, dropped = connections(model)
        count = f"{parameters('psn_resnet50', '.fusion.', fusion=row.fusion, **FIVE) / 1e6:.3f}".replace("0.000", "0")
        agrees = (row.interactions, row.drop_rate, row.parameters) == (str(found.irregular), f"{dropped:g}", count)
        check(row, agrees)
        yield line(
            row.label,
            row.interactions,
            found.irregular,
            found.total,
            connected,
            row.drop_rate,
            f"{dropped:g}",
            row.parameters,
            count,
            row.note,
        )


def table_4() -> Iterator[str]:
    yield from heading(
        "Table 4: cost on Something-Something V1",
        'Billions of multiply-adds for one view. We count convolutions and linear layers; "with norms" adds two '
        "operations for\neach element of a batch norm's output. PSN's receptive field is 7x5x5 except in the last row.",
    )
    yield from cost_rows(TABLE_4)
    plain, normed = multiply_adds("psn_resnet50", 8, 224, **FIVE)
    if f"{normed:.2f}" != "36.19":
        raise SystemExit(f"the count with norms at 5x5x5 is {normed:.2f} and no longer the paper's 36.19")
    yield line("Ours, 5x5x5", "8 of 224 px", "", f"{plain:.2f}", f"{normed:.2f}", "Not in the paper's table.")


def table_5() -> Iterator[str]:
    yield from heading(
        "Table 5: cost on Kinetics-400", "As in Table 4. Three crops of ten clips cost thirty times as much."
    )
    yield from cost_rows(TABLE_5)


def cost_rows(rows: list[CostRow]) -> Iterator[str]:
    yield from header("method", "frames", "paper", "ours", "ours, with norms", "difference")
    for row in rows:
        plain, normed = multiply_adds(row.model, row.num_frames, row.size_px)
        digits = len(row.paper.partition(".")[2])
        check(row, agrees=row.paper == f"{plain:.{digits}f}")
        yield line(
            row.label, f"{row.num_frames} of {row.size_px} px", row.paper, f"{plain:.2f}", f"{normed:.2f}", row.note
        )


def check(row: Row | FusionRow | CostRow, agrees: bool) -> None:
    """Every difference has its sentence, and no sentence is left where there is none."""
    if agrees == bool(row.note):
        raise SystemExit(f"{row.label}: " + ("agrees and has a note" if agrees else "differs and has no note"))


@cache
def build(name: str, settings: tuple[tuple[str, object], ...]) -> nn.Module:
    """On the meta device: shapes without numbers."""
    classes = {} if name.endswith("_k400") else {"num_classes": 174}
    with torch.device("meta"):
        return create_model(name, **{**classes, **dict(settings)}).eval()


def parameters(name: str, part: str = "", **settings: object) -> int:
    return parameters_of(build(name, tuple(settings.items())), part)


def parameters_of(model: nn.Module, part: str = "") -> int:
    return sum(parameter.numel() for label, parameter in model.named_parameters() if part in label)


def multiply_adds(name: str, num_frames: int, size_px: int, **settings: object) -> tuple[float, float]:
    """Billions for one clip: of convolutions and linear layers, and with those of norms."""
    return multiply_adds_of(build(name, tuple(settings.items())), num_frames, size_px)


def multiply_adds_of(model: nn.Module, num_frames: int, size_px: int) -> tuple[float, float]:
    elements = []
    norms = [module for module in model.modules() if isinstance(module, nn.BatchNorm2d)]
    hooks = [norm.register_forward_hook(lambda module, args, out: elements.append(out.numel())) for norm in norms]
    with FlopCounterMode(display=False) as counter:
        model(torch.empty(1, 3, num_frames, size_px, size_px, device="meta"))
    for hook in hooks:
        hook.remove()
    plain = counter.get_total_flops() / 2
    return plain / 1e9, (plain + 2 * sum(elements)) / 1e9


@cache
def psn_with(fusion: str) -> nn.Module:
    """With numbers: interactions are counted from the weights."""
    torch.manual_seed(0)
    return timm.create_model("psn_resnet50", num_classes=174, fusion=fusion, **FIVE)


def connections(model: nn.Module) -> tuple[int, float]:
    """The channels c of each pair of groups with any path between them, and the share that nobody hears of."""
    connected = dropped = channels = 0
    for site in model.sites.values():
        fusion = model.get_submodule(site).temporal.fusion
        routing = fusion.routing().detach() != 0
        for rows in routing.split(fusion.out_widths, dim=0):
            connected += sum(len(block) for block in rows.split(fusion.in_widths, dim=1) if block.any())
        dropped += int((~routing.any(dim=0)).sum())
        channels += routing.shape[1]
    return connected, dropped / channels


def heading(title: str, text: str) -> Iterator[str]:
    yield f"## {title}\n\n{text}\n"


def header(*names: str) -> Iterator[str]:
    yield line(*names)
    yield "|" + "---|" * len(names)


def line(*cells: object) -> str:
    return "| " + " | ".join(map(str, cells)) + " |"


if __name__ == "__main__":
    main()
