"""PSN with default settings on timm's models: supported, refused with its reason, or failed.

    python benchmarks/backbone_sweep.py                       # the smallest model of every file; an hour on 2 cores
    python benchmarks/backbone_sweep.py --modules swin_transformer hiera
    python benchmarks/backbone_sweep.py --small 3             # also every model of at most 3 million parameters
    python benchmarks/backbone_sweep.py --small 3 --report > docs/backbones.md

`SUPPORTED` says what a backbone has to do. Results are kept in --output, one line a model; for the same timm only
failures are measured again, so that an interrupted sweep resumes.
"""

import argparse
import json
import warnings
from pathlib import Path
from typing import Any

import timm
import torch
from timm.models import model_entrypoint
from tqdm import tqdm

import timm_video_psn  # noqa: F401  registers the models
from timm_video_psn.files import write_text
from timm_video_psn.layers import TemporalModule
from timm_video_psn.surgery import CHILD, injected

SUPPORTED = """\
A backbone is supported if it passes three checks with random weights:

1. With the same weights, the clip's logits equal the frame average of timm's image model's logits, bit for bit.
2. Every temporal module is called exactly once.
3. A training step on 2-frame clips gives every parameter of every temporal module a gradient.
"""


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--modules", nargs="+", default=timm_files(), help="timm's model files; default: all")
    parser.add_argument("--small", type=float, metavar="M", help="add every model of at most M million parameters")
    parser.add_argument("--output", type=Path, default=Path("output/backbone_sweep.jsonl"))
    parser.add_argument("--report", action="store_true", help="print what is known as Markdown, and measure nothing")
    args = parser.parse_args()

    sizes = all_sizes(args.modules, args.output.with_suffix(".sizes.json"))
    first = {min(known, key=lambda name: known[name]): module for module, known in sizes.items()}
    small = {
        name: module for module, known in sizes.items() for name, size in known.items() if size <= (args.small or 0)
    }
    results = read_results(args.output, again=not args.report)
    if not args.report:
        warnings.filterwarnings("ignore")
        missing = [item for item in {**first, **small}.items() if item[0] not in results]
        for name, module in tqdm(sorted(missing, key=lambda item: sizes[item[1]][item[0]])):  # the small ones first
            found = {"module": module, "millions": round(sizes[module][name], 2), **examine(name)}
            results[name] = {"timm": timm.__version__, **found}
            args.output.parent.mkdir(parents=True, exist_ok=True)
            with args.output.open("a", encoding="utf-8") as file:
                file.write(json.dumps(results[name]) + "\n")
            tqdm.write(line(results[name]))
    print("# PSN on timm's backbones\n")
    print(f"timm {timm.__version__}, default settings, measured by `python benchmarks/backbone_sweep.py`. {SUPPORTED}")
    print("Branches widened: the levels where a quarter of the channels would leave branches without any, so that each")
    print("gets four.\n\n## The smallest model of every file\n")
    report([results[name] for name in first if name in results], len(first))
    if small:
        print(f"\n## Every model of at most {args.small:g} million parameters\n")
        report([results[name] for name in small if name in results], len(small))


def timm_files() -> list[str]:
    """Timm's model files; its registry now lists ours too."""
    return [
        module
        for module in timm.list_modules()
        if model_entrypoint(timm.list_models(module=module)[0]).__module__.startswith("timm.")
    ]


def read_results(path: Path, again: bool) -> dict[str, dict[str, Any]]:
    """What earlier calls found with this timm, but what failed, if that is to be measured again; no line cut off."""
    found = {}
    for text in path.read_text(encoding="utf-8").splitlines() if path.exists() else ():
        try:
            result = json.loads(text)
        except json.JSONDecodeError:
            continue
        if result["timm"] == timm.__version__ and (not again or result["status"] != "failed"):
            found[result["model"]] = result
    return found


def examine(name: str) -> dict[str, Any]:
    """Status of a model, with the reason if it is not supported."""
    result: dict[str, Any] = {"model": name}
    try:
        plain = timm.create_model(name, num_classes=7).eval()
        size = input_size(plain)
        logits = plain(torch.zeros(1, 3, *size))
    except Exception as error:
        return {**result, "status": "no classifier", "reason": one_line(error)}
    if not isinstance(logits, torch.Tensor) or logits.shape != (1, 7):
        return {**result, "status": "no classifier", "reason": "num_classes=7 does not give 7 logits"}
    torch.manual_seed(0)
    try:
        net = timm.create_model("video_net", backbone=name, temporal="psn", num_frames=2, num_classes=7)
    except ValueError as error:
        return {**result, "status": "refused", "reason": one_line(error)}
    except Exception as error:
        return {**result, "status": "failed", "reason": one_line(error)}
    widened = sum(bool(item.note) for item in injected(net))
    result |= {"sites": len(net.sites), "widened": widened, "kind": kind(net)}
    try:
        check(net, plain, torch.randn(2, 3, 2, *size))
    except Exception as error:
        return {**result, "status": "failed", "reason": one_line(error)}
    return {**result, "status": "supported", "reason": ""}


