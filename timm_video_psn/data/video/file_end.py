"""Whether a file ends before the sizes that it states: a video cut short decodes without complaint, as a shorter one.

A stated size is a hint and no proof, since files carry wrong sizes, and foreign bytes after their end that look like
one. So only parts that a format knows count, and what they hold says whether anything is lost.
"""

from __future__ import annotations

import io
import struct
from collections.abc import Iterator
from pathlib import Path
from typing import BinaryIO, NamedTuple

_FIRST_BOXES = (b"ftyp", b"moov", b"mdat", b"wide", b"free", b"skip", b"styp")
_BOXES = frozenset(
    (*_FIRST_BOXES, b"moof", b"mfra", b"meta", b"uuid", b"udta", b"sidx", b"ssix", b"prft", b"emsg", b"pdin", b"pnot")
)
_TABLES = (b"moov", b"moof")  # without their end, samples are lost that nothing else tells of
_EBML, _SEGMENT, _CLUSTER, _SEEK_HEAD, _VOID = 0x1A45DFA3, 0x18538067, 0x1F43B675, 0x114D9B74, 0xEC
_SEEK, _SEEK_POSITION = 0x4DBB, 0x53AC
_AVI_HEADER_BYTES = 1 << 16
_LARGEST_RIFF = 0xFFFF0000  # more is the mark of a writer that did not know the size


class Overhang(NamedTuple):
    """Bytes that a file states and does not hold."""

    size: int
    is_proof: bool  # if not, the file is cut short only if samples are missing, too


NOTHING = Overhang(0, False)


def missing_bytes(path: Path, content: bytes | None = None) -> Overhang:
    """Reads how many bytes the outermost parts of a file state beyond its end.

    Knows mp4 and mov (boxes), Matroska and WebM (EBML elements), and AVI (RIFF chunks, several of them in files above
    1 GB).

    Args:
        path: Video file.
        content: Bytes of the file, if it lies in memory and not at `path`.
    """
    end = path.stat().st_size if content is None else len(content)
    with path.open("rb") if content is None else io.BytesIO(content) as file:
        head = file.read(12)
        if head[4:8] in _FIRST_BOXES:
            return _beyond_boxes(file, end)
        if head[:4] == _EBML.to_bytes(4, "big"):
            return _beyond_segment(file, end)
        if head[:4] == b"RIFF":
            return _beyond_riffs(file, end)
    return NOTHING


def _beyond_boxes(file: BinaryIO, end: int) -> Overhang:
    """Mp4: boxes that begin with their size and kind; the last known one may reach beyond the end."""
    place = indexed = 0
    while place + 8 <= end:
        file.seek(place)
        head = file.read(16)
        size, kind = int.from_bytes(head[:4], "big"), head[4:8]
        if size == 1 and len(head) == 16:  # a 64-bit size follows the kind
            size = int.from_bytes(head[8:], "big")
        if size < 8 or (place + size > end and kind not in _BOXES):  # 0: to the end of the file; else foreign bytes
            break
        if place + size > end:
            return Overhang(place + size - end, kind in _TABLES)
        if kind == b"sidx":
            file.seek(place + 8)
            indexed = place + size + _indexed_bytes(file.read(size - 8))
        place += size
    return Overhang(indexed - end, True) if indexed > end else NOTHING


