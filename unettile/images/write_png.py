"""Writing PNG: row by row, one channel of 8 or 16 bits."""

from __future__ import annotations

import struct
import zlib
from collections.abc import Iterator
from pathlib import Path

import numpy as np

from unettile import __version__
from unettile.box import Box
from unettile.errors import InputError, UsageError
from unettile.images.canvas import PIECE_BYTES, TILE_EDGE, Canvas, Reader, Readers
from unettile.images.colours import Colour
from unettile.images.plain import DECODED_LIMIT
from unettile.images.png import PNG_GREY, PNG_PALETTE, PNG_SIGNATURE, png_chunk
from unettile.wording import size_text


def check_png(canvas: Canvas) -> None:
    """Refuse what a PNG cannot hold.

    Raises:
        UsageError: more than one channel, or numbers that a PNG cannot hold.
        InputError: more pixels than are read back from a PNG.
    """
    height, width = canvas.shape
    if canvas.images > 1:
        raise UsageError(
            f"a PNG holds one plane, not {canvas.images}: use a name ending in .tif, .ome.tif or .ome.zarr"
        )
    if canvas.channels != 1 or canvas.dtype.name not in ("uint8", "uint16"):
        got = f"{canvas.channels} of {canvas.dtype.name}"
        do = f"use a name ending in {'.tif' if len(canvas.layers) == 1 else '.ome.tif or .ome.zarr'}"
        raise UsageError(f"a PNG holds one channel of 8 or 16 bits, not {got}: {do}")
    if height * width * canvas.dtype.itemsize > DECODED_LIMIT:
        raise InputError(
            f"{size_text(canvas.shape)} are too many for a PNG, which is read whole: use a name ending in .tif"
        )


def write_png(path: Path, canvas: Canvas, read: Readers) -> None:
    """Write a PNG: palette or grey.

    Args:
        path: the file, overwritten; a temporary one, so that its final name never shows half of it.
        canvas: what to write.
        read: gives the pixels of a box; called from top to bottom, whole rows.

    Raises:
        UsageError, InputError: as `check_png`.
        OSError: the file cannot be written.
    """
    check_png(canvas)
    height, width = canvas.shape
    palette = canvas.layers[0].palette
    with path.open("wb") as file:
        file.write(PNG_SIGNATURE)
        kind = PNG_PALETTE if palette else PNG_GREY
        header = struct.pack(">IIBBBBB", width, height, 8 * canvas.dtype.itemsize, kind, 0, 0, 0)
        file.write(png_chunk(b"IHDR", header))
        if palette:
            file.write(png_chunk(b"PLTE", bytes(value for colour in _full(palette) for value in colour)))
        if canvas.pixel_size_um is not None:
            y, x = (round(1e6 / size) for size in canvas.pixel_size_um)
            if max(y, x) < 2**31:
                file.write(png_chunk(b"pHYs", struct.pack(">IIB", x, y, 1)))  # 1: pixels per metre
        file.write(png_chunk(b"tEXt", f"Software\0unettile {__version__}".encode()))
        file.write(png_chunk(b"tEXt", b"Description\0" + canvas.description.encode()))
        for data in _deflated_rows(canvas, canvas.readers(read)[0]):
            file.write(png_chunk(b"IDAT", data))
        file.write(png_chunk(b"IEND", b""))


def _deflated_rows(canvas: Canvas, read: Reader) -> Iterator[bytes]:
    """Yield the compressed rows of a PNG; each row begins with its filter, 0 for none."""
    height, width = canvas.shape
    stream = zlib.compressobj(6)
    step = max(1, min(TILE_EDGE, PIECE_BYTES // (width * canvas.dtype.itemsize)))
    for y in range(0, height, step):
        box = Box(y, 0, min(y + step, height), width)
        rows = canvas.read(read, box)[0].astype(canvas.dtype.newbyteorder(">"))
        plain = np.zeros((box.height, 1 + width * canvas.dtype.itemsize), np.uint8)
        plain[:, 1:] = np.ascontiguousarray(rows).view(np.uint8).reshape(box.height, -1)
        data = stream.compress(plain.tobytes())
        if data:
            yield data
    yield stream.flush()


def _full(palette: tuple[Colour, ...]) -> tuple[Colour, ...]:
    """Return 256 colours, black where none is given: a PNG with a number past its palette is damaged."""
    return palette + ((0, 0, 0),) * (256 - len(palette))
