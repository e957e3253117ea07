"""Crops against torchvision and against the published rules."""

import numpy as np
import pytest
import torch
from torchvision.transforms import v2

from timm_video_psn.data.clips.transforms import (
    EvalTransform,
    ThreeCropTransform,
    TrainTransform,
    multiscale_box,
    normalize_clip,
    random_box,
    resized_box,
)


def noise(height, width, num_frames=3):
    return torch.randint(0, 256, (num_frames, height, width, 3), dtype=torch.uint8)


def ramps(height, width):
    """Red tells the column, green the row, blue the frame."""
    y, x = torch.meshgrid(torch.arange(height), torch.arange(width), indexing="ij")
    return torch.stack([torch.stack([x, y, torch.full_like(x, t)], -1) for t in range(3)]).to(torch.uint8)


class TestTrainTransform:
    @pytest.mark.parametrize("crop", ["random", "multiscale", "resized"])
    @pytest.mark.parametrize("size", [(64, 64), (50, 90), (90, 50), (20, 30), (37, 37), (1, 7)])
    def test_gives_contiguous_squares(self, crop, size):
        clip, flipped = TrainTransform(56, crop=crop)(noise(*size), np.random.default_rng(0))
        assert clip.shape == (3, 56, 56, 3)
        assert clip.dtype == torch.uint8
        assert clip.is_contiguous()
        assert isinstance(flipped, bool)

    def test_crop_is_exact_where_the_short_side_fits(self):
        clip, rng = noise(64, 100), np.random.default_rng(0)
        for _ in range(20):
            cropped, flipped = TrainTransform(56)(clip, rng)
            windows = (cropped.flip(2) if flipped else cropped)[0]
            positions = [
                (top, left)
                for top in range(9)
                for left in range(45)
                if torch.equal(clip[0, top : top + 56, left : left + 56], windows)
            ]
            assert len(positions) == 1
            top, left = positions[0]
            expected = clip[:, top : top + 56, left : left + 56]
            assert torch.equal(cropped, expected.flip(2) if flipped else expected)

    @pytest.mark.parametrize("crop", ["random", "multiscale", "resized"])
    def test_all_frames_get_the_same_box_and_flip(self, crop):
        rng = np.random.default_rng(0)
        for _ in range(10):
            clip, _ = TrainTransform(48, crop=crop)(ramps(80, 120), rng)
            assert torch.equal(clip[0, ..., :2], clip[1, ..., :2])
            assert clip[..., 2].flatten(1).unique(dim=1).flatten().tolist() == [0, 1, 2]

    def test_resizing_the_box_is_cropping_the_resized_frame(self):
        clip = v2.functional.gaussian_blur(noise(120, 160).permute(0, 3, 1, 2), [15, 15]).permute(0, 2, 3, 1)
        transform = TrainTransform(56, hflip=0)  # 64 on the short side, boxes of 105
        cropped, _ = transform(clip, np.random.default_rng(3))
        box = random_box(120, 160, 56, 64, np.random.default_rng(3))
        assert (box.height, box.width) == (105, 105)
        whole = v2.functional.resize(clip.permute(0, 3, 1, 2), [64, 85], antialias=True)
        top, left = round(box.top * 64 / 120), round(box.left * 64 / 120)
        expected = whole[..., top : top + 56, left : left + 56].permute(0, 2, 3, 1)
        assert (cropped.float() - expected.float()).abs().mean() < 2

    def test_flip_is_told_and_as_frequent_as_asked(self):
        clip, rng = ramps(64, 64), np.random.default_rng(0)
        for hflip in (0.0, 0.25, 1.0):
            results = [TrainTransform(64, crop_pct=1, hflip=hflip)(clip, rng) for _ in range(200)]
            assert all(torch.equal(result, clip.flip(2) if flipped else clip) for result, flipped in results)
            assert abs(np.mean([flipped for _, flipped in results]) - hflip) < 0.1

    def test_all_chance_comes_from_the_generator(self):
        clip = noise(90, 120)
        for crop in ("random", "multiscale", "resized"):
            first, second = (TrainTransform(56, crop=crop)(clip, np.random.default_rng(5)) for _ in range(2))
            assert torch.equal(first[0], second[0])
            assert first[1] == second[1]

    @pytest.mark.parametrize(
        ("options", "message"),
        [
            ({"crop": "corner"}, "crop='corner' is unknown; use 'random', 'multiscale' or 'resized'"),
            (
                {"scale": (0.5, 1)},
                r"scale=\(0.5, 1\) and ratio=None need crop='resized', but crop='random' was given",
            ),
            (
                {"crop": "resized", "scale": (0.5, 2)},
                r"scale=\(0.5, 2\) is not a range; .* above 0 up to 1, the smaller",
            ),
            ({"crop": "resized", "ratio": (2, 0.5)}, r"ratio=\(2, 0.5\) is not a range; use two numbers above 0, the"),
            ({"crop": "resized", "ratio": (1,)}, r"ratio=\(1,\) is not a range"),
            ({"hflip": 2}, "hflip=2 is not a probability"),
            ({"scales": (1.5,)}, r"scales=\(1.5,\) do not fit into a frame"),
            ({"crop_pct": 0}, "crop_pct=0 is out of range"),
            ({"interpolation": "cubic"}, "interpolation='cubic' is unknown; use one of nearest, .*bicubic"),
        ],
    )
    def test_bad_options_are_errors(self, options, message):
        with pytest.raises(ValueError, match=message):
            TrainTransform(56, **options)


