"""The table of objects: one row each, as CSV or Parquet."""

from __future__ import annotations

import csv
import math
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from unettile.errors import InputError, UsageError
from unettile.images.pixelsize import PixelSize
from unettile.images.record import Record
from unettile.objects.measure import Sums

ROWS = 2**16
"""Rows at once."""

DECIMALS = 4
"""Of lengths and areas in a CSV file; other figures have as many significant digits, and two more."""

FORMULAS = ("=", "+", "-", "@", "\t", "\r")
"""Beginnings of a text that a spreadsheet would compute; such a name gets an apostrophe before it, as they ask for."""

Columns = dict[str, NDArray[Any]]


@dataclass(frozen=True)
class Known:
    """What is known of objects beside their pixels, (N,) each.

    Args:
        classes: of the objects.
        shares: of their pixels that are of their class; None where all are.
        mask_ids: ids that they have in the mask; None if the mask holds none.
    """

    classes: NDArray[np.uint32]
    shares: NDArray[np.float64] | None = None
    mask_ids: NDArray[np.uint32] | None = None


class Table:
    """The rows of all objects.

    Args:
        sums: measured.
        known: of the same objects.
        record: of the mask, for the names of the classes.
        pixel_size_um: height and width of a pixel; None leaves the columns in µm out.
    """

    def __init__(self, sums: Sums, known: Known, record: Record, pixel_size_um: PixelSize | None) -> None:
        self._sums, self._known, self._record, self._pixel_size_um = sums, known, record, pixel_size_um

    def chunks(self) -> Iterator[Columns]:
        """Yield the columns of ROWS objects after ROWS, in order of id; at least one chunk, without rows if need be."""
        for start in range(0, max(1, len(self._sums)), ROWS):
            yield self._columns(start, min(start + ROWS, len(self._sums)))

    def _columns(self, start: int, stop: int) -> Columns:
        found = self._sums.measurements(start, stop)
        known = self._known
        classes = known.classes[start:stop]
        present = {int(number): self._record.name(int(number)) for number in np.unique(classes)}
        columns: Columns = {
            "id": np.arange(start + 1, stop + 1),
            "class": classes.astype(np.int64),
            "class_name": np.array([present[int(number)] for number in classes], dtype=object),
            **({} if known.shares is None else {"class_share": known.shares[start:stop]}),
            **({} if known.mask_ids is None else {"mask_id": known.mask_ids[start:stop].astype(np.int64)}),
            "area_px": found.area,
            "centroid_y_px": found.centroid_y,
            "centroid_x_px": found.centroid_x,
            **{f"box_{name}_px": found.box[:, k] for k, name in enumerate(("y0", "x0", "y1", "x1"))},
            "perimeter_px": found.perimeter,
            "eccentricity": found.eccentricity,
        }
        if self._pixel_size_um is not None:
            high, wide = self._pixel_size_um
            columns["area_um2"] = found.area * (high * wide)
            columns["centroid_y_um"] = found.centroid_y * high
            columns["centroid_x_um"] = found.centroid_x * wide
            for k, (name, size) in enumerate((("y0", high), ("x0", wide), ("y1", high), ("x1", wide))):
                columns[f"box_{name}_um"] = found.box[:, k] * size
            if math.isclose(high, wide, rel_tol=1e-3):  # of pixels that are not square, the sum has lost the directions
                columns["perimeter_um"] = found.perimeter * math.sqrt(high * wide)
        for channel in range(found.intensity.shape[1]):
            columns[f"mean_intensity_{channel}"] = found.intensity[:, channel]
        return columns


def check_table(path: Path) -> None:
    """Refuse a name whose ending is no table's.

    Raises:
        UsageError: neither .csv nor .parquet.
        InputError: Parquet without its library.
    """
    ending = path.suffix.lower()
    if ending not in (".csv", ".parquet"):
        raise UsageError(f"--table {path.name}: cannot tell the format from its ending; use .csv or .parquet")
    if ending == ".parquet":
        _parquet()


def write_table(path: Path, table: Table, kind: str) -> None:
    """Write a table.

    Args:
        path: overwritten; a temporary one.
        table: the rows.
        kind: `.csv` or `.parquet`.

    Raises:
        OSError: the file cannot be written.
    """
    if kind == ".csv":
        with path.open("w", encoding="utf-8", newline="") as file:
            writer = csv.writer(file, lineterminator="\n")
            for number, columns in enumerate(table.chunks()):
                if number == 0:
                    writer.writerow(columns)
                writer.writerows(zip(*(_text(name, values) for name, values in columns.items()), strict=True))
        return
    arrow, parquet = _parquet()
    kept: Any = None
    try:
        for columns in table.chunks():
            types = {"class_name": arrow.string()}
            rows = arrow.table({name: arrow.array(values, type=types.get(name)) for name, values in columns.items()})
            kept = kept or parquet.ParquetWriter(path, rows.schema, compression="zstd")
            kept.write_table(rows)
    finally:
        if kept is not None:
            kept.close()


def _text(name: str, values: NDArray[Any]) -> list[Any]:
    """Return the cells of a column; what is not known is empty."""
    if values.dtype.kind == "O":
        return [f"'{text}" if text.startswith(FORMULAS) else text for text in values]
    if values.dtype.kind != "f":
        return list(values.tolist())
    digits = f".{DECIMALS}f" if name.endswith(("_px", "_um", "_um2")) else f".{DECIMALS + 2}g"
    return [format(value, digits) if math.isfinite(value) else "" for value in values.tolist()]


def _parquet() -> tuple[Any, Any]:
    try:
        import pyarrow
        import pyarrow.parquet
    except ImportError as error:
        raise InputError(
            "Parquet needs pyarrow, which is not installed: pip install 'unettile[parquet]', or write .csv"
        ) from error
    return pyarrow, pyarrow.parquet
