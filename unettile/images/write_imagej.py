"""Writing the stacks of ImageJ: a TIFF with a page a plane, each one strip of plain numbers, one after another.

ImageJ reads such a file by its first page and by what the description says: its planes must follow each other, and none
may be compressed. Channels go before depths, depths before times.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from unettile.box import Box
from unettile.errors import UsageError
from unettile.images.canvas import PIECE_BYTES, Canvas, Reader
from unettile.images.tiffdirectory import Page, TiffFile

DESCRIBED = "unettile="
"""How the line of the description begins that holds the canvas's metadata."""

_LIMIT = 2**32 - 2**26  # of the 32-bit offsets that ImageJ reads, with room for the tables


def check_imagej(canvas: Canvas) -> None:
    """Refuse what a stack of ImageJ cannot hold.

    Raises:
        UsageError: more than 4 GB, or numbers that ImageJ does not know.
    """
    height, width = canvas.shape
    if height * width * canvas.dtype.itemsize * canvas.channels * canvas.images > _LIMIT:
        raise UsageError("a stack of more than 4 GB does not fit a .tif for ImageJ: use a name ending in .ome.tif")
    if canvas.dtype.name == "float16":
        raise UsageError("ImageJ knows no float16: use float32")


def write_imagej(path: Path, canvas: Canvas, reads: Sequence[Reader]) -> None:
    """Write a stack that ImageJ opens, without lower resolutions.

    Args:
        path: the file, overwritten; a temporary one, so that its final name never shows half of it.
        canvas: of one layer.
        reads: of each plane of the stack; asked for whole rows, from top to bottom.

    Raises:
        OSError: the file cannot be written.
    """
    layer, (height, width) = canvas.layers[0], canvas.shape
    dtype = canvas.dtype_of(layer)
    pages = [
        Page(canvas.shape, dtype, palette=layer.palette, pixel_size_um=canvas.pixel_size_um, strip=True)
        for _ in range(canvas.images * canvas.channels)
    ]
    pages[0].description = _description(canvas)
    pages[0].georeference, pages[0].no_data = canvas.georeference, canvas.no_data
    step = max(1, PIECE_BYTES // (width * canvas.dtype.itemsize * canvas.channels))
    with path.open("wb") as file:
        tiff = TiffFile(file, big=False)
        for page in pages:
            tiff.reserve(page)
        for number, read in enumerate(reads):
            own = pages[number * canvas.channels : (number + 1) * canvas.channels]
            for y in range(0, height, step):
                pixels = canvas.read(read, Box(y, 0, min(y + step, height), width))
                for page, plane in zip(own, pixels, strict=True):
                    tiff.write_rows(page, y, plane.astype(dtype.newbyteorder("<")).tobytes())
        tiff.finish(pages)


def _description(canvas: Canvas) -> str:
    times, depths = canvas.stack
    lengths = {"channels": canvas.channels, "slices": depths, "frames": times}
    lines = ["ImageJ=1.54f", f"images={canvas.images * canvas.channels}"]
    lines += [f"{name}={length}" for name, length in lengths.items() if length > 1]
    lines += ["hyperstack=true", "mode=grayscale", "loop=false", *_calibration(canvas)]
    return "\n".join([*lines, f"{DESCRIBED}{canvas.description}", ""])


def _calibration(canvas: Canvas) -> list[str]:
    """Return the lines of units and steps: without a unit ImageJ takes every length for px."""
    steps, known = canvas.steps, canvas.pixel_size_um is not None
    lines = ["unit=um"] if known else []
    if steps.z_um is not None:
        lines += [f"spacing={steps.z_um!r}", *([] if known else ["zunit=um"])]
    return lines + ([] if steps.time_s is None else [f"finterval={steps.time_s!r}"])
