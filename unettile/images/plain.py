"""Plain images: PNG and JPEG, which can only be decoded whole."""

from __future__ import annotations

import struct
import zlib
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType
from typing import Any

import imagecodecs
import numpy as np
from numpy.typing import NDArray

from unettile.box import Box
from unettile.errors import InputError
from unettile.images.colours import ColourTable
from unettile.images.pixelsize import PixelSize, believable

DECODED_LIMIT = 2**30
"""Largest PNG or JPEG, in bytes once decoded."""

PNG_SIGNATURE = b"\x89PNG\r\n\x1a\n"
JPEG_SIGNATURE = b"\xff\xd8\xff"

_PNG_GREY, _PNG_PALETTE = 0, 3
_PNG_SAMPLES = {0: 1, 2: 3, 3: 1, 4: 2, 6: 4}
_NO_FRAME = (0xC4, 0xC8, 0xCC)  # among the JPEG markers C0 … CF, those that do not begin a frame


class PlainSlide:
    """An image held whole in memory.

    Args:
        path: where it came from.
        pixels: (H, W, C), any numeric type.
        pixel_size_um: height and width of a pixel, or None if not known.
    """

    def __init__(self, path: Path, pixels: NDArray[Any], pixel_size_um: PixelSize | None = None) -> None:
        assert pixels.ndim == 3
        self.path = path
        self.shape = (int(pixels.shape[0]), int(pixels.shape[1]))
        self.channels = int(pixels.shape[2])
        self.dtype = pixels.dtype
        self.pixel_size_um = pixel_size_um
        self._pixels: NDArray[Any] | None = pixels

    def read(self, box: Box) -> NDArray[Any]:
        """Return the region (h, w, C), a view of the pixels; `box` must be a part of the image."""
        assert Box.of_shape(self.shape).contains(box), f"{box} lies outside of {self.shape}"
        assert self._pixels is not None, "the slide is closed"
        return self._pixels[box.slices]

    def close(self) -> None:
        self._pixels = None

    def __enter__(self) -> PlainSlide:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()


@dataclass(frozen=True)
class _PngHeader:
    width: int
    height: int
    bits: int
    kind: int


def open_png(path: Path, as_stored: bool = False) -> PlainSlide:
    """Decode a PNG: grey, grey with opacity, RGB or RGBA, 8 or 16 bits; opacity stays a channel of its own.

    Args:
        path: the file.
        as_stored: give the stored numbers of palette and 1-bit images; otherwise the colours (a palette becomes grey,
            RGB or RGBA) and 0 and 255. The numbers of 2-bit and 4-bit grey images are always the stored ones.

    Raises:
        InputError: damaged, truncated, empty, or larger than DECODED_LIMIT.
    """
    header = _png_header(path)
    depth = 2 if header.bits == 16 else 1
    _check_size(path, header.height, header.width, _PNG_SAMPLES[header.kind] * depth)
    try:
        chunks = list(_png_chunks(path.read_bytes()))
        numbers = _png_numbers(header, chunks)
    except Exception as error:  # a decoder fed with damaged bytes raises whatever it likes
        raise _refusal(path, "PNG", error) from error
    found = {name: data for name, data in chunks if name in (b"PLTE", b"tRNS", b"pHYs")}
    if header.kind == _PNG_PALETTE and not as_stored:
        if len(found.get(b"PLTE", b"")) < 3:
            raise InputError(f"cannot read {path}: it is a palette image without a palette")
        numbers = _png_colours(found[b"PLTE"], found.get(b"tRNS")).apply(numbers)
    elif header.kind == _PNG_GREY and header.bits == 1 and not as_stored:
        numbers = numbers * np.uint8(255)
    return PlainSlide(path, numbers, _png_pixel_size(found.get(b"pHYs", b"")))


def open_jpeg(path: Path) -> PlainSlide:
    """Decode a JPEG: grey or RGB, pixels as stored (an orientation that a camera noted in EXIF is not applied).

    Raises:
        InputError: damaged, truncated, empty, CMYK, or larger than DECODED_LIMIT.
    """
    data = _limited_bytes(path)
    try:
        height, width, samples, bits = _jpeg_frame(data)
    except (ValueError, IndexError, struct.error) as error:
        raise _refusal(path, "JPEG", error) from error
    _check_size(path, height, width, samples * (1 if bits <= 8 else 2))
    if samples not in (1, 3):
        raise InputError(f"cannot read {path}: a JPEG of {samples} channels (CMYK?); save it as RGB")
    try:
        pixels = imagecodecs.jpeg_decode(data)
    except Exception as error:  # a decoder fed with damaged bytes raises whatever it likes
        raise _refusal(path, "JPEG", error) from error
    pixels = np.asarray(pixels).reshape(height, width, samples)
    return PlainSlide(path, pixels)


def _check_size(path: Path, height: int, width: int, pixel_bytes: int) -> None:
    """Refuse, before any memory is taken, an image without pixels or with too many."""
    if height < 1 or width < 1:
        raise InputError(f"cannot read {path}: it has no pixels (height {height}, width {width})")
    if height * width * pixel_bytes > DECODED_LIMIT:
        raise InputError(
            f"cannot read {path}: {width} × {height} px take {height * width * pixel_bytes / 2**30:.1f} GiB in memory,"
            f" the limit for PNG and JPEG is {DECODED_LIMIT / 2**30:.0f} GiB; convert it to a tiled TIFF"
        )


