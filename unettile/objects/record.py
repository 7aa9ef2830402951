"""What a mask says of itself: the names and colours of its classes, and which resolution of the image it is of."""

from __future__ import annotations

import json
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import tifffile
import zarr

from unettile.images.colours import Colour, distinct_colours
from unettile.images.tifffacts import safe_xml
from unettile.images.view import FIRST, View
from unettile.images.write_omexml import METADATA_NAMESPACE
from unettile.images.write_omezarr import METADATA_KEY


@dataclass(frozen=True)
class Record:
    """What a mask says of itself; a class without a name has a number for one, and a colour anyway.

    Args:
        names, colours: of classes, by number.
        view: of the image that the mask was made of; no channels.
        downsample: how many pixels of the image's largest resolution a pixel of the mask is, (y, x).
    """

    names: dict[int, str] = field(default_factory=dict)
    colours: dict[int, Colour] = field(default_factory=dict)
    view: View = FIRST
    downsample: tuple[float, float] = (1.0, 1.0)

    def name(self, number: int) -> str:
        """Return the name of a class.

        >>> Record({1: "nucleus"}).name(1), Record().name(2)
        ('nucleus', 'class 2')
        """
        return self.names.get(number, f"class {number}")

    def colour(self, number: int) -> Colour:
        """Return the colour of a class; those that have none repeat after 255."""
        return self.colours.get(number) or distinct_colours(256)[(number - 1) % 255 + 1]


def read_record(path: Path, series: int | None = None) -> Record:
    """Return what a mask that `segment` wrote says of itself; nothing where it says nothing.

    Args:
        series: the image of a file that holds several; numbers of instances are no classes, and have no names.
    """
    described, colours = _of_zarr(path) if path.is_dir() else _of_tiff(path)
    kinds = described.get("write", ())
    if isinstance(kinds, list) and kinds[series or 0 : (series or 0) + 1] == ["instances"]:
        described = described | {"classes": ()}
    names = dict(enumerate(map(str, described.get("classes", ()))))
    try:
        view = View.from_dict({**described["view"], "channels": None})
        high, wide = (float(value) for value in described["downsample"])
    except (KeyError, TypeError, ValueError):  # a mask that says nothing of it is of the largest resolution
        view, high, wide = FIRST, 1.0, 1.0
    return Record(names, {k: colour for k, colour in colours.items() if 0 < k < len(names)}, view, (high, wide))


def _of_tiff(path: Path) -> tuple[dict[str, Any], dict[int, Colour]]:
    """Return the metadata and the palette of a TIFF."""
    try:
        with tifffile.TiffFile(path) as tif:
            page: Any = tif.pages.first
            text, table = page.description, page.colormap
    except (OSError, tifffile.TiffFileError):  # another format
        return {}, {}
    colours: dict[int, Colour] = {}
    if table is not None:
        for k in range(table.shape[1]):
            red, green, blue = (int(value) // 257 for value in table[:, k])
            colours[k] = (red, green, blue)
    return _metadata(text), colours


def _of_zarr(path: Path) -> tuple[dict[str, Any], dict[int, Colour]]:
    """Return the metadata and the colours of an OME-Zarr directory."""
    try:
        attributes: Any = zarr.open_group(path, mode="r").attrs.asdict()
    except (OSError, ValueError):  # another kind of Zarr
        return {}, {}
    listed = attributes.get("ome", {}).get("image-label", {}).get("colors", ())
    colours: dict[int, Colour] = {}
    for entry in listed:
        red, green, blue = entry["rgba"][:3]
        colours[int(entry["label-value"])] = (red, green, blue)
    found = attributes.get(METADATA_KEY)
    return found if isinstance(found, dict) else {}, colours


def _metadata(text: str) -> dict[str, Any]:
    """Return the JSON of a description, or of the annotation in an OME-XML one; {} if there is none."""
    if "<OME" in text[:4096]:
        root = safe_xml(text)
        notes = [] if root is None else root.iter()
        found = [note for note in notes if note.get("Namespace") == METADATA_NAMESPACE]
        text = "".join(found[0].itertext()) if found else ""
    try:
        described = json.loads(text)
    except ValueError:
        return {}
    return described if isinstance(described, dict) else {}
