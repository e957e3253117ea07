"""Name what a video shows, with a model folder that carries its own preprocessing and class names."""

from collections.abc import Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from itertools import islice
from pathlib import Path

import numpy as np
import torch

from timm_video_psn.data import SAMPLINGS, DecodeError, EvalTransform, decode_clip
from timm_video_psn.data.clips.sampling import segment_indices
from timm_video_psn.engine.precision import Precision, find_device
from timm_video_psn.engine.train.unreadable_videos import warn_of_repeats
from timm_video_psn.engine.trained_model import load_model, read_config


@dataclass(frozen=True)
class Prediction:
    """A class and its probability."""

    label: str
    probability: float


class Predictor:
    """A trained model and what it needs to look at a video as its validation did.

    Args:
        source: a folder with `config.json` and `model.safetensors`, as `best/` of a run, or `hf-hub:user/name`.
        device: where it runs.

    Raises:
        FileNotFoundError: the folder is not there, or no model folder.
        ValueError: the model is no video model, names no classes, or its files do not fit each other.

    Example:
        >>> predictor = Predictor("output/psn_test_resnet-motion/best")  # doctest: +SKIP
        >>> predictor.predict("clip.mp4")[0].label  # doctest: +SKIP
        'slide_left'
    """

    def __init__(self, source: str, device: str = "cpu"):
        place = find_device(device)
        self.model = load_model(source).to(place).to(memory_format=torch.channels_last).eval()
        cfg = self.model.pretrained_cfg
        if not cfg.get("label_names"):
            raise ValueError(
                f"{source} names no classes: its config.json lacks label_names; use a folder that training made"
            )
        self.label_names: tuple[str, ...] = tuple(cfg["label_names"])
        self.precision = Precision(place, tuple(cfg["mean"]), tuple(cfg["std"]))
        self.transform = EvalTransform(cfg["input_size"][-1], cfg["crop_pct"], cfg["interpolation"])
        sampling = read_config(source, self.model).get("video", {}).get("sampling", "segments")
        # configs of before there was a choice describe segments in words
        self.sampling = SAMPLINGS.get(sampling, segment_indices)

    def predict(self, path: str | Path, top: int = 5) -> list[Prediction]:
        """The most likely classes of one video, most likely first.

        Args:
            path: video file, or folder of frame images.
            top: how many; fewer where there are fewer classes.

        Raises:
            DecodeError: the video cannot be read.
        """
        return self.predict_clips(self.read(path)[None], top)[0]

    def predict_many(
        self, paths: Iterable[str | Path], top: int = 5, batch_size: int = 8, workers: int = 1
    ) -> Iterator[tuple[str | Path, list[Prediction] | DecodeError]]:
        """The most likely classes of many videos, in their order, with what kept a video from being read in its place.

        Args:
            paths: video files, or folders of frame images.
            top: how many classes.
            batch_size: videos that go through the model together.
            workers: threads that decode.
        """
        with ThreadPoolExecutor(workers) as pool:
            for group in _groups(paths, batch_size):
                clips = list(pool.map(self._try_to_read, group))
                readable = [clip for clip in clips if isinstance(clip, torch.Tensor)]
                predicted = iter(self.predict_clips(torch.stack(readable), top) if readable else [])
                for path, clip in zip(group, clips, strict=True):
                    yield path, clip if isinstance(clip, DecodeError) else next(predicted)

    def read(self, path: str | Path) -> torch.Tensor:
        """The clip of a video that the model looks at.

        Args:
            path: video file, or folder of frame images.

        Shape:
            returns (T, S, S, 3) uint8.

        Raises:
            DecodeError: the video cannot be read.
        """
        return self.prepare(decode_clip(Path(path), lambda count: self._choose(path, count)))

    def prepare(self, frames: np.ndarray) -> torch.Tensor:
        """Resize and crop chosen frames as validation did.

        Args:
            frames: RGB bytes.

        Shape:
            frames: (T, H, W, 3) -> (T, S, S, 3) uint8.
        """
        return self.transform(torch.from_numpy(frames))

    @torch.inference_mode()
    def predict_clips(self, clips: torch.Tensor, top: int = 5) -> list[list[Prediction]]:
        """The most likely classes of clips that `prepare` made.

        Args:
            clips: the clips.
            top: how many classes; fewer where there are fewer.

        Shape:
            clips: (B, T, S, S, 3) uint8.
        """
        if top < 1:
            raise ValueError(f"top={top} classes asked for; use 1 or more")
        probabilities = self.model(self.precision.clip(clips)).float().softmax(1).cpu()  # (B, classes)
        values, indices = probabilities.topk(min(top, probabilities.shape[1]))
        return [
            [Prediction(self.label_names[index], value) for index, value in zip(row, shares, strict=True)]
            for row, shares in zip(indices.tolist(), values.tolist(), strict=True)
        ]

    def frame_indices(self, count: int) -> list[int]:
        """Which frames of `count` validation took."""
        indices: list[int] = self.sampling(count, self.model.num_frames, None).tolist()
        return indices

    def _try_to_read(self, path: str | Path) -> torch.Tensor | DecodeError:
        try:
            return self.read(path)
        except DecodeError as error:
            return error

    def _choose(self, path: str | Path, count: int) -> list[int]:
        """The frames that validation took, with a warning where the video has fewer."""
        if count < self.model.num_frames:
            warn_of_repeats(str(path), count, self.model.num_frames)
        return self.frame_indices(count)


def _groups(items: Iterable[str | Path], size: int) -> Iterator[list[str | Path]]:
    """Items in lists of `size`; the last may be shorter."""
    rest = iter(items)
    while group := list(islice(rest, size)):
        yield group
