"""Outlines as a GeoPackage: an SQLite file with a table of polygons, which QGIS, GDAL and GeoPandas open."""

from __future__ import annotations

import errno
import sqlite3
import struct
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from unettile.images.georeference import Georeference
from unettile.objects.geoparquet import polygon_bytes
from unettile.objects.polygons import Outline, Outlined

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
"""
_OBJECTS = """
CREATE TABLE objects ({key}, class INTEGER, class_name TEXT, geom GEOMETRY);
BEGIN;
"""


class GeoPackageFile:
    """Writes one row an object, in order of id; of a stack, whose ids begin anew in each plane, rows have numbers.

    Coordinates are those of the map, where EPSG has a number for its system; else (x, y) in px of the image's largest
    resolution.

    Args:
        path: overwritten; a temporary one.
        columns: that tell planes apart; empty for a single image.
        georeference: of the mask's pixels.
        parted: objects may have several parts that are not connected.

    Raises:
        OSError: the file cannot be written.
    """

    def __init__(
        self, path: Path, columns: Sequence[str] = (), georeference: Georeference | None = None, *, parted: bool = False
    ) -> None:
        placed = georeference is not None and georeference.epsg is not None and georeference.affine is not None
        self._path, self._georeference = path, georeference if placed else None
        system = georeference.epsg if placed and georeference is not None and georeference.epsg else _NO_SYSTEM
        self._head = struct.pack("<2sBBi", b"GP", 0, 1, system)
        key = "id INTEGER NOT NULL PRIMARY KEY"
        if columns:
            key = ", ".join(("row INTEGER NOT NULL PRIMARY KEY", *(f"{name} INTEGER" for name in (*columns, "id"))))
        with self._telling():
            # Planes are added by one thread at a time, but not always the same.
            self._base = sqlite3.connect(path, isolation_level=None, check_same_thread=False)
            self._base.executescript(_TABLES + _OBJECTS.format(key=key))
            _describe(self._base, system, parted=parted)

    def add(self, found: Outlined) -> None:
        """Write the objects of a plane.

        Raises:
            OSError: the file cannot be written.
        """
        numbers = (None, *found.plane.numbers.values()) if found.plane.axes else ()  # SQLite counts the rows
        places = ", ".join("?" * (len(numbers) + 4))
        with self._telling():
            self._base.executemany(f"INSERT INTO objects VALUES ({places})", self._rows(found, numbers))

    def finish(self) -> None:
        """Write the end."""
        with self._telling():
            self._base.execute("COMMIT")
        self._base.close()

    def close(self) -> None:
        """Let go of a file that is not finished."""
        self._base.close()

    def _rows(self, found: Outlined, numbers: tuple[int | None, ...]) -> Iterator[tuple[Any, ...]]:
        for outline in found.polygons:
            number = int(found.classes[outline.number - 1])
            shape = (
                polygon_bytes(outline, found.record.downsample)
                if self._georeference is None
                else polygon_bytes(_on_map(outline, self._georeference))
            )
            yield *numbers, outline.number, number, found.record.name(number), self._head + shape

    @contextmanager
    def _telling(self) -> Iterator[None]:
        """Tell of a disk that has no room as of other files."""
        try:
            yield
        except sqlite3.Error as error:
            code = errno.ENOSPC if "full" in str(error) else errno.EIO
            raise OSError(code, str(error), str(self._path)) from error


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


def _on_map(outline: Outline, georeference: Georeference) -> Outline:
    """Return an outline whose corners are places."""
    parts: Any = tuple(tuple(georeference.to_map(ring[:, 0], ring[:, 1]) for ring in part) for part in outline.parts)
    return Outline(outline.number, parts)
