"""Attributes: the metadata of a Zarr group, of either version, in a directory or on a server."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from unettile.errors import InputError
from unettile.images.remote import is_forbidden, read_part
from unettile.images.urls import url_of
from unettile.regular import read_regular

_MOST_BYTES = 2**26  # images of ids describe each


def read_attributes(group: Path) -> dict[str, Any]:
    """Return the attributes of a Zarr group or array; empty where there are none that can be read.

    Raises:
        InputError, Incomplete: a server refuses, or the connection is lost.
    """
    for name in ("zarr.json", ".zattrs"):
        try:
            values = json.loads(_content(group / name))
        except (OSError, ValueError, RecursionError):
            continue
        attributes = values.get("attributes") if name == "zarr.json" and isinstance(values, dict) else values
        if isinstance(attributes, dict):
            return attributes
    return {}


def ome_attributes(group: Path) -> dict[str, Any]:
    """Return what OME-Zarr says of a group, for which 0.4 has no key of its own; raises as `read_attributes`."""
    attributes = read_attributes(group)
    ome = attributes.get("ome", attributes)
    return ome if isinstance(ome, dict) else {}


def _content(file: Path) -> bytes:
    url = url_of(file)
    if url is None:
        return read_regular(file, _MOST_BYTES)
    try:
        return read_part(url, None, None)
    except InputError as error:
        if is_forbidden(error):
            raise FileNotFoundError(url) from error
        raise