class TestRandomBox:
    def test_covers_the_frame_evenly(self):
        rng = np.random.default_rng(0)
        boxes = [random_box(64, 100, 56, 64, rng) for _ in range(9000)]
        assert {(box.height, box.width) for box in boxes} == {(56, 56)}
        assert set(np.bincount([box.top for box in boxes]) > 800) == {True}
        assert [min(box.left for box in boxes), max(box.left for box in boxes)] == [0, 44]


class TestMultiscaleBox:
    def test_sizes_and_places_are_those_of_tsn(self):
        height, width, scales = 240, 320, (1, 0.875, 0.75, 0.66)
        sides = [240, 210, 180, 158]
        rng = np.random.default_rng(0)
        found = {multiscale_box(height, width, 112, scales, rng) for _ in range(8000)}
        expected = set()
        for i, box_height in enumerate(sides):
            for j, box_width in enumerate(sides):
                if abs(i - j) > 1:
                    continue
                down, across = (height - box_height) // 4, (width - box_width) // 4
                places = [(0, 0), (4, 0), (0, 4), (4, 4), (2, 2), (0, 2), (4, 2), (2, 4), (2, 0)]
                places += [(1, 1), (3, 1), (1, 3), (3, 3)]  # (horizontal, vertical), in the order of TSN's code
                expected |= {(y * down, x * across, box_height, box_width) for x, y in places}
        assert found == expected

    def test_a_side_close_to_the_output_is_taken_as_such(self):
        rng = np.random.default_rng(0)
        assert {multiscale_box(226, 300, 224, (1,), rng)[2:] for _ in range(20)} == {(224, 224)}
        assert {multiscale_box(222, 300, 224, (1,), rng)[2:] for _ in range(20)} == {(222, 222)}

    @pytest.mark.parametrize("size", [(1, 1), (3, 200), (223, 224)])
    def test_stays_inside_the_frame(self, size):
        rng = np.random.default_rng(0)
        for _ in range(200):
            box = multiscale_box(*size, 224, (1, 0.875, 0.75, 0.66), rng)
            assert min(box.top, box.left) >= 0
            assert min(box.height, box.width) >= 1
            assert box.top + box.height <= size[0]
            assert box.left + box.width <= size[1]


