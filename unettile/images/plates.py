"""Plates: the images of an OME-Zarr plate (HCS), one for each field of view of each well.

plate.zarr/          plate: the wells, by path
    A/1/             well: its fields, by path
        0/  1/       images
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path, PurePosixPath

from unettile.errors import InputError
from unettile.images.attributes import ome_attributes
from unettile.images.omezarr import is_group


def is_plate(path: Path) -> bool:
    """Whether a directory, or what is at a URL, is an OME-Zarr plate.

    Raises:
        InputError, Incomplete: a server refuses, or the connection is lost.
    """
    return is_group(path) and isinstance(ome_attributes(path).get("plate"), Mapping)


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
    described = ome_attributes(group).get(what)
    listed = described.get(members) if isinstance(described, Mapping) else None
    if not isinstance(listed, list):
        raise InputError(f"{group} cannot be read: its metadata list no {members} of a {what}; take a fresh copy")
    paths = []
    for one in listed:
        text = one.get("path") if isinstance(one, Mapping) else None
        path = PurePosixPath(str(text))
        if not isinstance(text, str) or not path.parts or path.is_absolute() or ".." in path.parts:
            raise InputError(f"{group} cannot be read: its metadata list {text!r} among the {members}")
        if not is_group(group / path):
            raise InputError(f"{group} lists {text} among its {members}, which is not there: take a fresh copy")
        paths.append(path)
    return paths
