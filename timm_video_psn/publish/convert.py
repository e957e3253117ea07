"""Weights of others in the form that training leaves: a folder with model.safetensors and config.json.

The sources are the official codes of TSM, GST, TEA and TAM, and image models of torchvision and timm. Every name of a
checkpoint is either taken or an error, and `conversion.csv` in the folder says what each became.
"""

import argparse
import tempfile
from collections.abc import Mapping, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

import timm
import torch
from timm.data import IMAGENET_DEFAULT_MEAN, IMAGENET_DEFAULT_STD
from torch import Tensor

from timm_video_psn.console import printable
from timm_video_psn.data import label_fingerprint
from timm_video_psn.data.datasets.parsing import read_names
from timm_video_psn.data.datasets.releases import NUM_CLASSES
from timm_video_psn.engine.checkpoint import export_model
from timm_video_psn.engine.protocol import Protocol
from timm_video_psn.files import file_sha256, first_names, write_csv
from timm_video_psn.models import ConvertedKeys, VideoNet, convert_keys
from timm_video_psn.models.create import check_model_name
from timm_video_psn.publish.checkpoint_file import Weights, read_weights
from timm_video_psn.version import package_versions

# What the test commands of the official codes do to a frame: short side 256, centre crop 224, PIL's bilinear filter.
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
    "tea": "https://github.com/Phoenix1327/tea-action-recognition",
    "tam": "https://github.com/liu-zhy/temporal-adaptive-module",
    "torchvision": "https://github.com/pytorch/vision",
    "timm": "https://github.com/huggingface/pytorch-image-models",
}
SORTED = ("sthv1", "sthv2")  # the official codes number these classes alphabetically, the official files of V1 do not
REPORT_COLUMNS = ("in the file", "ours", "shape in the file", "what")


def convert(options: argparse.Namespace) -> None:
    """Reads, renames, checks, writes, and loads what was written.

    Args:
        options: See `command_line.convert`.

    Raises:
        ValueError: The file, the model, the class names and the data set do not fit one another.
        FileNotFoundError: There is no such file.
    """
    if options.output.exists() and (not options.output.is_dir() or any(options.output.iterdir())):
        raise ValueError(f"{options.output} is not empty; name another folder with --output, or remove that one")
    weights = read_weights(options.checkpoint, options.entry)
    model = _create_model(options)
    classes = _classes_of(weights.state_dict, model)
    names = None if options.class_names is None else read_class_names(options.class_names, options.dataset)
    check_class_count(classes, options.dataset, names)
    model.reset_classifier(classes)
    converted = convert_keys(model, weights.state_dict, options.source)
    model.load_state_dict(converted.state_dict)
    model.eval()
    config = _config(options, model, weights, names)
    rows = report(converted, weights)
    options.output.parent.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(prefix=".convert-", dir=options.output.parent) as temporary:
        folder = Path(temporary) / "model"  # becomes --output when it has proved to load
        export_model(model, folder, config, {"num_frames": options.num_frames, **options.model_kwargs})
        write_csv(folder / "conversion.csv", REPORT_COLUMNS, rows)
        _check_reloaded(model, folder)
        folder.replace(options.output)
    _print_summary(options, rows, names)


def read_class_names(path: Path, dataset: str) -> list[str]:
    """Class names in label order.

    Args:
        path: A name a line, or JSON: a list of names, or an object of name: label.
        dataset: The data set that they are of.

    Raises:
        ValueError: Names are there twice, or not in the order in which the official codes number them.
    """
    names = [name.replace("[", "").replace("]", "") if dataset in SORTED else name for name in read_names(path)]
    twice = sorted({name for name in names if names.count(name) > 1})
    if twice:
        raise ValueError(f"{path} lists classes twice: {first_names(twice, 5)}; use one line per class")
    if dataset in SORTED and names != sorted(names):
        place = next(i for i, pair in enumerate(zip(names, sorted(names), strict=True)) if pair[0] != pair[1])
        raise ValueError(
            f"{path} has {names[place]!r} as class {place}, but the classes of {dataset} are numbered alphabetically, "
            f"which makes it {sorted(names)[place]!r}; sort the file (LC_ALL=C sort), or use TSM's category.txt"
        )
    return names


def check_class_count(classes: int, dataset: str, names: Sequence[str] | None) -> None:
    """Raises where the classifier, the data set and the class names disagree.

    Args:
        classes: Outputs of the checkpoint's classifier.
        dataset: Name of the data set; the number of classes of those that the package reads is known.
        names: Class names, if there are any.
    """
    expected = NUM_CLASSES.get(dataset, classes)
    if classes != expected:
        raise ValueError(f"the checkpoint has {classes} classes, but --dataset {dataset} has {expected}")
    if names is not None and len(names) != classes:
        raise ValueError(f"the checkpoint has {classes} classes, but --class-names lists {len(names)}")


def report(converted: ConvertedKeys, weights: Weights) -> list[tuple[str, str, str, str]]:
    """What became of every name: (in the file, ours, shape in the file, what).

    Args:
        converted: The weights under our names.
        weights: The file.
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
            f"the checkpoint has no classifier: expected one of {', '.join(names)}, found "
            f"{', '.join(list(bare)[:3])}, ...; only classifiers can be converted"
        )
    return found.shape[0]


def _config(
    options: argparse.Namespace, model: VideoNet, weights: Weights, names: Sequence[str] | None
) -> dict[str, Any]:
    """Entries of config.json, as `engine.train.model_config` writes them of a run."""
    of_images = options.source in ("torchvision", "timm")
    cfg = {key: model.pretrained_cfg[key] for key in OFFICIAL} if of_images else OFFICIAL
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
            "sha256": file_sha256(options.checkpoint),
            "entries": weights.rest,
        },
        "versions": package_versions(),
    }


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
            print(f"{printable(row[0])}: {row[3]}")
    if names is None:
        print("without --class-names, config.json has no class names, and timm-video-psn predict rejects the model")
    print(f"wrote {options.output}: model.safetensors, config.json, and conversion.csv, old names to new ones")