def all_sizes(modules: list[str], path: Path) -> dict[str, dict[str, float]]:
    """Millions of parameters of each model of each file, kept in a JSON file: building 1,300 models takes a while."""
    known = json.loads(path.read_text(encoding="utf-8")) if path.exists() else {}
    found = known.get(timm.__version__, {})
    for module in tqdm([module for module in modules if module not in found], desc="sizes"):
        found[module] = model_sizes(module)
        path.parent.mkdir(parents=True, exist_ok=True)
        write_text(path, json.dumps({timm.__version__: found}))
    return {module: found[module] for module in modules}


def model_sizes(module: str) -> dict[str, float]:
    """Millions of parameters of each model of a file."""
    counts = {}
    for name in timm.list_models(module=module):
        with torch.device("meta"):
            counts[name] = sum(parameter.numel() for parameter in timm.create_model(name).parameters()) / 1e6
    return counts


def input_size(model: Any) -> tuple[int, int]:
    """Height and width: the model's own where they are fixed, else small."""
    cfg = model.pretrained_cfg
    if cfg.get("fixed_input_size"):
        return tuple(cfg["input_size"][1:])
    return tuple((cfg.get("min_input_size") or (3, 96, 96))[1:])


def kind(net: Any) -> str:
    """What the backbone passes on where the temporal modules sit."""
    kinds = {type(item.module).__name__: str(item.module.extra_repr()) for item in injected(net)}
    if "EachItem" in kinds:
        return "tuple or list"
    return kinds["MapView"].partition(",")[0] if "MapView" in kinds else "NCHW"


def check(net: Any, plain: Any, clip: torch.Tensor) -> None:
    """Raise what is not as it must be."""
    state = net.backbone.state_dict()
    plain.load_state_dict({key: value for key, value in state.items() if CHILD not in key.split(".")})
    calls = {id(module): 0 for module in net.modules() if isinstance(module, TemporalModule)}

    def count(module: Any, *_: Any) -> None:
        calls[id(module)] += 1

    for module in net.modules():
        if isinstance(module, TemporalModule):
            module.register_forward_hook(count)
    net.eval()
    with torch.no_grad():
        frames = plain(clip.transpose(1, 2).flatten(0, 1))
        expected, found = frames.unflatten(0, clip.shape[:3:2]).mean(1), net(clip)
    if not torch.equal(found, expected):
        raise AssertionError(f"logits differ from the image model's by {(found - expected).abs().max():.1e}")
    if set(calls.values()) != {1}:
        raise AssertionError(f"temporal modules were called {sorted(calls.values())} times, not once each")
    net.train()
    net(clip).square().sum().backward()
    without = [name for name, value in net.named_parameters() if f".{CHILD}." in name and value.grad is None]
    if without:
        raise AssertionError(f"no gradient in {len(without)} parameters of temporal modules, as {without[0]}")


def one_line(error: Exception) -> str:
    return f"{type(error).__name__}: {' '.join(str(error).split())}"[:300]


def line(result: dict[str, Any]) -> str:
    return f"{result['status']:<14}{result['module']:<28}{result['model']:<36}{result['reason']}"


def report(results: list[dict[str, Any]], asked: int) -> None:
    """A Markdown table, and the count."""
    print("| timm file | model | parameters, M | feature layout | sites | branches widened | status |")
    print("|---|---|---|---|---|---|---|")
    for result in sorted(results, key=lambda result: (result["module"], result["millions"])):
        status = result["status"] + (f": {result['reason']}" if result["reason"] else "")
        cells = [result["module"], result["model"], result["millions"]]
        cells += [result.get(key, "") for key in ("kind", "sites", "widened")]
        print("| " + " | ".join(map(str, [*cells, status.replace("|", "/")])) + " |")
    counts = {status: sum(result["status"] == status for result in results) for status in ("supported", "refused")}
    classifiers = [result for result in results if result["status"] != "no classifier"]
    share = counts["supported"] / max(1, len(classifiers))
    failed = len(classifiers) - sum(counts.values())
    none = len(results) - len(classifiers)
    print(
        f"\n{counts['supported']} of {len(classifiers)} models with classifiers are supported ({share:.1%}),", end=" "
    )
    print(f"{counts['refused']} rejected, {failed} failed; {none} have no classifier.", end="")
    print(f" {asked - len(results)} are not measured yet." if asked > len(results) else "")


if __name__ == "__main__":
    main()
