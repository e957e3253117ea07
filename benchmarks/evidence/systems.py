"""The systems that benchmarks/gestures.py compares: rows of the paper's tables as arguments of the train command."""

from dataclasses import dataclass

EPOCHS = 60
RECIPE = ["--num-frames", "8", "--img-size", "112", "--hflip", "0", "--batch-size", "16", "--epochs", str(EPOCHS)]
RECIPE += ["--opt", "adamw", "--lr", "5e-4", "--weight-decay", "0.05", "--sched", "cosine", "--warmup-epochs", "5"]
RECIPE += ["--drop", "0.3", "--clip-grad", "5", "--val-interval", "10", "--best-hist", "6", "--workers", "0"]

COLUMNS = ["system", "fold", "seed", "top1", "protocol", "epochs", "seconds", "device", "settings", "version"]
COLUMNS += ["truth", "predicted", "reversed", "shuffled", "train_loss", "train_top1", "val_top1"]


@dataclass(frozen=True)
class System:
    """A row of one of the paper's tables.

    Attributes:
        title: name of the row.
        arguments: options of the train command that make it.
        paper_top1: the paper's top-1 on Something-Something V1, None where the paper has no such row.
    """

    title: str
    arguments: tuple[str, ...]
    paper_top1: float | None = None


def _system(
    title: str, paper_top1: float | None, temporal: str, *settings: str, alpha: float = 0, beta: float = 0
) -> System:
    kwargs = ("--model-kwargs", "backbone=tf_efficientnet_lite0", f"temporal={temporal}", *settings)
    losses = ("--alpha", str(alpha), "--beta", str(beta))
    return System(title, ("--model", "video_net", *kwargs, *losses), paper_top1)


def _psn(title: str, paper_top1: float | None, *settings: str, alpha: float = 0, beta: float = 0) -> System:
    names = {setting.partition("=")[0] for setting in settings}
    defaults = {"receptive_field": "(5,5,5)", "proportion": "1.0"}
    common = (f"{name}={value}" for name, value in defaults.items() if name not in names)
    return _system(title, paper_top1, "psn", *common, *settings, alpha=alpha, beta=beta)


_ZERO = ("fusion=dense", "fusion_init=0.0", "expand_init=1.0")  # instead of fusion_init=1, expand_init=0
# The backbone's levels have 16 to 112 channels, a quarter to a tenth of a ResNet-50's, so that every proportion of the
# paper is taken four times: 1 for PSN's 1/4, 2/3 for RF-S's 1/6, 1/2 for RF-L's 1/8.
MAIN = {
    "tsn": _system("TSN", 14.90, "tsn"),
    "tsm": _system("TSM", 42.11, "tsm"),
    "grouping": _psn("PSN, channel grouping", 43.84, "fusion=grouping"),
    "dense": _psn("PSN, dense", 45.44, "fusion=dense"),
    "shuffle": _psn("PSN, channel shuffling", 45.01, "fusion=shuffle"),
    "dropout": _psn("PSN, channel dropout", 44.64, "fusion=dropout"),
    "rf_s": _system("RF-S", 43.72, "rf_s", "proportion=0.6667"),
    "dense_both": _psn("PSN, dense, both losses", 46.41, "fusion=dense", alpha=0.01, beta=0.001),
    "zero": _psn("PSN, dense, T = 0 at the start", None, *_ZERO),
    "zero_both": _psn("PSN, dense, T = 0 at the start, both losses", None, *_ZERO, alpha=0.01, beta=0.001),
    "dense_interaction": _psn("PSN, dense, interaction loss", 46.12, "fusion=dense", alpha=0.01),
    "dense_capacity": _psn("PSN, dense, capacity loss", 45.88, "fusion=dense", beta=0.001),
    "rf_l": _system("RF-L", 43.67, "rf_l", "proportion=0.5"),
    "rf_l_inception_t": _system("RF-L-Inception-T", 44.23, "rf_l_inception_t", "proportion=1.0", "dilated=true"),
}
MORE = {
    "zero_interaction": _psn("PSN, dense, T = 0 at the start, interaction loss", None, *_ZERO, alpha=0.01),
    "zero_capacity": _psn("PSN, dense, T = 0 at the start, capacity loss", None, *_ZERO, beta=0.001),
    "quarter": _psn("PSN, dense, a quarter of the channels", 44.00, "fusion=dense", "proportion=0.25"),
    "field_755": _psn("PSN, dense, receptive field (7, 5, 5)", None, "fusion=dense", "receptive_field=(7,5,5)"),
    "avg_pool": _psn("PSN, dense, average pool", 45.42, "fusion=dense", "pool=avg"),
    "no_pool": _psn("PSN, dense, no pool", 44.19, "fusion=dense", "pool=identity"),
    "no_inter_relu": _psn("PSN, dense, no inter-ReLU", 44.65, "fusion=dense", "inter_act=false"),
    "plain_kernels": _psn("PSN, dense, kernels without dilation", 45.54, "fusion=dense", "dilated=false"),
    "conv_1p1p1": _psn("PSN, dense, 1+1+1D kernels", 45.17, "fusion=dense", "spatial_conv=1+1d"),
    "unit_conv": _psn("PSN, dense, 1x1x1 kernels in place of the identity", None, "fusion=dense", "unit=conv"),
    "early_sites": _psn("PSN, dense, first two levels only", None, "fusion=dense", "sites=('blocks.0','blocks.1')"),
    "late_sites": _psn("PSN, dense, last two levels only", None, "fusion=dense", "sites=('blocks.2','blocks.4')"),
}
SYSTEMS = {**MAIN, **MORE}
REPEATED = ("grouping", "dropout", "shuffle", "dense", "dense_interaction", "dense_capacity", "dense_both")
SEEDS = range(3)  # of the repeated systems; all others have the first alone
