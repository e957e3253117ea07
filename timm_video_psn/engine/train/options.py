"""The options of train_video.py: timm's flag names wherever timm has the flag; a YAML recipe gives defaults.

Order of precedence: the command line, then the recipe (`--recipe NAME` or FILE.yaml, else the one shipped for the data
set), then the defaults below, which are the paper's settings (Sec. "Implementation Detail") where it states them.
"""

import argparse
import ast
import difflib
import os
from collections.abc import Sequence
from importlib import resources
from pathlib import Path
from typing import Any

import yaml

from timm_video_psn.console import add_old_name, launched_processes, positive_integer, present_names
from timm_video_psn.data import ANNOTATED, DATASETS, SAMPLINGS, STREAMED
from timm_video_psn.data.clips.sampling import sampling_name
from timm_video_psn.layers import TEMPORAL_MODULES, temporal_settings

_PAPERS_BATCH = 64
_FROM_ZERO = (
    *("lr", "lr_base", "weight_decay", "temporal_lr_mult", "head_lr_mult", "bias_lr_mult", "clip_grad", "min_lr"),
    *("warmup_epochs", "warmup_lr", "decay_epochs", "checkpoint_interval", "workers"),
)
_SHARES = ("drop", "drop_path", "smoothing", "layer_decay", "model_ema_decay", "max_unreadable")
_RECIPES = resources.files("timm_video_psn") / "recipes"


def parse_options(argv: Sequence[str] | None = None) -> argparse.Namespace:
    """Options from the command line and the recipe.

    Args:
        argv: arguments; None for those of the process.

    Returns:
        All options by name; `config` is the recipe that was read, or None.
    """
    parser = build_parser()
    first, _ = parser.parse_known_args(argv)
    recipe, settings = _read_recipe(parser, first)
    parser.set_defaults(**settings)
    options = parser.parse_args(argv)
    options.config = recipe
    if options.freeze_bn and options.partial_bn:
        parser.error("--freeze-bn and --partial-bn were both asked for; the first freezes all, the second all but one")
    if options.sched == "step" and not options.decay_epochs:
        parser.error("--sched step needs --decay-epochs N, the epochs from one decay to the next")
    _check_ranges(parser, options)
    if options.batch_size == "auto":
        _leave_batch_open(parser, options)
    if options.lr is None:
        options.lr = _scaled_lr(options)
    # Settings of one temporal module do not disturb a run of the same recipe with another.
    options.model_kwargs = {**_temporal_kwargs(parser, options), **options.model_kwargs}
    return options


def _check_ranges(parser: argparse.ArgumentParser, options: argparse.Namespace) -> None:
    """Refuse numbers with which training would go on and go wrong."""
    for names, most in ((_FROM_ZERO, float("inf")), (_SHARES, 1.0)):
        for name in names:
            value = getattr(options, name)
            if value is not None and not 0 <= value <= most:
                accepted = "0 or more" if most > 1 else "0 to 1"
                parser.error(f"--{name.replace('_', '-')} {value} makes no sense; use {accepted}")


def _scaled_lr(options: argparse.Namespace) -> float:
    """The learning rate for the clips of an update of all processes, scaled as timm's train.py does it."""
    adaptive = any(part in options.opt.lower() for part in ("ada", "lamb"))
    share = clips_per_update(options) / options.lr_base_size
    scale = options.lr_base_scale or ("sqrt" if adaptive else "linear")
    return options.lr_base * (share**0.5 if scale == "sqrt" else share)


def _leave_batch_open(parser: argparse.ArgumentParser, options: argparse.Namespace) -> None:
    """`--batch-size auto`: until it is settled, an update has one step for each of the recipe's clips an update."""
    steps, batch_size = parser.get_default("grad_accum_steps"), parser.get_default("batch_size")
    if options.grad_accum_steps != steps:
        parser.error("--batch-size auto chooses --grad-accum-steps, too; leave that option out, or give both numbers")
    if launched_processes() > 1:
        parser.error(
            "--batch-size auto measures a single process; run it once without torchrun, then give the number that it "
            "prints to all"
        )
    options.grad_accum_steps = steps * (_PAPERS_BATCH if batch_size == "auto" else batch_size)


