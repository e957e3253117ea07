"""The options of a training run: one table, and the pure function that settles what the user leaves open.

Options travel as a `TrainOptions` only. `command_line` makes its flags from the table, `resolve_options` fills it, and
`args.yaml`, the checkpoint and `config.json` keep it. An option has timm's name wherever timm has the option. Defaults
are the paper's settings (Sec. "Implementation Detail") where it states them.
"""

# ruff: noqa: RUF009  a default here is an entry of the table, made once and only looked at
import argparse
import os
from dataclasses import asdict, dataclass, field
from functools import partial
from typing import Annotated, Any, Literal, NamedTuple

DATASETS = ("diving48", "folder", "k400", "list", "motion", "shards", "sthv1", "sthv2")
PAPERS_BATCH = 64
_WORKERS = min(4, os.cpu_count() or 1)
_MIN_MAX, _RGB = ("MIN", "MAX"), ("R", "G", "B")
OLD_NAMES = {"max_broken": "max_unreadable", "traceback": "debug"}  # on the command line, in recipes and checkpoints


class Range(NamedTuple):
    """The numbers that an option accepts."""

    least: float
    most: float = float("inf")


Share = Annotated[float, Range(0, 1)]
NotNegative = Annotated[float, Range(0)]
Count = Annotated[int, Range(0)]
Positive = Annotated[int, Range(1)]
Pair = tuple[float, float]
Triple = tuple[float, float, float]


def _option(group: str, default: Any, help: str, **more: Any) -> Any:
    """An option: the heading of `--help` that lists it, its default, its help text, and what the type cannot tell.

    Further entries are `flags`, `metavar`, and `parse`, which reads a word of the command line.
    """
    return field(metadata={"group": group, "default": default, "help": help, **more})


_data, _model, _loss, _optimizer, _schedule, _run = (
    partial(_option, group) for group in ("data", "model", "loss", "optimizer", "schedule", "run")
)


def sampling_name(text: str) -> str:
    """Reads `--sampling`: tsn is another name of segments.

    Args:
        text: Name as the user writes it.
    """
    return "segments" if text == "tsn" else text


def _number_or_auto(text: str) -> int | str:
    """Reads `--batch-size`."""
    return text if text == "auto" else int(text)


