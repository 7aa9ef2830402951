"""Declared sizes: how many bytes a compressed piece would decode to, read off its header before a decoder is let loose.

A file of 1 kB may hold a JPEG 2000 picture of 20,000 × 20,000 px, whatever size the TIFF around it states.
"""

from __future__ import annotations

import bz2
import lzma
import struct
import zlib
from collections.abc import Callable, Sequence

_ZSTD_BLOCK = 2**17
_STEP = 2**20
_MARKERS = (*range(0xC0, 0xC4), *range(0xC5, 0xC8), *range(0xC9, 0xCC), *range(0xCD, 0xD0))  # SOFn of JPEG


def picture_size(data: bytes) -> tuple[int, int] | None:
    """Return height and width that a picture's header states: JPEG, JPEG 2000, PNG, WebP, LERC, JPEG XR and XL.

    Returns:
        None where it is none of these, or cut off.
    """
    for begins, read in (
        (b"\xff\xd8", _jpeg),
        (b"\xff\x4f\xff\x51", _jpeg_2000),
        (b"\x00\x00\x00\x0cjP  ", _jpeg_2000),
        (b"\x89PNG", lambda piece: struct.unpack(">II", piece[16:24])[::-1]),
        (b"RIFF", _webp),
        (b"Lerc2 ", _lerc),
        (b"\xff\x0a", lambda piece: _jpeg_xl(piece[2:])),
        (b"\x00\x00\x00\x0cJXL ", _jpeg_xl_box),
        (b"II\xbc", _jpeg_xr),
    ):
        if data.startswith(begins):
            try:
                height, width = read(data)
                return height, width
            except (struct.error, IndexError, ValueError, TypeError):
                return None
    return None


def unpacked_size(data: bytes, codec: str, most: int) -> int:
    """Return how many bytes a packed piece unpacks to at most; counting stops past `most`.

    Args:
        codec: zstd, gzip, zlib, bz2, lzma, blosc or lz4; of another one nothing is known, and 0 is returned.

    Raises:
        ValueError: it is damaged.
    """
    try:
        match codec:
            case "zstd":
                return _zstd(data)
            case "blosc":
                return int(struct.unpack("<I", data[4:8])[0])
            case "lz4":
                return int(struct.unpack("<I", data[:4])[0])
            case "gzip" | "zlib":
                if len(data) * 1032 <= most:  # deflate packs no denser
                    return len(data) * 1032
                return _counted(data, lambda: zlib.decompressobj(47), most)
            case "bz2":
                return _counted(data, bz2.BZ2Decompressor, most)
            case "lzma":
                return _counted(data, lzma.LZMADecompressor, most)
    except (struct.error, IndexError, zlib.error, lzma.LZMAError, OSError, EOFError) as error:
        raise ValueError(f"it is damaged ({error})") from error
    return 0


def _counted(data: bytes, begin: Callable[[], object], most: int) -> int:
    """Return the size by unpacking it piece by piece; streams may follow each other."""
    total = 0
    while data and total <= most:
        reader: object = begin()
        decompress = reader.decompress  # type: ignore[attr-defined]
        rest = data
        while total <= most:
            total += len(decompress(rest, _STEP))
            rest = getattr(reader, "unconsumed_tail", b"")
            if reader.eof or (not rest and getattr(reader, "needs_input", True)):  # type: ignore[attr-defined]
                break
        unused: bytes = reader.unused_data  # type: ignore[attr-defined]
        data = unused if reader.eof else b""  # type: ignore[attr-defined]
    return total


