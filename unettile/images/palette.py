"""The palette of a label image: the colours that its numbers are shown in."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import tifffile

from unettile.images.colours import Colour
from unettile.images.png import PNG_SIGNATURE
from unettile.images.remote import open_binary


def read_palette(path: Path) -> tuple[Colour, ...] | None:
    """Return the palette of a PNG or TIFF file, or None if it has none, or none that can be read."""
    with open_binary(path) as file:
        start = file.read(8)
        if start == PNG_SIGNATURE:
            while len(head := file.read(8)) == 8:
                length, name = int.from_bytes(head[:4], "big"), head[4:]
                if name == b"PLTE":
                    return _colours(np.frombuffer(file.read(length // 3 * 3), np.uint8).reshape(-1, 3))
                if name == b"IDAT":
                    return None
                file.seek(length + 4, 1)
            return None
        if start[:2] not in (b"II", b"MM"):
            return None
        file.seek(0)
        try:
            with tifffile.TiffFile(file) as tif:
                table = getattr(tif.pages.first, "colormap", None)
        except Exception:  # a colour is no reason to refuse what `open_labels` could read
            return None
    if table is None:
        return None
    scale = 257 if table.max() > 255 else 1  # some writers store 8-bit colours in the 16-bit table
    return _colours((table.T // scale).astype(np.uint8))


def _colours(table: np.ndarray) -> tuple[Colour, ...]:
    return tuple((int(red), int(green), int(blue)) for red, green, blue in table)
