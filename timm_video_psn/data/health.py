"""What is known of a video, and of a whole split, after reading it."""

from __future__ import annotations

import hashlib
import statistics
from collections import Counter
from collections.abc import Sequence
from pathlib import Path
from typing import Any, NamedTuple

from timm_video_psn.data.annotations import VideoIndex
from timm_video_psn.data.decode import DecodeError, VideoReader


class VideoHealth(NamedTuple):
    """One video: what it is, or the reason why it cannot be read."""

    path: Path
    num_frames: int = 0
    fps: float | None = None
    width: int = 0
    height: int = 0
    reason: str | None = None


def check_video(path: Path) -> VideoHealth:
    """Opens a video and decodes its first, middle and last frame.

    Args:
        path: video file or frame folder.
    """
    try:
        with VideoReader(path) as reader:
            last = reader.num_frames - 1
            _, height, width, _ = reader.read([0, last // 2, last]).shape
            return VideoHealth(path, reader.num_frames, reader.fps, width, height)
    except DecodeError as error:
        return VideoHealth(path, reason=error.reason)


def summarize(index: VideoIndex, results: Sequence[VideoHealth]) -> dict[str, Any]:
    """The report of a split, fit for JSON.

    Args:
        index: the split.
        results: of all its videos.
    """
    good = [result for result in results if result.reason is None]
    lengths = [result.num_frames for result in good] or [0]
    sizes = Counter(f"{result.width}x{result.height}" for result in good)
    rates = Counter("unknown" if result.fps is None else f"{result.fps:.4g}" for result in good)
    labels = hashlib.sha256("\n".join(index.class_names).encode("utf-8", "surrogateescape")).hexdigest()
    return {
        "videos": len(results),
        "readable": len(good),
        "classes": len(index.class_names),
        "label_order_sha256": labels,
        "fingerprint": index.fingerprint(),
        "ignored_files": index.ignored,
        "frames": {"least": min(lengths), "median": statistics.median(lengths), "most": max(lengths)},
        "sizes": dict(sizes.most_common()),
        "fps": dict(rates.most_common()),
        "broken": [{"path": str(result.path), "reason": result.reason} for result in results if result.reason],
    }
