"""The optimizer of a run: its parameter groups, its schedule, and the limit on the gradient.

Every trainable parameter is in exactly one group, sorted by its role and its kind. The role says where it is (backbone,
temporal module, classifier), the kind what it is (weight, norm, bias, fusion matrix, or another that must not decay);
with layer decay the layer counts, too. Roles and kinds multiply the learning rate: TSM's "lr5" and "lr10" for the
classifier's weight and bias, and twice the rate for other biases, are `head=5, bias=2`.
"""

import difflib
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from functools import partial, wraps
from typing import Any

import timm
import torch
from timm.models import group_parameters
from timm.optim import create_optimizer_v2, list_optimizers, muon
from timm.scheduler import create_scheduler_v2
from timm.utils import dispatch_clip_grad
from torch import Tensor, nn
from torch.nn.utils import clip_grad_norm_, get_total_norm

from timm_video_psn.engine.train.options import TrainOptions
from timm_video_psn.layers.fusion import Fusion
from timm_video_psn.layers.temporal_module import TemporalModule

# timm's norms are subclasses of these, but for some without a bias, whose vectors are among the `others`.
NORMS = (nn.modules.batchnorm._NormBase, nn.GroupNorm, nn.LayerNorm, nn.RMSNorm)


def create_optimizer(options: TrainOptions, model: nn.Module) -> torch.optim.Optimizer:
    """Creates timm's optimizer of the name that was asked for.

    Args:
        options: Options of the run.
        model: Model of the run.

    Raises:
        ValueError: timm has no such optimizer, it takes no such arguments, or no parameter is trainable.
    """
    if "muon" in options.opt and torch.device(options.device).type == "cpu":
        orthogonalize_in_float32()
    known, name = list_optimizers(), options.opt.lower().removeprefix("lookahead_")
    if name not in known:
        near = difflib.get_close_matches(name, known, n=3, cutoff=0.0)
        raise ValueError(f"--opt {options.opt} is no optimizer of timm {timm.__version__}; nearest: {', '.join(near)}")
    multipliers = LearningRateMultipliers(options.temporal_lr_mult, options.head_lr_mult, options.bias_lr_mult)
    groups = create_parameter_groups(
        model, options.weight_decay, multipliers, options.layer_decay, options.decay_fusion
    )
    given = {"eps": options.opt_eps, "betas": options.opt_betas}
    settings = {**{name: value for name, value in given.items() if value is not None}, **options.opt_kwargs}
    try:
        optimizer = create_optimizer_v2(groups, opt=options.opt, lr=options.lr, momentum=options.momentum, **settings)
    except TypeError as error:
        raise ValueError(f"--opt-kwargs {settings} do not fit --opt {options.opt}: {error}") from error
    check_coverage(model, optimizer.param_groups)
    if options.sched == "none":  # else timm's scheduler multiplies
        for group in optimizer.param_groups:
            group["lr"] *= group["lr_scale"]
    return optimizer


def create_scheduler(options: TrainOptions, optimizer: torch.optim.Optimizer, updates_per_epoch: int) -> Any:
    """Creates timm's scheduler of the name that was asked for, to be stepped at every update; None for `none`.

    Args:
        options: Options of the run.
        optimizer: Optimizer whose learning rate it sets.
        updates_per_epoch: Updates of an epoch.
    """
    scheduler, _ = create_scheduler_v2(
        optimizer,
        sched=options.sched,
        num_epochs=options.epochs,
        decay_epochs=options.decay_epochs,
        decay_milestones=options.decay_milestones,
        decay_rate=options.decay_rate,
        min_lr=options.min_lr,
        warmup_lr=options.warmup_lr,
        warmup_epochs=options.warmup_epochs,
        step_on_epochs=False,
        updates_per_epoch=updates_per_epoch,
    )
    return scheduler


@dataclass(frozen=True)
class LearningRateMultipliers:
    """Factors of the learning rate; a role's and the biases' multiply.

    Attributes:
        temporal: Factor for temporal modules, which start new where the backbone is pretrained.
        head: Factor for the classifier.
        bias: Factor for all biases but those in norms.
    """

    temporal: float = 1.0
    head: float = 1.0
    bias: float = 1.0


