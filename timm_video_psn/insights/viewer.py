"""A trained model, and the clips that it is shown: what every insight into a video starts from."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from timm_video_psn.data import EvalTransform, VideoReader
from timm_video_psn.data.sampling import Sampling
from timm_video_psn.engine.precision import Precision
from timm_video_psn.engine.predict import Predictor
from timm_video_psn.models import VideoNet

_READ_AT_ONCE = 16  # frames; those of a large video would not fit in memory together
_CLIPS_AT_ONCE = 4


@dataclass(frozen=True)
class Viewer:
    """A model, and how it looks at a video.

    Attributes:
        model: in evaluation mode.
        label_names: of its classes.
        precision: bytes to normalised clips.
        transform: frames (T, H, W, 3) to those that the model sees, (T, S, S, 3).
        sampling: which frames those are.
    """

    model: VideoNet
    label_names: tuple[str, ...]
    precision: Precision
    transform: EvalTransform
    sampling: Sampling

    def clips(self, frames: Tensor) -> Tensor:
        """Frames as the model takes them.

        Shape:
            frames: (B, T, S, S, 3) uint8 -> (B, 3, T, S, S)
        """
        return self.precision.clip(frames)

    @torch.inference_mode()
    def probabilities(self, frames: Tensor) -> np.ndarray:
        """What the model says of clips.

        Shape:
            frames: (B, T, S, S, 3) uint8 -> (B, num_classes), rows that add up to 1
        """
        parts = frames.split(_CLIPS_AT_ONCE)
        return torch.cat([self.model(self.clips(part)).float().softmax(1).cpu() for part in parts]).numpy()


@dataclass(frozen=True)
class Footage:
    """A video as a model sees it.

    Attributes:
        frames: uint8 (T, S, S, 3), resized and cropped.
        indices: their numbers in the video, (T,).
        num_frames: of the video.
        fps: of the video, None where it does not say.
    """

    frames: Tensor
    indices: np.ndarray
    num_frames: int
    fps: float | None


def open_viewer(source: str, device: str = "cpu") -> Viewer:
    """The model of a folder.

    Args:
        source: a run's folder, its `best/`, or `hf-hub:user/name`.
        device: where it runs.

    Raises:
        FileNotFoundError: there is no model.
        ValueError: it is no video model, or damaged.
    """
    best = Path(source) / "best"
    is_run = not (Path(source) / "config.json").is_file() and (best / "config.json").is_file()
    predictor = Predictor(str(best) if is_run else source, device)
    return Viewer(predictor.model, predictor.label_names, predictor.precision, predictor.transform, predictor.sampling)


def watch(viewer: Viewer, path: Path, indices: Sequence[int] | None = None) -> Footage:
    """Read the frames of a video that the model would see, or those of the given numbers.

    Args:
        viewer: the model.
        path: video file, or folder of frame images.
        indices: of the frames; None for those that validation takes.

    Raises:
        DecodeError: the video cannot be read.
    """
    with VideoReader(path) as reader:
        if indices is None:
            indices = viewer.sampling(reader.num_frames, viewer.model.num_frames, None).tolist()
        wanted = sorted(set(indices))
        seen: dict[int, Tensor] = {}
        for start in range(0, len(wanted), _READ_AT_ONCE):
            part = wanted[start : start + _READ_AT_ONCE]
            seen.update(zip(part, viewer.transform(torch.from_numpy(reader.read(part))), strict=True))
        frames = torch.stack([seen[index] for index in indices])  # (T, S, S, 3)
        return Footage(frames, np.asarray(indices), reader.num_frames, reader.fps)
