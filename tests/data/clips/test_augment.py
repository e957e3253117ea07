"""Colours and policies: one draw for all frames, from the sample's generator alone."""

import pickle
import random

import numpy as np
import pytest
import torch
from PIL import Image, ImageDraw
from timm.data import auto_augment

from timm_video_psn.data.clips.augment import AutoAugment, ColorJitter, RandomErasing

POLICIES = [
    *("rand-m9-mstd0.5-inc1", "rand-m7-n4-mstd0.5-inc1", "rand-m5-n1-p1.0-tweights", "rand-n2-mstd101-t3a"),
    *("augmix-m5-w2-d2", "augmix-b1", "original", "originalr-mstd0.5", "v0", "v0r", "3a"),
]


def noise(num_frames=3, size=32, seed=0):
    values = np.random.default_rng(seed).integers(0, 256, (num_frames, size, size, 3), dtype=np.uint8)
    return torch.from_numpy(values)


def still(num_frames=3):
    """The same frame again and again."""
    return noise(1).repeat(num_frames, 1, 1, 1)


AUGMENTATIONS = {
    "color-jitter": ColorJitter(0.4),
    "erasing": RandomErasing(0.7),
    **{policy: AutoAugment(policy, 32) for policy in POLICIES},
}


@pytest.mark.parametrize("augment", AUGMENTATIONS.values(), ids=AUGMENTATIONS)
class TestEveryAugmentation:
    def test_draws_once_for_all_frames(self, augment):
        clip, changed = still(), 0
        for seed in range(30):
            result = augment(clip, np.random.default_rng(seed))
            assert (result.shape, result.dtype) == (clip.shape, torch.uint8)
            assert torch.equal(result[0], result[1])
            assert torch.equal(result[0], result[2])
            changed += not torch.equal(result, clip)
        assert changed > 5

    def test_treats_a_frame_as_if_it_were_alone(self, augment):
        clip = noise()
        for seed in range(5):
            together = augment(clip, np.random.default_rng(seed))
            for frame, result in zip(clip, together, strict=True):
                assert torch.equal(augment(frame[None], np.random.default_rng(seed))[0], result)

    def test_takes_all_chance_from_the_generator_and_leaves_the_global_ones(self, augment):
        def globals_now():
            return random.random(), np.random.rand(), torch.rand(1).item()  # noqa: NPY002

        def seed_globals(seed):
            random.seed(seed)
            np.random.seed(seed)  # noqa: NPY002
            torch.manual_seed(seed)

        seed_globals(1)
        expected = globals_now()
        results = []
        for seed in (1, 2):
            seed_globals(seed)
            results.append(augment(noise(), np.random.default_rng(7)))
            if seed == 1:
                assert globals_now() == expected
        assert torch.equal(*results)
        others = [augment(noise(), np.random.default_rng(seed)) for seed in range(8)]
        assert any(not torch.equal(results[0], other) for other in others)

    def test_leaves_its_input_and_travels_to_worker_processes(self, augment):
        clip = noise()
        before = clip.clone()
        copy = pickle.loads(pickle.dumps(augment))
        assert torch.equal(augment(clip, np.random.default_rng(0)), copy(clip, np.random.default_rng(0)))
        assert torch.equal(clip, before)


def test_color_jitter_keeps_its_factors_in_their_span():
    grey = torch.full(
        (2, 4, 4, 3), 100, dtype=torch.uint8
    )  # contrast and saturation leave a plain grey alone; rounding adds 1
    found = {int(ColorJitter(0.4)(grey, np.random.default_rng(seed))[0, 0, 0, 0]) for seed in range(300)}
    assert min(found) in range(59, 65)
    assert max(found) in range(136, 142)


def test_rand_augment_is_timms_with_the_settings_of_its_own_loader():
    """What timm's loader would make of the frame, with the generators at the same place."""
    from timm.data import create_transform

    compose = create_transform(32, is_training=True, auto_augment="rand-m9-mstd0.5-inc1", interpolation="bilinear")
    (judge,) = [step for step in compose.transforms if isinstance(step, auto_augment.RandAugment)]
    frame = noise(1)
    for number in range(20):
        seed = int(np.random.default_rng(number).integers(2**32))
        random.seed(seed)
        np.random.seed(seed)  # noqa: NPY002
        expected = np.asarray(judge(Image.fromarray(frame[0].numpy())))
        result = AutoAugment("rand-m9-mstd0.5-inc1", 32)(frame, np.random.default_rng(number))
        assert np.array_equal(result[0].numpy(), expected)


def letter(mirrored=False):
    """An F, which its mirror image cannot be turned into."""
    picture = Image.new("RGB", (64, 64), (90, 90, 90))
    draw = ImageDraw.Draw(picture)
    for box in ((22, 14, 28, 50), (22, 14, 44, 20), (22, 28, 38, 34)):
        draw.rectangle(box, fill=(230, 200, 210))
    return picture.transpose(Image.Transpose.FLIP_LEFT_RIGHT) if mirrored else picture


def likeness(a, b):
    """Largest correlation of two pictures over all shifts, of whichever sign."""
    planes = [np.asarray(picture.convert("L"), dtype=float) for picture in (a, b)]
    planes = [(plane - plane.mean()) / (plane.std() + 1e-9) for plane in planes]
    spectra = [np.fft.fft2(plane) for plane in planes]
    return np.abs(np.fft.ifft2(spectra[0] * spectra[1].conj()).real).max() / planes[0].size


@pytest.mark.parametrize("name", sorted(auto_augment.NAME_TO_OP))
def test_no_operation_of_the_policies_mirrors(name):
    settings = {"translate_const": 20, "img_mean": (90, 90, 90), "interpolation": Image.Resampling.BILINEAR}
    operation = auto_augment.AugmentOp(name, prob=1.0, magnitude=5, hparams=settings)
    for seed in range(6):
        random.seed(seed)
        result = operation(letter())
        assert likeness(result, letter()) > likeness(result, letter(mirrored=True)) + 0.02


@pytest.mark.parametrize("policy", ["rand-x3", "randm9", "rand-m9-foo", "augmix-n2", "v1", "original-m3", "", "rand-m"])
def test_a_policy_that_timm_does_not_have_is_an_error(policy):
    with pytest.raises(ValueError, match="is unknown to timm; use rand, augmix, original"):
        AutoAugment(policy, 32)


@pytest.mark.parametrize("strength", [0, -1, float("nan"), float("inf")])
def test_a_jitter_of_no_strength_is_an_error(strength):
    with pytest.raises(ValueError, match=r"is out of range; use a number above 0, for example 0\.4"):
        ColorJitter(strength)


def test_erasing_puts_one_rectangle_of_the_mean_colour_into_all_frames():
    clip, erase = noise(), RandomErasing(1.0, mean=(0.2, 0.4, 0.6))
    for seed in range(10):
        changed = (erase(clip, np.random.default_rng(seed)) != clip).any(3)
        rows, columns = changed[0].any(1).nonzero()[:, 0], changed[0].any(0).nonzero()[:, 0]
        inside = torch.zeros(32, 32, dtype=torch.bool)
        inside[rows[0] : rows[-1] + 1, columns[0] : columns[-1] + 1] = True
        for frame, result in zip(clip, erase(clip, np.random.default_rng(seed)), strict=True):
            assert (result[inside] == torch.tensor([51, 102, 153])).all()
            assert torch.equal(result[~inside], frame[~inside])
    assert torch.equal(RandomErasing(0.0)(clip, np.random.default_rng(0)), clip)
    with pytest.raises(ValueError, match=r"reprob=1.5 is not a probability"):
        RandomErasing(1.5)
