"""Pixel size: how many micrometres one pixel is, and whether what a file states can be one."""

from __future__ import annotations

import math

PixelSize = tuple[float, float]
"""Height and width of one pixel, micrometres."""

PRINT_RESOLUTION_UM = 25.0
"""A larger pixel comes from a print setting (72, 300 or 600 dots an inch), not a microscope, and is not believed."""


def believable(height: float, width: float) -> PixelSize | None:
    """Return the pixel size, or None if it is no length or a print setting."""
    for value in (height, width):
        if not math.isfinite(value) or not 0.0 < value <= PRINT_RESOLUTION_UM:
            return None
    return height, width
