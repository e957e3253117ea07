#!/usr/bin/env python
"""Bring weights of others into the form that training leaves: a folder with model.safetensors and config.json.

python hub/convert.py --source tsm CHECKPOINT --model tsm_resnet50 --num-frames 8 --dataset sthv1 \
    --class-names category.txt --out converted/tsm_resnet50

The sources are the official codes of TSM and GST, and ResNets of torchvision and timm. Every name of the file is either
taken or an error, and `conversion.csv` in the folder says what each became. Nothing that the file holds is executed.
"""

import argparse
import csv
import hashlib
import pickle
import re
import sys
import tempfile
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
import safetensors.torch
import timm
import torch
from timm.data import IMAGENET_DEFAULT_MEAN, IMAGENET_DEFAULT_STD
from timm.utils import ParseKwargs
from torch import Tensor

from timm_video_psn.data import SAMPLINGS, label_fingerprint
from timm_video_psn.data.datasets.parsing import read_names
from timm_video_psn.engine.checkpoint import export_model
from timm_video_psn.engine.protocol import Protocol
from timm_video_psn.files import atomic_path
from timm_video_psn.models import ConvertedKeys, VideoNet, convert_keys
from timm_video_psn.models.create import check_model_name
from timm_video_psn.version import package_versions

# What the test commands of the two codes do to a frame: short side 256, centre crop 224, PIL's bilinear filter.
OFFICIAL = {
    "input_size": (3, 224, 224),
    "crop_pct": 0.875,
    "crop_mode": "center",
    "interpolation": "bilinear",
    "mean": IMAGENET_DEFAULT_MEAN,
    "std": IMAGENET_DEFAULT_STD,
}
REPOSITORIES = {
    "tsm": "https://github.com/mit-han-lab/temporal-shift-module",
    "gst": "https://github.com/chenxuluo/GST-video",
    "torchvision": "https://github.com/pytorch/vision",
    "timm": "https://github.com/huggingface/pytorch-image-models",
}
NUM_CLASSES = {"sthv1": 174, "sthv2": 174, "k400": 400, "diving48": 48}
SORTED = ("sthv1", "sthv2")  # both codes number these classes alphabetically; official files list those of V1 otherwise
ENTRIES = ("state_dict", "model")  # where TSM, GST and timm, and where torchvision's training keeps the weights


@dataclass(frozen=True)
class Weights:
    """The weights of a file, and what else it holds, in words."""

    state_dict: dict[str, Tensor]
    rest: dict[str, str]


def main(argv: Sequence[str] | None = None) -> int:
    """Run the script.

    Args:
        argv: arguments; None for those of the process.

    Returns:
        The exit code: 0, or 2 for an error.
    """
    options = _parser().parse_args(argv)
    try:
        convert(options)
    except (ValueError, TypeError, OSError) as error:
        print(f"convert.py: error: {error}", file=sys.stderr)
        return 2
    return 0


def convert(options: argparse.Namespace) -> None:
    """Read, rename, check, write, and load what was written.

    Args:
        options: as the command line gives them.

    Raises:
        ValueError: the file, the model, the class names and the data set do not fit one another.
        FileNotFoundError: there is no such file.
    """
    if options.out.exists() and (not options.out.is_dir() or any(options.out.iterdir())):
        raise ValueError(f"{options.out} is not empty; name another folder with --out, or remove that one")
    weights = read_weights(options.checkpoint, options.entry)
    model = _create_model(options)
    classes = _classes_of(weights.state_dict, model)
    names = None if options.class_names is None else read_class_names(options.class_names, options.dataset)
    check_classes(classes, options.dataset, names)
    model.reset_classifier(classes)
    converted = convert_keys(model, weights.state_dict, options.source)
    model.load_state_dict(converted.state_dict)
    model.eval()
    config = _config(options, model, weights, names)
    rows = report(converted, weights)
    options.out.parent.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(prefix=".convert-", dir=options.out.parent) as temporary:
        folder = Path(temporary) / "model"  # becomes --out when it has proved to load
        export_model(model, folder, config, {"num_frames": options.num_frames, **options.model_kwargs})
        _write_report(folder / "conversion.csv", rows)
        _check_reloaded(model, folder)
        folder.replace(options.out)
    _print_summary(options, rows, names)


