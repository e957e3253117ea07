"""Writes clips as H.264 video files."""

from __future__ import annotations

import os
from collections.abc import Mapping
from fractions import Fraction

import numpy as np

# Every frame is coded alone and with the same quantiser, so that neither coding nor its artefacts tell the direction of
# time: the file of a reversed clip holds the reversed pictures, bit by bit.
INTRA_ONLY = {"preset": "superfast", "qp": "25", "g": "1", "threads": "1"}


def write_video(
    path: str | os.PathLike[str],
    frames: np.ndarray,
    fps: float = 12,
    options: Mapping[str, str] = INTRA_ONLY,
) -> None:
    """Encodes frames with x264 (yuv420p) into the container that the file name stands for.

    Args:
        path: File to write, for example a .mp4 or .mkv.
        frames: uint8 RGB frames with even height and width.
        fps: Frames per second.
        options: Options of FFmpeg's libx264 encoder; by default every frame is a key frame.

    Shape:
        frames: (T, H, W, 3)
    """
    import av

    if frames.ndim != 4 or frames.shape[-1] != 3 or frames.dtype != np.uint8 or not frames.size:
        raise ValueError(f"frames are {frames.dtype} of shape {frames.shape}; accepted are uint8 (T, H, W, 3), T >= 1")
    height, width = frames.shape[1:3]
    if height % 2 or width % 2:
        raise ValueError(f"frames are {height} x {width} pixels; yuv420p needs even sides: crop or pad by one pixel")
    with av.open(os.fspath(path), "w") as container:
        stream = container.add_stream("libx264", rate=Fraction(fps).limit_denominator(30000), options=dict(options))
        stream.height, stream.width, stream.pix_fmt = height, width, "yuv420p"
        for frame in frames:
            picture = av.VideoFrame.from_ndarray(np.ascontiguousarray(frame), format="rgb24")
            container.mux(stream.encode(picture))
        container.mux(stream.encode(None))  # what the encoder still holds back
