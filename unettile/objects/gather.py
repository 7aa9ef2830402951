"""Gathering: records of objects that come block by block, brought together object by object.

1. Records are kept as they come, with the id of the object that each belongs to, in a temporary file; they are counted.
2. When all have come, each object has its place in a second file, and the records are put there.

Memory holds a counter for each object and the part in work; the files hold the rest.
"""

from __future__ import annotations

import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from unettile.atomic import naming
from unettile.compiled import compiled
from unettile.objects.mapped import MappedArray

BATCH_RECORDS = 2**16
"""Records that are read at once; one object may have more."""


class Grouped:
    """Records, object by object.

    Args:
        starts: (N + 1,) int64, where those of object 1, 2, … begin, and the end.
        records: (M, k).
    """

    def __init__(self, starts: NDArray[np.int64], records: MappedArray) -> None:
        self._starts, self._records = starts, records

    def batches(self) -> Iterator[tuple[int, NDArray[np.int64], NDArray[Any]]]:
        """Yield (first, starts, records) for runs of objects first + 1 …, whose records begin at `starts`."""
        count, begin = self._starts.size - 1, 0
        while begin < count:
            end = int(np.searchsorted(self._starts, self._starts[begin] + BATCH_RECORDS, side="right")) - 1
            end = min(max(end, begin + 1), count)
            yield begin, *self.part(begin, end)
            begin = end

    def part(self, begin: int, end: int) -> tuple[NDArray[np.int64], NDArray[Any]]:
        """Return where the records of the objects begin + 1 … end begin, and the end; and these records."""
        starts = self._starts[begin : end + 1]
        records = self._records.array[starts[0] : starts[-1]].copy()
        self._records.forget()
        return starts - starts[0], records


class Gathering:
    """Takes records in any order.

    Args:
        directory: of the temporary files.
        count: of objects.
        dtype: of the records.
        width: numbers of a record.
    """

    def __init__(self, directory: Path, count: int, dtype: np.dtype[Any], width: int) -> None:
        self._directory, self._dtype, self._width = directory, dtype, width
        self._file = tempfile.TemporaryFile(dir=directory)  # noqa: SIM115, it lives until all is grouped
        self._sizes: list[int] = []
        self._counts = np.zeros(count + 1, np.int64)

    def add(self, owners: NDArray[np.uint32], records: NDArray[Any]) -> None:
        """Take (n, k) records of the objects (n,), numbered from 1.

        Raises:
            OSError: no room for the temporary file.
        """
        if owners.size == 0:
            return
        _count(owners, self._counts)
        with naming(self._directory):
            self._file.write(np.ascontiguousarray(owners).data)
            self._file.write(np.ascontiguousarray(records, self._dtype).data)
        self._sizes.append(owners.size)

    def close(self) -> None:
        """Let go of what was taken."""
        self._file.close()

    def finish(self) -> Grouped:
        """Group what was taken; of one object, records keep the order in which they came.

        Raises:
            OSError: no room for the temporary file.
        """
        starts = np.cumsum(self._counts)
        grouped = MappedArray(self._directory, self._dtype, (int(starts[-1]), self._width))
        free = starts[:-1].copy()
        with self._file as file:
            file.seek(0)
            for size in self._sizes:
                owners = np.frombuffer(file.read(4 * size), np.uint32)
                records = np.frombuffer(file.read(size * self._width * self._dtype.itemsize), self._dtype)
                _put(owners, records.reshape(size, self._width), free, grouped.array)
                grouped.forget()
        return Grouped(starts, grouped)


@compiled
def _count(owners, counts):  # type: ignore[no-untyped-def]
    for i in range(owners.size):
        counts[owners[i]] += 1


@compiled
def _put(owners, records, free, grouped):  # type: ignore[no-untyped-def]
    for i in range(owners.size):
        k = np.int64(owners[i]) - 1
        for j in range(records.shape[1]):
            grouped[free[k], j] = records[i, j]
        free[k] += 1
