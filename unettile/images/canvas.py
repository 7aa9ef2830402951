"""Canvas: an image that is written piece by piece, as a tiled TIFF or a PNG.

What is written depends on the pixels and the canvas alone: no dates, no paths, so the same input gives the same bytes.
"""

from __future__ import annotations

import json
import struct
import zlib
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import tifffile
from numpy.typing import NDArray

from unettile import __version__
from unettile.box import Box
from unettile.errors import InputError, UsageError
from unettile.images.colours import Colour
from unettile.images.pixelsize import PixelSize
from unettile.images.plain import DECODED_LIMIT
from unettile.images.png import PNG_GREY, PNG_PALETTE, PNG_SIGNATURE, png_chunk

TILE_EDGE = 512
"""Edge of the tiles of a written TIFF, px."""

PIECE_BYTES = 2**26
"""Pixels asked for at once, in bytes; at least one tile."""

_CLASSIC_LIMIT = 2**32 - 2**26  # room for the tables; larger files need the 64-bit offsets of BigTIFF
_DTYPES = ("uint8", "uint16", "uint32", "float32")

Reader = Callable[[Box], NDArray[Any]]
"""Gives the pixels of a box: (h, w) of a canvas with one channel, (K, h, w) of one with K."""

Writer = Callable[[Path, "Canvas", Reader], None]


@dataclass(frozen=True)
class Canvas:
    """What is to be written, without its pixels.

    Args:
        shape: height and width, px.
        channels: 1 (classes, instances, weights), or the number of planes.
        dtype: uint8, uint16, uint32 or float32.
        palette: colours of the numbers 0, 1, … of a uint8 canvas with one channel; None for grey.
        pixel_size_um: height and width of a pixel, micrometres, if known.
        metadata: JSON, written as the image's description.
    """

    shape: tuple[int, int]
    channels: int = 1
    dtype: np.dtype[Any] = field(default_factory=lambda: np.dtype(np.uint8))
    palette: tuple[Colour, ...] | None = None
    pixel_size_um: PixelSize | None = None
    metadata: dict[str, Any] = field(default_factory=dict)

    def __post_init__(self) -> None:
        object.__setattr__(self, "dtype", np.dtype(self.dtype))
        if min(self.shape) < 1 or self.channels < 1:
            raise ValueError(f"a canvas needs pixels and channels: got {self.shape}, {self.channels}")
        if self.dtype.name not in _DTYPES:
            raise ValueError(f"a canvas holds one of {', '.join(_DTYPES)}: got {self.dtype}")
        if self.palette is not None and (
            self.dtype != np.uint8 or self.channels != 1 or not 1 <= len(self.palette) <= 256
        ):
            raise ValueError("a palette of 1 to 256 colours needs a uint8 canvas with one channel")

    @property
    def description(self) -> str:
        """Return the metadata and the shape as one line of ASCII, keys sorted.

        tifffile takes a JSON description in which any "shape" occurs, however deep, for its own, and then needs one on
        top that is the pixels'.
        """
        shape = self.shape if self.channels == 1 else (self.channels, *self.shape)
        described = {**self.metadata, "shape": list(shape)}
        return json.dumps(described, sort_keys=True, ensure_ascii=True, allow_nan=False)


def writer_for(path: Path) -> Writer:
    """Return the function that writes the format of a file's ending.

    Raises:
        UsageError: the ending is not known.
    """
    name = path.name.lower()
    if name.endswith((".ome.tif", ".ome.tiff")):
        raise UsageError(f"cannot write {path.name}: OME-TIFF is not written; end the name with .tif for plain TIFF")
    for ending, writer in WRITERS:
        if name.endswith(ending):
            return writer
    known = ", ".join(ending for ending, _ in WRITERS)
    raise UsageError(f"cannot tell the format of {path.name} from its ending; use one of {known}")


