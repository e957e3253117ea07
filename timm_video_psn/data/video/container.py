"""How long a video file says that it is: a file cut short decodes without error, as a shorter video."""

from __future__ import annotations

import io
import struct
from pathlib import Path
from typing import BinaryIO

_BOXES = (b"ftyp", b"moov", b"mdat", b"wide", b"free")  # what an mp4 or mov file may begin with
_EBML, _SEGMENT = b"\x1a\x45\xdf\xa3", b"\x18\x53\x80\x67"


def missing_bytes(path: Path, content: bytes | None = None) -> int:
    """Bytes that the outermost parts of a file declare beyond its end; 0 where all are there, or nothing is declared.

    Knows mp4 and mov (boxes), mkv and webm (EBML segment) and avi (RIFF chunk).

    Args:
        path: the file.
        content: content of the file, if it is in memory and not at `path`.
    """
    actual = path.stat().st_size if content is None else len(content)
    with path.open("rb") if content is None else io.BytesIO(content) as file:
        head = file.read(12)
        file.seek(0)
        if head[4:8] in _BOXES:
            declared = _end_of_boxes(file, actual)
        elif head[:4] == _EBML:
            declared = _end_of_segment(file)
        elif head[:4] == b"RIFF":
            declared = 8 + struct.unpack("<I", head[4:8])[0]
        else:
            declared = 0
    return max(0, declared - actual)


def is_timed(path: Path) -> bool:
    """Whether a file is of a kind that stores when each frame is shown: mp4, mov, mkv or webm.

    Args:
        path: the file.
    """
    with path.open("rb") as file:
        head = file.read(8)
    return head[4:] in _BOXES or head[:4] == _EBML


def _end_of_boxes(file: BinaryIO, actual: int) -> int:
    """Where the last box of an mp4 file ends: each begins with its size and its kind."""
    end = 0
    while end + 8 <= actual:
        file.seek(end)
        head = file.read(16)
        size = int.from_bytes(head[:4], "big")
        if size == 1 and len(head) == 16:  # a 64-bit size follows the kind
            size = int.from_bytes(head[8:], "big")
        if size < 8:  # 0: to the end of the file, whatever that is
            return end
        end += size
    return end


def _end_of_segment(file: BinaryIO) -> int:
    """Where the segment of a Matroska file ends, which follows a header."""
    file.seek(4)
    header = _element_size(file)
    if header is None:
        return 0
    file.seek(header, 1)
    if file.read(4) != _SEGMENT:
        return 0
    size = _element_size(file)
    return 0 if size is None else file.tell() + size


def _element_size(file: BinaryIO) -> int | None:
    """EBML's number of variable length: leading zero bits say how many bytes; all ones mean unknown."""
    first = file.read(1)
    if not first or not first[0]:
        return None
    length = 9 - first[0].bit_length()
    value = int.from_bytes(first + file.read(length - 1), "big") & ((1 << 7 * length) - 1)
    return None if value == (1 << 7 * length) - 1 else value
