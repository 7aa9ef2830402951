"""Kept: the ids of planes, compressed in one temporary file, until those of all are known and can be written."""

from __future__ import annotations

import tempfile
from collections.abc import Callable, Sequence
from pathlib import Path
from types import TracebackType
from typing import Any

import numpy as np
from numpy.typing import NDArray

from unettile.box import Box
from unettile.images.canvas import Reader
from unettile.objects.spill import Spill
from unettile.tiling import BlockGrid


class Kept:
    """The ids of one plane after another.

    Args:
        grid: blocks of each.
        directory: of the temporary file, which has no name.

    Raises:
        OSError: no room for it.
    """

    def __init__(self, grid: BlockGrid, directory: Path) -> None:
        self._grid, self._directory = grid, directory
        self._file = tempfile.TemporaryFile(dir=directory)  # noqa: SIM115, it lives as long as this object
        self._planes: list[Spill] = []
        self._open: tuple[int, NDArray[np.uint32]] | None = None

    def begin(self) -> Spill:
        """Return what takes the blocks of the next plane."""
        self._planes.append(Spill(self._grid, self._directory, self._file))
        return self._planes[-1]

    def readers(self, values: Sequence[Callable[[], NDArray[np.uint32]]], dtype: np.dtype[Any]) -> list[Reader]:
        """Return what gives the pixels of each plane; they are to be read one plane after another.

        Args:
            values: give, of each plane, what is read in place of the ids 0, 1, ….
            dtype: that holds them.
        """
        self._open = None

        def reader(number: int) -> Reader:
            def read(box: Box) -> NDArray[Any]:
                if self._open is None or self._open[0] != number:
                    if self._open is not None:
                        self._planes[self._open[0]].forget()
                    self._open = number, values[number]()
                return self._planes[number].read(box, self._open[1]).astype(dtype)

            return read

        return [reader(number) for number in range(len(self._planes))]

    def __enter__(self) -> Kept:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._file.close()
