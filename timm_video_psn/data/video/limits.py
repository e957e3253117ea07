"""How large the frames of a video may be: a file of 200 KB can hold pictures that fill the memory of any machine."""

from __future__ import annotations

from pathlib import Path

from timm_video_psn.data.video.errors import DecodeError

# Pixels that the frames of one clip may have together: 500 frames of 1920 x 1080, which take 3 GB.
MAX_PIXELS = 2**30
# Shorter side to which larger frames of a clip are shrunk one by one before anything else: a model takes 224 or so, and
# 8 frames of 8192 x 8192 would take 1.6 GB.
CLIP_SIDE_PX = 2048
_DECODER_FRAMES = 16  # that a decoder may hold beside those that it has given


def frame_limit(max_pixels: int) -> int:
    """Returns the number of pixels that a single frame may have, by default 8192 x 8192.

    Args:
        max_pixels: Limit of a clip.
    """
    return max_pixels // _DECODER_FRAMES


def check_pixels(
    path: Path, size: tuple[int, int], count: int, short_side: int | None, max_pixels: int
) -> tuple[int, int]:
    """Raises a `DecodeError` if frames would take too much memory.

    Args:
        path: Video, for the error.
        size: Height and width of its frames.
        count: Number of frames held at once.
        short_side: Shorter side to which larger frames are shrunk one by one; None for their own size.
        max_pixels: Limit of a clip.

    Returns:
        Height and width after shrinking.
    """
    height, width = shrunk = _shrunk(size, short_side)
    if size[0] * size[1] > frame_limit(max_pixels) or count * height * width > max_pixels:
        frames = "1 frame" if count == 1 else f"{count} frames"
        raise DecodeError(
            path,
            f"requested: {frames} of {size[1]} x {size[0]} pixels at once; accepted: {frame_limit(max_pixels):,} pixels"
            f" in a frame and {max_pixels:,} together; use a smaller copy of the video, or raise max_pixels "
            "(--max-pixels of a command)",
        )
    return shrunk


def _shrunk(size: tuple[int, int], short_side: int | None) -> tuple[int, int]:
    smaller = min(size)
    if short_side is None or smaller <= short_side:
        return size
    height, width = (max(1, round(side * short_side / smaller)) for side in size)
    return height, width
