"""The work of `timm-video-psn export`: a run's model as a file for another runtime."""

from __future__ import annotations

import argparse
import logging
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Any

from timm_video_psn.engine.model_source import is_on_hub

if TYPE_CHECKING:
    from torch import Tensor

    from timm_video_psn.engine.trained_model import TrainedModel

_logger = logging.getLogger(__name__)


def run_export(options: argparse.Namespace) -> None:
    """Exports a model and says how close the file is to it.

    Args:
        options: See `command_line.export`.

    Raises:
        ValueError: The model cannot be exported so, or its file gives other outputs.
    """
    from timm_video_psn.deploy.export import export
    from timm_video_psn.engine.load_model import load
    from timm_video_psn.models import VideoNet

    trained = load(options.model, "cpu")
    if not isinstance(trained.model, VideoNet):
        raise ValueError(f"{options.model} is another library's network; export takes models on timm backbones only")
    exported = export(
        trained.model,
        options.output or _folder(trained, options),
        options.format,
        layout=options.layout,
        batch=options.batch,
        img_size=trained.protocol.img_size,
        normalize=options.normalize,
        calibration=_training_clips(trained, options) if options.int8 else None,
        config=_config(trained),
    )
    _logger.info("%s\n%s", exported.file, exported.parity)


def _training_clips(trained: TrainedModel, options: argparse.Namespace) -> Tensor:
    """Clips evenly spread over the training set, (N, T, S, S, 3) uint8."""
    import torch

    from timm_video_psn.data import DecodeError
    from timm_video_psn.engine.run_index import read_run_index

    if options.calibration_clips < 1:
        raise ValueError(f"--calibration-clips {options.calibration_clips}: use 1 or more")
    dataset, index = read_run_index(trained, None, options.data_dir, "train")
    if dataset == "shards":
        raise ValueError("--int8 reads single videos, and shards come in a stream; export without it, or from a folder")
    count = min(options.calibration_clips, len(index))
    clips = []
    for number in [place * len(index) // count for place in range(count)]:
        try:
            clips.append(trained.prepare(index.decode(number, trained.frame_indices)))
        except DecodeError as error:
            _logger.warning("%s; left out of the calibration", error)
    if not clips:
        raise ValueError(f"none of {count} training videos could be read for --int8; see the warnings")
    return torch.stack(clips)


def _folder(trained: TrainedModel, options: argparse.Namespace) -> Path:
    """A folder in the run's, named by what the file is."""
    folder = Path(trained.source)
    if is_on_hub(trained.source) or folder.name != "best":
        raise ValueError(f"{trained.source} is not the best/ of a run; name a folder for its export with --output DIR")
    layout = "" if options.layout == "clip" else f"-{options.layout}"
    parts = (layout, "-normalize" if options.normalize else "", "-int8" if options.int8 else "")
    return folder.parent / "".join((f"export-{options.format}", *parts))


def _config(trained: TrainedModel) -> dict[str, Any]:
    """What the run knows of its model."""
    protocol = trained.protocol
    return {
        "video": {**asdict(protocol), "protocol": str(protocol)},
        "activation": trained.activation,
        **({"label_names": list(trained.label_names)} if trained.label_names else {}),
        **({"dataset": trained.dataset} if trained.dataset else {}),
        **({"weights_sha256": trained.weights_sha256} if trained.weights_sha256 else {}),
    }
