"""Writes where weights are into the manifest of published weights."""

import json
from pathlib import Path

import timm
import torch
from safetensors import safe_open
from timm.models import split_model_name_tag

from timm_video_psn.files import write_text
from timm_video_psn.models.published_weights import Published, read_manifest


def check_registrable(folder: Path, manifest: Path) -> None:
    """Raises unless the manifest has the model's name, and the weights have the shapes that the name stands for.

    Args:
        folder: Folder to publish.
        manifest: Manifest of published weights.

    Raises:
        ValueError: Why not.
    """
    name, names = _name(folder), read_manifest(manifest)
    if name not in names:
        raise ValueError(
            f"{manifest} does not list {name}, so --register cannot be used; its names: {', '.join(names)}"
        )
    with torch.device("meta"):
        expected = {key: list(value.shape) for key, value in timm.create_model(name).state_dict().items()}
    with safe_open(folder / "model.safetensors", framework="pt") as file:
        found = {key: file.get_slice(key).get_shape() for key in file.keys()}  # noqa: SIM118 - it is not a dict
    differing = sorted(key for key in {**expected, **found} if expected.get(key) != found.get(key))
    if differing:
        raise ValueError(
            f"{name} was trained with other settings than its name stands for ({len(differing)} tensors differ: "
            f"{differing[0]}, ...), so --register cannot be used; leave it out"
        )


def register(folder: Path, where: Published, manifest: Path) -> str:
    """Writes an entry.

    Args:
        folder: Folder that was published.
        where: Entry to write.
        manifest: Manifest of published weights; the new one takes its place in one step.

    Returns:
        The name that now stands for these weights.
    """
    name = _name(folder)
    entries = json.loads(manifest.read_text(encoding="utf-8"))
    entries[name] = where._asdict()
    write_text(manifest, json.dumps(entries, indent=2) + "\n")
    return name


def _name(folder: Path) -> str:
    """The model's name in timm's registry."""
    return split_model_name_tag(json.loads((folder / "config.json").read_text(encoding="utf-8"))["architecture"])[0]