@dataclass(frozen=True)
class TrainOptions:
    """All options of a run, settled; what each means is its help text.

    Where the type does not allow the default None, `resolve_options` puts something in its place.
    """

    config: str | None = _option(
        "recipe",
        None,
        "Recipe with other defaults for the options: a name or a YAML file (default: the data set's)",
        flags=("--recipe", "--config"),
        metavar="NAME|FILE",
    )

    dataset: str = _data("folder", f"Data set: {', '.join(DATASETS)}")
    data_dir: str | None = _data(None, "Folder of the data set (shards: also a URL); motion is generated if missing")
    train_list: str | None = _data(None, "Training annotations, if they lie elsewhere")
    val_list: str | None = _data(None, "Validation annotations, if they lie elsewhere")
    num_frames: Positive = _data(None, "Frames of a clip (default: the model's own)")
    sampling: Literal["segments", "tsm", "dense", "uniform"] = _data(
        "segments",
        "Frames of a clip: one from each segment (segments, or tsn), as TSM, from a window of 64, or as SlowFast",
        parse=sampling_name,
    )
    img_size: Positive = _data(None, "Side of the crop in pixels (default: the model's own)")
    crop_pct: float = _data(0.875, "Crop as a share of the short side; the paper crops 224 of 256 pixels")
    crop: Literal["random", "multiscale", "resized"] = _data("random", "Crop of training clips")
    scale: Pair | None = _data(None, "Area of --crop resized, shares of the frame (default: 0.08 1)", metavar=_MIN_MAX)
    ratio: Pair | None = _data(None, "Width / height of --crop resized (default: 3/4 4/3)", metavar=_MIN_MAX)
    interpolation: Literal["bilinear", "bicubic"] = _data("bilinear", "Filter that resizes frames")
    mean: Triple = _data(None, "Mean colour for normalisation (default: the model's own)", metavar=_RGB)
    std: Triple = _data(None, "Standard deviation for normalisation (default: the model's own)", metavar=_RGB)
    hflip: Share = _data(0.5, "Probability of mirroring a clip; labels of left and right are swapped")
    color_jitter: NotNegative = _data(0.0, "Strength of random brightness, contrast and saturation; 0: none")
    aa: str | None = _data(None, "Policy of timm, the same for all frames, for example rand-m9-n2-mstd0.5-inc1")
    reprob: Share = _data(0.0, "Probability of erasing a rectangle, the same one in all frames of a clip")
    sampler: Literal["random", "balanced"] = _data(
        "random", "Order of the videos: each once an epoch, or equally many clips of each class"
    )
    mixup: float = _data(0.0, "Alpha of mixup, which blends pairs of clips; 0: none")
    cutmix: float = _data(0.0, "Alpha of cutmix, which puts a box of another clip into all frames; 0: none")
    cutmix_minmax: Pair | None = _data(None, "Sides of the box as shares of the frame, without alpha", metavar=_MIN_MAX)
    mixup_prob: float = _data(1.0, "Share of batches that are mixed")
    mixup_switch_prob: float = _data(0.5, "Share of cutmix if both are on")
    decoder: Literal["auto", "pyav", "torchcodec"] = _data("auto", "Decoder of video files; auto is pyav")
    max_pixels: Positive = _data(  # as `data.video.limits` has it, whose import is slow
        2**30, "Most pixels that the frames of one clip may have together; one frame may have a 16th of them"
    )
    workers: Count = _data(_WORKERS, "Processes that decode; 0: the training process", flags=("--workers", "-j"))
    max_unreadable: Share = _data(0.1, "Share of unreadable videos above which the command ends")

    model: str = _model(
        "psn_resnet50",
        "Video model in timm.list_models, torchvision:NAME, transformers:REPO, local-dir:FOLDER or hf-hub:REPO",
    )
    pretrained: bool = _model(False, "Start from pretrained weights")
    initial_checkpoint: str | None = _model(None, "Start from the weights of a best/model.safetensors or last.pt")
    backbone_checkpoint: str | None = _model(None, "Start the backbone from the image weights of a local file")
    num_classes: int | None = _model(None, "Number of classes, checked against the data set")
    drop: Share = _model(0.3, "Dropout before the classifier")
    drop_path: Share | None = _model(None, "Drop rate of the residual paths (default: the backbone's own)")
    grad_checkpointing: bool = _model(False, "Recompute activations in the backward pass: less memory, more time")
    freeze_bn: bool = _model(False, "Freeze the backbone's batch norms; temporal modules' norms learn")
    partial_bn: bool = _model(False, "Freeze all batch norms of the backbone except the first, as TSN")
    freeze_synthesizers: bool = _model(False, "Train the rest around the synthesizers of --initial-checkpoint")
    model_kwargs: dict[str, Any] = _model({}, "Further arguments of the model")
    temporal_kwargs: dict[str, Any] = _model({}, "")  # of a recipe alone: arguments by temporal module
    model_ema: bool = _model(False, "Keep a moving average of the weights (EMA), and evaluate it")
    model_ema_decay: Share = _model(0.9998, "Decay of the EMA")

    alpha: float = _loss(0.01, "Weight of the interaction loss, Eq. 2")
    beta: float = _loss(0.001, "Weight of the capacity loss, Eq. 3")
    interaction_norm: Literal["sum", "mean", "relative"] = _loss(
        "sum", "Norm in Eq. 2: as printed, per output, or relative to its start"
    )
    loss: Literal["ce", "bce"] = _loss("ce", "Cross-entropy, or binary cross-entropy (videos of several classes)")
    class_weights: str | None = _loss(
        None, "Weights of classes in the loss: balanced, or a file of `class name,weight`", metavar="balanced|FILE"
    )
    smoothing: Share = _loss(0.0, "Label smoothing")
    kd_teacher: str | None = _loss(
        None,
        "Teacher to distil from: a trained model as predict takes it, or an image model of timm, frame by frame",
        flags=("--kd-teacher", "--kd-model-name"),
        metavar="MODEL",
    )
    kd_alpha: Share = _loss(0.5, "Weight of the distillation loss; the classification loss has the rest")
    kd_temperature: Annotated[float, Range(0.1)] = _loss(4.0, "Temperature of the distillation")

    opt: str = _optimizer("momentum", "timm's name of the optimizer; momentum is plain SGD, sgd is Nesterov's")
    opt_kwargs: dict[str, Any] = _optimizer({}, "Further arguments of the optimizer")
    lr: NotNegative = _optimizer(None, "Learning rate (default: --lr-base, scaled to the clips of an update)")
    lr_base: NotNegative = _optimizer(0.01, "Learning rate for updates of --lr-base-size clips")
    lr_base_size: Positive = _optimizer(64, "Clips of an update that --lr-base is meant for")
    lr_base_scale: Literal["linear", "sqrt"] | None = _optimizer(
        None, "Scaling of --lr-base (default: sqrt for ada* and lamb, else linear, as timm)"
    )
    opt_eps: float | None = _optimizer(None, "Epsilon of the optimizer (default: its own)")
    opt_betas: tuple[float, ...] | None = _optimizer(None, "Betas of the optimizer (default: its own)")
    momentum: float = _optimizer(0.9, "Momentum, for optimizers that have one")
    weight_decay: NotNegative = _optimizer(5e-4, "Weight decay; norms, biases and the fusion matrix are exempt")
    decay_fusion: bool = _optimizer(False, "Apply weight decay to the fusion matrix; this works against Eq. 2")
    layer_decay: Share | None = _optimizer(None, "Learning rate decay per layer, from output to input")
    temporal_lr_mult: NotNegative = _optimizer(1.0, "Learning rate multiplier for temporal modules")
    head_lr_mult: NotNegative = _optimizer(1.0, "Learning rate multiplier for the classifier (TSM: 5)")
    bias_lr_mult: NotNegative = _optimizer(1.0, "Learning rate multiplier for biases outside norms (TSM: 2)")
    clip_grad: NotNegative = _optimizer(20.0, "Limit of gradient clipping; 0: no limit")
    clip_mode: Literal["norm", "value", "agc"] = _optimizer("norm", "Mode of gradient clipping, as in timm")

    epochs: Positive = _schedule(80, "Passes over the training videos")
    sched: Literal["multistep", "cosine", "tanh", "step", "poly", "constant", "none"] = _schedule(
        "multistep", "Schedule of the learning rate"
    )
    decay_milestones: tuple[int, ...] = _schedule((50, 60, 70), "Epochs at which multistep decays")
    decay_epochs: NotNegative | None = _schedule(None, "Epochs between the decays of step")
    decay_rate: float = _schedule(0.1, "Decay factor; for poly, the power")
    warmup_epochs: NotNegative = _schedule(0.0, "Epochs of linear warm-up")
    warmup_lr: NotNegative = _schedule(1e-5, "Learning rate at the start of the warm-up")
    min_lr: NotNegative = _schedule(0.0, "Learning rate at the end of the schedule")

    early_stopping: Positive | None = _run(
        None, "Stop after N epochs without a better validation result (default: train all epochs)"
    )
    val_interval: Positive = _run(1, "Validate after every N-th epoch and after the last")
    batch_size: Positive = _run(
        PAPERS_BATCH,
        "Batch size per process; auto: as many clips as fit, with gradient accumulation up to the recipe's update",
        flags=("--batch-size", "-b"),
        metavar="N|auto",
        parse=_number_or_auto,
    )
    grad_accum_steps: Positive = _run(1, "Batches per update, whose gradients are accumulated")
    device: str = _run("auto", "Device: cpu, cuda, cuda:1, ...; auto: a GPU if there is one")
    amp: bool = _run(False, "Compute in mixed precision (autocast)")
    amp_dtype: Literal["float16", "bfloat16"] = _run("float16", "Data type of autocast")
    channels_last: bool = _run(True, "Use the channels_last memory format")
    torchcompile: bool = _run(False, "Compile the model")
    seed: int = _run(42, "Seed of weights, order, crops and dropout")
    output: str = _run("output", "Folder of all runs", metavar="DIR")
    experiment: str | None = _run(None, "Folder of this run within --output (default: MODEL-DATASET)")
    log: tuple[Literal["tensorboard", "wandb", "trackio", "mlflow"], ...] = _run((), "Loggers beside summary.csv")
    log_interval: Count = _run(0, "Updates between lines of progress off a terminal; 0: a line every 30 s")
    debug: bool = _run(False, "Show the traceback of an error")
    resume: str | None = _run(None, "Resume from a checkpoint; auto: this run, if it has begun", metavar="auto|FILE")
    checkpoint_interval: Count = _run(0, "Also save after every N-th update; 0: only after epochs and on signals")
    checkpoint_hist: Positive = _run(1, "Checkpoints to keep: last.pt, and from 2 on the last N in checkpoints/")
    best_hist: Positive = _run(1, "Models to keep: best/, and from 2 on the N best epochs in best-epochs/")
    sync_bn: bool = _run(False, "Synchronise batch norms across processes; GPUs only")

    left_to_model: tuple[str, ...] = ()  # no flag: options that have the model's own values

    def as_dict(self) -> dict[str, Any]:
        """All options as plain values, lists in the place of tuples."""
        return {name: as_yaml(value) for name, value in asdict(self).items() if name != "left_to_model"}

    def as_asked(self) -> dict[str, Any]:
        """The options as a recipe keeps them, and so `args.yaml` and the checkpoint: None where the model decided."""
        return {**self.as_dict(), **dict.fromkeys(self.left_to_model)}


