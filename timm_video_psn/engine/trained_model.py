"""The one object for a trained model: the network, its classes, and how it looks at a video.

`engine.load_model` makes it from a folder, the Hub or a checkpoint.
"""

from __future__ import annotations

import logging
from collections.abc import Iterable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from functools import cached_property
from itertools import islice
from typing import Any, NamedTuple, TypeAlias, overload

import numpy as np
import torch
from torch import Tensor

from timm_video_psn.console import printable
from timm_video_psn.data import SAMPLINGS, DecodeError, EvalTransform, MultiViewDataset, VideoViews
from timm_video_psn.data.clips.sampling import Sampling
from timm_video_psn.data.video.limits import MAX_PIXELS
from timm_video_psn.engine.precision import Precision
from timm_video_psn.engine.protocol import Protocol, parse_protocol
from timm_video_psn.engine.video_source import GivenVideos, Video, open_source, video_name
from timm_video_psn.engine.view_scores import ViewScorer, fuse, to_probabilities
from timm_video_psn.models import VideoNet

Videos: TypeAlias = list[Any] | tuple[Any, ...]  # of `Video`s
_logger = logging.getLogger(__name__)
_READ_AT_ONCE = 16  # frames; all of a large video would not fit in memory together
_CLIPS_AT_ONCE = 8


class Prediction(NamedTuple):
    """A class and its probability."""

    label: str
    probability: float


@dataclass(frozen=True)
class VideoPrediction:
    """What a model says of one video.

    Attributes:
        video: Path or URL of the video, or the shape of its frames.
        top: The most likely classes, most likely first; empty for a video that cannot be read.
        error: Why the video cannot be read, or "".
    """

    video: str
    top: tuple[Prediction, ...]
    error: str = ""

    @property
    def label(self) -> str:
        """The most likely class."""
        if not self.top:
            raise ValueError(f"{self.video} has no prediction: {self.error}")
        return self.top[0].label

    def __str__(self) -> str:
        lines = [f"{item.probability:7.2%}  {item.label}" for item in self.top] or [f"error: {self.error}"]
        return "\n".join(map(printable, lines))


@dataclass(frozen=True)
class SampledClip:
    """The frames of a video that a model sees.

    Attributes:
        frames: uint8 (T, S, S, 3), resized and cropped.
        indices: Numbers of the frames in the video, (T,).
        num_frames: Length of the video.
        fps: Frame rate of the video, None where it does not say.
    """

    frames: Tensor
    indices: np.ndarray
    num_frames: int
    fps: float | None


