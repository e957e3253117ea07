"""Our compared systems against the official codes: the largest relative difference, in float64, on random weights.

    git clone https://github.com/mit-han-lab/temporal-shift-module official/temporal-shift-module
    git clone https://github.com/Phoenix1327/tea-action-recognition official/tea-action-recognition
    git clone https://github.com/chenxuluo/GST-video official/GST-video
    git clone https://github.com/swathikirans/GSM official/GSM
    git clone https://github.com/liu-zhy/temporal-adaptive-module official/temporal-adaptive-module
    git clone https://github.com/zhoubolei/TRN-pytorch official/TRN-pytorch
    git clone https://github.com/facebookresearch/SlowFast official/SlowFast
    python benchmarks/official_parity.py --official-dir official

Each system runs with the same weights in both codes, in evaluation and in training mode (batch statistics, no dropout).
Compared are the output and the gradients of the input and of every parameter: for each tensor, the largest absolute
difference over its largest absolute value. The result goes to docs/official_parity.csv, which
`benchmarks/psn_paper_tables.py` prints. No official code is copied; what is patched for today's Python is said below.
"""

import argparse
import re
import sys
import types
from collections.abc import Callable
from pathlib import Path
from typing import Any

import timm
import torch
from torch import Tensor, nn

from timm_video_psn.files import write_csv
from timm_video_psn.layers import fold_clip, unfold_clip
from timm_video_psn.layers.baselines.gate_shift import GateShift
from timm_video_psn.layers.baselines.non_local import NonLocal
from timm_video_psn.layers.consensus import MultiScaleRelation
from timm_video_psn.models import convert_keys

ROWS = Path(__file__).parents[1] / "docs" / "official_parity.csv"
FRAMES, SIZE_PX, CLASSES = 8, 64, 5
Found = tuple[Tensor, dict[str, Tensor]]  # the output, and the gradients under our names, in our shapes


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--official-dir", type=Path, required=True, metavar="DIR", help="folder of the clones")
    parser.add_argument("--systems", nargs="+", choices=list(SYSTEMS), default=list(SYSTEMS), metavar="SYSTEM")
    args = parser.parse_args()
    torch.set_default_dtype(torch.float64)
    rows = []
    for system in args.systems:
        code, compare = SYSTEMS[system]
        torch.manual_seed(0)
        run = compare(args.official_dir)
        for mode in ("evaluation", "training"):
            ours, theirs = run(mode == "training")
            output, gradient = differences(ours, theirs)
            rows.append([system, code, mode, f"{output:.0e}", f"{gradient:.0e}"])
            print(*rows[-1], sep=", ", flush=True)
    if args.systems == list(SYSTEMS):
        write_csv(ROWS, ("system", "official code", "mode", "output", "gradients"), rows)


def differences(ours: Found, theirs: Found) -> tuple[float, float]:
    """Relative differences of the outputs, and the largest one of the gradients."""
    (output, gradients), (expected, wanted) = ours, theirs
    if gradients.keys() != wanted.keys():
        raise ValueError(f"not compared: {sorted(gradients.keys() ^ wanted.keys())}")
    # The gradient of a bias before a batch norm or a softmax is zero, up to rounding: it counts by the largest of all.
    scale = max(float(each.abs().max()) for each in wanted.values()) * 1e-3
    return relative(output, expected), max(relative(gradients[name], wanted[name], scale) for name in gradients)


def relative(found: Tensor, expected: Tensor, least: float = 0.0) -> float:
    """The largest difference over the largest value."""
    return float((found - expected).abs().max()) / max(float(expected.abs().max()), least)


def randomise(model: nn.Module, forward: Callable[[Tensor], Tensor], x: Tensor) -> None:
    """Random weights, away from initialisations that would hide a difference, and the statistics of an input."""
    for name, value in [*model.named_parameters(), *model.named_buffers()]:
        if value.dtype.is_floating_point:
            positive = name.endswith(("running_var", "norm.weight")) or (value.ndim == 1 and name.endswith("weight"))
            fan_in = value[0].numel() if value.ndim > 1 else 1
            value.data = 0.5 + torch.rand_like(value) if positive else torch.randn_like(value) * (2 / fan_in) ** 0.5
            if value.ndim == 1 and not positive:
                value.data *= 0.1
    for norm in norms_of(model):
        norm.momentum = 1.0
    with torch.no_grad():
        forward(x)
    for norm in norms_of(model):
        norm.momentum = 0.1


