"""Outlines as GeoParquet 1.1: a Parquet file with polygons in well-known binary, which GeoPandas and GDAL open."""

from __future__ import annotations

import json
import struct
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from unettile.images.record import Record
from unettile.objects.gather import Grouped
from unettile.objects.outline import Outline, outlines
from unettile.objects.table import import_parquet

ROWS = 2**14
"""Rows at once."""

_POLYGON = 3
_METADATA = {
    "version": "1.1.0",
    "primary_column": "geometry",
    "columns": {
        "geometry": {"encoding": "WKB", "geometry_types": ["Polygon"], "crs": None, "orientation": "counterclockwise"}
    },
}


def write_geoparquet(path: Path, corners: Grouped, classes: NDArray[np.uint32], record: Record) -> None:
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
        metadata={"geo": json.dumps(_METADATA)},
    )
    with parquet.ParquetWriter(path, schema, compression="zstd") as writer:
        rows: list[Outline] = []
        for outline in outlines(corners):
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
    parts = [struct.pack("<BII", 1, _POLYGON, len(outline.rings))]
    for ring in outline.rings:
        closed = np.concatenate([ring, ring[:1]]) * np.array(downsample[::-1])
        parts += [struct.pack("<I", len(closed)), closed.astype("<f8").tobytes()]
    return b"".join(parts)
