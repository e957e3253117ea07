"""Frames as images of every kind: what a viewer shows, or a refusal, alike in class folders, lists and shards."""

import io
import struct
import zlib
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from tests.miniatures import write_text
from timm_video_psn.data.clips.dataset import VideoDataset
from timm_video_psn.data.loaders import create_loader
from timm_video_psn.data.registry import read_index
from timm_video_psn.data.shards.writer import ShardLimits, write_shards

HEIGHT, WIDTH = 24, 32


def picture() -> np.ndarray:
    """Smooth colours, brighter to the right and below, so that any turn shows; (H, W, 3)."""
    down, right = np.mgrid[0:HEIGHT, 0:WIDTH]
    return np.stack([7 * right, 9 * down, 4 * (right + down)], axis=2).astype(np.uint8)


def few_colours() -> np.ndarray:
    """The same in at most 64 colours, which a palette holds exactly."""
    return picture() // 64 * 64


def grey() -> np.ndarray:
    return np.repeat(picture()[..., 2:], 3, axis=2)


def png_of_16_bits(pixels: np.ndarray) -> bytes:
    """A PNG of 16 bits a channel, which Pillow reads but cannot write."""
    rows = (pixels.astype(">u2") * 257).reshape(len(pixels), -1)
    data = zlib.compress(b"".join(b"\0" + row.tobytes() for row in rows))
    head = struct.pack(">IIBBBBB", pixels.shape[1], pixels.shape[0], 16, 2, 0, 0, 0)
    parts = ((b"IHDR", head), (b"IDAT", data), (b"IEND", b""))
    chunks = [
        struct.pack(">I", len(body)) + kind + body + struct.pack(">I", zlib.crc32(kind + body)) for kind, body in parts
    ]
    return b"\x89PNG\r\n\x1a\n" + b"".join(chunks)


def saved(image: Image.Image, format: str, **options) -> bytes:
    file = io.BytesIO()
    image.save(file, format, **options)
    return file.getvalue()


def turned(orientation: int, format: str) -> bytes:
    """The picture as a camera stores it that is held otherwise, with the orientation that turns it upright again."""
    image = Image.fromarray(picture())
    stored = {
        1: image,
        2: image.transpose(Image.Transpose.FLIP_LEFT_RIGHT),
        3: image.transpose(Image.Transpose.ROTATE_180),
        4: image.transpose(Image.Transpose.FLIP_TOP_BOTTOM),
        5: image.transpose(Image.Transpose.TRANSPOSE),
        6: image.transpose(Image.Transpose.ROTATE_90),
        7: image.transpose(Image.Transpose.TRANSVERSE),
        8: image.transpose(Image.Transpose.ROTATE_270),
    }[orientation]
    exif = Image.Exif()
    exif[0x0112] = orientation
    return saved(stored, format, exif=exif, **({"quality": 98, "subsampling": 0} if format == "JPEG" else {}))


