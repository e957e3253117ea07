"""What travels in `config.json` beside timm's own entries, so that a model folder needs nothing else.

timm reads `architecture`, `num_classes`, `pretrained_cfg` (mean, std, crop_pct, interpolation) and `model_args`, and
passes over further root keys. Ours are:

- `label_names`: class names in label order.
- `label_fingerprint`: SHA-256 of them, one a line; models of one fingerprint mean the same classes by the same numbers.
- `video`: how validation looked at a video, `num_frames`, `sampling`, `num_clips`, `num_crops`, `img_size`,
  `short_side` and `fusion`; and `protocol`, the same as one string.
- `dataset`: the name of its reader; `dataset_version`: of the annotations, where there are several.
- `metrics`: the epoch's row of `summary.csv` (`val_top1`, `val_top5`, `val_videos` of `val_expected`, their
  `protocol`, ...).
- `recipe`: all options of train_video.py but the places of the machine; of files that lie on it, the name alone
  (`config` is the recipe that they began with).
- `versions`: of python, torch, timm, this package, and what decodes and resizes.

`validate_video.py`, `predict_video.py` and the model card read these keys.
"""

import argparse
from dataclasses import asdict
from pathlib import Path
from typing import Any

from timm_video_psn.data import ShardedIndex, VideoIndex, label_fingerprint
from timm_video_psn.engine.protocol import protocol_of_training
from timm_video_psn.version import package_versions


def describe_run(
    options: argparse.Namespace, index: VideoIndex, row: dict[str, Any]
) -> tuple[dict[str, Any], dict[str, Any]]:
    """Entries of config.json, and the arguments that rebuild the model.

    Args:
        options: all options, with `img_size`, `mean` and `std` set.
        index: the training videos, which know the class names.
        row: the epoch's row of `summary.csv`.

    Returns:
        `model_config` and `model_args` as `timm.models.save_for_hf` takes them.
    """
    size = (3, options.img_size, options.img_size)
    preprocessing = {
        "input_size": size,
        "mean": tuple(options.mean),
        "std": tuple(options.std),
        "crop_pct": options.crop_pct,
        "crop_mode": "center",
        "interpolation": options.interpolation,
    }
    protocol = protocol_of_training(options)
    model_config = {
        "label_names": list(index.class_names),
        "label_fingerprint": label_fingerprint(index.class_names),
        "pretrained_cfg": preprocessing,
        "video": {**asdict(protocol), "protocol": str(protocol)},
        "dataset": index.dataset if isinstance(index, ShardedIndex) else options.dataset,
        **({"dataset_version": index.version} if index.version else {}),
        "metrics": row,
        "recipe": _recipe(options),
        "versions": package_versions(),
    }
    return model_config, {"num_frames": options.num_frames, **options.model_kwargs}


def _recipe(options: argparse.Namespace) -> dict[str, Any]:
    """The options without the places of this machine, and what only concerns the terminal."""
    places = (
        "output",
        "experiment",
        "resume",
        "data_dir",
        "train_list",
        "val_list",
        "device",
        "workers",
        "temporal_kwargs",
        "traceback",
        "log",
    )
    recipe = {key: value for key, value in vars(options).items() if key not in places}
    for key in ("config", "initial_checkpoint", "backbone_checkpoint"):
        if recipe.get(key):
            recipe[key] = Path(recipe[key]).name
    prefix, _, folder = recipe["model"].partition(":")
    if prefix == "local-dir":
        recipe["model"] = f"local-dir:{Path(folder).name}"
    return recipe
