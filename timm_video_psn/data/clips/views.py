"""Several views of a video - clips x crops, of one test protocol or of many - from one decode of the video.

The union of the frames that all plans want is decoded once, each frame once, and each is resized and cropped once for
each size. Views that are the same in two plans, or twice in one (all dense windows of a video of up to 64 frames), are
one view, so that the model sees them once.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
import numpy.typing as npt
import torch
from torch.utils.data import Dataset

from timm_video_psn.data.clips.batch import UnreadableVideo
from timm_video_psn.data.clips.sampling import Indices, check_test_sampling, clip_indices
from timm_video_psn.data.clips.transforms import EvalTransform, ThreeCropTransform
from timm_video_psn.data.datasets.index import VideoIndex
from timm_video_psn.data.video.errors import DecodeError
from timm_video_psn.data.video.reader import Decoder

_CENTRE_OF_THREE = 1


class ViewPlan(NamedTuple):
    """Which views of a video a test uses; `engine.protocol.Protocol` has the same fields."""

    num_frames: int
    num_clips: int
    num_crops: int
    img_size: int
    short_side: int
    sampling: str


class View(NamedTuple):
    """One clip and crop: `rows` of the frames of a size, (T,)."""

    size: int  # number of the entry of `VideoViews.frames`
    crop: int
    rows: tuple[int, ...]


class VideoViews(NamedTuple):
    """All views of a video that the plans want.

    Shape:
        frames: for each size, (crops, frames, S, S, 3) uint8.
        plans: for each plan, (clips x crops,): which of `views`, clip by clip.
    """

    frames: tuple[torch.Tensor, ...]
    views: tuple[View, ...]
    plans: tuple[npt.NDArray[np.int64], ...]
    label: int
    index: int  # type: ignore[assignment]  # of the video in its data set; hides tuple.index, which nobody needs
    num_frames: int  # of the video

    def clip(self, number: int) -> torch.Tensor:
        """View of that number, (T, S, S, 3)."""
        view = self.views[number]
        return self.frames[view.size][view.crop, list(view.rows)]


class ViewBatch(NamedTuple):
    """Videos with their views, and word of those that could not be decoded."""

    videos: list[VideoViews]
    unreadable: list[UnreadableVideo]


class _Size(NamedTuple):
    """Crop and short side in pixels."""

    img_size: int
    short_side: int


class MultiViewDataset(Dataset[VideoViews | UnreadableVideo]):
    """The views of each video that several plans want, from one decode.

    Args:
        index: The videos.
        plans: Plans of the views that each protocol wants.
        interpolation: Name of a torchvision interpolation mode.
        decoder: Decoder of video files, as `VideoReader` takes it.

    Raises:
        ValueError: There is no plan, or one has a sampling or a number of crops that does not exist.
    """

    def __init__(
        self,
        index: VideoIndex,
        plans: Sequence[ViewPlan],
        interpolation: str = "bilinear",
        decoder: Decoder = "auto",
    ) -> None:
        if not plans:
            raise ValueError("no views asked for; give at least one plan")
        for plan in plans:
            check_test_sampling(plan.sampling, plan.num_clips)
            if plan.num_crops not in (1, ThreeCropTransform.num_crops):
                raise ValueError(f"num_crops={plan.num_crops} asked for; use 1 or {ThreeCropTransform.num_crops}")
        self.index = index
        self.plans = tuple(plans)
        self.decoder = decoder
        self._sizes = list(dict.fromkeys(_size(plan) for plan in plans))
        three = {_size(plan) for plan in plans if plan.num_crops > 1}
        self._transforms = [
            (ThreeCropTransform if size in three else EvalTransform)(
                size.img_size, size.img_size / size.short_side, interpolation
            )
            for size in self._sizes
        ]

    def __len__(self) -> int:
        return len(self.index)

    @staticmethod
    def collate(items: Sequence[VideoViews | UnreadableVideo]) -> ViewBatch:
        """Sets the unreadable videos apart."""
        videos = [item for item in items if isinstance(item, VideoViews)]
        return ViewBatch(videos, [item for item in items if isinstance(item, UnreadableVideo)])

    def __getitem__(self, key: int | tuple[int, int]) -> VideoViews | UnreadableVideo:
        number = key[0] if isinstance(key, tuple) else key  # the views are the same in every epoch
        if not 0 <= number < len(self):
            raise IndexError(f"video {number} asked for, but the data set has {len(self)}")
        clips: list[Indices] = []
        length, wanted = 0, np.empty(0, dtype=np.int64)

        def choose(num_frames: int) -> list[int]:
            nonlocal length, wanted
            length = num_frames
            clips[:] = [clip_indices(plan.sampling, num_frames, plan.num_frames, plan.num_clips) for plan in self.plans]
            wanted = np.unique(np.concatenate([part.ravel() for part in clips]))
            return wanted.tolist()

        try:
            decoded = torch.from_numpy(self.index.decode(number, choose, self.decoder))  # (frames, H, W, 3)
        except DecodeError as error:
            return UnreadableVideo(number, str(self.index.root / self.index.paths[number]), error.reason)
        frames, rows = self._crop(decoded, wanted, clips)
        views, plans = self._arrange(rows)
        return VideoViews(frames, views, plans, int(self.index.labels[number]), number, length)

    def _crop(
        self, decoded: torch.Tensor, wanted: Indices, clips: Sequence[Indices]
    ) -> tuple[tuple[torch.Tensor, ...], list[Indices]]:
        """The decoded frames in each size, and for each plan the rows of its clips in them, (clips, T)."""
        frames, rows = [], [np.empty(0, dtype=np.int64)] * len(self.plans)
        for size, transform in zip(self._sizes, self._transforms, strict=True):
            users = [number for number, plan in enumerate(self.plans) if _size(plan) == size]
            used = np.unique(np.concatenate([clips[number].ravel() for number in users]))
            crops = transform(decoded[torch.from_numpy(np.searchsorted(wanted, used))])
            frames.append(crops if crops.ndim == 5 else crops[None])  # (crops, frames, S, S, 3)
            for number in users:
                rows[number] = np.searchsorted(used, clips[number])
        return tuple(frames), rows

    def _arrange(self, rows: Sequence[Indices]) -> tuple[tuple[View, ...], tuple[npt.NDArray[np.int64], ...]]:
        """The distinct views, and which of them each plan consists of."""
        numbers: dict[View, int] = {}
        plans = []
        for plan, clips in zip(self.plans, rows, strict=True):
            size = self._sizes.index(_size(plan))
            centre = _CENTRE_OF_THREE if isinstance(self._transforms[size], ThreeCropTransform) else 0
            crops = range(plan.num_crops) if plan.num_crops > 1 else (centre,)
            views = [View(size, crop, tuple(clip.tolist())) for clip in clips for crop in crops]
            plans.append(np.array([numbers.setdefault(view, len(numbers)) for view in views], dtype=np.int64))
        return tuple(numbers), tuple(plans)


def _size(plan: ViewPlan) -> _Size:
    return _Size(plan.img_size, plan.short_side)
