"""Provenance: what a file that unettile wrote says of itself, and whether it is the one that would be made now.

Outputs appear under their names only when they are whole. So metadata that agree vouch for the pixels, and neither
names nor times are asked.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from unettile.errors import InputError
from unettile.images.labelplace import is_label_place
from unettile.images.record import read_metadata

CROPS = "stitched crops"
"""What the metadata of an image that was joined from crops call it."""


def finished_line(output: Path) -> str:
    """Return what to tell of an output that is there already.

    >>> finished_line(Path("mask.tif"))
    'mask.tif is finished already: nothing to do'
    """
    return f"{output} is finished already: nothing to do"


def is_finished(output: Path, wanted: Mapping[str, Any], what: str = "mask", zarr: str | None = None) -> bool:
    """Whether `output` is there and says of itself all that is wanted; what it says besides does not matter.

    Args:
        output: TIFF, OME-TIFF, PNG or OME-Zarr.
        wanted: the metadata, as JSON, that decide the output.
        what: a word for such an output, for the message.
        zarr: the version of OME-Zarr that it has to be, if it is one; None for any.

    Returns:
        False if nothing is there.

    Raises:
        InputError: something else is there; says what differs.
    """
    if not output.exists():
        return False
    found = read_provenance(output)
    if not found:
        raise InputError(f"{output} exists and is no {what} of unettile: choose another -o, or give --overwrite")
    different = differing_keys(found, wanted)
    if different:
        raise InputError(
            f"{output} exists and was made otherwise ({', '.join(different)} differ{'s' if len(different) == 1 else ''}"
            "): choose another -o, or give --overwrite"
        )
    if zarr is not None and not is_label_place(output):  # a label image has the version of its image
        check_version(output, zarr)
    return True


def check_version(output: Path, zarr: str) -> None:
    """Refuse an OME-Zarr of the same content, but of another version than the one that is asked for.

    Raises:
        InputError: says of which version it is.
    """
    there = {".zgroup": "0.4", "zarr.json": "0.5"}
    found = [version for name, version in there.items() if (output / name).is_file()]
    if found and zarr not in found:
        raise InputError(
            f"{output} is there already, as OME-Zarr {found[0]}: for {zarr} choose another -o, or give --overwrite"
        )


def check_is_image(path: Path) -> None:
    """Refuse to take for an image what unettile made of one: a mask, ids, a weight map. Joined crops are an image.

    Raises:
        InputError: says what it is.
    """
    found = read_provenance(path)
    what = found.get("content", "mask")
    if found and what != CROPS:
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


def read_provenance(path: Path) -> dict[str, Any]:
    """Return the metadata that unettile wrote into a TIFF, OME-TIFF, PNG or OME-Zarr; empty if there are none.

    Nothing that is damaged, or a stranger's, raises an error here; what is no file, a pipe say, is not read.
    """
    try:
        readable = any(
            file.is_file() for file in ((path / "zarr.json", path / ".zattrs") if path.is_dir() else (path,))
        )
        return read_metadata(path) if readable else {}
    except OSError:
        return {}
