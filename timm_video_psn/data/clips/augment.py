"""What a training clip looks like: colours, and the policies of AutoAugment, RandAugment and AugMix.

The libraries draw from global random generators. Here these follow the generator of the sample for as long as a clip is
worked on, and are put back as they were, so that what comes out depends on the sample alone.
"""

from __future__ import annotations

import math
import random
import re
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager

import numpy as np
import torch

Augmentation = Callable[[torch.Tensor, np.random.Generator], torch.Tensor]  # (T, H, W, 3) uint8 -> the same shape

_NUMBER = r"\d+(\.\d*)?"
_POLICY = re.compile(  # of timm, which passes over parts that it does not know
    rf"rand(-m\d+|-n\d+|-p{_NUMBER}|-mstd{_NUMBER}|-mmax\d+|-inc[01]|-t(weights|3aw?))*"
    rf"|augmix(-m\d+|-w\d+|-d\d+|-a{_NUMBER}|-b[01]|-mstd{_NUMBER})*"
    rf"|(original|originalr|v0|v0r|3a)(-mstd{_NUMBER})?"
)


class ColorJitter:
    """Brightness, contrast and saturation by a random factor each, in random order, the same for all frames.

    As timm's `--color-jitter`: factors from 1 - strength to 1 + strength, no change of hue.

    Args:
        strength: Strength of the change, above 0; timm trains images with 0.4.
    """

    def __init__(self, strength: float) -> None:
        if not (strength > 0 and math.isfinite(strength)):
            raise ValueError(f"color_jitter={strength} is out of range; use a number above 0, for example 0.4")
        self.strength = strength

    def __call__(self, clip: torch.Tensor, rng: np.random.Generator) -> torch.Tensor:
        """The clip in other colours."""
        from torchvision.transforms.v2 import ColorJitter as TorchvisionJitter  # loading torchvision takes seconds

        with seeded_rng(rng):
            jittered: torch.Tensor = TorchvisionJitter(*3 * (self.strength,))(clip.permute(0, 3, 1, 2).contiguous())
        return jittered.permute(0, 2, 3, 1)  # (T, H, W, 3)


class RandomErasing:
    """A rectangle of the mean colour, the same one in all frames of a clip, as SlowFast erases clips.

    The rectangle covers 1/50 to 1/3 of the frame, with sides in a ratio from 3/10 to 10/3, as in torchvision and timm.

    Args:
        prob: Probability of a rectangle, timm's `--reprob`.
        mean: Mean of the normalisation, in units of the full range.
    """

    def __init__(self, prob: float, mean: Sequence[float] = (0.485, 0.456, 0.406)) -> None:
        from torchvision.transforms.v2 import RandomErasing as TorchvisionErasing  # loading torchvision takes seconds

        if not 0 <= prob <= 1:
            raise ValueError(f"reprob={prob} is not a probability; use 0 to 1")
        self._erase = TorchvisionErasing(prob, ratio=(0.3, 1 / 0.3), value=[round(255 * value) for value in mean])

    def __call__(self, clip: torch.Tensor, rng: np.random.Generator) -> torch.Tensor:
        """The clip, with a rectangle or without."""
        with seeded_rng(rng):
            erased: torch.Tensor = self._erase(clip.permute(0, 3, 1, 2))  # (T, 3, H, W)
        return erased.permute(0, 2, 3, 1)  # (T, H, W, 3)


class AutoAugment:
    """A policy of timm (`timm.data.auto_augment`), the same operations with the same magnitudes on all frames.

    No operation mirrors a frame. Rotating, shearing and shifting keep left and right apart, so that labels stay what
    they are. What is moved in from outside the frame has the mean colour.

    Args:
        policy: Name of a policy, as in timm's `--aa`: `rand-m9-mstd0.5-inc1`, `augmix-m5-w4-d2`, `original`,
            `originalr`, `v0`, `v0r` or `3a`.
        img_size: Side of the frames.
        mean: Mean of the normalisation, in units of the full range.
        interpolation: Name of a resize filter.
    """

    def __init__(
        self,
        policy: str,
        img_size: int,
        mean: Sequence[float] = (0.485, 0.456, 0.406),
        interpolation: str = "bilinear",
    ) -> None:
        from timm.data import auto_augment
        from timm.data.transforms import str_to_pil_interp

        if not _POLICY.fullmatch(policy):
            raise ValueError(
                f"policy={policy!r} is unknown to timm; use rand, augmix, original, originalr, v0, v0r or 3a, with "
                "settings after dashes, for example rand-m9-n2-mstd0.5-inc1"
            )
        settings = {  # as timm.data.create_transform makes them
            "translate_const": int(img_size * 0.45),
            "img_mean": tuple(min(255, round(255 * value)) for value in mean),
            "interpolation": str_to_pil_interp(interpolation),
        }
        if policy.startswith("rand"):
            self._augment = auto_augment.rand_augment_transform(policy, settings)
        elif policy.startswith("augmix"):
            self._augment = auto_augment.augment_and_mix_transform(policy, {**settings, "translate_pct": 0.3})
        else:
            self._augment = auto_augment.auto_augment_transform(policy, settings)

    def __call__(self, clip: torch.Tensor, rng: np.random.Generator) -> torch.Tensor:
        """The clip after what the policy drew."""
        from PIL import Image

        frames = []
        with seeded_rng(rng) as begin_again:
            for frame in clip.numpy():
                begin_again()
                frames.append(np.asarray(self._augment(Image.fromarray(frame))))
        return torch.from_numpy(np.stack(frames))  # (T, H, W, 3)


@contextmanager
def seeded_rng(rng: np.random.Generator) -> Iterator[Callable[[], None]]:
    """The global generators of Python, numpy and torch (CPU) at a place that `rng` chooses; after the block, as before.

    Args:
        rng: Random generator of the sample.

    Yields:
        A function that takes the generators back to that place.
    """
    seed = int(rng.integers(2**32))

    def begin() -> None:
        random.seed(seed)
        np.random.seed(seed)  # noqa: NPY002  # timm draws from it
        torch.default_generator.manual_seed(seed)  # torch.manual_seed would reach the GPU's, too

    python, numpy, cpu = random.getstate(), np.random.get_state(), torch.get_rng_state()  # noqa: NPY002
    begin()
    try:
        yield begin
    finally:
        random.setstate(python)
        np.random.set_state(numpy)  # noqa: NPY002
        torch.set_rng_state(cpu)