def norms_of(model: nn.Module) -> list[Any]:
    """Its batch norms."""
    return [module for module in model.modules() if isinstance(module, nn.modules.batchnorm._BatchNorm)]


def run_network(model: nn.Module, x: Tensor, forward: Callable[[Tensor], Tensor], training: bool) -> Found:
    """The output, and the gradients of its weighted sum."""
    model.train(training)
    for module in model.modules():
        if isinstance(module, nn.Dropout):
            module.eval()
    for norm in norms_of(model):
        norm.momentum = 0.0  # the second mode starts with the statistics of the first
    x = x.detach().clone().requires_grad_()
    output = forward(x)
    weights = torch.cos(torch.arange(output.numel(), dtype=output.dtype)).view_as(output)
    named = {name: each for name, each in model.named_parameters() if each.requires_grad}
    gradients = torch.autograd.grad((output * weights).sum(), [x, *named.values()])
    return output.detach(), {"input": gradients[0], **dict(zip(named, gradients[1:], strict=True))}


def load(path: Path, name: str, patch: Callable[[str], str] = str, **known: Any) -> Any:
    """A single file of a clone as a module."""
    module = types.ModuleType(name)
    module.__dict__.update(known, __file__=str(path))
    exec(compile(patch(path.read_text(encoding="utf-8")), str(path), "exec"), module.__dict__)
    return module


def whole_network(
    ours: Any, theirs: nn.Module, source: str, folded: bool = True
) -> Callable[[bool], tuple[Found, Found]]:
    """A network whose official weights `convert_keys` translates; it takes folded frames, or clips."""

    def renamed(values: dict[str, Tensor]) -> dict[str, Tensor]:
        named = {f"base_model.{name}": each for name, each in values.items() if not name.startswith("fc.")}
        return {**named, **{f"new_{name}": each for name, each in values.items() if name.startswith("fc.")}}

    def official(x: Tensor) -> Tensor:
        return theirs(x.transpose(1, 2).flatten(0, 1) if folded else x).unflatten(0, (-1, FRAMES)).mean(1)

    clip = torch.randn(1, 3, FRAMES, SIZE_PX, SIZE_PX)
    randomise(theirs, official, clip)
    ours.load_state_dict(convert_keys(ours, renamed(theirs.state_dict()), source).state_dict)

    def run(training: bool) -> tuple[Found, Found]:
        found = run_network(ours, clip, ours, training)
        output, gradients = run_network(theirs, clip, official, training)
        own = {**theirs.state_dict(), **{name: each for name, each in gradients.items() if name != "input"}}
        converted = convert_keys(ours, renamed(own), source).state_dict
        return found, (output, {name: converted.get(name, gradients["input"]) for name in found[1]})

    return run


def tsm(folder: Path) -> Callable[[bool], tuple[Found, Found]]:
    """ResNet-18 with `make_temporal_shift`."""
    import torchvision

    official = load(folder / "temporal-shift-module/ops/temporal_shift.py", "temporal_shift", print=lambda *_: None)
    theirs = torchvision.models.resnet18(num_classes=CLASSES)
    official.make_temporal_shift(theirs, FRAMES)
    return whole_network(timm.create_model("tsm_resnet18", num_classes=CLASSES), theirs, "tsm")


def tea(folder: Path) -> Callable[[bool], tuple[Found, Found]]:
    """`tea50_8f`. Patched: its table of addresses, which lacks a comma, and the pool of 7 x 7 for 224 pixels."""
    path = folder / "tea-action-recognition/ops/tea50_8f.py"
    addresses = re.compile(r"model_urls = \{.*?\n\}", re.DOTALL)
    official = load(path, "tea50_8f", lambda text: addresses.sub("model_urls = {}", text))
    theirs = official.tea50_8f(num_classes=CLASSES)
    theirs.avgpool = nn.AdaptiveAvgPool2d(1)
    return whole_network(timm.create_model("tea_res2net50_26w_4s", num_classes=CLASSES), theirs, "tea")