def clips_per_update(options: argparse.Namespace) -> int:
    """The global batch: clips that all processes together see between two steps of the optimizer.

    Args:
        options: with `batch_size` and `grad_accum_steps`, which are those of a process.
    """
    batch_size = 1 if options.batch_size == "auto" else options.batch_size
    return batch_size * options.grad_accum_steps * launched_processes()


def build_parser() -> argparse.ArgumentParser:
    """All flags, in groups."""
    parser = argparse.ArgumentParser(
        prog="train_video.py",
        description="Train a video classifier on a timm backbone.",
        formatter_class=argparse.ArgumentDefaultsHelpFormatter,
    )
    recipes = f"defaults of the options: {', '.join(shipped_recipes())}, or a YAML file; default: the data set's"
    parser.add_argument("--recipe", "--config", dest="config", metavar="NAME|FILE", help=recipes)
    _data_options(parser.add_argument_group("data"))
    _model_options(parser.add_argument_group("model"))
    _loss_options(parser.add_argument_group("loss"))
    _optimizer_options(parser.add_argument_group("optimizer"))
    _schedule_options(parser.add_argument_group("schedule"))
    _run_options(parser.add_argument_group("run"))
    add_old_name(parser, "--max-broken", "--max-unreadable")
    parser.set_defaults(temporal_kwargs={})
    return parser


def shipped_recipes() -> list[str]:
    """Names of the recipes that come with the package."""
    return sorted(path.name.removesuffix(".yaml") for path in _RECIPES.iterdir() if path.name.endswith(".yaml"))


def positive_integer_or_auto(text: str) -> int | str:
    """A whole number from 1 on, or the word auto."""
    return text if text == "auto" else positive_integer(text)


def _data_options(group: Any) -> None:
    add = group.add_argument
    add("--dataset", default="folder", metavar="NAME", help=", ".join(sorted({*DATASETS, *ANNOTATED, *STREAMED})))
    add(
        "--data-dir",
        metavar="DIR",
        help="folder of the data set; motion: where it is, or is to be made; shards: folder or http(s):// URL",
    )
    add("--train-list", metavar="FILE", help="training annotations that lie elsewhere than the data set's reader looks")
    add("--val-list", metavar="FILE", help="validation annotations, likewise")
    add("--num-frames", type=positive_integer, metavar="T", help="frames of a clip; default: the model's own")
    sampling = "frames of a clip: one of each segment (tsn), to the video's end; TSM's; SlowFast's; or a window of 64"
    add("--sampling", type=sampling_name, choices=list(SAMPLINGS), default="segments", help=sampling)
    add("--img-size", type=int, metavar="PX", help="crop; default: the model's own")
    add("--crop-pct", type=float, default=0.875, help="crop / short side, 224 / 256 in the paper")
    add("--crop", choices=["random", "multiscale", "resized"], default="random", help="crop of training clips")
    add("--scale", type=float, nargs=2, metavar=("MIN", "MAX"), help="area of --crop resized; default: 0.08 to 1")
    add("--ratio", type=float, nargs=2, metavar=("MIN", "MAX"), help="width / height of it; default: 3/4 to 4/3")
    add("--interpolation", choices=["bilinear", "bicubic"], default="bilinear", help="resize filter")
    add("--mean", type=float, nargs=3, help="of the normalisation; default: the model's own")
    add("--std", type=float, nargs=3, help="of the normalisation; default: the model's own")
    add("--hflip", type=float, default=0.5, help="probability of mirroring; left/right classes are swapped")
    add("--color-jitter", type=float, default=0.0, metavar="PCT", help="brightness, contrast, saturation; 0: none")
    add("--aa", metavar="NAME", help="policy of timm on all frames alike, as rand-m9-n2-mstd0.5-inc1; default: none")
    add("--mixup", type=float, default=0.0, metavar="ALPHA", help="blend pairs of clips; 0: do not")
    add(
        "--cutmix",
        type=float,
        default=0.0,
        metavar="ALPHA",
        help="put a box of another clip into all frames; 0: do not",
    )
    add(
        "--cutmix-minmax", type=float, nargs=2, metavar=("MIN", "MAX"), help="sides of that box, as shares of the frame"
    )
    add("--mixup-prob", type=float, default=1.0, metavar="P", help="share of the batches that are mixed")
    add("--mixup-switch-prob", type=float, default=0.5, metavar="P", help="share of cutmix where both are asked for")
    add("--decoder", choices=["auto", "pyav", "torchcodec"], default="auto", help="of video files; auto is pyav")
    workers = min(4, os.cpu_count() or 1)
    add("--workers", "-j", type=int, default=workers, help="processes that decode; 0: this one")
    add(
        "--max-unreadable",
        type=float,
        default=0.01,
        metavar="SHARE",
        help="share of unreadable videos that ends the run",
    )