def _indexed_bytes(box: bytes) -> int:
    """How many bytes of media follow a segment index (ISO/IEC 14496-12, 8.16.3)."""
    start = 20 if box[:1] == b"\0" else 28  # 64-bit times and offset in version 1
    count = int.from_bytes(box[start + 2 : start + 4], "big")
    sizes = (int.from_bytes(box[place : place + 4], "big") for place in range(start + 4, start + 4 + 12 * count, 12))
    return int.from_bytes(box[start - (start - 12) // 2 : start], "big") + sum(size & 0x7FFFFFFF for size in sizes)


def _beyond_segment(file: BinaryIO, end: int) -> Overhang:
    """Matroska: a header, then a segment that holds clusters of frames, and an index of what lies where in it."""
    file.seek(0)
    header = next(_elements(file, 0, end), None)
    segment = next(_elements(file, header.end, end), None) if header and header.end else None
    if segment is None or segment.kind != _SEGMENT or segment.end is None or segment.end <= end:
        return NOTHING
    lost, last = False, segment.start
    for element in _elements(file, segment.start, end):
        if element.end is None:
            break
        last = element.end
        lost = lost or (element.end > end and element.kind != _VOID)
        if element.kind == _SEEK_HEAD and element.end <= end:
            lost = lost or any(segment.start + place >= end for place in _sought(file, element.start, element.end))
    return Overhang(segment.end - end, lost or last < end)


class _Element(NamedTuple):
    kind: int
    start: int  # of its content
    end: int | None  # None where the size is unknown


def _elements(file: BinaryIO, place: int, end: int) -> Iterator[_Element]:
    """EBML elements one after the other, up to the first that has no end, or ends outside the file."""
    while place < end:
        file.seek(place)
        kind, size = _vint(file, keep_marker=True), _vint(file, keep_marker=False)
        if kind is None:
            return
        start = file.tell()
        yield _Element(kind, start, None if size is None else start + size)
        if size is None:
            return
        place = start + size


def _sought(file: BinaryIO, start: int, end: int) -> Iterator[int]:
    """Where a seek head says that elements begin, counted from the start of the segment."""
    for seek in _elements(file, start, end):
        for part in _elements(file, seek.start, min(seek.end or 0, end)) if seek.kind == _SEEK else ():
            if part.kind == _SEEK_POSITION and part.end:
                file.seek(part.start)
                yield int.from_bytes(file.read(min(part.end - part.start, 8)), "big")


def _vint(file: BinaryIO, keep_marker: bool) -> int | None:
    """EBML's number of variable length: leading zero bits say how many bytes; all ones mean unknown."""
    first = file.read(1)
    if not first or not first[0]:
        return None
    length = 9 - first[0].bit_length()
    rest = file.read(length - 1)
    value, mask = int.from_bytes(first + rest, "big"), (1 << 7 * length) - 1
    if len(rest) < length - 1 or (not keep_marker and value & mask == mask):
        return None
    return value if keep_marker else value & mask


def _beyond_riffs(file: BinaryIO, end: int) -> Overhang:
    """AVI: RIFF chunks, the first of which holds the header; each holds a list `movi` of frames."""
    place, overhang = 0, NOTHING
    while place + 12 <= end:
        kind, size, form = _chunk(file, place)
        if kind != b"RIFF" or form not in (b"AVI ", b"AVIX") or not 4 <= size < _LARGEST_RIFF:
            break
        beyond = place + 8 + size - end
        if beyond > 0:
            overhang = Overhang(beyond, _loses_frames(file, place + 12, end))
        elif place == 0 and (indexed := _indexed_end(file, end)) > end:
            overhang = Overhang(indexed - end, True)
        place += 8 + size + size % 2
    return overhang


def _indexed_end(file: BinaryIO, end: int) -> int:
    """Where the last index of a stream ends, by the index of indices in the header of an AVI file above 1 GB."""
    file.seek(0)
    header = file.read(min(end, _AVI_HEADER_BYTES))
    found, place = 0, header.find(b"indx")
    while place >= 0:
        longs, _, kind, count = struct.unpack_from("<HBBI", header.ljust(place + 16, b"\0"), place + 8)
        first = place + 8 + 24
        if longs == 4 and kind == 0 and first + 16 * count <= len(header):
            entries = struct.iter_unpack("<QII", header[first : first + 16 * count])
            found = max(found, *(offset + size for offset, size, _ in entries), 0)
        place = header.find(b"indx", place + 4)
    return found


def _loses_frames(file: BinaryIO, place: int, end: int) -> bool:
    """Whether the last RIFF chunk of a file lacks frames, or the header before them."""
    has_frames = False
    while place + 12 <= end:
        kind, size, form = _chunk(file, place)
        if kind == b"LIST" and form in (b"movi", b"hdrl"):
            has_frames = form == b"movi"
            if place + 8 + size > end:
                return size < _LARGEST_RIFF
        place += 8 + size + size % 2
    return not has_frames


def _chunk(file: BinaryIO, place: int) -> tuple[bytes, int, bytes]:
    """Kind, size and form of a RIFF chunk."""
    file.seek(place)
    head = file.read(12)
    return head[:4], struct.unpack("<I", head[4:8])[0], head[8:12]
