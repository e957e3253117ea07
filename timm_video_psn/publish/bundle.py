"""The folder that is published: weights, config, labels, curves, interaction maps, an example of input and output."""

import json
import shutil
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import timm
import torch
from safetensors import SafetensorError
from safetensors.torch import load_file, save_file
from timm.models import split_model_name_tag
from torch import Tensor
from torch.utils.flop_counter import FlopCounterMode

from timm_video_psn.data import label_fingerprint
from timm_video_psn.files import file_sha256
from timm_video_psn.hub_files import CONFIG
from timm_video_psn.insights.kernel_map import draw_kernel_maps, kernel_maps
from timm_video_psn.interactions import interaction_map
from timm_video_psn.models import VideoNet
from timm_video_psn.publish.model_card import CardFacts, write_card
from timm_video_psn.publish.results import read_results
from timm_video_psn.saved_config import read_saved_config
from timm_video_psn.surgery import count_parameters

WEIGHTS, CARD, EXAMPLE = "model.safetensors", "README.md", "test_io.safetensors"
REQUIRED = (WEIGHTS, CONFIG, CARD, EXAMPLE, "labels.json")
COPIED = ("summary.csv", "curves.png", "conversion.csv")  # as far as training or `convert` left them
OPTIONAL = (*COPIED, "interactions.png")

# timm says "Unknown model (...)" where our package has not been imported. It reads the architecture only up to the
# dot, so that this tag changes nothing but that message.
IMPORT_TAG = "import_timm_video_psn_first"


@dataclass(frozen=True)
class Example:
    """A clip and a model's logits for it."""

    clip: Tensor
    logits: Tensor


def build_bundle(
    best: Path, folder: Path, repo_id: str, license_id: str | None, results: Sequence[Path] = ()
) -> Example:
    """Makes the folder to publish from what training left.

    Args:
        best: Folder with `model.safetensors` and `config.json`; what else is published of it is looked for in it, and
            if it is the `best/` of a run, in the run's folder above it, too.
        folder: Folder of the files; it exists and is empty.
        repo_id: `user/name` on the Hub, for the card.
        license_id: Licence of the weights as the Hub abbreviates it, None if none is stated.
        results: Files `results.json` of a validation, whose numbers go into the config and the card.

    Returns:
        The example in `test_io.safetensors`.

    Raises:
        FileNotFoundError: `best` is not a model folder.
        ValueError: Its files do not fit each other, or it is not a video model.
    """
    config = _read_config(best)
    try:
        model = timm.create_model(f"local-dir:{best}", pretrained=True).eval()
    except (RuntimeError, TypeError, AttributeError, SafetensorError) as error:
        raise ValueError(f"{best / WEIGHTS} and its {CONFIG} do not build a model: {error}") from error
    if not isinstance(model, VideoNet):
        raise ValueError(f"{best} holds a {type(model).__name__}; only video models of timm_video_psn can be published")
    labels = list(config.get("label_names") or [])
    if len(labels) != model.num_classes:
        raise ValueError(
            f"{best / CONFIG} names {len(labels)} classes, but the model has {model.num_classes}; publish a folder "
            "that training made, or complete label_names"
        )
    stated = config.get("label_fingerprint")
    if stated is not None and stated != label_fingerprint(labels):
        raise ValueError(
            f"label_names in {best / CONFIG} are not the classes that the model was trained on: their fingerprint "
            "differs from label_fingerprint; restore the file that training wrote"
        )
    for name, source in ((name, _beside(best, name)) for name in COPIED):
        if source:
            shutil.copyfile(source, folder / name)
    shutil.copyfile(best / WEIGHTS, folder / WEIGHTS)
    _write_json(folder / "labels.json", labels)
    tests = [test for path in results for test in read_results(path, labels, file_sha256(folder / WEIGHTS))]
    _write_json(folder / CONFIG, _published_config({**config, "results": tests}, folder / WEIGHTS, license_id))
    draw_interactions(model, split_model_name_tag(config["architecture"])[0], folder / "interactions.png")
    with FlopCounterMode(display=False) as counter:
        example = run_example(model)
    save_file({"clip": example.clip, "logits": example.logits}, folder / EXAMPLE)
    facts = CardFacts(
        repo_id=repo_id,
        config=json.loads((folder / CONFIG).read_text(encoding="utf-8")),
        parameters=count_parameters(model),
        multiply_adds=counter.get_total_flops() // 2,
        clip_shape=tuple(example.clip.shape),
        backbone_weights=model.backbone.pretrained_cfg.get("hf_hub_id"),
        license_id=license_id,
        files=tuple(sorted({path.name for path in folder.iterdir()} | {CARD})),
    )
    write_card(facts, folder / CARD)
    return example