def _zstd(data: bytes) -> int:
    """Return the stated sizes of all frames, or what their blocks can hold (RFC 8878)."""
    place = total = 0
    while place < len(data):
        magic = struct.unpack_from("<I", data, place)[0]
        if magic & 0xFFFFFFF0 == 0x184D2A50:  # a frame to be skipped
            place += 8 + int(struct.unpack_from("<I", data, place + 4)[0])
            continue
        if magic != 0xFD2FB528:
            raise ValueError("it is damaged (no zstd frame)")
        descriptor = data[place + 4]
        single, checksum = descriptor >> 5 & 1, descriptor >> 2 & 1
        place += 5 + (not single) + (0, 1, 2, 4)[descriptor & 3]
        length = (single, 2, 4, 8)[descriptor >> 6]
        stated = int.from_bytes(data[place : place + length], "little") + (256 if length == 2 else 0)
        place += length
        held, last = 0, False
        while not last:
            block = int.from_bytes(data[place : place + 3], "little")
            if place + 3 > len(data):
                raise ValueError("it is damaged (it ends too early)")
            last, kind, size = bool(block & 1), block >> 1 & 3, block >> 3
            held += _ZSTD_BLOCK if kind == 2 else size
            place += 3 + (1 if kind == 1 else size)
        total += stated if length else held
        place += 4 * checksum
    return total


def _jpeg(data: bytes) -> tuple[int, int]:
    place = 2
    while True:
        while data[place] != 0xFF or data[place + 1] in (0xFF, 0x00):
            place += 1
        if data[place + 1] in _MARKERS:
            height, width = struct.unpack_from(">HH", data, place + 5)
            return int(height), int(width)
        place += 2 + int(struct.unpack_from(">H", data, place + 2)[0])


def _jpeg_2000(data: bytes) -> tuple[int, int]:
    start = data.index(b"\xff\x4f\xff\x51")
    x1, y1, x0, y0 = struct.unpack_from(">IIII", data, start + 8)
    return y1 - y0, x1 - x0


def _webp(data: bytes) -> tuple[int, int]:
    kind = data[12:16]
    if kind == b"VP8X":
        return 1 + int.from_bytes(data[27:30], "little"), 1 + int.from_bytes(data[24:27], "little")
    if kind == b"VP8L":
        bits = int.from_bytes(data[21:25], "little")
        return 1 + (bits >> 14 & 0x3FFF), 1 + (bits & 0x3FFF)
    width, height = struct.unpack_from("<HH", data, 26)
    return height & 0x3FFF, width & 0x3FFF


def _lerc(data: bytes) -> tuple[int, int]:
    version = struct.unpack_from("<i", data, 6)[0]
    height, width = struct.unpack_from("<ii", data, 14 if version >= 3 else 10)
    return int(height), int(width)


def _jpeg_xr(data: bytes) -> tuple[int, int]:
    start = struct.unpack_from("<I", data, 4)[0]
    found = {}
    for entry in range(struct.unpack_from("<H", data, start)[0]):
        tag, kind, _, value = struct.unpack_from("<HHII", data, start + 2 + 12 * entry)
        found[tag] = value & 0xFFFF if kind == 3 else value
    return found.get(0xBC81, 0), found.get(0xBC80, 0)


def _jpeg_xl_box(data: bytes) -> tuple[int, int]:
    return _jpeg_xl(data[data.index(b"\xff\x0a", 12) + 2 :])


def _jpeg_xl(data: bytes) -> tuple[int, int]:
    """Read the size header of ISO/IEC 18181-1, bits from the lowest."""
    bits, place = int.from_bytes(data[:16], "little"), 0

    def take(count: int) -> int:
        nonlocal place
        value = bits >> place & (1 << count) - 1
        place += count
        return value

    def length(small: int) -> int:
        return 8 * (1 + take(5)) if small else 1 + take((9, 13, 18, 30)[take(2)])

    small = take(1)
    height = length(small)
    ratio = take(3)
    over, under = ((0, 1), (1, 1), (12, 10), (4, 3), (3, 2), (16, 9), (5, 4), (2, 1))[ratio]
    return height, length(small) if ratio == 0 else height * over // under


def check_picture(data: bytes, shape: Sequence[int]) -> None:
    """Refuse a picture that is larger than what it is a piece of.

    Args:
        shape: height and width that it should have, px.

    Raises:
        ValueError: says both sizes.
    """
    stated = picture_size(data)
    if stated is not None and (stated[0] > 2 * shape[0] + 64 or stated[1] > 2 * shape[1] + 64):
        raise ValueError(f"it holds a picture of {stated[0]} × {stated[1]} px, need {shape[0]} × {shape[1]}")