def _model_options(group: Any) -> None:
    add = group.add_argument
    add("--model", default="psn_resnet50", help="a name of timm.list_models, or local-dir:FOLDER, hf-hub:REPO")
    add("--pretrained", action=argparse.BooleanOptionalAction, default=False, help="start from pretrained weights")
    add("--initial-checkpoint", metavar="FILE", help="start from the weights of a best/model.safetensors or last.pt")
    add("--backbone-checkpoint", metavar="FILE", help="start the backbone from the image weights of a local file")
    add("--num-classes", type=int, help="checked against the data set; default: the data set's")
    add("--drop", type=float, default=0.3, metavar="PCT", help="dropout before the classifier")
    add("--drop-path", type=float, metavar="PCT", help="drop rate of the residual paths; default: the backbone's own")
    add("--grad-checkpointing", action="store_true", help="less memory, more computation")
    add("--freeze-bn", action="store_true", help="keep the pretrained backbone's batch norms; temporal modules' learn")
    add("--partial-bn", action="store_true", help="likewise, all but the first, as TSN")
    add("--model-kwargs", nargs="*", default={}, action=_KeyValue, metavar="KEY=VALUE", help="further model arguments")
    add("--model-ema", action="store_true", help="keep an average of the weights, and evaluate it")
    add("--model-ema-decay", type=float, default=0.9998, help="decay of that average")


def _loss_options(group: Any) -> None:
    add = group.add_argument
    add("--alpha", type=float, default=0.01, help="weight of the interaction loss, Eq. 2")
    add("--beta", type=float, default=0.001, help="weight of the capacity loss, Eq. 3")
    add("--interaction-norm", choices=["sum", "mean"], default="sum", help="norm in Eq. 2: as printed, or per output")
    add("--smoothing", type=float, default=0.0, help="label smoothing")


def _optimizer_options(group: Any) -> None:
    add = group.add_argument
    add("--opt", default="momentum", help="any optimizer of timm; its sgd is Nesterov's, momentum the plain SGD")
    add("--opt-kwargs", nargs="*", default={}, action=_KeyValue, metavar="KEY=VALUE", help="further arguments of it")
    add("--lr", type=float, help="learning rate; default: lr-base * clips per update / lr-base-size")
    add("--lr-base", type=float, default=0.01, help="learning rate for lr-base-size clips per update")
    add("--lr-base-size", type=positive_integer, default=64, help="clips per update that lr-base is meant for")
    add("--lr-base-scale", choices=["linear", "sqrt"], help="default: sqrt for ada* and lamb, else linear, as in timm")
    add("--opt-eps", type=float, metavar="EPSILON", help="epsilon of the optimizer; default: its own")
    add("--opt-betas", type=float, nargs="+", metavar="BETA", help="betas of the optimizer; default: its own")
    add("--momentum", type=float, default=0.9, help="of the optimizers that have one")
    add("--weight-decay", type=float, default=5e-4, help="of weights; none on norms, biases and the fusion matrix")
    add("--decay-fusion", action="store_true", help="weight decay on the fusion matrix, too; it fights Eq. 2")
    add("--layer-decay", type=float, help="learning rate decay from layer to layer, output to input")
    add("--temporal-lr-mult", type=float, default=1.0, metavar="X", help="learning rate of the temporal modules, times")
    add("--head-lr-mult", type=float, default=1.0, metavar="X", help="that of the classifier; TSM: 5")
    add("--bias-lr-mult", type=float, default=1.0, metavar="X", help="that of biases, norms' apart, besides; TSM: 2")
    add("--clip-grad", type=float, default=20.0, metavar="NORM", help="largest gradient; 0: no limit")
    add("--clip-mode", choices=["norm", "value", "agc"], default="norm", help="what of the gradient is limited")