def gst(folder: Path) -> Callable[[bool], tuple[Found, Found]]:
    """`ResNet` of GST.py, ResNet-50, alpha 4, beta 2. Patched: the pool of 7 x 7 for 224 pixels."""
    official = load(folder / "GST-video/GST.py", "GST")
    theirs = official.ResNet(official.Bottleneck, [3, 4, 6, 3], 4, 2, num_classes=CLASSES)
    theirs.avgpool = nn.AdaptiveAvgPool2d(1)
    return whole_network(timm.create_model("gst_resnet50", num_classes=CLASSES), theirs, "gst", folded=False)


def tam(folder: Path) -> Callable[[bool], tuple[Found, Found]]:
    """ResNet-50 with `make_temporal_modeling`."""
    import torchvision

    official = load(
        folder / "temporal-adaptive-module/ops/temporal_module.py", "temporal_module", print=lambda *_: None
    )
    theirs = torchvision.models.resnet50(num_classes=CLASSES)
    official.make_temporal_modeling(theirs, FRAMES)
    return whole_network(timm.create_model("tam_resnet50", num_classes=CLASSES), theirs, "tam")


def one_module(
    ours: nn.Module, theirs: nn.Module, form: Callable[[str, Tensor], Tensor], names: dict[str, str], channels: int
) -> Callable[[bool], tuple[Found, Found]]:
    """A module on a clip's maps; `names` are theirs by ours, `form` gives a tensor of theirs the form of ours."""
    clip = torch.randn(2, channels, FRAMES, 6, 4)
    randomise(theirs, lambda x: in_its_layout(theirs, x), clip)
    state = theirs.state_dict()
    ours.load_state_dict({name: form(name, state[names[name]]) for name in ours.state_dict()})

    def run(training: bool) -> tuple[Found, Found]:
        found = run_network(ours, clip, lambda x: unfold_clip(ours(fold_clip(x)), FRAMES), training)
        output, gradients = run_network(theirs, clip, lambda x: in_its_layout(theirs, x), training)
        return found, (
            output,
            {name: form(name, gradients["input" if name == "input" else names[name]]) for name in found[1]},
        )

    return run


def in_its_layout(module: nn.Module, x: Tensor) -> Tensor:
    """Folded for GSM's module; a clip for the non-local block."""
    if hasattr(module, "num_segments"):
        return module(x.transpose(1, 2).flatten(0, 1)).unflatten(0, (-1, FRAMES)).transpose(1, 2)
    return module(x)


def gsm(folder: Path) -> Callable[[bool], tuple[Found, Found]]:
    """`gsmModule`. Patched: its zeros, which are made on a GPU."""
    official = load(folder / "GSM/gsm.py", "gsm")
    official.ftens = torch.DoubleTensor
    names = {"gate.weight": "conv3D.weight", "gate_bias": "conv3D.bias"}
    names |= {f"norm.{key}": f"bn.{key}" for key in nn.BatchNorm2d(1).state_dict()}

    def form(name: str, value: Tensor) -> Tensor:
        return value.transpose(1, 2).flatten(0, 1) if name == "gate.weight" else value

    return one_module(GateShift(16, FRAMES, shuffle=True), official.gsmModule(16, FRAMES), form, names, 16)


def non_local(folder: Path) -> Callable[[bool], tuple[Found, Found]]:
    """PySlowFast's `Nonlocal`."""
    official = load(folder / "SlowFast/slowfast/models/nonlocal_helper.py", "nonlocal_helper")
    names = {
        f"{ours}.{leaf}": f"conv_{ours}.{leaf}" for ours in ("theta", "phi", "g", "out") for leaf in ("weight", "bias")
    }
    names |= {f"norm.{key}": f"bn.{key}" for key in nn.BatchNorm2d(1).state_dict()}

    def form(name: str, value: Tensor) -> Tensor:
        return value[..., 0] if value.ndim == 5 and name != "input" else value

    return one_module(NonLocal(16, FRAMES), official.Nonlocal(16, 8, [1, 2, 2]), form, names, 16)


