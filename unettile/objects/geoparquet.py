"""Outlines as GeoParquet 1.1: a Parquet file with polygons in well-known binary, which GeoPandas and GDAL open."""

from __future__ import annotations

import json
import struct
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import numpy as np

from unettile.objects.polygons import Outline, Outlined, Ring
from unettile.objects.table import import_parquet

ROWS = 2**14
"""Rows at once."""

_POLYGON, _MULTIPOLYGON = 3, 6


def _metadata(kinds: list[str]) -> dict[str, Any]:
    column = {"encoding": "WKB", "geometry_types": kinds, "crs": None, "orientation": "counterclockwise"}
    return {"version": "1.1.0", "primary_column": "geometry", "columns": {"geometry": column}}


class GeoParquetFile:
    """Writes one row an object, in order of id; coordinates are (x, y) in px of the image's largest resolution.

    Args:
        path: overwritten; a temporary one.
        columns: that tell planes apart; empty for a single image.
        parted: objects may have several parts that are not connected.

    Raises:
        InputError: pyarrow is not installed.
        OSError: the file cannot be written.
    """

    def __init__(self, path: Path, columns: Iterable[str] = (), *, parted: bool = False) -> None:
        arrow, parquet = import_parquet()
        self._schema = arrow.schema(
            [
                *((name, arrow.int64()) for name in columns),
                ("id", arrow.int64()),
                ("class", arrow.int64()),
                ("class_name", arrow.string()),
                ("geometry", arrow.binary()),
            ],
            metadata={"geo": json.dumps(_metadata(["Polygon", "MultiPolygon"] if parted else ["Polygon"]))},
        )
        self._writer = parquet.ParquetWriter(path, self._schema, compression="zstd")

    def add(self, found: Outlined) -> None:
        """Write the objects of a plane.

        Raises:
            OSError: the file cannot be written.
        """
        rows: list[Outline] = []
        for outline in found.polygons:
            rows.append(outline)
            if len(rows) == ROWS:
                self._write(rows, found)
                rows = []
        self._write(rows, found)

    def finish(self) -> None:
        """Write the end."""
        self._writer.close()

    def close(self) -> None:
        """Let go of a file that is not finished."""
        self._writer.close()

    def _write(self, rows: list[Outline], found: Outlined) -> None:
        numbers = [int(found.classes[outline.number - 1]) for outline in rows]
        columns = found.plane.columns(len(rows)) | {
            "id": [outline.number for outline in rows],
            "class": numbers,
            "class_name": [found.record.name(number) for number in numbers],
            "geometry": [polygon_bytes(outline, found.record.downsample) for outline in rows],
        }
        arrow, _ = import_parquet()
        self._writer.write_table(arrow.table(columns, schema=self._schema))


def polygon_bytes(outline: Outline, downsample: tuple[float, float] = (1.0, 1.0)) -> bytes:
    """Return an outline as well-known binary, little-endian."""
    found = [_part_bytes(part, downsample) for part in outline.parts]
    return found[0] if len(found) == 1 else struct.pack("<BII", 1, _MULTIPOLYGON, len(found)) + b"".join(found)


def _part_bytes(rings: tuple[Ring, ...], downsample: tuple[float, float]) -> bytes:
    parts = [struct.pack("<BII", 1, _POLYGON, len(rings))]
    for ring in rings:
        closed = np.concatenate([ring, ring[:1]]) * np.array(downsample[::-1])
        parts += [struct.pack("<I", len(closed)), closed.astype("<f8").tobytes()]
    return b"".join(parts)
