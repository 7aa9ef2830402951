"""Runs: labels of a region, row by row, as where each stretch of equal ones ends; a tenth of the pixels in number."""

from __future__ import annotations

from dataclasses import astuple, dataclass

import numpy as np
from numpy.typing import NDArray

from unettile.box import Box
from unettile.compiled import compiled


@dataclass(frozen=True)
class Runs:
    """The runs of the rows of a region (h, w).

    Args:
        starts: (h + 1,) int64, where those of each row begin, and the end.
        ends: (n,) int32, the column after each run; a run begins where the one before it ends, or at 0.
        values: (n,) uint32, the label of each, 0 is background.
    """

    starts: NDArray[np.int64]
    ends: NDArray[np.int32]
    values: NDArray[np.uint32]

    @classmethod
    def of(cls, labels: NDArray[np.uint32]) -> Runs:
        """Find the runs of labels (h, w)."""
        starts = np.zeros(labels.shape[0] + 1, np.int64)
        ends, values = np.empty(labels.size, np.int32), np.empty(labels.size, np.uint32)
        count = _find(np.ascontiguousarray(labels), starts, ends, values)
        return cls(starts, ends[:count].copy(), values[:count].copy())

    @property
    def nbytes(self) -> int:
        return self.starts.nbytes + self.ends.nbytes + self.values.nbytes

    def put(
        self, origin: tuple[int, int], new: NDArray[np.uint32], offset: int, out: NDArray[np.uint32], box: Box
    ) -> None:
        """Fill a box of `out` with the part of the region that begins at `origin`.

        Args:
            new: what is put in place of the label L is new[L + offset]; in place of 0, 0.
        """
        _put(self.starts, self.ends, self.values, origin, new, offset, out, astuple(box))


@compiled
def _find(labels, starts, ends, values):  # type: ignore[no-untyped-def]
    """Fill in the runs; return how many there are."""
    height, width = labels.shape
    count = 0
    for y in range(height):
        row = labels[y]
        for x in range(1, width):
            ends[count] = x
            values[count] = row[x - 1]
            count += row[x] != row[x - 1]
        if width > 0:
            ends[count], values[count] = width, row[width - 1]
            count += 1
        starts[y + 1] = count
    return count


@compiled
def _put(starts, ends, values, origin, new, offset, out, box):  # type: ignore[no-untyped-def]
    y0, x0, y1, x1 = box
    for y in range(y0, y1):
        row = out[y, x0:x1]
        k = starts[origin[0] + y - y0]
        while ends[k] <= origin[1]:
            k += 1
        x = 0
        while x < row.size:
            stop = min(np.int64(ends[k]) - origin[1], row.size)
            value = new[np.int64(values[k]) + offset] if values[k] != 0 else np.uint32(0)
            for i in range(x, stop):
                row[i] = value
            x = stop
            k += 1