def _schedule_options(group: Any) -> None:
    add = group.add_argument
    add("--epochs", type=positive_integer, default=80, help="passes over the training videos")
    schedules = ["multistep", "cosine", "tanh", "step", "poly", "constant", "none"]
    add("--sched", default="multistep", choices=schedules, help="of the learning rate")
    add("--decay-milestones", type=int, nargs="+", default=[50, 60, 70], help="epochs of multistep's decays")
    add("--decay-epochs", type=float, metavar="N", help="epochs from one decay of step to the next")
    add("--decay-rate", type=float, default=0.1, help="factor of a decay; power of poly")
    add("--warmup-epochs", type=float, default=0.0, help="epochs of a linear rise to the learning rate")
    add("--warmup-lr", type=float, default=1e-5, help="learning rate that it rises from")
    add("--min-lr", type=float, default=0.0, help="learning rate that the schedule ends at")


def _run_options(group: Any) -> None:
    add = group.add_argument
    add(
        "--val-interval",
        type=positive_integer,
        default=1,
        metavar="N",
        help="validate after every n-th epoch, and the last",
    )
    auto = "clips of a step, in each process; auto: as many as fit, in as many steps as keep the recipe's update"
    add("--batch-size", "-b", type=positive_integer_or_auto, default=_PAPERS_BATCH, metavar="N|auto", help=auto)
    add("--grad-accum-steps", type=positive_integer, default=1, help="steps of an update")
    add("--device", help="cuda, cpu, ...; default: cuda where there is one")
    add("--amp", action="store_true", help="autocast")
    add("--amp-dtype", choices=["float16", "bfloat16"], default="float16", help="numbers of autocast")
    add("--channels-last", action=argparse.BooleanOptionalAction, default=True, help="memory layout")
    add("--torchcompile", action="store_true", help="compile the model")
    add("--seed", type=int, default=42, help="of weights, order, crops and dropout")
    add("--output", default="output", metavar="DIR", help="folder of all runs")
    add("--experiment", metavar="NAME", help="folder of this run; default: <model>-<dataset>")
    add("--log", nargs="+", default=[], choices=["tensorboard", "wandb"], help="where numbers go besides summary.csv")
    add("--traceback", action="store_true", help="show where an error came from")
    add("--resume", metavar="auto|FILE", help="continue a run; auto: this experiment's, if it was begun")
    interval = "save after every n-th update, too; 0: only after each epoch, and when a signal asks to stop"
    add("--checkpoint-interval", type=int, default=0, metavar="N", help=interval)
    kept = "checkpoints to keep: last.pt, and from 2 on checkpoints/ with the last K"
    add("--checkpoint-hist", type=positive_integer, default=1, metavar="K", help=kept)
    kept = "models to keep: best/, and from 2 on best-epochs/ with those of the K best epochs"
    add("--best-hist", type=positive_integer, default=1, metavar="K", help=kept)
    add("--sync-bn", action="store_true", help="batch norms over the clips of all processes; GPUs only")


class _KeyValue(argparse.Action):
    """KEY=VALUE ... to a dict, values read as Python literals where they are some."""

    def __call__(self, parser: Any, namespace: Any, values: Any, option_string: str | None = None) -> None:
        settings = dict(getattr(namespace, self.dest) or {})
        for item in values:
            key, equals, value = item.partition("=")
            if not equals or not key:
                parser.error(f"{option_string}: {item!r} is not key=value, as proportion=0.125 or fusion=grouping")
            settings[key.replace("-", "_")] = _literal(value)
        setattr(namespace, self.dest, settings)


def _literal(value: str) -> Any:
    lowered = {"true": True, "false": False, "none": None}.get(value.lower(), value)
    if not isinstance(lowered, str):
        return lowered
    try:
        return ast.literal_eval(value)
    except (ValueError, SyntaxError):
        return value


