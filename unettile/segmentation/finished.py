"""Is a mask that is there the one that would be made? Its metadata say all that decides a pixel."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any
from xml.etree import ElementTree

import tifffile

from unettile.errors import InputError
from unettile.images.png import read_description
from unettile.images.write_omexml import METADATA_NAMESPACE, NAMESPACE
from unettile.images.write_omezarr import METADATA_KEY
from unettile.segmentation.plan import Plan


def is_finished(output: Path, plan: Plan) -> bool:
    """Whether a file at `output` is the result of `plan`; False if there is nothing.

    Outputs appear under their names only when whole, so that the metadata vouch for the pixels. Where the tile edge
    changes nothing, or on a GPU no more than rounding, another one does not matter.

    Raises:
        InputError: there is something else; says what differs.
    """
    if not output.exists():
        return False
    found, wanted = _metadata(output), json.loads(json.dumps(plan.metadata()))
    if found is None:
        raise InputError(f"{output} exists and is no mask of unettile: choose another -o, or give --overwrite")
    if plan.geometry.exact:
        del wanted["tile"]
    different = [key for key, value in wanted.items() if found.get(key) != value]
    if different:
        what = ", ".join(different)
        raise InputError(f"{output} was made otherwise ({what} differ): choose another -o, or give --overwrite")
    return True


def _metadata(path: Path) -> dict[str, Any] | None:
    """Return what unettile wrote of a mask, or None."""
    try:
        if path.is_dir():
            values = json.loads((path / "zarr.json").read_text("utf-8"))["attributes"][METADATA_KEY]
            return values if isinstance(values, dict) else None
        if path.suffix.lower() == ".png":
            description = read_description(path)
        else:
            with tifffile.TiffFile(path) as tif:
                description = str(tif.pages.first.description)
        values = json.loads(_annotation(description) if "<OME" in description else description)
    except (OSError, ValueError, KeyError, TypeError, ElementTree.ParseError, tifffile.TiffFileError):
        return None
    return values if isinstance(values, dict) and "unettile" in values else None


def _annotation(xml: str) -> str:
    """Return the metadata in the OME-XML of an OME-TIFF; empty if there are none."""
    if "<!DOCTYPE" in xml or "<!ENTITY" in xml:  # neither is in ours; entities can blow up a parser
        return ""
    for annotation in ElementTree.fromstring(xml).iter(f"{{{NAMESPACE}}}CommentAnnotation"):
        if annotation.get("Namespace") == METADATA_NAMESPACE:
            return annotation.findtext(f"{{{NAMESPACE}}}Value", "")
    return ""
