"""A trained model, and the clips that it is shown: what every insight into a video starts from."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
import yaml
from torch import Tensor

from timm_video_psn.data import EvalTransform, VideoIndex, VideoReader, read_index
from timm_video_psn.data.clips.sampling import Sampling
from timm_video_psn.engine.precision import Precision
from timm_video_psn.engine.predict.predictor import Predictor
from timm_video_psn.engine.trained_model import read_config
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
        source: where the model came from.
    """

    model: VideoNet
    label_names: tuple[str, ...]
    precision: Precision
    transform: EvalTransform
    sampling: Sampling
    source: str

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
    folder = str(best) if is_run else source
    seen = Predictor(folder, device)
    return Viewer(seen.model, seen.label_names, seen.precision, seen.transform, seen.sampling, folder)


def place_of(source: str) -> Path:
    """A model folder with all its parents, however it was written; of a repository on the Hub the last part is one.

    Args:
        source: model folder, run, or hf-hub:user/name.
    """
    return Path(source.removeprefix("local-dir:")).resolve()


def kept_by_run(source: str, name: str) -> Path | None:
    """A file of the run that a model belongs to, if it is there.

    Args:
        source: the run, its `best/` or one of its `best-epochs/`; or any other model, which has none.
        name: of the file.
    """
    place = place_of(source)
    folders = (place, place.parent, *([place.parent.parent] if place.parent.name == "best-epochs" else []))
    return next((folder / name for folder in folders if (folder / name).is_file()), None)


def read_videos(
    viewer: Viewer, dataset: str | None = None, data_dir: str | Path | None = None, split: str = "val"
) -> tuple[str, VideoIndex]:
    """The videos of a data set that a model knows the classes of, by default those that its run was validated on.

    Args:
        viewer: the model.
        dataset: name of the data set; None for the run's own, or the one that the model's config names.
        data_dir: where it lies; None for where the run has found its own.
        split: of the data set.

    Returns:
        The name of the data set, and its videos.

    Raises:
        ValueError: the model does not say what it was trained on, the data set is unknown or has other classes.
        FileNotFoundError: it is not there.
    """
    own = _data_options(viewer)
    if dataset in (None, own["dataset"]):
        dataset, data_dir = own["dataset"], data_dir or own.get("data_dir")
    else:
        own = {}
    if dataset is None:
        raise ValueError(f"{viewer.source} does not say what it was trained on; name the data set, with --dataset NAME")
    lists = {part: own[f"{part}_list"] for part in ("train", "val", "test") if own.get(f"{part}_list")}
    index = read_index(dataset, data_dir, split, lists or None)  # classes may be named by training's list alone
    check_classes(viewer, dataset, index)
    return dataset, index


def check_classes(viewer: Viewer, dataset: str, index: VideoIndex) -> None:
    """Raise if a model knows other classes than those of the videos.

    Args:
        viewer: the model.
        dataset: name of the data set.
        index: its videos.
    """
    if viewer.label_names != index.class_names:
        raise ValueError(
            f"{viewer.source} knows {len(viewer.label_names)} classes, data set {dataset!r} has other ones "
            f"({len(index.class_names)}); use the data set that the model was trained on"
        )


def _data_options(viewer: Viewer) -> dict[str, Any]:
    """What training was told of its data; where no run is left, the name in config.json."""
    kept = kept_by_run(viewer.source, "args.yaml")
    if kept is None:
        return {"dataset": read_config(viewer.source, viewer.model).get("dataset")}
    try:
        options = yaml.safe_load(kept.read_text(encoding="utf-8"))
    except (yaml.YAMLError, UnicodeDecodeError) as error:
        reason = str(error).splitlines()[0]
        raise ValueError(f"{kept} is damaged ({reason}); delete it, and name the data set, with --dataset") from error
    return {"dataset": None, **(options if isinstance(options, dict) else {})}


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