@dataclass(frozen=True, eq=False)
class TrainedModel:
    """A trained model with all that it needs to look at a video as its validation did.

    Attributes:
        model: The network with its weights, on its device and in evaluation mode.
        source: Folder or name that the model came from.
        label_names: Names of the classes in label order; empty where the files do not tell.
        protocol: Protocol of validation.
        precision: Device, autocast and normalisation.
        interpolation: Filter of the resize.
        dataset: Name of the data set that the model was trained on, or None.
        dataset_version: Version of the data set's annotations, or "".
        weights_sha256: Checksum of the file of weights; None where the Hub states none.
        activation: What makes probabilities of logits: `softmax`, or `sigmoid` after training with `--loss bce`, where
            each class has a probability of its own.

    Example:
        >>> model = timm_video_psn.load("output/psn_test_resnet-motion")  # doctest: +SKIP
        >>> model.predict("clip.mp4").label  # doctest: +SKIP
        'slide_left'
    """

    model: VideoNet
    source: str
    label_names: tuple[str, ...]
    protocol: Protocol
    precision: Precision
    interpolation: str
    dataset: str | None = None
    dataset_version: str = ""
    weights_sha256: str | None = None
    activation: str = "softmax"

    @cached_property
    def transform(self) -> EvalTransform:
        """Resizes and centre crop of validation, frames (T, H, W, 3) to (T, S, S, 3), both uint8."""
        protocol = self.protocol
        return EvalTransform(protocol.img_size, protocol.img_size / protocol.short_side, self.interpolation)

    @overload
    def predict(self, video: Video, topk: int = 5, views: str | None = None) -> VideoPrediction: ...

    @overload
    def predict(self, video: Videos, topk: int = 5, views: str | None = None) -> list[VideoPrediction]: ...

    def predict(
        self, video: Video | Videos, topk: int = 5, views: str | None = None
    ) -> VideoPrediction | list[VideoPrediction]:
        """Names the most likely classes of a video, or of each video of a list.

        Args:
            video: Path of a file or of a folder of frame images, http(s) URL of a file, or all frames as a uint8 array
                or tensor, (T, H, W, 3) or (T, 3, H, W); or a list of these.
            topk: Number of classes; fewer where the model has fewer.
            views: Clips x crops, as "3x3", or a whole protocol, as "8x10x3@256 dense"; None for the protocol of
                validation.

        Returns:
            A prediction, or a list of them. In a list, a video that cannot be read has its reason in `error`.

        Raises:
            DecodeError: A video that was not given in a list cannot be read.
            ValueError: The model does not name its classes, `topk` is below 1, or there are no such views.
        """
        if isinstance(video, (list, tuple)):
            return list(self.predict_many(video, topk, views))
        (found,) = self.predict_many([video], topk, views)
        if found.error:
            raise DecodeError(found.video, found.error)
        return found

    def predict_many(
        self,
        videos: Iterable[Video],
        topk: int = 5,
        views: str | None = None,
        batch_size: int = 8,
        workers: int = 1,
        max_pixels: int = MAX_PIXELS,
    ) -> Iterator[VideoPrediction]:
        """Names the most likely classes of many videos, one after the other.

        Args:
            videos: Videos as `predict` takes them.
            topk: Number of classes.
            views: See `predict`.
            batch_size: Videos that are read before the model runs.
            workers: Threads that decode.
            max_pixels: Most pixels that the frames of one video may have together, as `VideoReader` takes it.

        Yields:
            A prediction for each video, in their order.
        """
        self.check_can_name(topk)
        protocol = self.protocol if views is None else parse_protocol(views, self.protocol)
        scorer, rest = ViewScorer(self.model, self.precision), iter(videos)
        with ThreadPoolExecutor(workers) as pool:
            while group := list(islice(rest, batch_size)):
                dataset = MultiViewDataset(GivenVideos.of(group, max_pixels), [protocol.plan], self.interpolation)
                items = list(pool.map(dataset.__getitem__, range(len(group))))
                logits = iter(scorer.logits([item for item in items if isinstance(item, VideoViews)]))
                for video, item in zip(group, items, strict=True):
                    name = video_name(video)
                    if not isinstance(item, VideoViews):
                        yield VideoPrediction(name, (), item.reason)
                        continue
                    self._tell_of_repeats(name, item.num_frames)
                    scores = torch.from_numpy(fuse(next(logits)[item.plans[0]], protocol.fusion, self.activation))
                    shares = scores
                    if protocol.fusion == "logits":
                        shares = to_probabilities(scores[None], self.activation)[0]
                    yield VideoPrediction(name, self.most_likely(shares, topk))

    def predict_clips(self, clips: Tensor, topk: int = 5) -> list[tuple[Prediction, ...]]:
        """Names the most likely classes of clips that `read` or `prepare` made.

        Args:
            clips: The clips.
            topk: Number of classes.

        Shape:
            clips: (B, T, S, S, 3) uint8.
        """
        self.check_can_name(topk)
        return [self.most_likely(row, topk) for row in torch.from_numpy(self.probabilities(clips))]

    @torch.inference_mode()
    def probabilities(self, clips: Tensor) -> np.ndarray:
        """The probability of each class.

        Args:
            clips: The clips.

        Shape:
            clips: (B, T, S, S, 3) uint8 -> (B, num_classes); with softmax, rows add up to 1
        """
        parts = []
        for part in clips.split(_CLIPS_AT_ONCE):
            with self.precision.autocast():
                logits = self.model(self.precision.clip(part))
            parts.append(to_probabilities(logits.float(), self.activation).cpu())
        return torch.cat(parts).numpy()

    def features(self, video: Video | Videos) -> Tensor:
        """The features of a video, as its classifier sees them, averaged over the frames of the clip.

        Args:
            video: See `predict`.

        Shape:
            returns (D,) for a video, (N, D) for a list, on the CPU.

        Raises:
            DecodeError: A video cannot be read.
        """
        if isinstance(video, (list, tuple)):
            return torch.stack([self.features(one) for one in video])
        return self.clip_features(self.read(video).frames[None])[0]

    @torch.no_grad()  # not inference_mode: others may train on what comes out
    def clip_features(self, clips: Tensor) -> Tensor:
        """The features of clips that `read` or `prepare` made.

        Args:
            clips: The clips.

        Shape:
            clips: (B, T, S, S, 3) uint8 -> (B, D), on the CPU
        """
        with self.precision.autocast():
            maps = self.model.forward_features(self.precision.clip(clips))
            return self.model.forward_head(maps, pre_logits=True).float().cpu()

    def read(self, video: Video, indices: Sequence[int] | None = None) -> SampledClip:
        """Reads the frames of a video that the model sees, or other frames in the same form.

        Args:
            video: See `predict`, but no list.
            indices: Numbers of the frames; None for those that validation takes.

        Raises:
            DecodeError: The video cannot be read.
        """
        with open_source(video) as reader:
            if indices is None:
                self._tell_of_repeats(video_name(video), reader.num_frames)
                indices = self.frame_indices(reader.num_frames)
            wanted = sorted(set(indices))
            seen: dict[int, Tensor] = {}
            for start in range(0, len(wanted), _READ_AT_ONCE):
                part = wanted[start : start + _READ_AT_ONCE]
                seen.update(zip(part, self.prepare(reader.read(part)), strict=True))
            frames = torch.stack([seen[index] for index in indices])  # (T, S, S, 3)
            return SampledClip(frames, np.asarray(indices), reader.num_frames, reader.fps)

    def prepare(self, frames: np.ndarray) -> Tensor:
        """Resizes and crops frames as validation did.

        Args:
            frames: RGB bytes.

        Shape:
            frames: (T, H, W, 3) -> (T, S, S, 3) uint8.
        """
        return self.transform(torch.from_numpy(frames))

    @property
    def sampling(self) -> Sampling:
        """The function that chooses the frames of validation."""
        return SAMPLINGS[self.protocol.sampling]

    def frame_indices(self, count: int) -> list[int]:
        """The numbers of the frames that validation takes of a video.

        Args:
            count: Length of the video.
        """
        indices: list[int] = self.sampling(count, self.protocol.num_frames, None).tolist()
        return indices

    def check_can_name(self, topk: int = 1) -> None:
        """Raises if the model cannot name classes.

        Args:
            topk: Number of classes to name.

        Raises:
            ValueError: `topk` is below 1, or the model's files do not name the classes.
        """
        if topk < 1:
            raise ValueError(f"topk={topk} classes asked for; use 1 or more")
        if not self.label_names:
            raise ValueError(
                f"{self.source} names no classes: its config.json lacks label_names; use a folder that training made"
            )

    def most_likely(self, shares: Tensor, topk: int) -> tuple[Prediction, ...]:
        """The most likely classes.

        Args:
            shares: Probabilities of all classes, (num_classes,).
            topk: Number of classes.
        """
        values, indices = shares.topk(min(topk, len(shares)))
        return tuple(map(Prediction, (self.label_names[index] for index in indices.tolist()), values.tolist()))

    def _tell_of_repeats(self, name: str, found: int) -> None:
        """Warns of a video that is shorter than a clip."""
        if found < self.protocol.num_frames:
            _logger.warning(
                "%s has only %d frames for a clip of %d: some are repeated", name, found, self.protocol.num_frames
            )
