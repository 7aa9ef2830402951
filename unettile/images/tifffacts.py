"""TIFF facts: what a TIFF says of one of its images: the size of its pixels, where it lies, names of channels."""

from __future__ import annotations

import math
import re
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any

from unettile.images.omexml import START, read_omexml
from unettile.images.pixelsize import PixelSize, believable
from unettile.images.spacing import UNKNOWN, Spacing
from unettile.images.units import in_micrometres, in_seconds, number, unit_um

_RESOLUTION_UNITS = {2.0: 25400.0, 3.0: 1e4, 4.0: 1e3, 5.0: 1.0}
"""Values of the tag ResolutionUnit in micrometres: inch and centimetre; millimetre and micrometre, as some write it."""


@dataclass(frozen=True)
class Facts:
    """What a file says of one of its images.

    Args:
        pixel_size_um: height and width of a pixel.
        origin_um: where the outer corner of its first pixel lies, (y, x), in the frame of the microscope's stage.
        channel_names: one a channel, "" where there is none; empty if no channel has one.
        spacing: of the planes of a stack, and its points in time.
    """

    pixel_size_um: PixelSize | None = None
    origin_um: tuple[float, float] | None = None
    channel_names: tuple[str, ...] = ()
    spacing: Spacing = UNKNOWN


def tiff_facts(tif: Any, index: int, page: Any) -> Facts:
    """Return what a TIFF says of an image: OME-XML, Aperio's, Philips' and ImageJ's descriptions, then the tags.

    Args:
        tif: an open tifffile.TiffFile.
        index: of the image in the file's metadata.
        page: its first page.
    """
    description = str(page.description or "")
    first = str(tif.pages.first.description or "")
    if "<OME" in first[:START]:
        return _ome(first, index, page)
    aperio = re.search(r"\|\s*MPP\s*=\s*([0-9.,eE+-]+)", description)
    if aperio:
        mpp = number(aperio.group(1))
        return Facts(believable(mpp, mpp))
    plain = first.replace("&quot;", '"')
    spacing = re.search(r'DICOM_PIXEL_SPACING"[^>]*>\s*"?([0-9.eE+-]+)"?\s+"?([0-9.eE+-]+)', plain)
    if spacing and tif.is_philips:
        height, width = (in_micrometres(value, "mm") for value in spacing.groups())
        return Facts(believable(height, width))
    return replace(_tags(page, first), spacing=_imagej_spacing(first))


def page_names(tif: Any, pages: Sequence[Any]) -> tuple[str, ...]:
    """Return the names of channels that are pages: PerkinElmer's, PageName tags, or the labels of an ImageJ stack."""
    if len(pages) < 2:
        return ()
    if tif.is_qpi:
        stated = [re.search(r"<Name>([^<]*)</Name>", str(page.description or "")) for page in pages]
        return tuple(match.group(1).strip() if match else "" for match in stated)
    # tifffile reads the later pages of a stack without their tags.
    found = tuple(str(page.tags.valueof(285) or "").strip() if hasattr(page, "tags") else "" for page in pages)
    if not any(found) and tif.is_imagej:
        labels = list((tif.imagej_metadata or {}).get("Labels") or ())
        found = tuple(str(labels[page.index]).strip() if page.index < len(labels) else "" for page in pages)
    return found if any(found) else ()


def _tags(page: Any, first: str) -> Facts:
    """Return what the tags say; ImageJ states the unit of their numbers in its description."""
    imagej = first.startswith("ImageJ=")
    unit = _RESOLUTION_UNITS.get(number(page.tags.valueof(296, default=1 if imagej else 2)), math.nan)
    named = dict(re.findall(r"^(y?unit)=(.*)$", first, re.MULTILINE)) if imagej else {}
    unit_x = unit_um(named["unit"]) if "unit" in named else unit
    unit_y = unit_um(named["yunit"]) if "yunit" in named else unit_x
    x, y = _ratio(page.tags.valueof(282)), _ratio(page.tags.valueof(283))
    if x <= 0.0 or y <= 0.0:
        return Facts()
    size = believable(unit_y / y, unit_x / x)
    left, top = page.tags.valueof(286), page.tags.valueof(287)
    placed = size is not None and left is not None and top is not None
    return Facts(size, (_ratio(top) * unit_y, _ratio(left) * unit_x) if placed else None)


def _imagej_spacing(first: str) -> Spacing:
    """Return what the description of a stack of ImageJ says; of other files nothing is known."""
    if not first.startswith("ImageJ="):
        return UNKNOWN
    stated = dict(re.findall(r"^(spacing|z?unit|finterval|tunit)=(.*)$", first, re.MULTILINE))
    depth = in_micrometres(stated.get("spacing"), stated.get("zunit") or stated.get("unit") or "")
    # not fps, which is how fast ImageJ shows them
    return Spacing.of(depth, in_seconds(stated.get("finterval"), stated.get("tunit") or "sec"))


def _ome(description: str, index: int, page: Any) -> Facts:
    said = read_omexml(description)
    image = None if said is None else said.image(index)
    if image is None:
        return Facts()
    size = believable(image.height_um, image.width_um) if image.states_size else _tags(page, "").pixel_size_um
    return Facts(size, image.origin_um, image.channels, image.spacing)


def _ratio(value: Any) -> float:
    """Return a TIFF rational, stored as two integers, as a number; 0 if it is none."""
    try:
        over, under = value
        return float(over) / float(under)
    except (TypeError, ValueError, ZeroDivisionError):
        return 0.0
