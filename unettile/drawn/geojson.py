"""GeoJSON: polygons as QuPath, GIS programs and unettile itself write them (RFC 7946, and the `crs` of 2008)."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from unettile.drawn.shapes import Ring, Shapes
from unettile.errors import InputError
from unettile.images.projection import LONLAT
from unettile.regular import read_regular

_MOST_BYTES = 2**31
_TYPES = ("Polygon", "MultiPolygon", "GeometryCollection")
_CRS = re.compile(r"(?:urn:ogc:def:crs:)?(OGC|EPSG):[\d.]*:?(\w+)")


@dataclass(frozen=True, eq=False)
class Drawing:
    """What a GeoJSON file holds.

    Args:
        shapes: in the file's own coordinates.
        epsg: of the coordinate system that the file names; None if it names none.
    """

    shapes: Shapes
    epsg: int | None


def read_geojson(path: Path) -> Drawing:
    """Return the polygons of a file; points and lines, which hold no pixel, are passed over.

    Raises:
        InputError: it cannot be read, is no GeoJSON, or holds no polygon.
    """
    shapes, names, epsg = parse_geojson(path, read_json(path))
    found = Shapes.of_rings(shapes, names)
    if not len(found):
        raise InputError(f"{path} holds no polygon: draw some, and export them as GeoJSON")
    return Drawing(found, epsg)


def parse_geojson(path: Path, values: Any) -> tuple[list[list[Ring]], list[str], int | None]:
    """Return the rings and the class of each polygon of a JSON, and the coordinate system that it names.

    Args:
        path: for messages.

    Raises:
        InputError: it is no GeoJSON.
    """
    if not isinstance(values, dict | list):
        raise InputError(f"{path} is no GeoJSON: need a FeatureCollection, features or a geometry")
    features = values if isinstance(values, list) else values.get("features", [values])
    shapes: list[list[Ring]] = []
    names: list[str] = []
    try:
        for feature in features:
            geometry = feature.get("geometry", None) if feature.get("type") == "Feature" else feature
            rings = list(_rings(geometry)) if geometry is not None else []
            if rings:
                shapes.append(rings)
                names.append(_name(feature))
        epsg = _epsg(path, values.get("crs")) if isinstance(values, dict) else None
    except (AttributeError, KeyError, TypeError, ValueError, IndexError, OverflowError) as error:
        raise InputError(f"{path} is no GeoJSON that can be read ({error}): export it again") from error
    return shapes, names, epsg


def read_json(path: Path) -> Any:
    """Return what a JSON file holds.

    Raises:
        InputError: it cannot be read, or is none.
    """
    try:
        return json.loads(read_regular(path, _MOST_BYTES))
    except OSError as error:
        raise InputError(f"cannot read {path}: {(error.strerror or str(error)).lower()}") from error
    except (ValueError, RecursionError) as error:
        raise InputError(f"{path} is no JSON ({' '.join(str(error).split())[:100]}): export it again") from error


def _rings(geometry: Any) -> Iterator[Ring]:
    """Yield the rings of a geometry; a ring's last corner, which repeats the first, is dropped."""
    kind = geometry["type"]
    if kind == "GeometryCollection":
        for one in geometry["geometries"]:
            yield from _rings(one)
    elif kind in _TYPES:
        polygons = geometry["coordinates"] if kind == "MultiPolygon" else [geometry["coordinates"]]
        for polygon in polygons:
            for ring in polygon:
                corners = np.array([corner[:2] for corner in ring], np.float64).reshape(-1, 2)
                if not np.isfinite(corners).all():
                    raise ValueError("a corner is no number")
                yield corners[:-1] if len(corners) > 1 and (corners[0] == corners[-1]).all() else corners


def _name(feature: Any) -> str:
    """Return the name of a feature's class, as QuPath has it, or ""."""
    classification = (feature.get("properties") or {}).get("classification") or {}
    name = classification.get("name", "") if isinstance(classification, dict) else classification
    return str(name or "")


def _epsg(path: Path, crs: Any) -> int | None:
    if crs is None:
        return None
    match = _CRS.fullmatch(str(crs["properties"]["name"]))
    if match is None or (match[1] == "EPSG" and not match[2].isdigit()) or (match[1] == "OGC" and match[2] != "CRS84"):
        raise InputError(f"{path} names the coordinate system {crs}: need one of EPSG's, or longitude and latitude")
    return LONLAT if match[1] == "OGC" else int(match[2])
