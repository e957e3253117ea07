"""What travels in `config.json` beside timm's own entries: class names, preprocessing, protocol, recipe, metrics."""

import argparse
import platform
from typing import Any

import timm
import torch

from timm_video_psn.data import VideoIndex
from timm_video_psn.version import __version__

_FRAMES = {  # of validation, by the training's sampling
    "segments": "segments middle",
    "tsm": "segments middle as TSM validates",
    "dense": "middle window of 64",
    "uniform": "uniform midpoints as SlowFast",
}


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
    model_config = {
        "label_names": list(index.class_names),
        "pretrained_cfg": preprocessing,
        "video": {
            "num_frames": options.num_frames,
            "sampling": options.sampling,
            "protocol": protocol(options),
        },
        "dataset": options.dataset,
        **({"dataset_version": index.version} if index.version else {}),
        "metrics": {**row, "protocol": protocol(options)},
        "recipe": _recipe(options),
        "versions": {
            "timm_video_psn": __version__,
            "timm": timm.__version__,
            "torch": str(torch.__version__),
            "python": platform.python_version(),
        },
    }
    return model_config, {"num_frames": options.num_frames, **options.model_kwargs}


def protocol(options: argparse.Namespace) -> str:
    """How validation looks at a video: frames x clips x crops @ size, sampling, fusion.

    Args:
        options: all options, with `img_size` set.
    """
    frames = _FRAMES[options.sampling]
    return f"{options.num_frames}x1x1@{options.img_size} {frames}, centre crop, mean of frame logits"


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
        "config",
        "temporal_kwargs",
        "traceback",
        "log",
    )
    return {key: value for key, value in vars(options).items() if key not in places}
