"""Provenance: what a file that unettile wrote says of itself, and whether it is the one that would be made now.

Outputs appear under their names only when they are whole. So metadata that agree vouch for the pixels, and neither
names nor times are asked.
"""

from __future__ import annotations

import json
import stat
import struct
from collections.abc import Mapping
from pathlib import Path
from typing import Any
from xml.etree import ElementTree

import tifffile

from unettile.errors import InputError
from unettile.images.png import read_description
from unettile.images.write_omexml import METADATA_NAMESPACE, NAMESPACE
from unettile.images.write_omezarr import METADATA_KEY

CROPS = "stitched crops"
"""What the metadata of an image that was joined from crops call it."""

_LARGEST_JSON = 2**26  # bytes of a zarr.json that is worth reading


def finished_line(output: Path) -> str:
    """Return what to tell of an output that is there already.

    >>> finished_line(Path("mask.tif"))
    'mask.tif is finished already: nothing to do'
    """
    return f"{output} is finished already: nothing to do"


def is_finished(output: Path, wanted: Mapping[str, Any], what: str = "mask") -> bool:
    """Whether `output` is there and says of itself all that is wanted; what it says besides does not matter.

    Args:
        output: TIFF, OME-TIFF, PNG or OME-Zarr.
        wanted: the metadata, as JSON, that decide the output.
        what: a word for such an output, for the message.

    Returns:
        False if nothing is there.

    Raises:
        InputError: something else is there; says what differs.
    """
    if not output.exists():
        return False
    found = read_provenance(output)
    if found is None:
        raise InputError(f"{output} exists and is no {what} of unettile: choose another -o, or give --overwrite")
    different = differing_keys(found, wanted)
    if different:
        raise InputError(
            f"{output} exists and was made otherwise ({', '.join(different)} differ{'s' if len(different) == 1 else ''}"
            "): choose another -o, or give --overwrite"
        )
    return True


def check_is_image(path: Path) -> None:
    """Refuse to take for an image what unettile made of one: a mask, ids, a weight map. Joined crops are an image.

    Raises:
        InputError: says what it is.
    """
    found = read_provenance(path)
    what = "mask" if found is None else found.get("content", "mask")
    if found is not None and what != CROPS:
        raise InputError(
            f"{path} is a result of unettile ({str(what)[:40]}), no image: give the image that it was made of, or"
            " --force to segment it all the same"
        )


def differing_keys(found: Mapping[str, Any], wanted: Mapping[str, Any]) -> list[str]:
    """Return the keys of what is wanted whose values are others, or missing, in what was found.

    >>> differing_keys({"w0": 10, "sigma": 5.0}, {"w0": 10, "sigma": 4.0, "shape": (2, 3)})
    ['sigma', 'shape']
    """
    plain: dict[str, Any] = json.loads(json.dumps(dict(wanted)))  # tuples become lists, as they were written
    return [key for key, value in plain.items() if key not in found or found[key] != value]


def read_provenance(path: Path) -> dict[str, Any] | None:
    """Return the metadata that unettile wrote into a TIFF, OME-TIFF, PNG or OME-Zarr; None if there are none.

    Nothing that is damaged, or a stranger's, raises an error here.
    """
    try:
        values = _of_zarr(path) if path.is_dir() else json.loads(_text(path))
    except (OSError, ValueError, LookupError, TypeError, RecursionError, struct.error):
        return None
    except (ElementTree.ParseError, tifffile.TiffFileError):
        return None
    # weight maps have had a version and no name
    ours = isinstance(values, dict) and ("unettile" in values or {"content", "version"} <= values.keys())
    return values if ours else None


def _of_zarr(path: Path) -> Any:
    document = path / "zarr.json"
    status = document.stat()
    if not stat.S_ISREG(status.st_mode) or status.st_size > _LARGEST_JSON:
        return None
    return json.loads(document.read_text("utf-8"))["attributes"][METADATA_KEY]


def _text(path: Path) -> str:
    """Return the JSON in a file; what is no file, a pipe say, is not read."""
    if not path.is_file():
        return "null"
    if description := read_description(path):
        return description
    with tifffile.TiffFile(path) as tif:
        description = str(tif.pages.first.description)
    return _annotation(description) if "<OME" in description[:4096] else description


def _annotation(xml: str) -> str:
    """Return the metadata in the OME-XML of an OME-TIFF; "null" if there are none."""
    if "<!DOCTYPE" in xml or "<!ENTITY" in xml:  # neither is in ours; entities can blow up a parser
        return "null"
    for annotation in ElementTree.fromstring(xml).iter(f"{{{NAMESPACE}}}CommentAnnotation"):
        if annotation.get("Namespace") == METADATA_NAMESPACE:
            return annotation.findtext(f"{{{NAMESPACE}}}Value", "null")
    return "null"