def _read_recipe(parser: argparse.ArgumentParser, first: argparse.Namespace) -> tuple[str | None, dict[str, Any]]:
    """The recipe's name and its settings, checked against the parser's."""
    shipped = shipped_recipes()
    asked = first.config or first.dataset
    if asked in shipped:
        name, text = f"timm_video_psn/recipes/{asked}.yaml", (_RECIPES / f"{asked}.yaml").read_text()
    elif first.config is None:
        return None, {}
    elif Path(asked).is_file():
        name, text = str(Path(asked)), Path(asked).read_text()
    else:
        parser.error(
            f"--recipe {asked}: no such file, and none of the shipped recipes ({', '.join(shipped)}); recipes are YAML "
            "files of options, as epochs: 80"
        )
    try:
        settings = yaml.safe_load(text) or {}
    except yaml.YAMLError as error:
        parser.error(f"{name} is not valid YAML: {error}")
    if not isinstance(settings, dict):
        parser.error(f"{name}: expected lines of `option: value`, found a {type(settings).__name__}")
    return name, _check_recipe(parser, name, settings)


def _check_recipe(parser: argparse.ArgumentParser, name: str, settings: dict[str, Any]) -> dict[str, Any]:
    """Settings by destination, with the types and choices that the command line has."""
    actions = {action.dest: action for action in parser._actions if action.dest not in ("help", "config")}
    checked: dict[str, Any] = {}
    renamed = present_names(parser)
    for key, value in settings.items():
        dest = str(key).replace("-", "_")
        dest = renamed.get(dest, dest)
        if dest == "config":  # a run's args.yaml is a recipe too, and says which one it began with
            continue
        if dest == "temporal_kwargs":
            checked[dest] = value
            continue
        if dest not in actions:
            near = difflib.get_close_matches(dest, actions, n=3)
            parser.error(f"{name}: option {key!r} is unknown; nearest: {', '.join(near) or 'none'}")
        checked[dest] = _convert(parser, name, actions[dest], value)
    return checked


def _convert(parser: argparse.ArgumentParser, name: str, action: argparse.Action, value: Any) -> Any:
    """A recipe's value as the command line would have read it (YAML reads 1e-3 as text)."""
    expected = _expected(action)
    if value is None and action.default is None:
        return None
    if expected is not type(value) and (expected is not None or isinstance(value, (bool, list, dict, type(None)))):
        kind = "value" if expected is None else expected.__name__
        parser.error(f"{name}: {action.dest}={value!r}: expected a {kind}")
    if expected in (bool, dict):
        return value
    if isinstance(value, list):
        return [_convert_item(parser, name, action, item) for item in value]
    return _convert_item(parser, name, action, value)


def _expected(action: argparse.Action) -> type | None:
    """What a recipe must hold for an option: bool, dict or list, or None for a single value."""
    if isinstance(action, _KeyValue):
        return dict
    if action.nargs == 0:
        return bool
    return None if action.nargs is None else list


def _convert_item(parser: argparse.ArgumentParser, name: str, action: argparse.Action, value: Any) -> Any:
    """A single value, by the option's type and choices."""
    try:
        value = action.type(value) if callable(action.type) else value
    except (TypeError, ValueError):
        kind = getattr(action.type, "__name__", "value")
        parser.error(f"{name}: {action.dest}={value!r} is no {kind}")
    if action.choices and value not in action.choices:
        parser.error(f"{name}: {action.dest}={value!r} is unknown; use one of {', '.join(map(str, action.choices))}")
    return value


def _temporal_kwargs(parser: argparse.ArgumentParser, options: argparse.Namespace) -> dict[str, Any]:
    """The recipe's settings for the temporal module that the model's name begins with."""
    by_module = options.temporal_kwargs
    if not isinstance(by_module, dict) or not all(isinstance(settings, dict) for settings in by_module.values()):
        parser.error(
            f"{options.config}: temporal_kwargs={by_module!r}: expected settings by temporal module, as psn: {{...}}"
        )
    for temporal, settings in by_module.items():
        unknown = [
            key for key in settings if temporal not in TEMPORAL_MODULES or key not in temporal_settings(temporal)
        ]
        if temporal not in TEMPORAL_MODULES or unknown:
            parser.error(f"{options.config}: temporal_kwargs of {temporal!r} has unknown entries {unknown}")
    chosen = options.model_kwargs.get("temporal") or max(
        (name for name in by_module if options.model.startswith(f"{name}_")), key=len, default=None
    )
    return dict(by_module.get(chosen, {}))
