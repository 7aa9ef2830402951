"""Pixel sizes: one spelling or another, a size is the right one or unknown, never a wrong one."""

from __future__ import annotations

import doctest
import math
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import tifffile

from unettile.images import spacing, units
from unettile.images.slide import open_slide
from unettile.images.units import in_micrometres, in_seconds, number, unit_s, unit_um
from unettile.images.view import View

PIXELS = np.zeros((24, 32), np.uint8)
HEIGHT, WIDTH = 0.5, 0.25


@pytest.mark.parametrize(
    ("units", "micrometres"),
    [
        (("µm", "μm", "um", "Âµm", "\\u00B5m", "\\u03BCm", "micron", "microns", "Microns", "UM"), 1),
        (("micrometer", "micrometers", "micrometre", "micrometres", " Micrometer ", "mikrometer"), 1),
        (("nm", "nanometer", "nanometres"), 1e-3),
        (("mm", "MM", "millimeters"), 1e3),
        (("cm", "centimetre"), 1e4),
        (("dm", "decimeter"), 1e5),
        (("m", "metre", "meters"), 1e6),
        (("km", "kilometer"), 1e9),
        (("Mm", "megameter"), 1e12),
        (("pm", "picometer"), 1e-6),
        (("Pm", "petameter"), 1e21),
        (("Å", "\u212b", "\\u00C5", "angstrom", "Ångström", "angstroms"), 1e-4),
        (("in", "inch", "Inches", '"'), 25400),
        (("ft", "foot", "feet"), 304800),
        (("yd", "yards"), 914400),
        (("pt", "points"), 25400 / 72),
        (("li", "line"), 25400 / 12),
        (("thou",), 25.4),
    ],
    ids=lambda value: str(value[0]) if isinstance(value, tuple) else "",
)
def test_one_unit_in_many_spellings(units: tuple[str, ...], micrometres: float) -> None:
    assert [unit_um(unit) for unit in units] == pytest.approx([micrometres] * len(units), rel=1e-12)


@pytest.mark.parametrize("unit", ["pixel", "px", "reference frame", "", "M", "mM", "µ", "seconds", "um/px", "s"])
def test_what_is_no_length_is_unknown(unit: str) -> None:
    assert math.isnan(unit_um(unit))


@pytest.mark.parametrize(
    ("spellings", "seconds"),
    [
        (("s", "sec", "secs", "second", "Seconds", " s. "), 1),
        (("ms", "msec", "millisecond", "milliseconds"), 1e-3),
        (("µs", "us", "\\u00B5s", "microseconds", "Âµs"), 1e-6),
        (("min", "mins", "minute", "Minutes"), 60),
        (("h", "hr", "hours"), 3600),
        (("d", "days"), 86400),
        (("ks", "kilosecond"), 1e3),
    ],
    ids=lambda value: str(value[0]) if isinstance(value, tuple) else "",
)
def test_one_unit_of_time_in_many_spellings(spellings: tuple[str, ...], seconds: float) -> None:
    assert [unit_s(unit) for unit in spellings] == pytest.approx([seconds] * len(spellings), rel=1e-12)
    assert in_seconds("0,5", spellings[0]) == pytest.approx(0.5 * seconds)


@pytest.mark.parametrize("unit", ["", "m", "M", "µ", "um", "frame", "fps", "S"])
def test_what_is_no_time_is_unknown(unit: str) -> None:
    assert math.isnan(unit_s(unit))


def test_a_comma_may_stand_before_the_fraction() -> None:
    told = {
        "0,5": 0.5,
        "0,500000": 0.5,
        "0.5": 0.5,
        " .25 ": 0.25,
        "2,5e-1": 0.25,
        "1.234,5": 1234.5,
        "1,234.5": 1234.5,
    }
    assert {text: number(text) for text in told} == told
    assert all(math.isnan(number(text)) for text in ("", ",", "1,2,3", "1.2.3", "half", None, "0;5"))
    assert in_micrometres("0,25", "mm") == 250


def imagej(*lines: str) -> dict[str, Any]:
    return {"description": "\n".join(("ImageJ=1.54f", *lines, "")).encode("utf-8")}


@pytest.mark.parametrize(
    ("options", "resolution"),
    [
        ({"resolutionunit": 4}, (4000, 2000)),
        ({"resolutionunit": 5}, (4, 2)),
        ({"resolutionunit": "CENTIMETER"} | imagej("images=1"), (40000, 20000)),
        (imagej("unit=micrometers"), (4, 2)),
        (imagej("unit=nanometers"), (0.004, 0.002)),
        (imagej("unit=\\u03BCm"), (4, 2)),
        (imagej("unit=μm"), (4, 2)),
        (imagej("unit=\\u00C5"), (0.0004, 0.0002)),
        (imagej("unit=micron", "yunit=mm"), (4, 2000)),
        ({"description": "Aperio Image|AppMag = 40|MPP = 0,25"}, None),
        ({"ome": True, "metadata": {"PhysicalSizeX": 25e-6, "PhysicalSizeXUnit": "cm", "PhysicalSizeY": 0.5}}, None),
        ({"ome": True, "metadata": {}, "resolutionunit": "CENTIMETER"}, (40000, 20000)),
    ],
    ids=str,
)
def test_sizes_that_tiffs_state(
    options: dict[str, Any], resolution: tuple[float, float] | None, tmp_path: Path
) -> None:
    path = tmp_path / "image.tif"
    given = {} if resolution is None else {"resolution": resolution}
    tifffile.imwrite(path, PIXELS, **{"metadata": None, **given, **options})
    with open_slide(path) as slide:
        square = b"MPP" in str(options.get("description")).encode()
        assert slide.pixel_size_um == pytest.approx((WIDTH if square else HEIGHT, WIDTH), rel=1e-6)


@pytest.mark.parametrize(
    "options",
    [
        imagej("unit=pixel") | {"resolutionunit": "CENTIMETER"},
        imagej("images=1") | {"resolutionunit": "NONE"},
        {"ome": True, "metadata": {"PhysicalSizeX": 0.25}, "resolutionunit": "NONE"},
        {"ome": True, "metadata": {f"PhysicalSize{axis}": 0.25 for axis in "XY"} | {"PhysicalSizeYUnit": "pixel"}},
        {"ome": True, "metadata": {f"PhysicalSize{axis}": 0.25 for axis in "XY"} | {"PhysicalSizeXUnit": "Mm"}},
    ],
    ids=str,
)
def test_sizes_that_nobody_can_know(options: dict[str, Any], tmp_path: Path) -> None:
    path = tmp_path / "image.tif"
    tifffile.imwrite(path, PIXELS, **{"metadata": None, "resolution": (40000, 20000), **options})
    with open_slide(path, View()) as slide:
        assert slide.pixel_size_um is None


def test_examples() -> None:
    for module, examples in ((units, 5), (spacing, 1)):
        done = doctest.testmod(module)
        assert done.attempted >= examples and done.failed == 0