def read_weights(path: Path, entry: str | None = None) -> Weights:
    """The tensors of a checkpoint, none of whose code is run.

    Args:
        path: a .safetensors file, or one of `torch.save` in either of its formats.
        entry: where in the file the weights are; None for the usual places.

    Raises:
        FileNotFoundError: there is no such file.
        ValueError: it is damaged, holds objects that are no weights, or no weights are where they should be.
    """
    if not path.is_file():
        raise FileNotFoundError(f"checkpoint {path} not found")
    content = _content(path)
    if not isinstance(content, Mapping):
        raise ValueError(f"{path} holds a {type(content).__name__}, not a dict; save the model's state_dict()")
    found = [name for name in ENTRIES if isinstance(content.get(name), Mapping)]
    where = entry or (found[0] if found else None)
    if entry is not None and not isinstance(content.get(entry), Mapping):
        raise ValueError(f"--entry {entry} is not in {path}, or no dict; it has {', '.join(map(str, content))}")
    state_dict = dict(content if where is None else content[where])
    odd = [str(name) for name, value in state_dict.items() if not isinstance(value, Tensor)]
    if odd or not state_dict:
        raise ValueError(
            f"{where or 'the top'} of {path} is no state dict: {', '.join(odd[:5]) or 'it is empty'} is no tensor; "
            f"--entry names another place; the file has {', '.join(map(str, list(content)[:10]))}"
        )
    rest = {} if where is None else {str(key): _described(value) for key, value in content.items() if key != where}
    return Weights(state_dict, rest)


def read_class_names(path: Path, dataset: str) -> list[str]:
    """Class names in label order.

    Args:
        path: a name a line, or JSON: a list of names, or an object of name: label.
        dataset: the data set that they are of.

    Raises:
        ValueError: names are there twice, or not in the order in which TSM and GST number them.
    """
    names = [name.replace("[", "").replace("]", "") if dataset in SORTED else name for name in read_names(path)]
    twice = sorted({name for name in names if names.count(name) > 1})
    if twice:
        raise ValueError(f"{path} names classes twice: {', '.join(twice[:5])}; a class a line is expected")
    if dataset in SORTED and names != sorted(names):
        place = next(i for i, pair in enumerate(zip(names, sorted(names), strict=True)) if pair[0] != pair[1])
        raise ValueError(
            f"{path} has {names[place]!r} as class {place}, but the classes of {dataset} are numbered alphabetically, "
            f"which makes it {sorted(names)[place]!r}; sort the file (LC_ALL=C sort), or use TSM's category.txt"
        )
    return names


def check_classes(classes: int, dataset: str, names: Sequence[str] | None) -> None:
    """Raise where the classifier, the data set and the class names disagree.

    Args:
        classes: outputs of the checkpoint's classifier.
        dataset: name of the data set; the number of classes of those that the package reads is known.
        names: class names, if there are any.
    """
    expected = NUM_CLASSES.get(dataset, classes)
    if classes != expected:
        raise ValueError(f"the checkpoint has {classes} classes, but --dataset {dataset} has {expected}")
    if names is not None and len(names) != classes:
        raise ValueError(f"the checkpoint has {classes} classes, but --class-names lists {len(names)}")