def as_yaml(value: Any) -> Any:
    """A value of an option as YAML has it: with lists in the place of tuples.

    Args:
        value: Value, also one of a checkpoint of an earlier version.
    """
    if isinstance(value, dict):
        return {key: as_yaml(each) for key, each in value.items()}
    return [as_yaml(each) for each in value] if isinstance(value, (list, tuple)) else value


class ModelDefaults(NamedTuple):
    """What a model takes where the user leaves an option open; the fields are names of options."""

    num_frames: int
    img_size: int
    mean: tuple[float, ...]
    std: tuple[float, ...]


def resolve_options(asked: argparse.Namespace, model: ModelDefaults, device: str, processes: int) -> TrainOptions:
    """Settles every option, from nothing but the arguments.

    Args:
        asked: What the command line and the recipe ask for; see `command_line.parse_options`.
        model: Values for what is left to the model.
        device: Device that `auto` stands for.
        processes: Processes that train together; more of them make a larger update, at a larger learning rate.

    Returns:
        All options. `batch_size` is 1 where `auto` was asked for; see `auto_batch_size.settle_batch_size`.
    """
    values: dict[str, Any] = dict(vars(asked))
    left = tuple(name for name in ModelDefaults._fields if values[name] is None)
    values.update({name: getattr(model, name) for name in left}, left_to_model=left)
    values["batch_size"] = 1 if values["batch_size"] == "auto" else values["batch_size"]
    if values["device"] == "auto":
        values["device"] = device
    if values["lr"] is None:
        clips = values["batch_size"] * values["grad_accum_steps"] * processes
        values["lr"] = _scaled_lr(asked, clips)
    tuples: dict[str, Any] = {key: tuple(each) if isinstance(each, list) else each for key, each in values.items()}
    return TrainOptions(**tuples)


def _scaled_lr(asked: argparse.Namespace, clips: int) -> float:
    """The learning rate for an update of so many clips, scaled as timm's train.py scales it."""
    adaptive = any(part in asked.opt.lower() for part in ("ada", "lamb"))
    scale = asked.lr_base_scale or ("sqrt" if adaptive else "linear")
    share = clips / asked.lr_base_size
    return asked.lr_base * (share**0.5 if scale == "sqrt" else share)
