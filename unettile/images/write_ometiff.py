"""Writing OME-TIFF: a TIFF whose header is OME-XML and whose pages carry their lower resolutions as SubIFDs."""

from __future__ import annotations

from pathlib import Path

import numpy as np

from unettile.errors import UsageError
from unettile.images.canvas import Canvas, Readers
from unettile.images.pyramid import Pyramid
from unettile.images.tiffdirectory import Page
from unettile.images.write_omexml import write_omexml
from unettile.images.write_tiff import level_pixel_size, write_tiles


def check_ometiff(canvas: Canvas) -> None:
    """Refuse what an OME-TIFF cannot hold.

    Raises:
        UsageError: floats of 16 bits, for which OME has no name.
    """
    if canvas.dtype == np.float16:
        raise UsageError("an OME-TIFF holds no float16: use float32, or a name ending in .tif alone")


def write_ometiff(path: Path, canvas: Canvas, read: Readers) -> None:
    """Write an OME-TIFF that QuPath and Bio-Formats open level by level: each layer an image, each channel a page.

    Args:
        path: the file, overwritten; a temporary one, so that its final name never shows half of it.
        canvas: what to write.
        read: gives the pixels of a box; each pixel is asked for once, at most PIECE_BYTES or one tile at a time.

    Raises:
        OSError: the file cannot be written.
    """
    shapes = Pyramid(canvas).shapes
    sizes = [level_pixel_size(canvas, level) for level in range(len(shapes))]
    pages: list[Page] = []
    own: list[list[Page]] = [[] for _ in range(canvas.images)]  # of each image of the stack, over all layers
    for layer in canvas.layers:
        for number in range(canvas.images):
            for channel in range(layer.channels):
                first, *levels = (
                    Page(shape, canvas.dtype_of(layer), palette=layer.palette, reduced=level > 0, pixel_size_um=size)
                    for level, (shape, size) in enumerate(zip(shapes, sizes, strict=True))
                )
                first.levels = levels
                if number == channel == 0:
                    first.georeference, first.no_data = canvas.georeference, canvas.no_data
                pages.append(first)
                own[number].append(first)
    pages[0].description = write_omexml(canvas)
    slots = [[[((page, *page.levels)[level], 0) for page in some] for level in range(len(shapes))] for some in own]
    with path.open("wb") as file:
        write_tiles(file, canvas, canvas.readers(read), slots).finish(pages)