def trn(folder: Path) -> Callable[[bool], tuple[Found, Found]]:
    """`RelationModuleMultiScale`, which draws at random: here it draws what ours takes in evaluation."""
    official = load(folder / "TRN-pytorch/TRNmodule.py", "TRNmodule", print=lambda *_: None)
    drawing = types.SimpleNamespace(choice=lambda count, size, replace: [i * count // size for i in range(size)])
    official.np = types.SimpleNamespace(random=drawing)
    ours, theirs = MultiScaleRelation(12, FRAMES, CLASSES), official.RelationModuleMultiScale(12, FRAMES, CLASSES)
    ours.load_state_dict(
        {name: theirs.state_dict()[name.replace("relations", "fc_fusion_scales")] for name in ours.state_dict()}
    )
    features = torch.randn(3, FRAMES, 12)

    def run(training: bool) -> tuple[Found, Found]:
        output, gradients = run_network(theirs, features, theirs, training)
        ours._draw = type(ours.eval())._draw.__get__(types.SimpleNamespace(drawn=3, training=False))  # type: ignore
        renamed = {name.replace("fc_fusion_scales", "relations"): each for name, each in gradients.items()}
        return run_network(ours, features, ours, training), (output, renamed)

    return run


NO_BLOCKS: tuple[tuple[int, ...], ...] = ((), (), (), ())
KERNELS = {  # PySlowFast's _TEMPORAL_KERNEL_BASIS: of the stem, and of the blocks of each stage in turn
    "i3d": (5, ([3], [3, 1], [3, 1], [1, 3])),
    "slow": (1, ([1], [1], [3], [3])),
}


def i3d(folder: Path, kind: str = "i3d", blocks: tuple[tuple[int, ...], ...] = NO_BLOCKS) -> Any:
    """PySlowFast's stem and stages of ResNet-50 with its temporal kernels; its own models need more packages."""
    stem, stages = (_slowfast(folder, name) for name in ("stem_helper", "resnet_helper"))
    theirs, (taps, kernels), depths = nn.Module(), KERNELS[kind], (3, 4, 6, 3)
    theirs.s1 = stem.VideoModelStem([3], [64], [[taps, 7, 7]], [[1, 2, 2]], [[taps // 2, 3, 3]])
    for i, (kernel, depth) in enumerate(zip(kernels, depths, strict=True)):
        width = 64 * 2**i
        stage = stages.ResStage(
            dim_in=[64 if i == 0 else 2 * width],
            dim_out=[4 * width],
            dim_inner=[width],
            temp_kernel_sizes=[kernel],
            stride=[1 if i == 0 else 2],
            num_blocks=[depth],
            num_groups=[1],
            num_block_temp_kernel=[depth],
            nonlocal_inds=[list(blocks[i])],
            nonlocal_group=[1],
            nonlocal_pool=[[1, 2, 2]],
            dilation=[1],
        )
        theirs.add_module(f"s{i + 2}", stage)
    theirs.head = nn.Linear(2048, CLASSES)
    temporal = "i3d_nl" if any(blocks) else kind
    ours = timm.create_model("video_net", backbone="resnet50", temporal=temporal, num_classes=CLASSES)

    def forward(x: Tensor) -> Tensor:
        y = theirs.s2(theirs.s1([x]))
        y = theirs.s5(theirs.s4(theirs.s3([nn.functional.max_pool3d(y[0], (2 if kind == "i3d" else 1, 1, 1))])))
        return theirs.head(y[0].mean((2, 3, 4)))

    clip = torch.randn(1, 3, FRAMES, SIZE_PX, SIZE_PX)
    randomise(theirs, forward, clip)
    state = theirs.state_dict()
    ours.load_state_dict({name: _inflated(name, state[_slowfast_name(name)], ours) for name in ours.state_dict()})

    def run(training: bool) -> tuple[Found, Found]:
        found = run_network(ours, clip, ours, training)
        output, gradients = run_network(theirs, clip, forward, training)
        named = {name: name if name == "input" else _slowfast_name(name) for name in found[1]}
        return found, (output, {name: _inflated(name, gradients[named[name]], ours) for name in found[1]})

    return run


def _slowfast(folder: Path, name: str) -> Any:
    """A file of PySlowFast; what it imports from operators.py needs pytorchvideo and serves other networks."""
    place = folder / "SlowFast/slowfast/models"
    if "slowfast.models" not in sys.modules:
        for package in ("slowfast", "slowfast.models", "slowfast.models.operators"):
            sys.modules[package] = types.ModuleType(package)
        sys.modules["slowfast.models.operators"].__dict__.update(SE=None, Swish=None)
        for each in ("common", "nonlocal_helper"):
            sys.modules[f"slowfast.models.{each}"] = load(place / f"{each}.py", f"slowfast.models.{each}")
    return load(place / f"{name}.py", name)


def _slowfast_name(name: str) -> str:
    """Ours -> PySlowFast's."""
    name = name.removeprefix("backbone.")
    stem = {"conv1.conv": "conv", "conv1": "conv", "bn1": "bn"}
    if not name.startswith("layer"):
        layer, _, leaf = name.rpartition(".")
        return f"head.{leaf}" if layer == "fc" else f"s1.pathway0_stem.{stem[layer]}.{leaf}"
    stage, block, rest = re.fullmatch(r"layer(\d)\.(\d+)\.(.*)", name).groups()  # type: ignore[union-attr]
    prefix = f"s{int(stage) + 1}.pathway0_"
    if ".temporal." in f".{rest}":
        part, leaf = rest.rpartition("temporal.")[2].removeprefix("1.").rsplit(".", 1)
        return f"{prefix}nonlocal{block}.{'bn' if part == 'norm' else f'conv_{part}'}.{leaf}"
    parts = {"conv1": "a", "bn1": "a_bn", "conv2": "b", "bn2": "b_bn", "conv3": "c", "bn3": "c_bn"}
    layer, _, leaf = rest.rpartition(".")
    if layer.startswith("downsample"):
        return f"{prefix}res{block}.branch1{'' if layer.endswith('0') else '_bn'}.{leaf}"
    return f"{prefix}res{block}.branch2.{parts[layer.removesuffix('.conv')]}.{leaf}"


def _inflated(name: str, value: Tensor, ours: nn.Module) -> Tensor:
    """A kernel (O, I, K, k, k) in our form, (K * O, I, k, k)."""
    if value.ndim < 5 or name == "input":
        return value
    return value.permute(2, 0, 1, 3, 4).flatten(0, 1) if value.shape[2] > 1 else value[:, :, 0]


def i3d_nl(folder: Path) -> Callable[[bool], tuple[Found, Found]]:
    """The same with five non-local blocks."""
    return i3d(folder, "i3d", ((), (1, 3), (1, 3, 5), ()))


def slow(folder: Path) -> Callable[[bool], tuple[Found, Found]]:
    """Its Slow pathway alone."""
    return i3d(folder, "slow")


SYSTEMS: dict[str, tuple[str, Callable[[Path], Callable[[bool], tuple[Found, Found]]]]] = {
    "TSM": ("mit-han-lab/temporal-shift-module, make_temporal_shift on ResNet-18", tsm),
    "TEA": ("Phoenix1327/tea-action-recognition, tea50_8f", tea),
    "GST": ("chenxuluo/GST-video, ResNet-50, alpha 4, beta 2", gst),
    "TAM": ("liu-zhy/temporal-adaptive-module, make_temporal_modeling on ResNet-50", tam),
    "GSM": ("swathikirans/GSM, gsmModule", gsm),
    "NL": ("facebookresearch/SlowFast, Nonlocal", non_local),
    "I3D": ("facebookresearch/SlowFast, I3D ResNet-50", i3d),
    "I3D+NL": ("facebookresearch/SlowFast, I3D ResNet-50 with five non-local blocks", i3d_nl),
    "Slow": ("facebookresearch/SlowFast, Slow ResNet-50", slow),
    "TRN": ("zhoubolei/TRN-pytorch, RelationModuleMultiScale", trn),
}


if __name__ == "__main__":
    main()
