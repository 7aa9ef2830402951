"""The table of objects: one row each, as CSV or Parquet."""

from __future__ import annotations

import csv
import io
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from unettile.errors import InputError, UsageError
from unettile.images.record import Record
from unettile.objects.columns import Columns, Figures, Frames, Known, make_columns
from unettile.objects.digits import WIDEST, cells_of, put_rows
from unettile.objects.plane import SINGLE, Plane

ROWS = 2**16
"""Rows at once."""

LINES = 2**13
"""Lines of a CSV file that are put together at once."""

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
        plane: of a stack, which the first columns say.
    """

    def __init__(self, figures: Figures, known: Known, record: Record, frames: Frames, plane: Plane = SINGLE) -> None:
        self._figures, self._known, self._record, self._frames = figures, known, record, frames
        self.plane = plane

    def columns(self) -> Columns:
        """Return all rows."""
        chunks = list(self.chunks())
        return {name: np.concatenate([chunk[name] for chunk in chunks]) for name in chunks[0]}

    def chunks(self) -> Iterator[Columns]:
        """Yield the columns of ROWS objects after ROWS, in order of id; at least one chunk, without rows if need be."""
        count = len(self._figures.sums)
        for start in range(0, max(1, count), ROWS):
            stop = min(start + ROWS, count)
            columns = make_columns(self._figures, self._known, self._record, self._frames, start, stop)
            yield self.plane.columns(stop - start) | columns


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
        import_parquet()


def open_table(path: Path, kind: str) -> CsvFile | ParquetFile:
    """Open a table to be written; its names of columns are those of the first rows.

    Args:
        path: overwritten; a temporary one.
        kind: `.csv` or `.parquet`.

    Raises:
        OSError: the file cannot be written.
    """
    return CsvFile(path) if kind == ".csv" else ParquetFile(path)


class CsvFile:
    """Writes rows as text; see `open_table`."""

    def __init__(self, path: Path) -> None:
        self._file, self._begun = path.open("wb"), False

    def add(self, table: Table) -> None:
        """Write the rows of a plane.

        Raises:
            OSError: the file cannot be written.
        """
        for columns in table.chunks():
            if not self._begun:
                self._file.write((",".join(columns) + "\n").encode())
                self._begun = True
            for start in range(0, len(columns["id"]), LINES):
                self._file.write(_rows({name: cells[start : start + LINES] for name, cells in columns.items()}).data)

    def finish(self) -> None:
        """Write the end."""
        self._file.close()

    def close(self) -> None:
        """Let go of a file that is not finished."""
        self._file.close()


class ParquetFile:
    """Writes rows as Parquet; see `open_table`."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self._writer: Any = None

    def add(self, table: Table) -> None:
        """Write the rows of a plane.

        Raises:
            OSError: the file cannot be written.
        """
        arrow, parquet = import_parquet()
        for columns in table.chunks():
            types = {"class_name": arrow.string()}
            rows = arrow.table({name: arrow.array(values, type=types.get(name)) for name, values in columns.items()})
            self._writer = self._writer or parquet.ParquetWriter(self._path, rows.schema, compression="zstd")
            self._writer.write_table(rows)

    def finish(self) -> None:
        """Write the end."""
        self._writer.close()

    def close(self) -> None:
        """Let go of a file that is not finished."""
        if self._writer is not None:
            self._writer.close()


def _rows(columns: Columns) -> NDArray[np.uint8]:
    """Return the lines of a CSV file; what is not known is an empty cell."""
    numbers = [name for name, values in columns.items() if values.dtype.kind != "O"]
    named = next((name for name in columns if name not in numbers), None)  # ids alone have no names of classes
    words = np.empty(0, str) if named is None else columns[named].astype(str)
    texts, index = np.unique(words, return_inverse=True)
    encoded = [_quoted(str(text)).encode() for text in texts]
    cells, lengths = [], []
    for name in numbers:
        fixed = name.endswith(("_px", "_um", "_um2"))
        found = cells_of(columns[name], DECIMALS if fixed else DECIMALS + 2, fixed)
        cells.append(found[0])
        lengths.append(found[1])
    longest = max((len(text) for text in encoded), default=0)
    out = np.empty(len(columns["id"]) * (longest + 1 + len(numbers) * (WIDEST + 1)), np.uint8)
    ends = np.cumsum([0, *map(len, encoded)])
    joined = np.frombuffer(b"".join(encoded), np.uint8)
    place = -1 if named is None else list(columns).index(named)
    length = put_rows(np.stack(cells), np.stack(lengths), joined, ends, index.reshape(-1), place, out)
    return out[:length]


def _quoted(text: str) -> str:
    """Return a cell with a text, quoted where CSV or a spreadsheet needs it."""
    line = io.StringIO()
    csv.writer(line, lineterminator="").writerow([f"'{text}" if text.startswith(FORMULAS) else text, ""])
    return line.getvalue()[:-1]


def import_parquet() -> tuple[Any, Any]:
    """Return pyarrow and its module for Parquet.

    Raises:
        InputError: it is not installed.
    """
    try:
        import pyarrow
        import pyarrow.parquet
    except ImportError as error:
        raise InputError(
            "Parquet needs pyarrow, which is not installed: pip install 'unettile[parquet]', or write .csv"
        ) from error
    return pyarrow, pyarrow.parquet