class TestResizedBox:
    def test_areas_and_shapes_stay_in_their_spans_and_fill_them(self):
        rng = np.random.default_rng(0)
        boxes = [resized_box(240, 320, (0.1, 0.8), (0.5, 1.5), rng) for _ in range(2000)]
        areas = [box.height * box.width / (240 * 320) for box in boxes]
        shapes = [box.width / box.height for box in boxes]
        assert (min(areas), max(areas)) == pytest.approx((0.1, 0.8), abs=0.01)
        assert (min(shapes), max(shapes)) == pytest.approx((0.5, 1.5), abs=0.03)
        assert all(box.top >= 0 and box.top + box.height <= 240 for box in boxes)
        assert all(box.left >= 0 and box.left + box.width <= 320 for box in boxes)
        assert min(box.top for box in boxes) == min(box.left for box in boxes) == 0
        assert max(box.left + box.width for box in boxes) == 320

    def test_a_frame_that_no_box_fits_gives_its_middle(self):
        box = resized_box(10, 1000, (0.9, 1.0), (0.75, 4 / 3), np.random.default_rng(0))
        assert box == (0, 493, 10, 13)

    def test_the_clip_is_the_box_resized_then_augmented_in_order(self):
        clip, seen = noise(60, 80), []

        def note(clip, rng):
            seen.append((clip.clone(), rng))
            return 255 - clip

        rng = np.random.default_rng(3)
        transform = TrainTransform(32, crop="resized", scale=(0.2, 0.9), hflip=0, augment=[note, note])
        result, _ = transform(clip, rng)
        box = resized_box(60, 80, (0.2, 0.9), (3 / 4, 4 / 3), np.random.default_rng(3))
        frames = clip[:, box.top : box.top + box.height, box.left : box.left + box.width].permute(0, 3, 1, 2)
        expected = v2.functional.resize(frames, [32, 32], antialias=True).permute(0, 2, 3, 1)
        assert torch.equal(seen[0][0], expected)
        assert torch.equal(seen[1][0], 255 - expected)
        assert torch.equal(result, expected)
        assert seen[0][1] is seen[1][1] is rng


class TestEvalTransform:
    @pytest.mark.parametrize("size", [(80, 80), (60, 97), (97, 60), (240, 320), (30, 41), (64, 99)])
    @pytest.mark.parametrize("interpolation", ["bilinear", "bicubic"])
    def test_equals_torchvision(self, size, interpolation):
        clip = noise(*size)
        mode = v2.InterpolationMode(interpolation)
        judge = v2.Compose([v2.Resize(64, mode, antialias=True), v2.CenterCrop(56)])
        result = EvalTransform(56, interpolation=interpolation)(clip)
        assert result.is_contiguous()
        assert torch.equal(result, judge(clip.permute(0, 3, 1, 2)).permute(0, 2, 3, 1))

    def test_is_a_plain_crop_where_the_short_side_fits(self):
        clip = noise(64, 100)
        assert torch.equal(EvalTransform(56)(clip), clip[:, 4:60, 22:78])

    @pytest.mark.parametrize(
        ("clip", "message"),
        [
            (torch.zeros(0, 8, 8, 3, dtype=torch.uint8), r"clip of shape \(0, 8, 8, 3\) is empty"),
            (torch.zeros(2, 0, 8, 3, dtype=torch.uint8), "is empty; give at least one frame"),
            (torch.zeros(2, 8, 8, 3), "clip is torch.float32"),
            (torch.zeros(2, 3, 8, 8, dtype=torch.uint8), r"accepted is uint8 of shape \(T, H, W, 3\)"),
        ],
    )
    def test_no_clip_is_an_error(self, clip, message):
        with pytest.raises(ValueError, match=message):
            EvalTransform(56)(clip)
        with pytest.raises(ValueError, match=message):
            ThreeCropTransform(56)(clip)
        with pytest.raises(ValueError, match=message):
            TrainTransform(56)(clip, np.random.default_rng(0))


