"""Spill: labels of blocks that are kept in a temporary file, as compressed runs, until they can be numbered.

A block is cut into strips of rows, because writers of images ask for rows. The file has no name: however the process
ends, nothing stays behind.
"""

from __future__ import annotations

import tempfile
from collections import OrderedDict
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType
from typing import IO, Any

import imagecodecs
import numpy as np
from numpy.typing import NDArray

from unettile.box import Box
from unettile.objects.runs import Runs
from unettile.tiling import BlockGrid

STRIP_ROWS = 512
KEPT_BYTES = 2**25  # runs of strips kept for the next read


@dataclass(frozen=True)
class _Place:
    """Where the runs of a strip are in the file.

    Args:
        start, length: in bytes.
        rows: of the strip, of each of which the number of runs comes first.
        ends, values: how the runs are stored.
        offset: is added to all labels but 0.
    """

    start: int
    length: int
    rows: int
    ends: np.dtype[Any]
    values: np.dtype[Any]
    offset: int


class Spill:
    """Labels of the blocks of a grid.

    Args:
        grid: the blocks.
        directory: where the temporary file is.
        shared: a temporary file that others write to, too, and that whoever opened it closes; None for one of its own.
    """

    def __init__(self, grid: BlockGrid, directory: Path, shared: IO[bytes] | None = None) -> None:
        self.grid = grid
        self._shared = shared is not None
        self._file = shared or tempfile.TemporaryFile(dir=directory)  # noqa: SIM115, it lives as long as this object
        self._places: dict[tuple[int, int], _Place] = {}
        self._kept: OrderedDict[tuple[int, int], Runs] = OrderedDict()
        self._kept_bytes = 0

    def write(self, index: int, labels: NDArray[np.uint32], offset: int) -> None:
        """Keep the labels (h, w) of block `index`; when they are read, `offset` is added to all but 0.

        Raises:
            OSError: the disk is full.
        """
        for strip, y in enumerate(range(0, labels.shape[0], STRIP_ROWS)):
            runs = Runs.of(labels[y : y + STRIP_ROWS])
            ends, values = _narrow(runs.ends), _narrow(runs.values)
            counts = np.diff(runs.starts).astype(np.int32)
            data = imagecodecs.zstd_encode(counts.tobytes() + ends.tobytes() + values.tobytes(), level=1)
            start = self._file.seek(0, 2)
            self._file.write(data)
            self._places[index, strip] = _Place(start, len(data), counts.size, ends.dtype, values.dtype, offset)

    def read(self, box: Box, renumbered: NDArray[np.uint32]) -> NDArray[np.uint32]:
        """Return the labels of a part of the image (h, w), each replaced by what `renumbered` has in its place."""
        out = np.empty(box.shape, np.uint32)
        edge = self.grid.edge
        for row in range(box.y0 // edge, -(-box.y1 // edge)):
            for column in range(box.x0 // edge, -(-box.x1 // edge)):
                block = self.grid[row * self.grid.columns + column]
                wanted = box.intersect(block.box).relative_to(block.box)
                for strip in range(wanted.y0 // STRIP_ROWS, -(-wanted.y1 // STRIP_ROWS)):
                    top = strip * STRIP_ROWS
                    part = wanted.intersect(Box(top, wanted.x0, top + STRIP_ROWS, wanted.x1))
                    there = part.shift(block.box.y0, block.box.x0).relative_to(box)
                    offset = self._places[block.index, strip].offset
                    self._strip(block.index, strip).put((part.y0 - top, part.x0), renumbered, offset, out, there)
        return out

    def _strip(self, index: int, strip: int) -> Runs:
        """Return the labels of a strip as they were written."""
        key = (index, strip)
        if key in self._kept:
            self._kept.move_to_end(key)
            return self._kept[key]
        place = self._places[key]
        self._file.seek(place.start)
        data = imagecodecs.zstd_decode(self._file.read(place.length))
        counts = np.frombuffer(data, np.int32, place.rows)
        starts = np.concatenate([[0], np.cumsum(counts, dtype=np.int64)])
        ends = np.frombuffer(data, place.ends, starts[-1], counts.nbytes)
        values = np.frombuffer(data, place.values, starts[-1], counts.nbytes + ends.nbytes)
        runs = Runs(starts, ends.astype(np.int32), values.astype(np.uint32))
        self._kept[key] = runs
        self._kept_bytes += runs.nbytes
        while self._kept_bytes > KEPT_BYTES and len(self._kept) > 1:
            self._kept_bytes -= self._kept.popitem(last=False)[1].nbytes
        return runs

    def forget(self) -> None:
        """Let go of what is decoded; it can be read again."""
        self._kept.clear()
        self._kept_bytes = 0

    def close(self) -> None:
        self.forget()
        if not self._shared:
            self._file.close()

    def __enter__(self) -> Spill:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()


def _narrow(numbers: NDArray[Any]) -> NDArray[Any]:
    """Return numbers that are not negative in 16 bits if they fit."""
    return numbers.astype(np.uint16) if numbers.size == 0 or numbers.max() < 2**16 else numbers
