"""Mixup and cutmix of clips on the device, by timm's rules."""

from collections.abc import Iterator, Sequence
from contextlib import contextmanager

import numpy as np
from timm.data.mixup import Mixup, cutmix_bbox_and_lam, mixup_target
from torch import Tensor


class ClipMixup(Mixup):
    """timm's Mixup for batches of clips: one draw for a batch, one box for all frames of its clips.

    The draw depends only on the seed, the epoch and the first video of the batch, so a resumed run draws what an
    uninterrupted one would have drawn, and each process draws its own numbers. torchvision's v2 MixUp and
    CutMix have no limits on the box and no switch. Label smoothing is left to the loss.

    Args:
        num_classes: Number K of classes.
        img_size: Side of the frames.
        mixup: Alpha of the Beta distribution of a blend; 0 for none.
        cutmix: Alpha of the Beta distribution of a box; 0 for none.
        cutmix_minmax: Smallest and largest side of the box, as shares of the frame, instead of `cutmix`.
        prob: Share of the batches that are mixed.
        switch_prob: Share of cutmix among them, where both are asked for.
        seed: Seed of all draws.
    """

    def __init__(
        self,
        num_classes: int,
        img_size: int,
        mixup: float,
        cutmix: float,
        cutmix_minmax: Sequence[float] | None = None,
        prob: float = 1.0,
        switch_prob: float = 0.5,
        seed: int = 0,
    ):
        for name, alpha in (("mixup", mixup), ("cutmix", cutmix)):
            if not 0 <= alpha < np.inf:
                raise ValueError(f"{name}={alpha} is out of range; use 0 for none, or a number above 0 such as 0.8")
        for name, share in (("mixup_prob", prob), ("mixup_switch_prob", switch_prob)):
            if not 0 <= share <= 1:
                raise ValueError(f"{name}={share} is not a probability; use 0 to 1")
        if cutmix_minmax is not None:
            _check_minmax(cutmix_minmax, img_size)
        super().__init__(mixup, cutmix, cutmix_minmax, prob, switch_prob, label_smoothing=0.0, num_classes=num_classes)
        self.seed = seed

    def mix(self, clip: Tensor, label: Tensor, epoch: int, first: int) -> tuple[Tensor, Tensor]:
        """Mixes the clips with the clips of the reversed batch, in place; returns them and their mixed labels.

        Args:
            clip: Normalised clips.
            label: Labels of the clips, or 1 for each class of clips of several.
            epoch: Epoch of the batch.
            first: Number of its first video.

        Shape:
            clip: (B, C, T, H, W) -> the same; label: (B,) or (B, K) -> (B, K)
        """
        with _global_numpy_at(self.seed, epoch, first):  # timm draws from it
            share = self._mix_batch(clip)
        if label.ndim == 2:
            return clip, label * share + label.flip(0) * (1 - share)
        return clip, mixup_target(label, self.num_classes, share)

    def _mix_batch(self, x: Tensor) -> float:
        """As timm does it, only that the box goes through all frames; the share of a clip's own class."""
        share, use_cutmix = self._params_per_batch()
        if share == 1.0:
            return 1.0
        if use_cutmix:
            (top, bottom, left, right), share = cutmix_bbox_and_lam(x.shape, share, self.cutmix_minmax)
            x[..., top:bottom, left:right] = x.flip(0)[..., top:bottom, left:right]
            return float(share)
        x.copy_(x.lerp(x.flip(0), 1.0 - share))
        return float(share)


@contextmanager
def _global_numpy_at(*seeds: int) -> Iterator[None]:
    """Numpy's global generator at a place of its own; after the block, where it was."""
    before = np.random.get_state()  # noqa: NPY002
    np.random.seed(seeds)  # noqa: NPY002
    try:
        yield
    finally:
        np.random.set_state(before)  # noqa: NPY002


def _check_minmax(minmax: Sequence[float], img_size: int) -> None:
    """Raises for sides that timm could not draw from."""
    fits = len(minmax) == 2 and 0 <= minmax[0] < minmax[1] <= 1
    if not fits or int(img_size * minmax[0]) >= int(img_size * minmax[1]):
        raise ValueError(
            f"cutmix_minmax={tuple(minmax)} leaves no box to draw in a frame of {img_size} pixels; use two shares from "
            "0 to 1, the smaller one first, for example 0.2 0.8"
        )
