"""Pixel size: how many micrometres one pixel is, as the file states it."""

from __future__ import annotations

import math
import re
from typing import Any
from xml.etree import ElementTree

PixelSize = tuple[float, float]
"""Height and width of one pixel, micrometres."""

PRINT_RESOLUTION_UM = 25.0
"""A larger pixel comes from a print setting (72, 300 or 600 dots an inch), not a microscope, and is not believed."""

_MICROMETRES = {
    "m": 1e6, "meter": 1e6, "metre": 1e6,
    "cm": 1e4, "centimeter": 1e4,
    "mm": 1e3, "millimeter": 1e3,
    "µm": 1.0, "μm": 1.0, "um": 1.0, "micron": 1.0, "microns": 1.0, "micrometer": 1.0, "micrometre": 1.0,
    "nm": 1e-3, "nanometer": 1e-3,
    "å": 1e-4, "pm": 1e-6,
    "inch": 25400.0, "in": 25400.0,
}  # fmt: skip


def believable(height: float, width: float) -> PixelSize | None:
    """Return the pixel size, or None if it is no length or a print setting."""
    for value in (height, width):
        if not math.isfinite(value) or not 0.0 < value <= PRINT_RESOLUTION_UM:
            return None
    return height, width


def tiff_pixel_size(tif: Any, page: Any) -> PixelSize | None:
    """Return the pixel size of a page: OME-XML, Aperio's description, ImageJ's unit, then the resolution tags.

    Args:
        tif: an open tifffile.TiffFile.
        page: its page that holds the image.
    """
    description = str(page.description or "")
    first = str(tif.pages.first.description or "")
    if "<OME" in first[:4096]:
        return _ome(first)
    aperio = re.search(r"\|\s*MPP\s*=\s*([0-9.eE+-]+)", description)
    if aperio:
        mpp = _number(aperio.group(1))
        return believable(mpp, mpp)
    unit = {2.0: 25400.0, 3.0: 1e4}.get(_number(page.tags.valueof(296, default=2)))
    if first.startswith("ImageJ="):
        named = re.search(r"^unit=(.*)$", first, re.MULTILINE)
        text = named.group(1).strip() if named else ""
        # ImageJ escapes what is not ASCII.
        unit = _MICROMETRES.get(text.replace("\\u00B5", "µ").replace("\\u00b5", "µ").lower())
    if unit is None:
        return None
    x, y = _ratio(page.tags.valueof(282)), _ratio(page.tags.valueof(283))
    if x <= 0.0 or y <= 0.0:
        return None
    return believable(unit / y, unit / x)


def _ome(xml: str) -> PixelSize | None:
    if "<!DOCTYPE" in xml or "<!ENTITY" in xml:  # OME-XML has neither; entities can blow up a parser
        return None
    try:
        root = ElementTree.fromstring(xml.encode())
    except ElementTree.ParseError:
        return None
    for element in root.iter():
        if element.tag.rsplit("}", 1)[-1] == "Pixels":
            x, y = (
                _number(element.get(f"PhysicalSize{axis}"))
                * _MICROMETRES.get(element.get(f"PhysicalSize{axis}Unit", "µm").lower(), math.nan)
                for axis in "XY"
            )
            return believable(y, x)
    return None


def _ratio(value: Any) -> float:
    """Return a TIFF rational, stored as two integers, as a number; 0 if it is none."""
    try:
        over, under = value
        return float(over) / float(under)
    except (TypeError, ValueError, ZeroDivisionError):
        return 0.0


def _number(value: Any) -> float:
    try:
        return float(value)
    except (TypeError, ValueError):
        return math.nan
