"""A picture of the frames that training, validation and a test take from a video."""

from __future__ import annotations

from pathlib import Path

import numpy as np
from PIL import Image, ImageDraw, ImageFont

from timm_video_psn.data.clips.sampling import SAMPLINGS, Indices, check_test_sampling, clip_indices
from timm_video_psn.data.video.limits import MAX_PIXELS
from timm_video_psn.data.video.reader import VideoReader

_THUMB_HEIGHT, _GAP, _MARGIN, _TEXT_HEIGHT, _LINE_HEIGHT = 96, 4, 96, 16, 14
_INK, _PAPER, _LINE = (20, 20, 20), (255, 255, 255), (200, 200, 200)


def contact_sheet(
    path: Path,
    num_frames: int,
    draws: int = 3,
    seed: int = 0,
    sampling: str = "segments",
    test_sampling: str | None = None,
    test_clips: int | None = None,
    max_pixels: int = MAX_PIXELS,
) -> Image.Image:
    """A row of frames for each of several training clips, for validation, and for each clip of a test.

    A line below each row stands for the whole video, with a dot for each frame of the row.

    Args:
        path: Video file or frame folder.
        num_frames: Frames of a clip.
        draws: Number of training clips.
        seed: Seed of the training clips.
        sampling: Sampling of training and validation, a name in `SAMPLINGS`.
        test_sampling: Sampling of the test, a name in `TEST_SAMPLINGS`; None for the training sampling.
        test_clips: Clips of the test; None for the usual number.
        max_pixels: As `VideoReader` takes it.

    Raises:
        DecodeError: The video cannot be read.
        ValueError: There is no such sampling, or it does not support this number of clips.
    """
    test_sampling = test_sampling or sampling
    test_clips = check_test_sampling(test_sampling, test_clips)
    if sampling not in SAMPLINGS:
        raise ValueError(f"sampling {sampling!r} is unknown; for training there are {', '.join(SAMPLINGS)}")
    if num_frames < 1 or draws < 0:
        raise ValueError(f"{draws} samples of {num_frames} frames asked for; a clip has at least 1 frame")
    with VideoReader(path, max_pixels=max_pixels) as reader:
        rows: dict[str, Indices] = {}
        for draw in range(draws):
            rng = np.random.default_rng((seed, draw))
            rows[f"train {draw + 1}"] = SAMPLINGS[sampling](reader.num_frames, num_frames, rng)
        rows["val"] = SAMPLINGS[sampling](reader.num_frames, num_frames, None)
        for clip, indices in enumerate(clip_indices(test_sampling, reader.num_frames, num_frames, test_clips), 1):
            rows["test" if test_clips == 1 else f"test {clip}"] = indices
        wanted = sorted({int(index) for indices in rows.values() for index in indices})
        frame_of = dict(zip(wanted, map(_thumbnail, reader.read(wanted)), strict=True))
        total, rate = reader.num_frames, f", {reader.fps:.4g} frames a second" if reader.fps else ""
    how = f"train and val: {sampling}; test: {test_sampling}, {test_clips} clip{'s' if test_clips > 1 else ''}"
    return _draw(f"{path.name}: {total} frames{rate}; {how}", rows, frame_of, total)


def _draw(title: str, rows: dict[str, Indices], frame_of: dict[int, Image.Image], total: int) -> Image.Image:
    """The picture of all rows."""
    width, num_frames = next(iter(frame_of.values())).width, len(next(iter(rows.values())))
    row_height = _TEXT_HEIGHT + _THUMB_HEIGHT + _LINE_HEIGHT + 2 * _GAP
    row_width = num_frames * (width + _GAP)
    font = ImageFont.load_default(12)
    sheet_width = max(_MARGIN + row_width, 2 * _GAP + round(font.getlength(title)))
    sheet = Image.new("RGB", (sheet_width, 2 * _TEXT_HEIGHT + len(rows) * row_height), _PAPER)
    draw_on = ImageDraw.Draw(sheet)
    draw_on.text((_GAP, _GAP), title, _INK, font)
    for row, (name, indices) in enumerate(rows.items()):
        top = 2 * _TEXT_HEIGHT + row * row_height
        draw_on.text((_GAP, top + _TEXT_HEIGHT + _THUMB_HEIGHT // 2), name, _INK, font)
        line = top + _TEXT_HEIGHT + _THUMB_HEIGHT + _LINE_HEIGHT // 2 + _GAP
        draw_on.line((_MARGIN, line, _MARGIN + row_width - _GAP, line), _LINE, 2)
        for column, index in enumerate(indices.tolist()):
            left = _MARGIN + column * (width + _GAP)
            draw_on.text((left, top), str(index), _INK, font)
            sheet.paste(frame_of[index], (left, top + _TEXT_HEIGHT))
            x = _MARGIN + (index + 0.5) / total * (row_width - _GAP)
            draw_on.ellipse((x - 3, line - 3, x + 3, line + 3), (200, 40, 40))
    return sheet


def _thumbnail(frame: np.ndarray) -> Image.Image:
    height, width = frame.shape[:2]
    return Image.fromarray(frame).resize((max(1, round(width * _THUMB_HEIGHT / height)), _THUMB_HEIGHT))
