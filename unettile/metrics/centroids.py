"""Centroids of the objects of a label map, counted block by block."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from unettile.box import Box

_PENDING = 2**20  # objects of blocks that wait to be joined


class Centroids:
    """Adds up where the pixels of each id are; memory grows with the number of objects."""

    def __init__(self) -> None:
        self._parts: list[NDArray[np.int64]] = []
        self._kept = 0

    def add(self, box: Box, labels: NDArray[np.integer]) -> None:
        """Add the pixels (h, w) of a box; 0 is background."""
        y, x = np.nonzero(labels)
        if not y.size:
            return
        ids, index = np.unique(labels[y, x], return_inverse=True)
        sums = [np.bincount(index, weights).astype(np.int64) for weights in (None, y, x)]
        sums[1] += sums[0] * box.y0
        sums[2] += sums[0] * box.x0
        self._parts.append(np.stack([ids.astype(np.int64), *sums], axis=1))
        if sum(map(len, self._parts)) > 2 * self._kept + _PENDING:
            self._join()

    def table(self) -> tuple[NDArray[np.int64], NDArray[np.int64], NDArray[np.float64]]:
        """Return the ids (n,) in order, their areas (n,), and the means of their pixels' coordinates (n, 2)."""
        self._join()
        part = self._parts[0]
        return part[:, 0], part[:, 1], part[:, 2:] / np.maximum(part[:, 1:2], 1)

    def _join(self) -> None:
        rows = np.concatenate([np.zeros((0, 4), np.int64), *self._parts])
        ids, index = np.unique(rows[:, 0], return_inverse=True)
        joined = np.zeros((ids.size, 4), np.int64)
        joined[:, 0] = ids
        np.add.at(joined[:, 1:], index.reshape(-1), rows[:, 1:])
        self._parts, self._kept = [joined], ids.size
