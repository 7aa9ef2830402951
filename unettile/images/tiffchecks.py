"""Checks of a TIFF before it is read: whether pages or the description lie past its end, and what a page declares."""

from __future__ import annotations

import struct
from typing import Any

import numpy as np

from unettile.images.segments import Damaged

_YCBCR, _APERIO_YCBCR = 6, 33003
JPEG = (6, 7, 33007, 34892)
"""Compressions that change numbers."""


def check_chain(tif: Any, file_size: int) -> None:
    """Refuse a file whose last page announces another past its end: tifffile would quietly do without it.

    Raises:
        Damaged: pages are missing.
    """
    offset = int(tif.pages[len(tif.pages) - 1].offset) if len(tif.pages) else 0
    if offset <= 0 or tif.tiff.is_ndpi:
        return
    handle, form = tif.filehandle, tif.tiff
    handle.seek(offset)
    (tags,) = struct.unpack(form.tagnoformat, handle.read(form.tagnosize))
    handle.seek(offset + form.tagnosize + tags * form.tagsize)
    (following,) = struct.unpack(form.offsetformat, handle.read(form.offsetsize))
    if following >= file_size:
        raise Damaged(
            f"it is truncated: another page should begin at byte {following}, but the file ends at byte {file_size};"
            " get a complete copy"
        )


def check_description(tif: Any, file_size: int) -> None:
    """Refuse a file whose description lies past its end: it says what the pages are, and is often written last.

    Raises:
        Damaged: the description is missing.
    """
    handle, form = tif.filehandle, tif.tiff
    if tif.tiff.is_ndpi or len(tif.pages) == 0 or tif.pages.first.tags.get(270) is not None:
        return
    handle.seek(int(tif.pages.first.offset))
    (tags,) = struct.unpack(form.tagnoformat, handle.read(form.tagnosize))
    for _ in range(tags):
        # code, type, count and offset, the last two of one width
        code, _, count, offset = struct.unpack(
            f"{form.byteorder}HH2{form.offsetformat[-1]}", handle.read(form.tagsize)[: 4 + 2 * form.offsetsize]
        )
        if code == 270 and count > form.offsetsize and offset + count > file_size:
            raise Damaged(
                f"it is truncated: its description ends at byte {offset + count}, the file at byte {file_size};"
                " get a complete copy"
            )


def check_page(page: Any) -> None:
    """Refuse pixels that cannot be read, or could be read wrongly.

    Raises:
        Damaged: with what to do.
    """
    for name in ("imagelength", "imagewidth", "samplesperpixel", "rowsperstrip", "tilelength", "tilewidth"):
        if not isinstance(getattr(page, name), int):
            raise Damaged(f"not a readable TIFF ({name} is not a number)")
    if page.imagelength < 1 or page.imagewidth < 1 or page.samplesperpixel < 1:
        raise Damaged(f"it has no pixels (height {page.imagelength}, width {page.imagewidth})")
    if page.dtype is None:
        raise Damaged(f"its pixel type is unknown (format {page.sampleformat}, {page.bitspersample} bits)")
    if np.dtype(page.dtype).kind not in "buif":
        raise Damaged(f"its pixels are {page.dtype}; need integers or real numbers")
    if (page.photometric == _YCBCR and page.compression not in JPEG) or page.compression == _APERIO_YCBCR:
        raise Damaged("its colours are stored as YCbCr without JPEG; save it as RGB")
