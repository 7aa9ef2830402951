"""The table of objects: one row each, as CSV or Parquet."""

from __future__ import annotations

import csv
import math
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from unettile.errors import InputError, UsageError
from unettile.images.record import Record
from unettile.objects.columns import Columns, Figures, Frames, Known, make_columns

ROWS = 2**16
"""Rows at once."""

DECIMALS = 4
"""Of lengths and areas in a CSV file; other figures have as many significant digits, and two more."""

FORMULAS = ("=", "+", "-", "@", "\t", "\r")
"""Beginnings of a text that a spreadsheet would compute; such a name gets an apostrophe before it, as they ask for."""


class Table:
    """The rows of all objects.

    Args:
        figures: measured.
        known: of the same objects.
        record: of the mask, for the names of the classes.
        frames: the units.
    """

    def __init__(self, figures: Figures, known: Known, record: Record, frames: Frames) -> None:
        self._figures, self._known, self._record, self._frames = figures, known, record, frames

    def columns(self) -> Columns:
        """Return all rows."""
        chunks = list(self.chunks())
        return {name: np.concatenate([chunk[name] for chunk in chunks]) for name in chunks[0]}

    def chunks(self) -> Iterator[Columns]:
        """Yield the columns of ROWS objects after ROWS, in order of id; at least one chunk, without rows if need be."""
        count = len(self._figures.sums)
        for start in range(0, max(1, count), ROWS):
            yield make_columns(self._figures, self._known, self._record, self._frames, start, min(start + ROWS, count))


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