def create_parameter_groups(
    model: Any,
    weight_decay: float,
    multipliers: LearningRateMultipliers = LearningRateMultipliers(),
    layer_decay: float | None = None,
    decay_fusion: bool = False,
) -> list[dict[str, Any]]:
    """Sorts the trainable parameters into groups as optimizers of torch and timm take them.

    Weights decay. Norms, biases, vectors and what the model exempts do not; neither does the fusion matrix, whose decay
    would work against the interaction loss, unless it is asked for.

    Args:
        model: Video model.
        weight_decay: Weight decay of whatever decays.
        multipliers: Factors of the learning rate.
        layer_decay: Factor of the learning rate from layer to layer, output to input, as in timm.
        decay_fusion: Let the fusion matrices decay.

    Returns:
        A dict a group: `params`, `weight_decay`, `lr_scale` (which timm's schedulers multiply by), and `name`.

    Raises:
        ValueError: No parameter is trainable.
    """
    kinds = _kinds(model)
    layer_scales = _layer_scales(model, layer_decay)
    role_scales = {"backbone": 1.0, "temporal": multipliers.temporal, "head": multipliers.head}
    groups: dict[tuple[str, float], dict[str, Any]] = {}
    for name, parameter in _trainable(model):
        role, kind = _role(model, name), kinds[name]
        scale = layer_scales.get(name, 1.0) * role_scales[role] * (multipliers.bias if kind == "biases" else 1.0)
        decays = kind == "weights" or (kind == "fusion" and decay_fusion)
        decay = weight_decay if decays else 0.0
        key = (f"{role} {kind}", scale)
        group = groups.setdefault(key, {"name": key[0], "params": [], "weight_decay": decay, "lr_scale": scale})
        group["params"].append(parameter)
    if not groups:
        raise ValueError(f"{type(model).__name__} has no trainable parameter; unfreeze the layers to train")
    check_coverage(model, groups.values())
    return list(groups.values())


def check_coverage(model: nn.Module, groups: Iterable[dict[str, Any]]) -> None:
    """Raises unless every trainable parameter is in exactly one group, and nothing else is in any.

    Args:
        model: Model that has the parameters.
        groups: Dicts with `params`, as `optimizer.param_groups`.

    Raises:
        ValueError: Some parameters are in no group or in several; the message names them.
    """
    counts: dict[int, int] = {}
    for group in groups:
        for parameter in group["params"]:
            counts[id(parameter)] = counts.get(id(parameter), 0) + 1
    trainable = dict(_trainable(model))
    missing = [name for name, parameter in trainable.items() if id(parameter) not in counts]
    repeated = [name for name, parameter in trainable.items() if counts.get(id(parameter), 0) > 1]
    strange = len(counts.keys() - {id(parameter) for parameter in trainable.values()})
    if missing or repeated or strange:
        raise ValueError(
            f"the optimizer's groups must hold each of {len(trainable)} trainable parameters once; in none: "
            f"{', '.join(missing) or 'none'}; in several: {', '.join(repeated) or 'none'}; "
            f"frozen or not of this model: {strange}"
        )


def describe_groups(groups: Sequence[dict[str, Any]], lr: float) -> list[str]:
    """Writes a table of the groups, a line for each role and kind.

    Args:
        groups: Groups as `create_parameter_groups` returns them.
        lr: Learning rate before multipliers.
    """
    by_name: dict[str, list[dict[str, Any]]] = {}
    for group in groups:
        by_name.setdefault(group["name"], []).append(group)
    lines = [f"{'group':<18}{'tensors':>8}{'parameters':>12}{'lr':>20}{'decay':>8}"]
    for name, members in by_name.items():
        parameters = [parameter for group in members for parameter in group["params"]]
        rates = sorted({lr * group["lr_scale"] for group in members})
        rate = f"{rates[0]:g}" if len(rates) == 1 else f"{rates[0]:.2g} to {rates[-1]:.2g}"
        size = sum(parameter.numel() for parameter in parameters)
        lines.append(f"{name:<18}{len(parameters):>8}{size:>12,}{rate:>20}{members[0]['weight_decay']:>8g}")
    return lines


def base_learning_rate(groups: Sequence[dict[str, Any]]) -> float:
    """Returns the present learning rate, before the multiplier of any group.

    Args:
        groups: Groups of an optimizer; they may carry timm's `lr_scale`.
    """
    group = min(groups, key=lambda group: abs(group.get("lr_scale", 1.0) - 1.0))
    return group["lr"] / group.get("lr_scale", 1.0)