class TestThreeCropTransform:
    @pytest.mark.parametrize("size", [(56, 80), (80, 56), (56, 81), (240, 320), (99, 64), (20, 31)])
    def test_offsets_are_those_of_slowfast(self, size):
        clip = noise(*size)
        crops = ThreeCropTransform(56)(clip)
        assert crops.shape == (3, 3, 56, 56, 3)
        assert crops.is_contiguous()
        whole = v2.Resize(56, antialias=True)(clip.permute(0, 3, 1, 2)).permute(0, 2, 3, 1)
        height, width = whole.shape[1:3]
        for place, crop in enumerate(crops):
            # SlowFast's loop over spatial_idx; its middle is rounded up, torchvision's to even
            top, left = -(-(height - 56) // 2), -(-(width - 56) // 2)
            if height > width:
                top = (0, top, height - 56)[place]
            else:
                left = (0, left, width - 56)[place]
            near = [(top, left)] if place != 1 else [(top - i, left - j) for i in (0, 1) for j in (0, 1)]
            assert any(torch.equal(crop, whole[:, y : y + 56, x : x + 56]) for y, x in near if min(y, x) >= 0)

    @pytest.mark.parametrize("size", [(64, 99), (99, 64), (120, 161), (64, 64)])
    @pytest.mark.parametrize("crop_pct", [0.875, 1.0])
    def test_the_middle_one_is_the_crop_of_one_view(self, size, crop_pct):
        clip = noise(*size)
        crops = ThreeCropTransform(56, crop_pct, "bicubic")(clip)
        assert torch.equal(crops[1], EvalTransform(56, crop_pct, "bicubic")(clip))

    def test_a_square_frame_gives_the_same_three_times(self):
        crops = ThreeCropTransform(32)(noise(50, 50))
        assert torch.equal(crops[0], crops[1])
        assert torch.equal(crops[1], crops[2])


class TestNormalizeClip:
    MEAN, STD = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)

    def test_equals_the_formula(self):
        clip = torch.stack([noise(8, 9, 4), noise(8, 9, 4)])  # (B, T, H, W, C)
        result = normalize_clip(clip, self.MEAN, self.STD)
        expected = (clip.double() / 255 - torch.tensor(self.MEAN).double()) / torch.tensor(self.STD).double()
        torch.testing.assert_close(result.double(), expected.permute(0, 4, 1, 2, 3), atol=1e-5, rtol=1e-5)

    @pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16, torch.float16])
    def test_folds_into_channels_last_without_a_copy(self, dtype):
        clip = torch.stack([noise(8, 9, 4), noise(8, 9, 4)])
        before = clip.clone()
        result = normalize_clip(clip, self.MEAN, self.STD, dtype)
        assert result.shape == (2, 3, 4, 8, 9)
        assert result.dtype == dtype
        assert result.permute(0, 2, 3, 4, 1).is_contiguous()
        folded = result.transpose(1, 2).flatten(0, 1)  # (B*T, C, H, W)
        assert folded.is_contiguous(memory_format=torch.channels_last)
        assert folded.data_ptr() == result.data_ptr()
        assert torch.equal(clip, before)

    def test_takes_an_empty_batch(self):
        clip = torch.empty((0, 0, 0, 0, 3), dtype=torch.uint8)
        assert normalize_clip(clip, self.MEAN, self.STD).shape == (0, 3, 0, 0, 0)

    def test_wrong_shapes_are_errors(self):
        with pytest.raises(ValueError, match=r"clip has shape \(3, 8, 8, 3\); accepted is a batch \(B, T, H, W, C\)"):
            normalize_clip(noise(8, 8), self.MEAN, self.STD)
        with pytest.raises(ValueError, match="clip has 3 channels, mean 1, std 3; give one value for each"):
            normalize_clip(noise(8, 8)[None], (0.5,), self.STD)
