"""A picture of the frames that training and validation take from a video."""

from __future__ import annotations

from pathlib import Path

import numpy as np
from PIL import Image, ImageDraw, ImageFont

from timm_video_psn.data.decode import VideoReader
from timm_video_psn.data.sampling import segment_indices

_THUMB_HEIGHT, _GAP, _MARGIN, _TEXT_HEIGHT, _LINE_HEIGHT = 96, 4, 96, 16, 14
_INK, _PAPER, _LINE = (20, 20, 20), (255, 255, 255), (200, 200, 200)


def contact_sheet(path: Path, num_frames: int, draws: int = 3, seed: int = 0) -> Image.Image:
    """A row of frames for validation and one for each of some training samples, over a line that is the whole video.

    Args:
        path: video file or frame folder.
        num_frames: frames of a clip.
        draws: training samples.
        seed: of the training samples.

    Raises:
        DecodeError: the video cannot be read.
    """
    with VideoReader(path) as reader:
        rows = {"val": segment_indices(reader.num_frames, num_frames)}
        for draw in range(draws):
            rng = np.random.default_rng((seed, draw))
            rows[f"train {draw + 1}"] = segment_indices(reader.num_frames, num_frames, rng)
        wanted = sorted({int(index) for indices in rows.values() for index in indices})
        frame_of = dict(zip(wanted, map(_thumbnail, reader.read(wanted)), strict=True))
        total, rate = reader.num_frames, f", {reader.fps:.4g} frames a second" if reader.fps else ""
    width = next(iter(frame_of.values())).width
    row_height = _TEXT_HEIGHT + _THUMB_HEIGHT + _LINE_HEIGHT + 2 * _GAP
    row_width = num_frames * (width + _GAP)
    sheet = Image.new("RGB", (_MARGIN + row_width, 2 * _TEXT_HEIGHT + len(rows) * row_height), _PAPER)
    draw_on, font = ImageDraw.Draw(sheet), ImageFont.load_default(12)
    draw_on.text((_GAP, _GAP), f"{path.name}: {total} frames{rate}", _INK, font)
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