def _trainable(model: nn.Module) -> list[tuple[str, Tensor]]:
    """Names and parameters that take a gradient, shared ones once."""
    return [(name, parameter) for name, parameter in model.named_parameters() if parameter.requires_grad]


def _role(model: Any, name: str) -> str:
    """Where a parameter is: in the classifier, in a temporal module, or in the rest, the backbone."""
    heads = model.get_classifier(name_only=True)
    if any(name.startswith(f"{head}.") for head in ((heads,) if isinstance(heads, str) else heads)):
        return "head"
    owners = (model.get_submodule(name[:end]) for end, letter in enumerate(name) if letter == ".")
    return "temporal" if any(isinstance(owner, TemporalModule) for owner in owners) else "backbone"


def _kinds(model: Any) -> dict[str, str]:
    """What each parameter is, by name."""
    exempt = model.no_weight_decay()
    kinds = {}
    for name, parameter in model.named_parameters():
        owner = model.get_submodule(name.rpartition(".")[0])
        if isinstance(owner, Fusion):
            kinds[name] = "fusion"
        elif isinstance(owner, NORMS):
            kinds[name] = "norms"
        elif name.endswith("bias"):
            kinds[name] = "biases"
        else:
            kinds[name] = "others" if parameter.ndim <= 1 or name in exempt else "weights"
    return kinds


def _layer_scales(model: Any, layer_decay: float | None) -> dict[str, float]:
    """The factor that layer decay gives each parameter, as timm counts layers; empty without layer decay."""
    if layer_decay is None:
        return {}
    layers = group_parameters(model, model.group_matcher(coarse=False), reverse=True)
    last = max(layers.values())
    return {name: layer_decay ** (last - layer) for name, layer in layers.items()}


class GradClipper:
    """Limits gradients and averages the norms that they had before, gathered on the device so that nothing waits.

    Args:
        limit: Largest gradient; 0 for no limit.
        mode: Measure that is limited: `norm`, `value` or `agc`, as in timm.
    """

    def __init__(self, limit: float, mode: str = "norm"):
        self.limit = limit
        self.mode = mode
        self._sum: Tensor | float = 0.0
        self._count: Tensor | int = 0

    def clip(self, parameters: Iterable[nn.Parameter]) -> None:
        """Limits the gradients of an update, and counts the norm that they had.

        Args:
            parameters: Parameters of the model; those without a gradient are left out.
        """
        having = [parameter for parameter in parameters if parameter.grad is not None]
        if self.limit and self.mode == "norm":
            norm = clip_grad_norm_(having, self.limit)
        else:
            norm = get_total_norm([parameter.grad for parameter in having if parameter.grad is not None])
            if self.limit:
                dispatch_clip_grad(having, self.limit, mode=self.mode)
        finite = norm.isfinite()  # the scaler of float16 leaves other updates out, too
        self._sum = self._sum + torch.where(finite, norm, 0)
        self._count = self._count + finite

    def average_norm(self) -> float | None:
        """Returns the mean of the norms since the last reset; None without any."""
        count = int(self._count)
        return float(self._sum) / count if count else None

    def reset(self) -> None:
        """Begins a new epoch."""
        self._sum, self._count = 0.0, 0

    def state_dict(self) -> dict[str, Any]:
        """Returns what resuming within an epoch needs."""
        return {"sum": float(self._sum), "count": int(self._count)}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Undoes `state_dict`.

        Args:
            state: What it returned.
        """
        self._sum, self._count = state["sum"], state["count"]


def orthogonalize_in_float32() -> None:
    """Makes timm's Muon orthogonalise its updates in float32 from now on.

    timm does so in bfloat16 and offers no choice. A GPU is fast at bfloat16; a CPU without bfloat16 units takes six
    times as long as for float32 (190 against 33 ms an update of the tiny test_resnet on 2 cores).
    """
    current = muon.zeropower_via_newtonschulz
    if not isinstance(current, partial) and not hasattr(current, "__wrapped__"):
        muon.zeropower_via_newtonschulz = wraps(current)(partial(current, dtype=torch.float32))
