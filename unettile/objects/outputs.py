"""Outputs: which names may be written to, asked before any work."""

from __future__ import annotations

import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from unettile.errors import InputError
from unettile.images.labelplace import is_label_of, is_label_place
from unettile.images.omezarr import is_zarr
from unettile.images.provenance import check_version
from unettile.images.record import read_metadata
from unettile.objects.coco import HEAD as COCO
from unettile.objects.geojson import HEAD
from unettile.objects.geopackage import BEGINNING as GEOPACKAGE
from unettile.objects.plane import SINGLE, Plane
from unettile.objects.products import Products, Sources
from unettile.protection import protect

_BEGINNINGS = {
    ".parquet": b"PAR1",
    ".geojson": HEAD.encode(),
    ".png": b"\x89PNG",
    ".zip": b"PK",
    ".gpkg": GEOPACKAGE,
    ".h5ad": b"\x89HDF",
    ".html": b"<!DOCTYPE html>",
    ".htm": b"<!DOCTYPE html>",
}
"""How files begin that are written here, by their endings."""


def check_outputs(
    products: Products, sources: Sources, identity: Mapping[str, Any], overwrite: bool, plane: Plane = SINGLE
) -> bool:
    """Refuse names that cannot be written to, before any work; return whether all products are there already.

    What is there is allowed without `overwrite` where it may be what would be written: the same command that was
    stopped finishes what is missing, and given again after the end finds nothing to do. The comparison byte by byte
    comes when all is made.

    Args:
        identity: what the image of ids would say of itself, as far as that is known before the work.
        plane: one of those that the files hold.

    Raises:
        UsageError: an output that is an input.
        InputError: another file is there, or an OME-Zarr of another version, or the directory cannot be written to.
    """
    for path in products.paths:  # a label image of what is read goes into it
        protect([one for one in sources.paths if not is_label_of(path, one)], [path])
    beginnings = _BEGINNINGS | {".csv": f"{next(iter(plane.numbers), 'id')},".encode()}
    for path in products.paths:
        _check_place(path)
        if path.exists() and not overwrite:
            if path in (products.labels, products.confidence):
                found = read_metadata(path)
                content = "instances" if path == products.labels else "confidence"
                wanted = {**identity, "content": content}
                likely = all(found.get(key) == value for key, value in wanted.items())
                if likely and not is_label_place(path):  # which has the version of its image
                    check_version(path, products.zarr)
            else:
                beginning = beginnings.get(path.suffix.lower(), (COCO if path == products.coco else HEAD).encode())
                with path.open("rb") as file:
                    likely = file.read(len(beginning)) == beginning
            if not likely:
                raise InputError(f"{path} exists and is another: choose another name, or give --overwrite")
    return bool(products.paths) and not overwrite and all(path.exists() for path in products.paths)


def _check_place(output: Path) -> None:
    label, folder = is_label_place(output), output.parent
    if output.is_dir() and not ((label or output.suffix.lower() == ".zarr") and is_zarr(output)):
        raise InputError(f"{output} is a directory: need a file name; give another")
    if label and not folder.exists():
        folder = folder.parent
    if not folder.is_dir():
        raise InputError(f"cannot write {output}: there is no directory {folder}; create it first")
    if not os.access(folder, os.W_OK | os.X_OK):
        raise InputError(f"cannot write {output}: no permission to write in {folder}; choose another directory")
