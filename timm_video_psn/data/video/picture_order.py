"""The order in which a decoder gives the pictures of a stream, read from the stream itself and not from its container.

A container stores when each picture is shown, and may be wrong about it; a decoder does not ask. It gives the pictures
of H.264 and HEVC in the order of their picture order counts, which stand in the slice headers (ITU-T H.264, 7.3 and
8.2.1; H.265, 7.3 and 8.3.1), and the pictures of VP9, AV1 and Motion JPEG as they come. Whatever is unusual is answered
with `UnknownOrder`: such a file is decoded from the start and its frames are counted.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import NamedTuple

CODECS_IN_ORDER = frozenset({"av1", "mjpeg", "vp9"})  # one picture a packet, shown as they come
_H264_SLICES, _H264_IDR, _H264_SPS, _H264_PPS = (1, 5), 5, 7, 8
_H264_HIGH_PROFILES = frozenset({44, 83, 86, 100, 110, 118, 122, 128, 134, 135, 138, 139, 244})
_HEVC_SLICES, _HEVC_IDR, _HEVC_CRA, _HEVC_VPS, _HEVC_SPS, _HEVC_PPS = (
    (*range(10), *range(16, 22)),
    (19, 20),
    21,
    32,
    33,
    34,
)
_HEVC_RANDOM_ACCESS, _HEVC_ENDS = range(16, 24), (36, 37)
_HEVC_NOT_FOR_ORDER = frozenset({0, 2, 4, 6, 7, 8, 9})  # leading pictures and those that nothing refers to
_HEADER_BYTES = 32  # of a slice, more than the fields that are read can take


class UnknownOrder(ValueError):
    """The order of the pictures cannot be told without decoding them."""


class Picture(NamedTuple):
    """What a packet says about its picture."""

    order: tuple[int, int]  # pictures come out of a decoder in this order
    is_reference: bool = True  # others may refer to it, or need parameters that its packet holds
    follows_a_gap: bool = False  # by its number, a picture that it may refer to is missing before it


def picture_reader(codec: str, extradata: bytes | None) -> Callable[[bytes | memoryview], Picture]:
    """A function that reads the pictures of a stream, called with each packet in turn.

    It raises `UnknownOrder` for a packet that does not tell, or holds more or fewer than one whole picture.

    Args:
        codec: FFmpeg's name of the codec.
        extradata: Parameters of the stream as mp4 and Matroska store them.

    Raises:
        UnknownOrder: The parameters, or the codec, are unknown.
    """
    if codec in ("h264", "hevc"):
        return (_H264(extradata or b"") if codec == "h264" else _Hevc(extradata or b"")).read
    if codec == "vp9":
        return _Vp9().read
    if codec == "mjpeg":
        return _Mjpeg().read
    if codec in CODECS_IN_ORDER:
        return _AsTheyCome().read
    raise UnknownOrder(f"the order of {codec} is not known")


class _AsTheyCome:
    """Codecs whose packets hold one picture each, in the order in which they are shown."""

    def __init__(self) -> None:
        self._count = 0

    def read(self, packet: bytes | memoryview) -> Picture:
        self._count += 1
        return Picture((0, self._count))


class _Mjpeg(_AsTheyCome):
    """Motion JPEG (ITU-T T.81, B.2), each picture with the tables that it needs, since a decoder keeps earlier tables.

    Huffman tables may be missing from all pictures alike, for which decoders have standard ones.
    """

    def __init__(self) -> None:
        super().__init__()
        self._has_huffman: bool | None = None

    def read(self, packet: bytes | memoryview) -> Picture:
        try:
            huffman, needs_huffman, has_all = self._tables(packet)
        except IndexError:
            raise UnknownOrder("a packet ends within its header") from None
        if self._has_huffman is None:
            self._has_huffman = bool(huffman)
        if not has_all or bool(huffman) != self._has_huffman or (huffman and not needs_huffman <= huffman):
            raise UnknownOrder("a picture lacks tables")
        return super().read(packet)

    @staticmethod
    def _tables(packet: bytes | memoryview) -> tuple[set[int], set[int], bool]:
        """Huffman tables that a picture brings, those that it needs, and whether it brings its quantisation tables."""
        quantisation, needs_quantisation, huffman = set[int](), set[int](), set[int]()
        place = 2
        while packet[place] == 0xFF:
            kind = packet[place + 1]
            if kind == 0xFF:  # fill
                place += 1
                continue
            end = place + 2 + int.from_bytes(packet[place + 2 : place + 4], "big")
            place += 4
            if kind == 0xDB:
                while place < end:
                    quantisation.add(packet[place] & 15)
                    place += 1 + 64 * (1 + (packet[place] >> 4))
            elif kind == 0xC4:
                while place < end:
                    huffman.add(packet[place])
                    place += 17 + sum(packet[place + 1 : place + 17])
            elif kind in (0xC0, 0xC1, 0xC2):
                needs_quantisation.update(packet[place + 8 + 3 * part] for part in range(packet[place + 5]))
            elif kind == 0xDA:
                tables = [packet[place + 2 + 2 * part] for part in range(packet[place])]
                needs = {table >> 4 for table in tables} | {0x10 | table & 15 for table in tables}
                return huffman, needs, bool(needs_quantisation) and needs_quantisation <= quantisation
            place = end
        raise UnknownOrder("a packet is no JPEG picture")


class _Vp9(_AsTheyCome):
    """VP9, some of whose pictures are never shown (uncompressed header and superframe index, VP9 specification)."""

    def read(self, packet: bytes | memoryview) -> Picture:
        if sum(map(_is_shown_in_vp9, _frames_of_superframe(packet))) != 1:
            raise UnknownOrder("a packet does not hold one picture that is shown")
        return super().read(packet)


def _frames_of_superframe(packet: bytes | memoryview) -> Iterator[bytes | memoryview]:
    marker = packet[-1]
    count, width = (marker & 7) + 1, (marker >> 3 & 3) + 1
    index = len(packet) - 2 - count * width
    if marker & 0xE0 != 0xC0 or index < 0 or packet[index] != marker:
        yield packet
        return
    start = 0
    for number in range(count):
        place = index + 1 + number * width
        size = int.from_bytes(packet[place : place + width], "little")
        if size:
            yield packet[start : start + size]
        start += size


def _is_shown_in_vp9(frame: bytes | memoryview) -> bool:
    bits = _Bits(frame[:2])
    bits.take(2)
    if bits.take(1) + bits.take(1) == 2:  # profile 3
        bits.take(1)
    shows_existing = bits.take(1)
    bits.take(1)
    return bool(shows_existing or bits.take(1))


class _NalStream:
    """What H.264 and HEVC have in common: parameter sets and slices in units with their lengths before them."""

    def __init__(self, length_size: int) -> None:
        self._length_size = length_size
        self._sps: dict[int, tuple[int, ...]] = {}
        self._pps: dict[int, tuple[int, ...]] = {}
        self._group = 0  # pictures before a random access point come out before those after it
        self._msb = self._lsb = 0  # of the last picture that the order of later ones builds on

    def read(self, packet: bytes | memoryview) -> Picture:
        has_parameters, place, size = False, 0, self._length_size
        while place + size < len(packet):
            end = place + size + int.from_bytes(packet[place : place + size], "big")
            if end > len(packet) or end == place + size:
                raise UnknownOrder("a packet is not a row of units")
            unit, place = packet[place + size : end], end
            picture = self._picture(unit)
            if picture is not None:
                return picture._replace(is_reference=True) if has_parameters else picture
            has_parameters = self._keep_parameters(unit) or has_parameters
        raise UnknownOrder("a packet holds no picture")

    def _picture(self, unit: bytes | memoryview) -> Picture | None:
        """The picture that a slice begins, None for other units."""
        raise NotImplementedError

    def _keep_parameters(self, unit: bytes | memoryview) -> bool:
        """Keeps the fields of a parameter set that slices need; returns whether the unit is one."""
        raise NotImplementedError

    def _keep_all(self, extradata: bytes, place: int, count: int) -> int:
        """Keeps a number of parameter sets, each with its length before it; returns where the last one ends."""
        for _ in range(count):
            end = place + 2 + int.from_bytes(extradata[place : place + 2], "big")
            self._keep_parameters(extradata[place + 2 : end])
            place = end
        return place

    def _extended(self, lsb: int, bits: int) -> int:
        """The most significant part of a picture order count, of which a slice stores the least significant bits."""
        whole = 1 << bits
        if lsb < self._lsb and self._lsb - lsb >= whole // 2:
            return self._msb + whole
        if lsb > self._lsb and lsb - self._lsb > whole // 2:
            return self._msb - whole
        return self._msb


class _H264(_NalStream):
    """Frames of H.264; coded fields, and orders that no encoder in use writes, are unknown."""

    def __init__(self, extradata: bytes) -> None:
        if len(extradata) < 7 or extradata[0] != 1:
            raise UnknownOrder("its parameters are not stored as mp4 and Matroska store them")
        super().__init__((extradata[4] & 3) + 1)
        self._frame_num: int | None = None  # of the last picture that others may refer to
        self._count = 0
        place = self._keep_all(extradata, 6, extradata[5] & 31)
        self._keep_all(extradata, place + 1, extradata[place] if place < len(extradata) else 0)

    def _keep_parameters(self, unit: bytes | memoryview) -> bool:
        if not unit or unit[0] & 31 not in (_H264_SPS, _H264_PPS):
            return False
        bits = _Bits(unit[1:])
        if unit[0] & 31 == _H264_PPS:
            number, sps = bits.golomb(), bits.golomb()
            bits.take(1)
            self._pps[number] = (sps, bits.take(1))
            return True
        profile, separate_planes = bits.take(8), 0
        bits.take(16)
        number = bits.golomb()
        if profile in _H264_HIGH_PROFILES:
            chroma = bits.golomb()
            separate_planes = bits.take(1) if chroma == 3 else 0
            bits.golomb(), bits.golomb(), bits.take(1)
            if bits.take(1):
                for index in range(12 if chroma == 3 else 8):
                    if bits.take(1):
                        _skip_scaling_list(bits, 16 if index < 6 else 64)
        frame_num_bits, order_type = bits.golomb() + 4, bits.golomb()
        lsb_bits = bits.golomb() + 4 if order_type == 0 else 0
        if order_type == 1 or max(frame_num_bits, lsb_bits) > 16:
            raise UnknownOrder("pictures are ordered in an unusual way")
        bits.golomb()
        gaps_allowed = bits.take(1)
        bits.golomb(), bits.golomb()
        frames_only = bits.take(1)
        self._sps[number] = (frame_num_bits, lsb_bits, gaps_allowed, frames_only, separate_planes)
        return True

    def _picture(self, unit: bytes | memoryview) -> Picture | None:
        kind, is_reference = unit[0] & 31, bool(unit[0] >> 5 & 3)
        if kind not in _H264_SLICES:
            return None
        bits = _Bits(unit[1:_HEADER_BYTES])
        if bits.golomb():
            raise UnknownOrder("a packet does not begin with the start of a picture")
        bits.golomb()
        sps, has_bottom = self._pps.get(bits.golomb(), (-1, 0))
        if sps not in self._sps:
            raise UnknownOrder("the parameters of a picture are missing")
        frame_num_bits, lsb_bits, gaps_allowed, frames_only, separate_planes = self._sps[sps]
        bits.take(2 * separate_planes)
        frame_num = bits.take(frame_num_bits)
        if not frames_only and bits.take(1):
            raise UnknownOrder("a packet holds a field")
        if kind == _H264_IDR:
            bits.golomb()
            self._group, self._msb, self._lsb, self._frame_num = self._group + 1, 0, 0, 0
        last = self._frame_num
        gap = last is not None and frame_num not in (last, (last + 1) % (1 << frame_num_bits)) and not gaps_allowed
        if is_reference:
            self._frame_num = frame_num
        self._count += 1
        if not lsb_bits:  # order type 2: as they come
            return Picture((0, self._count), is_reference, gap)
        lsb = bits.take(lsb_bits)
        msb = self._extended(lsb, lsb_bits)
        if is_reference:
            self._msb, self._lsb = msb, lsb
        bottom = min(bits.signed_golomb(), 0) if has_bottom else 0
        return Picture((self._group, msb + lsb + bottom), is_reference, gap)


class _Hevc(_NalStream):
    """Pictures of HEVC; streams that are spliced or hide pictures are unknown."""

    def __init__(self, extradata: bytes) -> None:
        if len(extradata) < 23 or extradata[0] != 1:
            raise UnknownOrder("its parameters are not stored as mp4 and Matroska store them")
        super().__init__((extradata[21] & 3) + 1)
        place = 23
        for _ in range(extradata[22]):
            place = self._keep_all(extradata, place + 3, int.from_bytes(extradata[place + 1 : place + 3], "big"))

    def _keep_parameters(self, unit: bytes | memoryview) -> bool:
        kind = unit[0] >> 1 & 63 if len(unit) > 2 else -1
        if kind not in (_HEVC_VPS, _HEVC_SPS, _HEVC_PPS):
            return False
        bits = _Bits(unit[2:])
        if kind == _HEVC_PPS:
            number, sps = bits.golomb(), bits.golomb()
            bits.take(1)
            self._pps[number] = (sps, bits.take(1), bits.take(3))
        elif kind == _HEVC_SPS:
            bits.take(4)
            sub_layers = bits.take(3)
            bits.take(1 + 96)  # profile, tier and level of the whole
            present = [(bits.take(1), bits.take(1)) for _ in range(sub_layers)]
            if sub_layers:
                bits.take(2 * (8 - sub_layers))
            bits.take(sum(88 * profile + 8 * level for profile, level in present))
            number, chroma = bits.golomb(), bits.golomb()
            separate_planes = bits.take(1) if chroma == 3 else 0
            bits.golomb(), bits.golomb()
            for _ in range(4 * bits.take(1) + 2):
                bits.golomb()
            lsb_bits = bits.golomb() + 4
            if lsb_bits > 16:
                raise UnknownOrder("pictures are ordered in an unusual way")
            self._sps[number] = (lsb_bits, separate_planes)
        return True

    def _picture(self, unit: bytes | memoryview) -> Picture | None:
        kind = unit[0] >> 1 & 63
        if kind in _HEVC_ENDS:
            raise UnknownOrder("several streams follow one another")
        if kind not in _HEVC_SLICES:
            return None
        bits = _Bits(unit[2:_HEADER_BYTES])
        is_first, is_idr = self._group == 0, kind in _HEVC_IDR
        if not bits.take(1):
            raise UnknownOrder("a packet does not begin with the start of a picture")
        if kind in _HEVC_RANDOM_ACCESS:
            drops_earlier = bits.take(1)
            if not is_first and (drops_earlier or kind not in (*_HEVC_IDR, _HEVC_CRA)):
                raise UnknownOrder("pictures that are not shown come before a random access point")
        sps, may_hide, extra_bits = self._pps.get(bits.golomb(), (-1, 0, 0))
        if sps not in self._sps:
            raise UnknownOrder("the parameters of a picture are missing")
        lsb_bits, separate_planes = self._sps[sps]
        bits.take(extra_bits)
        bits.golomb()
        if may_hide and not bits.take(1):
            raise UnknownOrder("a packet holds a picture that is not shown")
        bits.take(2 * separate_planes)
        if is_idr or is_first:
            self._group, self._msb, self._lsb = self._group + 1, 0, 0
        lsb = 0 if is_idr else bits.take(lsb_bits)
        msb = 0 if is_idr or is_first else self._extended(lsb, lsb_bits)
        if unit[1] & 7 == 1 and kind not in _HEVC_NOT_FOR_ORDER:
            self._msb, self._lsb = msb, lsb
        return Picture((self._group, msb + lsb), kind >= 16 or kind % 2 == 1)


class _Bits:
    """Bits of the beginning of a unit, from the most significant one on."""

    def __init__(self, data: bytes | memoryview) -> None:
        content = bytes(data).replace(b"\0\0\3", b"\0\0")  # the 3 only keeps start codes from appearing within a unit
        self._value = int.from_bytes(content, "big")
        self._left = 8 * len(content)

    def take(self, count: int) -> int:
        """The next bits as a number."""
        self._left -= count
        if self._left < 0:
            raise UnknownOrder("a packet ends within its header")
        return self._value >> self._left & (1 << count) - 1

    def golomb(self) -> int:
        """An unsigned number in exponential Golomb code."""
        rest = self._value & (1 << self._left) - 1
        zeros = self._left - rest.bit_length()
        self.take(zeros)
        return self.take(zeros + 1) - 1

    def signed_golomb(self) -> int:
        """A number with a sign in exponential Golomb code."""
        number = self.golomb()
        return number // 2 + 1 if number % 2 else -(number // 2)


def _skip_scaling_list(bits: _Bits, size: int) -> None:
    last = following = 8
    for _ in range(size):
        if following:
            following = (last + bits.signed_golomb()) % 256
        last = following or last