def check_bundle(folder: Path, example: Example) -> None:
    """Loads the folder from the disk, as its users will, and compares its logits bit for bit.

    Args:
        folder: Folder that `build_bundle` made.
        example: Example that it returned.

    Raises:
        ValueError: Other logits came out.
    """
    saved = load_file(folder / EXAMPLE)
    if not (torch.equal(saved["clip"], example.clip) and torch.equal(saved["logits"], example.logits)):
        raise ValueError(f"{folder / EXAMPLE} is not what was written")
    check_model(f"local-dir:{folder}", example)


def check_model(source: str, example: Example, cache_dir: Path | None = None) -> None:
    """Loads a model through timm and compares its logits bit for bit.

    Args:
        source: `local-dir:` or `hf-hub:` as `timm.create_model` takes it.
        example: Clip and the logits that the model must give.
        cache_dir: Folder of the files of the Hub's client.

    Raises:
        ValueError: Other logits came out.
    """
    model = timm.create_model(source, pretrained=True, cache_dir=cache_dir).eval()
    with torch.inference_mode():
        logits = model(example.clip)
    if not torch.equal(logits, example.logits):
        difference = (logits - example.logits).abs().max().item()
        raise ValueError(f"{source} gives logits that differ from the published model's by up to {difference}")


def run_example(model: VideoNet) -> Example:
    """One clip of noise, the same for every model of this size, and its logits.

    Args:
        model: Model in evaluation mode.
    """
    channels, height, width = model.pretrained_cfg["input_size"]
    generator = torch.Generator().manual_seed(0)
    clip = torch.randn(1, channels, model.num_frames, height, width, generator=generator)
    with torch.inference_mode():
        return Example(clip, model(clip).clone())


def draw_interactions(model: torch.nn.Module, name: str, path: Path) -> None:
    """Draws the interaction map of every synthesizer (Fig. 5), as insights do; nothing for a model without any.

    Args:
        model: A model with synthesizers.
        name: Name of the model, beside the maps.
        path: The PNG file.
    """
    if interaction_map(model):
        draw_kernel_maps({name: kernel_maps(model)}, path)


def _read_config(best: Path) -> dict[str, Any]:
    """The config.json of a model folder."""
    if not (best / WEIGHTS).is_file():
        raise FileNotFoundError(f"{best} has no {WEIGHTS}; use the folder of a run, or its best/")
    return read_saved_config(best / CONFIG)


def _published_config(config: dict[str, Any], weights: Path, license_id: str | None) -> dict[str, Any]:
    """The config with what publishing adds: the sha256 of the weights, and whose licence they have."""
    cfg = {key: value for key, value in config["pretrained_cfg"].items() if key != "license"}  # was the backbone's
    return {
        **config,
        "architecture": f"{split_model_name_tag(config['architecture'])[0]}.{IMPORT_TAG}",
        "pretrained_cfg": {**cfg, "license": license_id} if license_id else cfg,
        "weights": {"file": weights.name, "sha256": file_sha256(weights), "size": weights.stat().st_size},
    }


def _beside(best: Path, name: str) -> Path | None:
    """A file of the run, which lies beside `best/`, or in a folder that was published before."""
    best = best.absolute()  # it may have been given as ".", and a link is in the folder of its run
    places = (best / name, best.parent / name) if best.name == "best" else (best / name,)
    return next((place for place in places if place.is_file()), None)


def _write_json(path: Path, content: Any) -> None:
    path.write_text(json.dumps(content, indent=2, ensure_ascii=False) + "\n", encoding="utf-8")
