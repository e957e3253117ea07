"""The teacher of a distillation: a trained video model, or an image model of timm that looks at each frame."""

import logging
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import timm
import torch
import torch.nn.functional as F
from timm.models import is_model, model_entrypoint
from torch import Tensor, nn

from timm_video_psn.data import check_class_names
from timm_video_psn.engine.load_model import load
from timm_video_psn.engine.model_source import find_folder, is_on_hub
from timm_video_psn.engine.precision import Precision
from timm_video_psn.hub_files import CONFIG, hub_config
from timm_video_psn.models import ExternalVideoNet, VideoNet, is_external
from timm_video_psn.saved_config import read_saved_config

_logger = logging.getLogger(__name__)


class Teacher:
    """Answers for the clips of a training step, which are made for the model that learns.

    The teacher sees the same augmented clip, normalised for it and resized to its own size.

    Args:
        model: Frozen model; a video model takes clips, any other one single frames, whose logits are averaged.
        precision: Device and normalisation of the clips.
        num_frames: Frames of the clips.

    Raises:
        ValueError: The teacher needs more frames than the clips have.
    """

    def __init__(self, model: nn.Module, precision: Precision, num_frames: int):
        self.model = model.to(precision.device).to(memory_format=torch.channels_last).eval().requires_grad_(False)
        cfg: Any = model.pretrained_cfg
        self.size = tuple(cfg["input_size"][-2:])
        # (clip * std + mean - the teacher's mean) / the teacher's std, in one multiplication and one addition
        ours = [torch.tensor(values) for values in (precision.mean, precision.std)]
        mean, std = (torch.tensor(tuple(cfg[key])) for key in ("mean", "std"))
        shape = (1, -1, 1, 1, 1)
        self.scale = (ours[1] / std).view(shape).to(precision.device)
        self.offset = ((ours[0] - mean) / std).view(shape).to(precision.device)
        self.takes_clips = isinstance(model, (VideoNet, ExternalVideoNet))
        self.frames: list[int] | None = None
        if isinstance(model, (VideoNet, ExternalVideoNet)) and model.num_frames != num_frames:
            if model.num_frames > num_frames:
                raise ValueError(
                    f"--kd-teacher looks at {model.num_frames} frames, and the clips have {num_frames}; use "
                    f"--num-frames {model.num_frames} or more"
                )
            step = num_frames / model.num_frames
            self.frames = [int((number + 0.5) * step) for number in range(model.num_frames)]

    @torch.no_grad()
    def logits(self, clip: Tensor) -> Tensor:
        """The logits of the teacher.

        Args:
            clip: Normalised clips, as the model that learns takes them.

        Shape:
            clip: (B, C, T, H, W) -> (B, K)
        """
        if self.frames is not None:
            clip = clip[:, :, self.frames]
        clip = clip * self.scale.to(clip.dtype) + self.offset.to(clip.dtype)
        batch, _, count = clip.shape[:3]
        images = clip.transpose(1, 2).flatten(0, 1)  # (B*T, C, H, W)
        if images.shape[-2:] != self.size:
            images = F.interpolate(images, self.size, mode="bilinear", antialias=True, align_corners=False)
        if not self.takes_clips:
            return self.model(images).float().unflatten(0, (batch, count)).mean(1)
        logits: Tensor = self.model(images.unflatten(0, (batch, count)).transpose(1, 2))
        return logits.float()


def load_teacher(source: str, class_names: Sequence[str], precision: Precision, num_frames: int) -> Teacher:
    """Loads a teacher with the classes of the data.

    Args:
        source: Trained model as `load` takes it; or an image model of timm with trained weights: a name, `local-dir:`
            or `hf-hub:`.
        class_names: Names in label order.
        precision: Device and normalisation of the clips that it will see.
        num_frames: Frames of these clips.

    Raises:
        ValueError: The teacher has other classes, or needs more frames.
        FileNotFoundError: There is no such model.
    """
    if _is_image_model(source):
        named = is_on_hub(source) or (is_model(source.partition(".")[0]) and not Path(source).exists())
        model = timm.create_model(source if named else f"local-dir:{find_folder(source)}", pretrained=True)
        names = tuple(model.pretrained_cfg.get("label_names") or ())
    else:
        trained = load(source, "cpu")
        model, names = trained.model, trained.label_names
    if names:
        check_class_names(names, class_names, f"the teacher {source}", "the data")
    elif model.num_classes != len(class_names):
        raise ValueError(
            f"--kd-teacher {source} has {model.num_classes} classes and does not name them; the data has "
            f"{len(class_names)}: train the teacher on the same classes first"
        )
    else:
        _logger.warning("the teacher %s does not name its classes: their order is assumed to be the data's", source)
    return Teacher(model, precision, num_frames)


def _is_image_model(source: str) -> bool:
    """Whether a source is a model of timm that is not one of ours."""
    if is_external(source):
        return False
    name = source.partition(".")[0]
    if is_on_hub(source):
        name = hub_config(source.partition(":")[2])[1]["architecture"]
    elif not is_model(name) or Path(source).exists():
        name = read_saved_config(find_folder(source) / CONFIG)["architecture"]
    return is_model(name) and not model_entrypoint(name).__module__.startswith("timm_video_psn.")
