"""A copy of a video with the predicted classes in the picture."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from fractions import Fraction
from pathlib import Path

import numpy as np

from timm_video_psn.console import printable
from timm_video_psn.data import TimedFrame
from timm_video_psn.engine.predict.sliding_window import Span
from timm_video_psn.engine.predict.sound import Sound
from timm_video_psn.files import atomic_path

_LONG_SIDE = 1280  # px; larger videos are written smaller


def annotate_video(
    path: Path, frames: Iterable[TimedFrame], fps: float, spans: Sequence[Span], sound_of: Path | None = None
) -> None:
    """Writes an H.264 file whose every frame carries the classes of the span with the nearest middle.

    Args:
        path: The mp4 file.
        frames: Frames of the video, in the order of their times.
        fps: Frame rate of the copy; the frames keep their own times.
        spans: Windows of the video, as `predict_windows` gives them.
        sound_of: Video file whose sound the copy gets; None for a silent copy.

    Raises:
        ValueError: There is no span, or no frame.
        DecodeError: The video breaks off.
        OSError: The file cannot be written.
    """
    import av

    if not spans:
        raise ValueError(f"no prediction to write into {path}")
    middles = np.array([(span.start_sec + span.end_sec) / 2 for span in spans])
    clock = Fraction(1, 90000)
    with atomic_path(path) as temporary, av.open(str(temporary), "w", format="mp4") as container:
        stream = container.add_stream("libx264", rate=Fraction(fps).limit_denominator(30000), options={"crf": "23"})
        stream.pix_fmt = "yuv420p"
        sound = None if sound_of is None else Sound(sound_of, container)
        latest = -1
        for frame in frames:
            span = spans[int(np.abs(middles - frame.time_sec).argmin())]
            pixels = write_classes(frame.rgb(), span)
            if latest < 0:
                stream.height, stream.width = pixels.shape[:2]
                stream.codec_context.time_base = clock
            picture = av.VideoFrame.from_ndarray(pixels, format="rgb24")
            latest = picture.pts = max(latest + 1, round(frame.time_sec / clock))
            picture.time_base = clock
            container.mux(stream.encode(picture))
            if sound is not None:
                sound.write(frame.time_sec)
        if latest < 0:
            raise ValueError(f"no frame to write into {path}")
        container.mux(stream.encode(None))  # what the encoder still holds back
        if sound is not None:
            sound.close()


def write_classes(pixels: np.ndarray, span: Span) -> np.ndarray:
    """A frame with a line of text and a bar for each class of the span, on even sides as H.264 needs them.

    Args:
        pixels: Pixels of the frame.
        span: Window whose classes are written.

    Shape:
        pixels: (H, W, 3) uint8 -> (H', W', 3) uint8, smaller where the frame is large.
    """
    from PIL import Image, ImageDraw, ImageFont

    image = Image.fromarray(pixels)
    scale = min(1.0, _LONG_SIDE / max(image.size))
    width, height = (max(2, round(side * scale) // 2 * 2) for side in image.size)
    image = image if image.size == (width, height) else image.resize((width, height))
    size = max(8, image.height // 22)
    font = ImageFont.load_default(size)
    draw = ImageDraw.Draw(image, "RGBA")
    for line, item in enumerate(span.top):
        top, right = size // 2 + line * round(size * 1.5), round(item.probability * image.width)
        draw.rectangle((0, top, image.width, top + round(size * 1.35)), fill=(0, 0, 0, 110))
        draw.rectangle((0, top, right, top + round(size * 1.35)), fill=(30, 120, 220, 150))
        draw.text(
            (size // 2, top), f"{item.probability:4.0%}  {printable(item.label)}", font=font, fill=(255, 255, 255, 255)
        )
    return np.asarray(image)
