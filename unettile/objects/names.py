"""What the classes of a mask are called and coloured, as far as its file says."""

from __future__ import annotations

import json
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import tifffile

from unettile.images.colours import Colour, distinct_colours


@dataclass(frozen=True)
class ClassNames:
    """Names and colours of classes, by number; a class without them has a number for a name, and a colour anyway."""

    names: dict[int, str] = field(default_factory=dict)
    colours: dict[int, Colour] = field(default_factory=dict)

    def name(self, number: int) -> str:
        """Return the name of a class.

        >>> ClassNames({1: "nucleus"}).name(1), ClassNames().name(2)
        ('nucleus', 'class 2')
        """
        return self.names.get(number, f"class {number}")

    def colour(self, number: int) -> Colour:
        """Return the colour of a class; those that have none repeat after 255."""
        return self.colours.get(number) or distinct_colours(256)[(number - 1) % 255 + 1]


def read_class_names(path: Path) -> ClassNames:
    """Return what a TIFF that `segment` wrote says of its classes; nothing where it says nothing."""
    try:
        with tifffile.TiffFile(path) as tif:
            page: Any = tif.pages.first
            described, table = json.loads(page.description), page.colormap
    except (OSError, ValueError, tifffile.TiffFileError):  # another format, or no JSON
        return ClassNames()
    listed = described.get("classes") if isinstance(described, dict) else None
    if not isinstance(listed, list) or not all(isinstance(name, str) for name in listed):
        return ClassNames()
    colours: dict[int, Colour] = {}
    if table is not None:
        for k in range(1, len(listed)):
            red, green, blue = (int(value) // 257 for value in table[:, k])
            colours[k] = (red, green, blue)
    return ClassNames(dict(enumerate(listed)), colours)