def write_tiff(path: Path, canvas: Canvas, read: Reader) -> None:
    """Write a tiled, deflate-compressed TIFF; BigTIFF where its pixels could need it.

    A palette makes it a palette image: viewers show colours, readers of numbers get the numbers. Several channels are
    separate planes, for each of which `read` is asked anew.

    Args:
        path: the file, overwritten; a temporary one, so that its final name never shows half of it.
        canvas: what to write.
        read: gives the pixels of a box; called plane by plane, in raster order, for at most PIECE_BYTES or one tile.

    Raises:
        OSError: the file cannot be written.
    """
    height, width = canvas.shape
    tiles = -(-height // TILE_EDGE) * -(-width // TILE_EDGE) * canvas.channels
    table = None
    if canvas.palette is not None:
        table = np.zeros((3, 256), np.uint16)
        table[:, : len(canvas.palette)] = np.array(canvas.palette, np.uint16).T * 257
    resolution = None
    if canvas.pixel_size_um is not None:
        resolution = (1e4 / canvas.pixel_size_um[1], 1e4 / canvas.pixel_size_um[0])
    bytes_at_most = tiles * TILE_EDGE**2 * canvas.dtype.itemsize
    with tifffile.TiffWriter(path, bigtiff=bytes_at_most > _CLASSIC_LIMIT, byteorder="<") as tif:
        tif.write(
            _tiles(canvas, read),
            shape=canvas.shape if canvas.channels == 1 else (canvas.channels, height, width),
            dtype=canvas.dtype,
            tile=(TILE_EDGE, TILE_EDGE),
            photometric="minisblack" if table is None else "palette",
            colormap=table,
            planarconfig=None if canvas.channels == 1 else "separate",
            compression="zlib",
            description=canvas.description,
            metadata=None,
            software=f"unettile {__version__}",
            resolution=resolution,
            resolutionunit=None if resolution is None else "CENTIMETER",
            maxworkers=1,
        )


def write_png(path: Path, canvas: Canvas, read: Reader) -> None:
    """Write a PNG, row by row: palette or grey, 8 or 16 bits, one channel.

    Args:
        path: the file, overwritten; a temporary one, so that its final name never shows half of it.
        canvas: what to write.
        read: gives the pixels of a box; called from top to bottom, whole rows.

    Raises:
        UsageError: more than one channel, or numbers that a PNG cannot hold.
        InputError: more pixels than are read back from a PNG.
        OSError: the file cannot be written.
    """
    height, width = canvas.shape
    if canvas.channels != 1 or canvas.dtype.name not in ("uint8", "uint16"):
        raise UsageError(
            f"a PNG holds one channel of 8 or 16 bits, not {canvas.channels} of {canvas.dtype}; write .tif instead"
        )
    if height * width * canvas.dtype.itemsize > DECODED_LIMIT:
        raise InputError(f"{width} × {height} px are too many for a PNG, which is read whole; write .tif instead")
    kind = PNG_GREY if canvas.palette is None else PNG_PALETTE
    with path.open("wb") as file:
        file.write(PNG_SIGNATURE)
        header = struct.pack(">IIBBBBB", width, height, 8 * canvas.dtype.itemsize, kind, 0, 0, 0)
        file.write(png_chunk(b"IHDR", header))
        if canvas.palette is not None:
            file.write(png_chunk(b"PLTE", bytes(value for colour in _full(canvas.palette) for value in colour)))
        if canvas.pixel_size_um is not None:
            y, x = (round(1e6 / size) for size in canvas.pixel_size_um)
            file.write(png_chunk(b"pHYs", struct.pack(">IIB", x, y, 1)))  # 1: pixels per metre
        file.write(png_chunk(b"tEXt", f"Software\0unettile {__version__}".encode()))
        file.write(png_chunk(b"tEXt", b"Description\0" + canvas.description.encode()))
        for data in _deflated_rows(canvas, read):
            file.write(png_chunk(b"IDAT", data))
        file.write(png_chunk(b"IEND", b""))


def _tiles(canvas: Canvas, read: Reader) -> Iterator[NDArray[Any]]:
    """Yield the tiles of each plane in raster order, from pieces of whole tiles side by side."""
    height, width = canvas.shape
    column_bytes = canvas.channels * TILE_EDGE**2 * canvas.dtype.itemsize
    piece_width = max(1, PIECE_BYTES // column_bytes) * TILE_EDGE
    for plane in range(canvas.channels):
        for y in range(0, height, TILE_EDGE):
            for x in range(0, width, piece_width):
                box = Box(y, x, min(y + TILE_EDGE, height), min(x + piece_width, width))
                pixels = _checked(read(box), box, canvas)
                rows = pixels if canvas.channels == 1 else pixels[plane]
                for left in range(0, box.width, TILE_EDGE):
                    tile = np.zeros((TILE_EDGE, TILE_EDGE), canvas.dtype)
                    part = rows[:, left : left + TILE_EDGE]
                    tile[: part.shape[0], : part.shape[1]] = part
                    yield tile


def _deflated_rows(canvas: Canvas, read: Reader) -> Iterator[bytes]:
    """Yield the compressed rows of a PNG; each row begins with its filter, 0 for none."""
    height, width = canvas.shape
    stream = zlib.compressobj(6)
    step = max(1, min(TILE_EDGE, PIECE_BYTES // (width * canvas.dtype.itemsize)))
    for y in range(0, height, step):
        box = Box(y, 0, min(y + step, height), width)
        rows = _checked(read(box), box, canvas).astype(canvas.dtype.newbyteorder(">"))
        plain = np.zeros((box.height, 1 + width * canvas.dtype.itemsize), np.uint8)
        plain[:, 1:] = np.ascontiguousarray(rows).view(np.uint8).reshape(box.height, -1)
        data = stream.compress(plain.tobytes())
        if data:
            yield data
    yield stream.flush()


def _checked(pixels: NDArray[Any], box: Box, canvas: Canvas) -> NDArray[Any]:
    need = box.shape if canvas.channels == 1 else (canvas.channels, *box.shape)
    assert pixels.shape == need and pixels.dtype == canvas.dtype, f"{pixels.shape} {pixels.dtype} for {need}"
    return pixels


def _full(palette: tuple[Colour, ...]) -> tuple[Colour, ...]:
    """Return 256 colours, black where none is given: a PNG with a number past its palette is damaged."""
    return palette + ((0, 0, 0),) * (256 - len(palette))


WRITERS: tuple[tuple[str, Writer], ...] = ((".tif", write_tiff), (".tiff", write_tiff), (".png", write_png))
"""Endings and what writes them."""
