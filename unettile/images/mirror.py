"""Mirrored reading: pixels past the image's edges, as numpy's `reflect` would pad them.

image row:        0 1 2 3                      the edge pixel itself is not doubled
mirrored rows: …2 1 0 1 2 3 2 1 0 1 2 3 2…     a function of global coordinates: every window sees the same pixels
"""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from unettile.box import Box
from unettile.images.slide import Slide


def reflect_indices(start: int, stop: int, length: int) -> NDArray[np.intp]:
    """Return, for each coordinate start … stop - 1, the pixel 0 … length - 1 that a mirror shows there."""
    if length == 1:
        return np.zeros(stop - start, np.intp)
    period = 2 * (length - 1)
    folded = np.arange(start, stop) % period
    return np.minimum(folded, period - folded).astype(np.intp)


def shown_box(box: Box, shape: tuple[int, int]) -> Box:
    """Return the part of an image of that shape that holds all pixels which a box, mirrored at the edges, shows."""
    rows = reflect_indices(box.y0, box.y1, shape[0])
    columns = reflect_indices(box.x0, box.x1, shape[1])
    return Box(int(rows.min()), int(columns.min()), int(rows.max()) + 1, int(columns.max()) + 1)


def read_mirrored(slide: Slide, box: Box) -> NDArray[Any]:
    """Read any box of the plane, (h, w, C) in the slide's dtype; what lies past the image is mirrored in."""
    if box.is_empty:
        return np.empty((*box.shape, slide.channels), slide.dtype)
    inside = shown_box(box, slide.shape)
    pixels = slide.read(inside)
    if inside == box:
        return pixels
    rows = reflect_indices(box.y0, box.y1, slide.shape[0])
    columns = reflect_indices(box.x0, box.x1, slide.shape[1])
    return pixels.take(rows - inside.y0, axis=0).take(columns - inside.x0, axis=1)
