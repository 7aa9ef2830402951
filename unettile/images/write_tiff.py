"""Writing TIFF: the tiles of every level in one pass, compressed on the job's threads, always in the same order.

A plain TIFF is then put in the order of a cloud-optimised one, from a nameless file beside it.
"""

from __future__ import annotations

import tempfile
from collections.abc import Iterator, Sequence
from functools import lru_cache
from itertools import chain
from pathlib import Path
from typing import Any, BinaryIO

import imagecodecs
import numpy as np
from numpy.typing import NDArray

from unettile.errors import UsageError
from unettile.images.ahead import map_ahead
from unettile.images.canvas import PIECE_BYTES, TILE_EDGE, Canvas, Reader, Readers
from unettile.images.pyramid import Pyramid
from unettile.images.tiffdirectory import Page, TiffFile
from unettile.images.write_imagej import check_imagej, write_imagej

DEFLATE_LEVEL = 6
"""Of libdeflate: twice as fast as zlib's 6 at the same size; above 6 it takes five times as long for a fifth less."""

_CLASSIC_LIMIT = 2**32 - 2**26  # room for the tables; larger files need the 64-bit offsets of BigTIFF

Slot = tuple[Page, int]
"""The page of a plane, and the number of its first tile there."""


def check_tiff(canvas: Canvas) -> None:
    """Refuse what a plain TIFF cannot hold.

    Raises:
        UsageError: several layers, or a stack that ImageJ could not open.
    """
    if canvas.images > 1:
        check_imagej(canvas)
    if len(canvas.layers) > 1:
        names = " or ".join(layer.name for layer in canvas.layers)
        raise UsageError(f"a plain TIFF holds {names}, not both: use a name ending in .ome.tif or .ome.zarr")


def write_tiff(path: Path, canvas: Canvas, read: Readers) -> None:
    """Write a tiled, deflate-compressed TIFF; BigTIFF where its pixels could need it. A stack is written for ImageJ.

    A palette makes it a palette image: viewers show colours, readers of numbers get the numbers. Several channels are
    separate planes. Levels of a pyramid are pages of their own, marked as reduced resolutions: OpenSlide and GDAL find
    them, and whoever reads the first page gets the pixels. The file is cloud-optimised as GDAL understands it: its
    tables come first, then the levels, smallest first.

    Args:
        path: the file, overwritten; a temporary one, so that its final name never shows half of it.
        canvas: what to write.
        read: gives the pixels of a box; each pixel is asked for once, at most PIECE_BYTES or one tile at a time.

    Raises:
        UsageError: as `check_tiff`.
        OSError: the file cannot be written.
    """
    check_tiff(canvas)
    if canvas.images > 1:
        write_imagej(path, canvas, canvas.readers(read))
        return
    layer = canvas.layers[0]
    pages = [
        Page(
            shape,
            canvas.dtype_of(layer),
            layer.channels,
            layer.palette,
            reduced=level > 0,
            description="" if level else canvas.description,
            pixel_size_um=level_pixel_size(canvas, level),
            offset_um=None if level else canvas.offset_um,
            georeference=None if level else canvas.georeference,
            no_data=canvas.no_data,
        )
        for level, shape in enumerate(Pyramid(canvas).shapes)
    ]
    slots = [[(page, plane * page.tiles) for plane in range(canvas.channels)] for page in pages]
    with path.open("wb") as file, tempfile.TemporaryFile(dir=path.parent) as spool:
        tiff = write_tiles(spool, canvas, canvas.readers(read), [slots])
        tiff.put_in_order(pages, file)


def write_tiles(
    file: BinaryIO, canvas: Canvas, reads: Sequence[Reader], slots: Sequence[Sequence[Sequence[Slot]]]
) -> TiffFile:
    """Write the tiles of every level; return the TIFF, which lacks its directories yet.

    Args:
        file: open for writing, empty.
        reads: of each image of the stack.
        slots: of the same, of each level, of each plane of the canvas.

    Raises:
        OSError: the file cannot be written.
    """
    pyramid = Pyramid(canvas)
    tiles = sum(-(-h // TILE_EDGE) * -(-w // TILE_EDGE) for h, w in pyramid.shapes) * canvas.channels * canvas.images
    tile_bytes = TILE_EDGE**2 * canvas.dtype.itemsize
    tiff = TiffFile(file, big=tiles * tile_bytes > _CLASSIC_LIMIT)
    work = chain.from_iterable(_tiles(pyramid, read, own) for read, own in zip(reads, slots, strict=True))
    for page, index, data in map_ahead(_compressed, work, ahead=max(2, PIECE_BYTES // tile_bytes)):
        tiff.add_tile(page, index, data)
    return tiff


def level_pixel_size(canvas: Canvas, level: int) -> tuple[float, float] | None:
    """Return height and width of a pixel of a level, micrometres."""
    if canvas.pixel_size_um is None:
        return None
    return canvas.pixel_size_um[0] * 2**level, canvas.pixel_size_um[1] * 2**level


def _tiles(pyramid: Pyramid, read: Reader, slots: Sequence[Sequence[Slot]]) -> Iterator[tuple[Page, int, NDArray[Any]]]:
    """Yield page, number and pixels of the tiles, as they come."""
    for level, box, pixels in pyramid.stream(read):
        for plane, (page, first) in enumerate(slots[level]):
            for y in range(0, box.height, TILE_EDGE):
                for x in range(0, box.width, TILE_EDGE):
                    row, column = (box.y0 + y) // TILE_EDGE, (box.x0 + x) // TILE_EDGE
                    part = pixels[plane, y : y + TILE_EDGE, x : x + TILE_EDGE].astype(page.dtype, copy=False)
                    yield page, first + row * page.columns + column, part


def _compressed(tile: tuple[Page, int, NDArray[Any]]) -> tuple[Page, int, bytes]:
    page, index, part = tile
    dtype = part.dtype.newbyteorder("<")
    if part.shape == (TILE_EDGE, TILE_EDGE):
        whole = np.ascontiguousarray(part, dtype)
    else:
        whole = np.zeros((TILE_EDGE, TILE_EDGE), dtype)
        whole[: part.shape[0], : part.shape[1]] = part
    return page, index, _deflated_again(whole[0, 0].tobytes()) if _is_even(whole) else _deflated(whole.tobytes())


def _is_even(tile: NDArray[Any]) -> bool:
    """Whether every pixel is the same, bit by bit."""
    numbers = tile.view(f"u{tile.itemsize}")
    return bool((numbers[0] == numbers[0, 0]).all() and (numbers == numbers[0, 0]).all())


@lru_cache(maxsize=64)
def _deflated_again(pixel: bytes) -> bytes:
    """Return what a tile of one number becomes: most of a slide is background."""
    return _deflated(pixel * TILE_EDGE**2)


def _deflated(data: bytes) -> bytes:
    return bytes(imagecodecs.deflate_encode(data, level=DEFLATE_LEVEL))
