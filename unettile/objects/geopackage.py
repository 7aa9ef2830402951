"""Outlines as a GeoPackage: an SQLite file with a table of polygons, which QGIS, GDAL and GeoPandas open."""

from __future__ import annotations

import errno
import sqlite3
import struct
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from unettile.images.georeference import Georeference
from unettile.images.record import Record
from unettile.objects.geoparquet import polygon_bytes
from unettile.objects.polygons import Outline, Polygons

BEGINNING = b"SQLite format 3\0"

_NO_SYSTEM = -1  # as the standard numbers plane coordinates of no place on earth
_NO_DATE = "1970-01-01T00:00:00.000Z"  # the same objects give the same bytes
_TABLES = """
PRAGMA journal_mode = OFF;
PRAGMA synchronous = OFF;
PRAGMA application_id = 1196444487;
PRAGMA user_version = 10300;
CREATE TABLE gpkg_spatial_ref_sys (srs_name TEXT NOT NULL, srs_id INTEGER NOT NULL PRIMARY KEY,
    organization TEXT NOT NULL, organization_coordsys_id INTEGER NOT NULL, definition TEXT NOT NULL, description TEXT);
CREATE TABLE gpkg_contents (table_name TEXT NOT NULL PRIMARY KEY, data_type TEXT NOT NULL, identifier TEXT UNIQUE,
    description TEXT DEFAULT '', last_change DATETIME NOT NULL, min_x DOUBLE, min_y DOUBLE, max_x DOUBLE, max_y DOUBLE,
    srs_id INTEGER REFERENCES gpkg_spatial_ref_sys (srs_id));
CREATE TABLE gpkg_geometry_columns (table_name TEXT NOT NULL REFERENCES gpkg_contents (table_name),
    column_name TEXT NOT NULL, geometry_type_name TEXT NOT NULL, srs_id INTEGER NOT NULL, z TINYINT NOT NULL,
    m TINYINT NOT NULL, PRIMARY KEY (table_name, column_name));
CREATE TABLE objects (id INTEGER NOT NULL PRIMARY KEY, class INTEGER, class_name TEXT, geom GEOMETRY);
BEGIN;
"""


def write_geopackage(
    path: Path,
    polygons: Polygons,
    classes: NDArray[np.uint32],
    record: Record,
    georeference: Georeference | None = None,
) -> None:
    """Write one row an object, in order of id.

    Coordinates are those of the map, where EPSG has a number for its system; else (x, y) in px of the image's largest
    resolution.

    Args:
        georeference: of the mask's pixels.

    Raises:
        OSError: the file cannot be written.
    """
    placed = georeference is not None and georeference.epsg is not None and georeference.affine is not None
    system = georeference.epsg if placed and georeference is not None and georeference.epsg else _NO_SYSTEM
    try:
        with closing(sqlite3.connect(path, isolation_level=None)) as base:
            base.executescript(_TABLES)
            _describe(base, system, parted=polygons.parted)
            rows = _rows(polygons, classes, record, georeference if placed else None, system)
            base.executemany("INSERT INTO objects VALUES (?, ?, ?, ?)", rows)
            base.execute("COMMIT")
    except sqlite3.Error as error:
        code = errno.ENOSPC if "full" in str(error) else errno.EIO
        raise OSError(code, str(error), str(path)) from error


def _describe(base: sqlite3.Connection, system: int, *, parted: bool) -> None:
    systems: list[tuple[str, int, str, int, str]] = [
        ("undefined plane", -1, "NONE", -1, "undefined"),
        ("undefined places", 0, "NONE", 0, "undefined"),
        ("WGS 84", 4326, "EPSG", 4326, "undefined"),
    ]
    if system not in (_NO_SYSTEM, 4326):
        systems.append((f"EPSG:{system}", system, "EPSG", system, "undefined"))
    base.executemany("INSERT INTO gpkg_spatial_ref_sys VALUES (?, ?, ?, ?, ?, NULL)", systems)
    base.execute(
        "INSERT INTO gpkg_contents VALUES ('objects', 'features', 'objects', '', ?, NULL, NULL, NULL, NULL, ?)",
        (_NO_DATE, system),
    )
    kind = "GEOMETRY" if parted else "POLYGON"
    base.execute("INSERT INTO gpkg_geometry_columns VALUES ('objects', 'geom', ?, ?, 0, 0)", (kind, system))


def _rows(
    polygons: Polygons,
    classes: NDArray[np.uint32],
    record: Record,
    georeference: Georeference | None,
    system: int,
) -> Iterator[tuple[int, int, str, bytes]]:
    head = struct.pack("<2sBBi", b"GP", 0, 1, system)
    for outline in polygons:
        number = int(classes[outline.number - 1])
        shape = (
            polygon_bytes(outline, record.downsample)
            if georeference is None
            else polygon_bytes(_on_map(outline, georeference))
        )
        yield outline.number, number, record.name(number), head + shape


def _on_map(outline: Outline, georeference: Georeference) -> Outline:
    """Return an outline whose corners are places."""
    parts: Any = tuple(tuple(georeference.to_map(ring[:, 0], ring[:, 1]) for ring in part) for part in outline.parts)
    return Outline(outline.number, parts)