RGB = Image.fromarray(picture())
JPEG = {"quality": 98, "subsampling": 0}
# name of the file -> its bytes, what a viewer shows, and by how much that may differ in the mean
SHOWN = {
    "rgb.png": (saved(RGB, "PNG"), picture(), 0),
    "palette.png": (saved(Image.fromarray(few_colours()).quantize(64), "PNG"), few_colours(), 0),
    "two_colours.png": (
        saved(Image.fromarray(grey()).convert("1", dither=0), "PNG"),
        np.where(grey() > 127, 255, 0),
        0,
    ),
    "grey.png": (saved(Image.fromarray(grey()).convert("L"), "PNG"), grey(), 0),
    "grey_of_16_bits.png": (saved(Image.fromarray(grey()[..., 0].astype(np.uint16) * 257), "PNG"), grey(), 0),
    "rgb_of_16_bits.png": (png_of_16_bits(picture()), picture(), 0),
    "opaque.png": (saved(RGB.convert("RGBA"), "PNG"), picture(), 0),
    "opaque_grey.png": (saved(Image.fromarray(grey()).convert("LA"), "PNG"), grey(), 0),
    "rgb.jpg": (saved(RGB, "JPEG", **JPEG), picture(), 2),
    "grey.jpg": (saved(Image.fromarray(grey()).convert("L"), "JPEG", **JPEG), grey(), 2),
    "cmyk.jpg": (saved(RGB.convert("CMYK"), "JPEG", **JPEG), picture(), 4),
    "progressive.jpg": (saved(RGB, "JPEG", progressive=True, **JPEG), picture(), 2),
    "of_two_pictures.jpg": (saved(RGB, "MPO", save_all=True, append_images=[RGB.rotate(180)], **JPEG), picture(), 2),
    **{f"turned_{orientation}.jpg": (turned(orientation, "JPEG"), picture(), 2) for orientation in range(1, 9)},
    **{f"turned_{orientation}.png": (turned(orientation, "PNG"), picture(), 0) for orientation in (1, 3, 6, 8)},
}
HALF = np.dstack([picture(), np.full((HEIGHT, WIDTH), 128, np.uint8)])
# name of the file -> its bytes, and what is said of it
REFUSED = {
    "transparent.png": (saved(Image.fromarray(HALF), "PNG"), "is transparent in part"),
    "clear_colour.png": (
        saved(Image.fromarray(few_colours()).quantize(64), "PNG", transparency=0),
        "is transparent in",
    ),
    "moving.png": (saved(RGB, "PNG", save_all=True, append_images=[RGB.rotate(90)]), "is animated"),
    "moving_gif.png": (saved(RGB, "GIF", save_all=True, append_images=[RGB.rotate(90)]), "neither JPEG nor PNG"),
    "webp.jpg": (saved(RGB, "WEBP"), "neither JPEG nor PNG"),
    "tiff.jpg": (saved(RGB, "TIFF"), "neither JPEG nor PNG"),
    "eps.jpg": (saved(RGB, "EPS"), "neither JPEG nor PNG"),
    "cut.png": (saved(RGB, "PNG")[:-200], "cannot be read"),
    "cut.jpg": (saved(RGB, "JPEG")[:-200], "cannot be read"),
}


class Whole:
    """A transform that leaves frames as they are."""

    def __call__(self, clip):
        return clip


def read_in_three_ways(root: Path, name: str, content: bytes):
    """The frame, or why it cannot be read, from a class folder, a list, and a shard."""
    folder = root / "data" / "a" / "video"
    folder.mkdir(parents=True)
    (folder / f"00001{Path(name).suffix}").write_bytes(content)
    write_text(root / "train.txt", "a/video 1 0")
    index = read_index("folder", root / "data", "train")
    write_shards("folder", {"train": index}, root / "shards", ShardLimits(9, 10**9))
    indices = {
        "folder": index,
        "list": read_index("list", root / "data", "train", {"train": root / "train.txt"}),
        "shards": read_index("shards", root / "shards", "train"),
    }
    for way, videos in indices.items():
        (batch,) = create_loader(VideoDataset(videos, 1, Whole(), training=False), 1, shuffle=False, workers=0)
        yield way, batch.unreadable[0].reason if batch.unreadable else batch.clip[0, 0].numpy()


@pytest.mark.parametrize("name", SHOWN)
def test_a_frame_is_the_picture_that_a_viewer_shows(tmp_path, name):
    content, expected, tolerance = SHOWN[name]
    first = None
    for way, frame in read_in_three_ways(tmp_path, name, content):
        assert not isinstance(frame, str), (way, frame)
        assert frame.shape == expected.shape, way
        assert np.abs(frame.astype(float) - expected).mean() <= tolerance, way
        first = frame if first is None else first
        np.testing.assert_array_equal(frame, first, err_msg=way)


@pytest.mark.parametrize("name", REFUSED)
def test_a_frame_that_viewers_would_show_in_several_ways_is_refused(tmp_path, name):
    content, reason = REFUSED[name]
    for way, told in read_in_three_ways(tmp_path, name, content):
        assert isinstance(told, str), way
        assert reason in told, way
