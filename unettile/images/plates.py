"""Plates: the images of an OME-Zarr plate (HCS), one for each field of view of each well.

plate.zarr/          plate: the wells, by path
    A/1/             well: its fields, by path
        0/  1/       images
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path, PurePosixPath
from typing import Any

from unettile.errors import InputError
from unettile.regular import read_regular

_MOST_BYTES = 2**26


def is_plate(path: Path) -> bool:
    """Whether a directory is an OME-Zarr plate."""
    return path.is_dir() and isinstance(_attributes(path).get("plate"), Mapping)


def list_fields(plate: Path) -> list[tuple[str, Path]]:
    """Return a name by row, column and field, such as A_1_0, and the path of every image of a plate, in its order.

    Raises:
        InputError: its metadata are damaged, or name what is not there.
    """
    found = []
    for well in _paths(plate, "plate", "wells"):
        for field in _paths(plate / well, "well", "images"):
            found.append(("_".join((well / field).parts), plate / well / field))
    if not found:
        raise InputError(f"{plate} is a plate without images: need wells with fields")
    return found


def _paths(group: Path, what: str, members: str) -> list[PurePosixPath]:
    """Return the paths that the metadata of a plate or a well list, each that of a directory in it."""
    described = _attributes(group).get(what)
    listed = described.get(members) if isinstance(described, Mapping) else None
    if not isinstance(listed, list):
        raise InputError(f"{group} cannot be read: its metadata list no {members} of a {what}; take a fresh copy")
    paths = []
    for one in listed:
        text = one.get("path") if isinstance(one, Mapping) else None
        path = PurePosixPath(str(text))
        if not isinstance(text, str) or not path.parts or path.is_absolute() or ".." in path.parts:
            raise InputError(f"{group} cannot be read: its metadata list {text!r} among the {members}")
        if not (group / path).is_dir():
            raise InputError(f"{group} lists {text} among its {members}, which is not there: take a fresh copy")
        paths.append(path)
    return paths


def _attributes(group: Path) -> Mapping[str, Any]:
    """Return the OME attributes of a Zarr group of either version; empty where there are none that can be read."""
    for name in ("zarr.json", ".zattrs"):
        try:
            values = json.loads(read_regular(group / name, _MOST_BYTES))
        except (OSError, ValueError, RecursionError):
            continue
        attributes = values.get("attributes") if name == "zarr.json" and isinstance(values, dict) else values
        if isinstance(attributes, dict):
            ome = attributes.get("ome", attributes)
            return ome if isinstance(ome, dict) else {}
    return {}
