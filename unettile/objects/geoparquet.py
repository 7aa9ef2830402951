"""Outlines as GeoParquet 1.1: a Parquet file with polygons in well-known binary, which GeoPandas and GDAL open."""

from __future__ import annotations

import json
import struct
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from unettile.images.record import Record
from unettile.objects.polygons import Outline, Polygons, Ring
from unettile.objects.table import import_parquet

ROWS = 2**14
"""Rows at once."""

_POLYGON, _MULTIPOLYGON = 3, 6


def _metadata(kinds: list[str]) -> dict[str, Any]:
    column = {"encoding": "WKB", "geometry_types": kinds, "crs": None, "orientation": "counterclockwise"}
    return {"version": "1.1.0", "primary_column": "geometry", "columns": {"geometry": column}}


def write_geoparquet(path: Path, polygons: Polygons, classes: NDArray[np.uint32], record: Record) -> None:
    """Write one row an object, in order of id; coordinates are (x, y) in px of the image's largest resolution.

    Raises:
        InputError: pyarrow is not installed.
        OSError: the file cannot be written.
    """
    arrow, parquet = import_parquet()
    schema = arrow.schema(
        [
            ("id", arrow.int64()),
            ("class", arrow.int64()),
            ("class_name", arrow.string()),
            ("geometry", arrow.binary()),
        ],
        metadata={"geo": json.dumps(_metadata(["Polygon", "MultiPolygon"] if polygons.parted else ["Polygon"]))},
    )
    with parquet.ParquetWriter(path, schema, compression="zstd") as writer:
        rows: list[Outline] = []
        for outline in polygons:
            rows.append(outline)
            if len(rows) == ROWS:
                writer.write_table(_table(arrow, schema, rows, classes, record))
                rows = []
        writer.write_table(_table(arrow, schema, rows, classes, record))


def _table(arrow: Any, schema: Any, rows: list[Outline], classes: NDArray[np.uint32], record: Record) -> Any:
    numbers = [int(classes[outline.number - 1]) for outline in rows]
    columns = {
        "id": [outline.number for outline in rows],
        "class": numbers,
        "class_name": [record.name(number) for number in numbers],
        "geometry": [polygon_bytes(outline, record.downsample) for outline in rows],
    }
    return arrow.table(columns, schema=schema)


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
