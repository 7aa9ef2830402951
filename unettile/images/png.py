"""PNG: reading with the stored numbers at hand, and the chunks of which a file is made."""

from __future__ import annotations

import struct
import zlib
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import imagecodecs
import numpy as np
from numpy.typing import NDArray

from unettile.errors import InputError
from unettile.images.colours import ColourTable
from unettile.images.nodata import NoData
from unettile.images.orientation import exif_orientation
from unettile.images.pixelsize import PixelSize, believable
from unettile.images.plain import PlainSlide, check_size, damaged, read_limited
from unettile.images.view import FIRST, View

PNG_SIGNATURE = b"\x89PNG\r\n\x1a\n"
PNG_GREY, PNG_PALETTE = 0, 3
"""Colour types of the header."""

_TEXT_BYTES = 2**28  # of ids of many objects, their classes are a part
_SAMPLES = {0: 1, 2: 3, 3: 1, 4: 2, 6: 4}


@dataclass(frozen=True)
class _Header:
    width: int
    height: int
    bits: int
    kind: int


def open_png(path: Path, view: View = FIRST, as_stored: bool = False) -> PlainSlide:
    """Decode a PNG: grey, grey with opacity, RGB or RGBA, 8 or 16 bits; opacity stays a channel of its own.

    It is turned as its Exif data say.

    Args:
        path: the file.
        view: which channels.
        as_stored: give the stored numbers of palette and 1-bit images; otherwise the colours (a palette becomes grey,
            RGB or RGBA) and 0 and 255. The numbers of 2-bit and 4-bit grey images are always the stored ones.

    Raises:
        InputError: damaged, truncated, empty, or larger than DECODED_LIMIT.
        NoSuchImage: the view chooses what it does not hold.
    """
    header = _header(path)
    depth = 2 if header.bits == 16 else 1
    check_size(path, header.height, header.width, _SAMPLES[header.kind] * depth)
    try:
        chunks = list(_chunks(read_limited(path)))
        numbers = _numbers(header, chunks)
    except Exception as error:  # a decoder fed with damaged bytes raises whatever it likes
        raise damaged(path, "PNG", error) from error
    found = {name: data for name, data in chunks if name in (b"PLTE", b"tRNS", b"pHYs", b"eXIf")}
    if header.kind == PNG_PALETTE and not as_stored:
        if len(found.get(b"PLTE", b"")) < 3:
            raise InputError(f"cannot read {path}: it is a palette image without a palette")
        numbers = _colours(found[b"PLTE"], found.get(b"tRNS")).apply(numbers)
    elif header.kind == PNG_GREY and header.bits == 1 and not as_stored:
        numbers = numbers * np.uint8(255)
    orientation = exif_orientation(found.get(b"eXIf", b""))
    no_data = NoData(opacity=numbers.shape[2] - 1 if numbers.shape[2] in (2, 4) else None)
    return PlainSlide(path, numbers, _pixel_size(found.get(b"pHYs", b"")), view, orientation, no_data)


def read_description(path: Path) -> str:
    """Return the text `Description` that stands before the pixels of a PNG; empty if there is none.

    Raises:
        OSError: the file cannot be read.
    """
    with path.open("rb") as file:
        if file.read(8) != PNG_SIGNATURE:
            return ""
        while len(head := file.read(8)) == 8 and head[4:] != b"IDAT":
            length = int.from_bytes(head[:4], "big")
            if head[4:] == b"tEXt" and length <= _TEXT_BYTES:
                content = file.read(length)
                if content.startswith(b"Description\0"):
                    return content.partition(b"\0")[2].decode("latin-1")
                file.seek(4, 1)
            else:
                file.seek(length + 4, 1)
    return ""


def _header(path: Path) -> _Header:
    with path.open("rb") as file:
        start = file.read(33)
    try:
        width, height, bits, kind = struct.unpack(">IIBB", start[16:26])
        if start[12:16] != b"IHDR" or kind not in _SAMPLES or bits not in (1, 2, 4, 8, 16):
            raise ValueError("no valid header")
        if zlib.crc32(start[12:29]) != int.from_bytes(start[29:33], "big"):
            raise ValueError("the header's checksum is wrong")
    except (ValueError, struct.error) as error:
        raise damaged(path, "PNG", error) from error
    return _Header(width, height, bits, kind)


def _chunks(data: bytes) -> Iterator[tuple[bytes, bytes]]:
    """Yield names and contents of a PNG's chunks, each checked against its checksum.

    Raises:
        ValueError: the file ends before its last chunk, or a checksum is wrong.
    """
    position = len(PNG_SIGNATURE)
    while True:
        length = int.from_bytes(data[position : position + 4], "big")
        name = data[position + 4 : position + 8]
        content = data[position + 8 : position + 8 + length]
        if len(name) < 4 or len(content) < length or len(data) < position + 12 + length:
            raise ValueError("it ends too early")
        end = position + 8 + length
        # The decoder is given chunks that are made anew, and so cannot check these.
        if zlib.crc32(content, zlib.crc32(name)) != int.from_bytes(data[end : end + 4], "big"):
            raise ValueError(f"the checksum of the part at byte {position} is wrong; get a complete copy")
        yield name, content
        if name == b"IEND":
            return
        position += 12 + length


def _numbers(header: _Header, chunks: list[tuple[bytes, bytes]]) -> NDArray[Any]:
    """Decode the stored numbers (h, w, samples).

    The decoder would replace palette indices by colours and add opacity, so it is given a PNG without palette and
    transparency that says its numbers are grey. It stretches grey of 1, 2 and 4 bits to 0 … 255: undone here.
    """
    grey = header.kind == PNG_PALETTE
    parts = [PNG_SIGNATURE]
    for name, content in chunks:
        if name in (b"PLTE", b"tRNS") or name not in (b"IHDR", b"IDAT", b"IEND"):
            continue
        if name == b"IHDR" and grey:
            content = content[:9] + bytes([PNG_GREY]) + content[10:]
        parts.append(png_chunk(name, content))
    numbers = np.asarray(imagecodecs.png_decode(b"".join(parts)))
    if header.bits < 8:
        numbers = numbers // np.uint8(255 // (2**header.bits - 1))
    return numbers.reshape(header.height, header.width, _SAMPLES[header.kind])


def png_chunk(name: bytes, content: bytes) -> bytes:
    """Return one chunk of a PNG file: length, name, content, checksum."""
    checksum = zlib.crc32(name + content)
    return struct.pack(">I", len(content)) + name + content + struct.pack(">I", checksum)


def _colours(palette: bytes, opacity: bytes | None) -> ColourTable:
    table = np.frombuffer(palette[: len(palette) // 3 * 3], np.uint8).reshape(-1, 3)
    if opacity is not None:
        alpha = np.full((len(table), 1), 255, np.uint8)
        alpha[: len(opacity), 0] = np.frombuffer(opacity, np.uint8)[: len(table)]
        table = np.concatenate([table, alpha], axis=1)
    return ColourTable(table)


def _pixel_size(content: bytes) -> PixelSize | None:
    if len(content) != 9 or content[8] != 1:  # 1: pixels per metre
        return None
    x, y = struct.unpack(">II", content[:8])
    return believable(1e6 / y, 1e6 / x) if x and y else None