def report(converted: ConvertedKeys, weights: Weights) -> list[tuple[str, str, str, str]]:
    """What became of every name: (in the file, ours, shape in the file, what).

    Args:
        converted: the weights under our names.
        weights: the file.
    """
    rows = []
    for ours, theirs in converted.taken.items():
        shape = tuple(weights.state_dict[theirs].shape)
        same = shape == tuple(converted.state_dict[ours].shape)
        what = "taken" if same else f"taken as {tuple(converted.state_dict[ours].shape)}: our kernels are 2D"
        rows.append((theirs, ours, str(shape), what))
    lost = weights.state_dict.keys() - set(converted.taken.values())
    assert not lost, lost
    rows += [("", ours, "", f"not in the file: {why}") for ours, why in converted.kept.items()]
    rows += [(entry, "", "", f"left out, no weights: {what}") for entry, what in weights.rest.items()]
    return rows


def _content(path: Path) -> Any:
    try:
        if path.suffix == ".safetensors":
            return safetensors.torch.load_file(path)
        with torch.serialization.safe_globals(_harmless()):
            return torch.load(path, map_location="cpu", weights_only=True)
    except pickle.UnpicklingError as error:
        if found := re.search(r"GLOBAL (\w[\w.]*)", str(error)):
            raise ValueError(
                f"{path} holds {found[1]}, which is no weight; unpickling it would run code of the file, so it is not "
                "read. If you trust the file, save its state_dict alone: torch.save(checkpoint['state_dict'], ...)"
            ) from error
        # torch's first line advises to read the file without this safety
        reason = str(error).rpartition("WeightsUnpickler error:")[2].strip().partition("\n")[0]
        raise ValueError(f"{path} is damaged or no checkpoint: {reason}") from error
    except Exception as error:  # whatever torch meets in a file that is none of its own
        raise ValueError(
            f"{path} is damaged or no checkpoint: {type(error).__name__}: {error}".splitlines()[0]
        ) from error


def _harmless() -> list[Any]:
    """What checkpoints hold besides tensors and runs nothing: options, and accuracies as numbers of numpy."""
    scalar = np.float64(0).__reduce__()[0]  # numpy 1 and 2 have it in different places
    types = [type(np.dtype(name)) for name in ("float64", "float32", "int64", "int32", "bool")]
    return [
        argparse.Namespace,
        (scalar, "numpy.core.multiarray.scalar"),
        (scalar, "numpy._core.multiarray.scalar"),
        np.dtype,
        *types,
    ]


def _described(value: Any) -> str:
    """A number or a short text as it is, of all else the type."""
    if isinstance(value, Tensor) and value.numel() == 1:
        value = value.item()
    if isinstance(value, np.generic):
        value = value.item()
    if value is None or isinstance(value, (bool, int, float)) or (isinstance(value, str) and len(value) < 80):
        return str(value)
    return f"a {type(value).__name__}"


def _create_model(options: argparse.Namespace) -> VideoNet:
    check_model_name(options.model)
    model = timm.create_model(options.model, num_frames=options.num_frames, **options.model_kwargs)
    assert isinstance(model, VideoNet)
    return model


def _classes_of(state_dict: Mapping[str, Tensor], model: VideoNet) -> int:
    """Outputs of the checkpoint's classifier."""
    classifier = str(model.get_classifier(name_only=True)).removeprefix("backbone.")
    names = [f"{place}.weight" for place in ("new_fc", f"base_model.{classifier}", classifier)]
    bare = {name.removeprefix("module."): value for name, value in state_dict.items()}
    found = next((bare[name] for name in names if name in bare), None)
    if found is None:
        raise ValueError(
            f"the checkpoint has no classifier: none of {', '.join(names)} is there, only {', '.join(list(bare)[:3])}, "
            "...; a model without one cannot be published as a classifier"
        )
    return found.shape[0]


