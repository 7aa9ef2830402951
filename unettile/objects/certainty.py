"""Certainty: how probable the model takes an object to be, inside and at its outline.

Probabilities are whole numbers in 1/`scale`, so that their sums are exact, whatever the blocks.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from unettile.box import Box
from unettile.compiled import compiled
from unettile.errors import InputError
from unettile.objects.foreground import Pixels
from unettile.objects.mapped import MappedArray
from unettile.objects.scan import Part

FINE = 65535
"""Steps that floating-point probabilities are rounded to."""


class Chance:
    """The probability of being of one of some classes, as a picture of one channel of uint32.

    Args:
        source: probabilities: a channel for each of the classes 0, 1, …, or one alone.
        classes: whose add up; None for all but 0.

    Raises:
        InputError: another type, or a class that is not there.
    """

    channels = 1
    dtype: np.dtype[Any] = np.dtype(np.uint32)

    def __init__(self, source: Pixels, classes: tuple[int, ...] | None) -> None:
        if source.dtype.kind != "f" and source.dtype not in (np.uint8, np.uint16):
            raise InputError(f"{source.path} holds {source.dtype}: probabilities are uint8, uint16 or floating point")
        planes = max(2, source.channels)
        chosen = classes or tuple(range(1, planes))
        if max(chosen) >= planes:
            raise InputError(f"{source.path} has no class {max(chosen)}: its classes are 1 … {planes - 1}")
        self._source = source
        self._planes = [0] if source.channels == 1 else list(chosen)
        self.scale = FINE if source.dtype.kind == "f" else int(np.iinfo(source.dtype).max)

    def read(self, box: Box) -> NDArray[np.uint32]:
        """Return the probabilities (h, w, 1) of a region, in 1/`scale`."""
        pixels = self._source.read(box)
        total = np.zeros((*box.shape, 1), np.uint32)
        for plane in self._planes:
            values = pixels[:, :, plane]
            if values.dtype.kind == "f":
                values = np.rint(np.clip(np.nan_to_num(values), 0.0, 1.0) * np.float32(FINE))
            total[:, :, 0] += values.astype(np.uint32)
        return np.minimum(total, np.uint32(self.scale))


class Rims:
    """Adds up probabilities over the pixels of each object that have a side in common with what is none of it.

    Args:
        directory: of the temporary file.
        count: of objects.
        number: of the picture of probabilities among those of a part.

    Raises:
        OSError: no room for the temporary file.
    """

    def __init__(self, directory: Path, count: int, number: int) -> None:
        self._sums = MappedArray(directory, np.dtype(np.int64), (count, 2))
        self._number = number

    def see(self, part: Part) -> None:
        """Add the pixels of a part."""
        if part.pictures is not None:
            _add(part.ids, part.pictures[self._number], self._sums.array)
            self._sums.forget()

    def means(self, start: int, stop: int, scale: int) -> NDArray[np.float64]:
        """Return the mean probability (n,) at the outlines of the objects start + 1 … stop."""
        sums = self._sums.array[start:stop].copy()
        self._sums.forget()
        found = np.full(len(sums), np.nan)
        np.divide(sums[:, 0], sums[:, 1] * scale, out=found, where=sums[:, 1] > 0)
        return found


@compiled
def _add(ids, chance, sums):  # type: ignore[no-untyped-def]
    for i in range(chance.shape[0]):
        for j in range(chance.shape[1]):
            own = ids[i + 1, j + 1]
            if own != 0 and (
                ids[i, j + 1] != own or ids[i + 2, j + 1] != own or ids[i + 1, j] != own or ids[i + 1, j + 2] != own
            ):
                sums[np.int64(own) - 1, 0] += chance[i, j, 0]
                sums[np.int64(own) - 1, 1] += 1
