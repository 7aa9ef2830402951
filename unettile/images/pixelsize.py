"""Pixel size: how many micrometres one pixel is; and what else TIFFs state: where an image lies, names of channels."""

from __future__ import annotations

import math
import re
from collections.abc import Sequence
from dataclasses import dataclass
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
    "å": 1e-4, "angstrom": 1e-4, "pm": 1e-6, "picometer": 1e-6,
    "inch": 25400.0, "in": 25400.0,
}  # fmt: skip


def believable(height: float, width: float) -> PixelSize | None:
    """Return the pixel size, or None if it is no length or a print setting."""
    for value in (height, width):
        if not math.isfinite(value) or not 0.0 < value <= PRINT_RESOLUTION_UM:
            return None
    return height, width


def in_micrometres(value: Any, unit: str) -> float:
    """Return a length in micrometres; NaN if it is no number, or the unit is not known."""
    return _number(value) * _MICROMETRES.get(unit.strip().lower(), math.nan)


def safe_xml(text: str) -> ElementTree.Element | None:
    """Parse XML of a stranger; None if it is none, or defines entities, which can blow up a parser."""
    if "<!DOCTYPE" in text or "<!ENTITY" in text:
        return None
    try:
        return ElementTree.fromstring(text.encode())
    except (ElementTree.ParseError, ValueError):
        return None


@dataclass(frozen=True)
class Facts:
    """What a file says of one of its images.

    Args:
        pixel_size_um: height and width of a pixel.
        origin_um: where the outer corner of its first pixel lies, (y, x), in the frame of the microscope's stage.
        channel_names: one a channel, "" where there is none; empty if no channel has one.
    """

    pixel_size_um: PixelSize | None = None
    origin_um: tuple[float, float] | None = None
    channel_names: tuple[str, ...] = ()


def tiff_facts(tif: Any, number: int, page: Any) -> Facts:
    """Return what a TIFF says of an image: OME-XML, Aperio's, Philips' and ImageJ's descriptions, then the tags.

    Args:
        tif: an open tifffile.TiffFile.
        number: of the image in the file's metadata.
        page: its first page.
    """
    description = str(page.description or "")
    first = str(tif.pages.first.description or "")
    if "<OME" in first[:4096]:
        return _ome(first, number)
    aperio = re.search(r"\|\s*MPP\s*=\s*([0-9.eE+-]+)", description)
    if aperio:
        mpp = _number(aperio.group(1))
        return Facts(believable(mpp, mpp))
    plain = first.replace("&quot;", '"')
    spacing = re.search(r'DICOM_PIXEL_SPACING"[^>]*>\s*"?([0-9.eE+-]+)"?\s+"?([0-9.eE+-]+)', plain)
    if spacing and tif.is_philips:
        height, width = (in_micrometres(value, "mm") for value in spacing.groups())
        return Facts(believable(height, width))
    return _tags(page, first)


def page_names(tif: Any, pages: Sequence[Any]) -> tuple[str, ...]:
    """Return the names that a PerkinElmer QPTIFF gives the channels in the descriptions of their pages."""
    if not tif.is_qpi or len(pages) < 2:
        return ()
    found = [re.search(r"<Name>([^<]*)</Name>", str(page.description or "")) for page in pages]
    return tuple(match.group(1).strip() if match else "" for match in found)


def _tags(page: Any, first: str) -> Facts:
    unit = {2.0: 25400.0, 3.0: 1e4}.get(_number(page.tags.valueof(296, default=2)))
    if first.startswith("ImageJ="):
        named = re.search(r"^unit=(.*)$", first, re.MULTILINE)
        text = named.group(1) if named else ""
        # ImageJ escapes what is not ASCII.
        unit = _MICROMETRES.get(text.replace("\\u00B5", "µ").replace("\\u00b5", "µ").strip().lower())
    x, y = _ratio(page.tags.valueof(282)), _ratio(page.tags.valueof(283))
    if unit is None or x <= 0.0 or y <= 0.0:
        return Facts()
    size = believable(unit / y, unit / x)
    left, top = page.tags.valueof(286), page.tags.valueof(287)
    stated = size is not None and left is not None and top is not None
    return Facts(size, (_ratio(top) * unit, _ratio(left) * unit) if stated else None)


def _ome(xml: str, number: int) -> Facts:
    root = safe_xml(xml)
    images = [] if root is None else [one for one in root if _tag(one) == "Image"]
    pixels = [part for image in images for part in image if _tag(part) == "Pixels"]
    if number >= len(pixels):
        return Facts()
    return _ome_pixels(pixels[number])


def _ome_pixels(pixels: ElementTree.Element) -> Facts:
    height, width = (
        in_micrometres(pixels.get(f"PhysicalSize{axis}"), pixels.get(f"PhysicalSize{axis}Unit", "µm")) for axis in "YX"
    )
    names: list[str] = []
    origin = None
    for part in pixels:
        if _tag(part) == "Channel":
            samples = _number(part.get("SamplesPerPixel", 1))
            names += [part.get("Name", "")] if samples == 1 else [""] * int(min(samples, 2**16) if samples > 1 else 1)
        elif _tag(part) == "Plane" and origin is None:
            # A position without a unit is in the stage's own frame, of unknown scale.
            y, x = (in_micrometres(part.get(f"Position{a}"), part.get(f"Position{a}Unit", "")) for a in "YX")
            origin = (y, x) if math.isfinite(y) and math.isfinite(x) else None
    return Facts(believable(height, width), origin, tuple(names) if any(names) else ())


def _tag(element: ElementTree.Element) -> str:
    return str(element.tag).rsplit("}", 1)[-1]


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