def _config(
    options: argparse.Namespace, model: VideoNet, weights: Weights, names: Sequence[str] | None
) -> dict[str, Any]:
    """Entries of config.json, as `engine.train.model_config` writes them of a run."""
    cfg = OFFICIAL if options.source in ("tsm", "gst") else {key: model.pretrained_cfg[key] for key in OFFICIAL}
    given = {key: getattr(options, key) for key in ("crop_pct", "interpolation", "mean", "std")}
    cfg = {**cfg, **{key: value for key, value in given.items() if value is not None}}
    size = cfg["input_size"][-1]
    protocol = Protocol(options.num_frames, 1, 1, size, round(size / cfg["crop_pct"]), options.sampling)
    return {
        **({"label_names": list(names), "label_fingerprint": label_fingerprint(names)} if names else {}),
        "pretrained_cfg": cfg,
        "video": {**asdict(protocol), "protocol": str(protocol)},
        "dataset": options.dataset,
        "converted_from": {
            "source": options.source,
            "repository": REPOSITORIES[options.source],
            "file": options.checkpoint.name,
            "sha256": hashlib.sha256(options.checkpoint.read_bytes()).hexdigest(),
            "entries": weights.rest,
        },
        "versions": package_versions(),
    }


def _write_report(path: Path, rows: Sequence[tuple[str, ...]]) -> None:
    with atomic_path(path) as temporary, temporary.open("w", newline="") as file:
        writer = csv.writer(file)
        writer.writerow(("in the file", "ours", "shape in the file", "what"))
        writer.writerows(rows)


@torch.no_grad()
def _check_reloaded(model: VideoNet, folder: Path) -> None:
    """What timm makes of the folder gives the very logits of the model that was written."""
    clip = torch.randn(1, 3, model.num_frames, 64, 64)
    reloaded = timm.create_model(f"local-dir:{folder}", pretrained=True).eval()
    torch.testing.assert_close(reloaded(clip), model(clip))


def _print_summary(options: argparse.Namespace, rows: Sequence[tuple[str, ...]], names: Sequence[str] | None) -> None:
    taken = [row for row in rows if row[0] and row[1]]
    reshaped = sum(row[3] != "taken" for row in taken)
    kept: dict[str, int] = {}
    for row in rows:
        if not row[0]:
            kept[row[3]] = kept.get(row[3], 0) + 1
    print(f"{options.checkpoint}: {len(taken)} tensors, all taken, {reshaped} of them in our shape")
    for what, count in kept.items():
        print(f"{count} of ours {what}")
    for row in rows:
        if not row[1]:
            print(f"{row[0]}: {row[3]}")
    if names is None:
        print("without --class-names config.json names no classes, and predict_video.py refuses the model")
    print(f"wrote {options.out}: model.safetensors, config.json, and conversion.csv with what became of each name")


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="convert.py", description="Bring weights of others into our format.")
    add = parser.add_argument
    add("checkpoint", type=Path, help="file of the weights")
    add("--source", required=True, choices=list(REPOSITORIES), help="whose code they are of")
    add("--model", required=True, help="our model of that kind, as tsm_resnet50")
    add("--model-kwargs", nargs="*", default={}, action=ParseKwargs, metavar="KEY=VALUE", help="its arguments")
    add("--num-frames", type=int, required=True, help="frames of a clip, the codes' num_segments")
    add("--dataset", required=True, help="what it was trained on: sthv1, sthv2, k400, diving48 or another name")
    add("--class-names", type=Path, metavar="FILE", help="in label order, a name a line or JSON")
    add("--out", type=Path, required=True, metavar="DIR", help="folder to write")
    add("--entry", help="where in the file the weights are (default: state_dict, model, or the file itself)")
    add("--sampling", choices=list(SAMPLINGS), default="segments", help="frames of a video; dense for TSM's dense")
    add("--crop-pct", type=float, help="part of the short side that is seen (default: as the source tests)")
    add("--interpolation", choices=["bilinear", "bicubic"], help="of the resizing (default: as the source tests)")
    add("--mean", type=float, nargs=3, help="of the channels (default: as the source tests)")
    add("--std", type=float, nargs=3, help="of the channels (default: as the source tests)")
    return parser


if __name__ == "__main__":
    raise SystemExit(main())
