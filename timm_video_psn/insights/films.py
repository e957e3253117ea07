"""Pictures one after the other: H.264 films and GIFs, which appear whole or not at all."""

from collections.abc import Sequence
from pathlib import Path

import numpy as np

from timm_video_psn.data import write_video
from timm_video_psn.files import atomic_path

_FILM = {"preset": "veryfast", "crf": "20", "threads": "1"}  # of x264; what is drawn needs no key frame at each picture


def save_gif(pictures: Sequence[np.ndarray], path: Path, fps: float) -> Path:
    """Writes an endless animation; its last picture stays for three times as long.

    Args:
        pictures: uint8 (H, W, 3) each.
        path: The file.
        fps: Pictures a second.
    """
    from PIL import Image

    path.parent.mkdir(parents=True, exist_ok=True)
    images = [Image.fromarray(picture).quantize(64) for picture in pictures]
    durations = [round(1000 / fps)] * (len(images) - 1) + [round(3000 / fps)]
    with atomic_path(path) as temporary:
        images[0].save(
            temporary, format="GIF", save_all=True, append_images=images[1:], duration=durations, loop=0, disposal=1
        )
    return path


def save_film(pictures: np.ndarray, path: Path, fps: float) -> Path:
    """Writes an H.264 film that browsers play.

    Args:
        pictures: uint8 (T, H, W, 3); odd sides lose their last row or column.
        path: The .mp4 file.
        fps: Pictures a second.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    height, width = (side - side % 2 for side in pictures.shape[1:3])
    with atomic_path(path) as temporary:
        draft = temporary.with_suffix(path.suffix)  # FFmpeg takes the container from the name
        try:
            write_video(draft, pictures[:, :height, :width], fps, _FILM)
            draft.replace(temporary)
        finally:
            draft.unlink(missing_ok=True)
    return path
