"""Orientation: how a camera or a scanner says that its pixels are to be turned, and the turning.

    1     2     3     4       5     6     7     8
    F..   ..F   ...   ...     transposed, then as 1, 2, 3, 4
    ...   ...   ..F   F..

Values after TIFF 6.0, which Exif took over: they say where the first stored pixel is shown.
"""

from __future__ import annotations

import struct
from typing import Any, TypeVar

from numpy.typing import NDArray

from unettile.box import Box

Number = TypeVar("Number", int, float)

UPRIGHT = 1
_TAG = 274
_SAID = {
    2: "mirrored",
    3: "turned by 180°",
    4: "mirrored from top to bottom",
    5: "transposed",
    6: "turned by 90° to the right",
    7: "transposed and turned by 180°",
    8: "turned by 90° to the left",
}


def known_orientation(value: Any) -> int:
    """Return an orientation from 1 to 8; upright for what is none."""
    return value if isinstance(value, int) and value in _SAID else UPRIGHT


def shown_pair(stored: tuple[Number, Number], orientation: int) -> tuple[Number, Number]:
    """Return two numbers along y and x, such as height and width, as they are shown, from the stored ones."""
    return (stored[1], stored[0]) if orientation >= 5 else stored


def stored_box(box: Box, shape: tuple[int, int], orientation: int) -> Box:
    """Return where a part of an image is stored.

    Args:
        box: of the image as it is shown.
        shape: of that, px.

    >>> stored_box(Box(0, 0, 2, 3), (10, 20), 3)
    Box(y0=8, x0=17, y1=10, x1=20)
    """
    y0, x0, y1, x1 = box.y0, box.x0, box.y1, box.x1
    down, across = _flips(orientation)
    if down:
        y0, y1 = shape[0] - y1, shape[0] - y0
    if across:
        x0, x1 = shape[1] - x1, shape[1] - x0
    return Box(x0, y0, x1, y1) if orientation >= 5 else Box(y0, x0, y1, x1)


def stored_affine(shape: tuple[int, int], orientation: int) -> tuple[float, float, float, float, float, float]:
    """Return the map from columns and rows of corners as they are shown to the stored ones.

    Args:
        shape: of the image as it is shown, px.

    Returns:
        a, b, c, d, e, f: the stored column is a · column + b · row + c, the stored row d · column + e · row + f.

    >>> stored_affine((10, 20), 3)
    (-1.0, 0.0, 20.0, 0.0, -1.0, 10.0)
    """
    down, across = _flips(orientation)
    column = (-1.0, 0.0, float(shape[1])) if across else (1.0, 0.0, 0.0)
    row = (0.0, -1.0, float(shape[0])) if down else (0.0, 1.0, 0.0)
    return (*row, *column) if orientation >= 5 else (*column, *row)


def turn(pixels: NDArray[Any], orientation: int) -> NDArray[Any]:
    """Return pixels (h, w, …) as they are shown, from the stored ones.

    >>> import numpy as np
    >>> turn(np.array([[1, 2, 3]]), 6).tolist()
    [[1], [2], [3]]
    """
    down, across = _flips(orientation)
    shown = pixels.swapaxes(0, 1) if orientation >= 5 else pixels
    return shown[:: -1 if down else 1, :: -1 if across else 1]


def describe_turn(orientation: int) -> str:
    """Say what an orientation does, or nothing if the image is upright."""
    return f"{_SAID[orientation]}, as its orientation {orientation} asks for" if orientation in _SAID else ""


def exif_orientation(exif: bytes) -> int:
    """Return the orientation that Exif data state, a small TIFF; upright where they do not, or are damaged."""
    order = {b"II": "<", b"MM": ">"}.get(exif[:2])
    if order is None:
        return UPRIGHT
    try:
        (start,) = struct.unpack_from(f"{order}I", exif, 4)
        (entries,) = struct.unpack_from(f"{order}H", exif, start)
        for entry in range(entries):
            tag, kind, _, value = struct.unpack_from(f"{order}HHIH", exif, start + 2 + 12 * entry)
            if tag == _TAG and kind == 3:
                return known_orientation(value)
    except struct.error:
        pass
    return UPRIGHT


def _flips(orientation: int) -> tuple[bool, bool]:
    """Return whether rows and columns run backwards, after transposing if that is needed."""
    return (orientation - 1) % 4 >= 2, (orientation - 1) % 4 in (1, 2)
