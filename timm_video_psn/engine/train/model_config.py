"""The entries of `config.json` beside timm's own, with which a model folder needs nothing else.

timm reads `architecture`, `num_classes`, `pretrained_cfg` (mean, std, crop_pct, interpolation) and `model_args`, and
passes over further root keys. Ours are:

- `label_names`: class names in label order.
- `label_fingerprint`: SHA-256 of these names, one a line; models of one fingerprint number the same classes alike.
- `video`: the clips that validation took of a video, `num_frames`, `sampling`, `num_clips`, `num_crops`, `img_size`,
  `short_side` and `fusion`; and `protocol`, the same as one string.
- `activation`: what makes probabilities of the logits, `softmax` or `sigmoid`.
- `dataset`: the name of its reader; `dataset_version`: the version of the annotations, where there are several.
- `metrics`: the epoch's row of `summary.csv` (`val_top1`, `val_top5`, `val_videos` of `val_expected`, their
  `protocol`, ...).
- `recipe`: the options of training, without places on the machine; files go by their names alone (`config` is
  the recipe that gave the defaults).
- `versions`: of python, torch, timm, this package, and what decodes and resizes.

Validation, prediction and the model card read these keys.
"""

from dataclasses import asdict
from pathlib import Path
from typing import Any

from timm_video_psn.data import ShardedIndex, VideoIndex, label_fingerprint
from timm_video_psn.engine.protocol import protocol_of_training
from timm_video_psn.engine.train.options import TrainOptions
from timm_video_psn.losses import ACTIVATIONS
from timm_video_psn.version import package_versions

# Options that say where things lie on this machine, or concern the terminal alone.
_PLACES = {
    *("output", "experiment", "resume", "data_dir", "train_list", "val_list", "device", "workers", "temporal_kwargs"),
    *("debug", "log"),
}


def describe_run(
    options: TrainOptions, index: VideoIndex, row: dict[str, Any], processes: int = 1
) -> tuple[dict[str, Any], dict[str, Any]]:
    """Returns the entries of config.json, and the arguments that rebuild the model.

    Args:
        options: Options of the run.
        index: Training videos, which know the class names.
        row: Row of the epoch in `summary.csv`.
        processes: Processes that train together.

    Returns:
        `model_config` and `model_args` as `timm.models.save_for_hf` takes them.
    """
    protocol = protocol_of_training(options)
    model_config = {
        "label_names": list(index.class_names),
        "label_fingerprint": label_fingerprint(index.class_names),
        "pretrained_cfg": {
            "input_size": (3, options.img_size, options.img_size),
            "mean": options.mean,
            "std": options.std,
            "crop_pct": options.crop_pct,
            "crop_mode": "center",
            "interpolation": options.interpolation,
        },
        "activation": ACTIVATIONS[options.loss],
        "video": {**asdict(protocol), "protocol": str(protocol)},
        "dataset": index.dataset if isinstance(index, ShardedIndex) else options.dataset,
        **({"dataset_version": index.version} if index.version else {}),
        "metrics": {**row, **({"val_split": "train"} if index.shared_split else {})},
        "recipe": {**_recipe(options), "processes": processes},
        "versions": package_versions(),
    }
    return model_config, {"num_frames": options.num_frames, **options.model_kwargs}


def _recipe(options: TrainOptions) -> dict[str, Any]:
    """The options without the places of this machine."""
    recipe = {key: value for key, value in options.as_dict().items() if key not in _PLACES}
    for key in ("config", "initial_checkpoint", "backbone_checkpoint", "class_weights"):
        if recipe[key]:
            recipe[key] = Path(recipe[key]).name
    for key in ("model", "kd_teacher"):
        prefix, _, folder = (recipe[key] or "").partition(":")
        if prefix == "local-dir" or (prefix == "transformers" and Path(folder).is_dir()):
            recipe[key] = f"{prefix}:{Path(folder).name}"
        elif key == "kd_teacher" and recipe[key] and Path(recipe[key]).exists():
            recipe[key] = Path(recipe[key]).name
    return recipe
