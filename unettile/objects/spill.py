"""Spill: labels of blocks that are kept in a temporary file, compressed, until they can be numbered.

A block is cut into strips of rows, because writers of images ask for rows. The file has no name: however the process
ends, nothing stays behind.
"""

from __future__ import annotations

import tempfile
from collections import OrderedDict
from dataclasses import astuple
from pathlib import Path
from types import TracebackType
from typing import IO, Any

import imagecodecs
import numpy as np
from numpy.typing import NDArray

from unettile.box import Box
from unettile.compiled import compiled
from unettile.tiling import BlockGrid

STRIP_ROWS = 512
KEPT_BYTES = 2**25  # decoded strips kept for the next read


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
        self._places: dict[tuple[int, int], tuple[int, int, np.dtype[Any], int]] = {}
        self._kept: OrderedDict[tuple[int, int], NDArray[Any]] = OrderedDict()
        self._kept_bytes = 0

    def write(self, index: int, labels: NDArray[np.uint32], offset: int) -> None:
        """Keep the labels (h, w) of block `index`; when they are read, `offset` is added to all but 0.

        Raises:
            OSError: the disk is full.
        """
        small = labels.astype(np.uint16) if labels.size == 0 or labels.max() < 2**16 else labels
        for strip, y in enumerate(range(0, labels.shape[0], STRIP_ROWS)):
            data = imagecodecs.zstd_encode(np.ascontiguousarray(small[y : y + STRIP_ROWS]).tobytes(), level=1)
            place = self._file.seek(0, 2)
            self._file.write(data)
            self._places[index, strip] = (place, len(data), small.dtype, offset)

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
                    labels, offset = self._strip(block.index, strip)
                    _renumber(labels, (part.y0 - top, part.x0), offset, renumbered, out, astuple(there))
        return out

    def _strip(self, index: int, strip: int) -> tuple[NDArray[Any], int]:
        """Return the labels of a strip as they were written, and what is to be added to them."""
        key = (index, strip)
        place, length, dtype, offset = self._places[key]
        if key in self._kept:
            self._kept.move_to_end(key)
            return self._kept[key], offset
        self._file.seek(place)
        flat = np.frombuffer(imagecodecs.zstd_decode(self._file.read(length)), dtype)
        labels = flat.reshape(-1, self.grid[index].box.width)
        self._kept[key] = labels
        self._kept_bytes += labels.nbytes
        while self._kept_bytes > KEPT_BYTES and len(self._kept) > 1:
            self._kept_bytes -= self._kept.popitem(last=False)[1].nbytes
        return labels, offset

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


@compiled
def _renumber(labels, origin, offset, renumbered, out, there):  # type: ignore[no-untyped-def]
    """Fill the box `there` of `out` from the labels that begin at `origin`."""
    y0, x0, y1, x1 = there
    for y in range(y0, y1):
        for x in range(x0, x1):
            label = labels[origin[0] + y - y0, origin[1] + x - x0]
            out[y, x] = renumbered[np.int64(label) + offset] if label != 0 else 0