def _limited_bytes(path: Path) -> bytes:
    size = path.stat().st_size
    if size > 2 * DECODED_LIMIT:
        raise InputError(
            f"cannot read {path}: {size / 2**30:.1f} GiB is too much for a JPEG; convert it to a tiled TIFF"
        )
    return path.read_bytes()


def _refusal(path: Path, kind: str, error: Exception) -> InputError:
    text = " ".join(str(error).split())[:160] or type(error).__name__
    return InputError(f"cannot read {path}: damaged or truncated {kind} ({text})")


def _png_header(path: Path) -> _PngHeader:
    with path.open("rb") as file:
        start = file.read(33)
    try:
        width, height, bits, kind = struct.unpack(">IIBB", start[16:26])
        if start[12:16] != b"IHDR" or kind not in _PNG_SAMPLES or bits not in (1, 2, 4, 8, 16):
            raise ValueError("no valid header")
        if zlib.crc32(start[12:29]) != int.from_bytes(start[29:33], "big"):
            raise ValueError("the header's checksum is wrong")
    except (ValueError, struct.error) as error:
        raise _refusal(path, "PNG", error) from error
    return _PngHeader(width, height, bits, kind)


def _png_chunks(data: bytes) -> Iterator[tuple[bytes, bytes]]:
    """Yield names and contents of a PNG's chunks.

    Raises:
        ValueError: the file ends before its last chunk.
    """
    position = len(PNG_SIGNATURE)
    while True:
        length = int.from_bytes(data[position : position + 4], "big")
        name = data[position + 4 : position + 8]
        content = data[position + 8 : position + 8 + length]
        if len(name) < 4 or len(content) < length or len(data) < position + 12 + length:
            raise ValueError("it ends too early")
        yield name, content
        if name == b"IEND":
            return
        position += 12 + length


def _png_numbers(header: _PngHeader, chunks: list[tuple[bytes, bytes]]) -> NDArray[Any]:
    """Decode the stored numbers (h, w, samples).

    The decoder would replace palette indices by colours and add opacity, so it is given a PNG without palette and
    transparency that says its numbers are grey. It stretches grey of 1, 2 and 4 bits to 0 … 255: undone here.
    """
    grey = header.kind == _PNG_PALETTE
    parts = [PNG_SIGNATURE]
    for name, content in chunks:
        if name in (b"PLTE", b"tRNS") or name not in (b"IHDR", b"IDAT", b"IEND"):
            continue
        if name == b"IHDR" and grey:
            content = content[:9] + bytes([_PNG_GREY]) + content[10:]
        parts.append(_png_chunk(name, content))
    numbers = np.asarray(imagecodecs.png_decode(b"".join(parts)))
    if header.bits < 8:
        numbers = numbers // np.uint8(255 // (2**header.bits - 1))
    return numbers.reshape(header.height, header.width, _PNG_SAMPLES[header.kind])


def _png_chunk(name: bytes, content: bytes) -> bytes:
    checksum = zlib.crc32(name + content)
    return struct.pack(">I", len(content)) + name + content + struct.pack(">I", checksum)


def _png_colours(palette: bytes, opacity: bytes | None) -> ColourTable:
    table = np.frombuffer(palette[: len(palette) // 3 * 3], np.uint8).reshape(-1, 3)
    if opacity is not None:
        alpha = np.full((len(table), 1), 255, np.uint8)
        alpha[: len(opacity), 0] = np.frombuffer(opacity, np.uint8)[: len(table)]
        table = np.concatenate([table, alpha], axis=1)
    return ColourTable(table)


def _png_pixel_size(content: bytes) -> PixelSize | None:
    if len(content) != 9 or content[8] != 1:  # 1: pixels per metre
        return None
    x, y = struct.unpack(">II", content[:8])
    return believable(1e6 / y, 1e6 / x) if x and y else None


def _jpeg_frame(data: bytes) -> tuple[int, int, int, int]:
    """Return height, width, channels and bits from a JPEG's frame header.

    Raises:
        ValueError: there is none, or the data ends without the end marker.
    """
    position = 2
    while True:
        while data[position] == 0xFF and data[position + 1] == 0xFF:  # fill bytes
            position += 1
        if data[position] != 0xFF:
            raise ValueError("no frame header")
        marker = data[position + 1]
        length = int.from_bytes(data[position + 2 : position + 4], "big")
        if 0xC0 <= marker <= 0xCF and marker not in _NO_FRAME:
            bits, height, width, samples = struct.unpack(">BHHB", data[position + 4 : position + 10])
            # Decoders fill what is missing with grey and only warn; a complete file has the end marker.
            if data.rfind(b"\xff\xd9") < position:
                raise ValueError("it ends too early")
            return height, width, samples, bits
        if marker in (0xD9, 0xDA) or length < 2:
            raise ValueError("no frame header")
        position += 2 + length
