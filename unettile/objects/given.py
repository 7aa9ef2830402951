"""Objects that have their ids already: an image of instances, to be measured as it is."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
from numpy.typing import NDArray

from unettile.box import Box
from unettile.labels import check_labels
from unettile.objects.foreground import Pixels
from unettile.objects.numbering import Numbers
from unettile.tiling import BlockGrid

MERGED_AT = 2**20
"""Ids gathered from blocks before they are merged: an object that lies in many blocks is met in each."""


class GivenObjects:
    """The objects of an image of ids, read by region as numbers 1 … count, in the order of their ids.

    An object is all pixels of one id, be they connected or not.

    Args:
        pixels: one channel of whole numbers, 0 for background.
        grid: of blocks, in which the image is read once to find its ids.
        on_progress: takes pixels done and pixels in all.

    Attributes:
        ids: (N,) the ids that there are, in order.
        first: (N,) int64, raster index of the first pixel of each.

    Raises:
        InputError: not one channel of whole numbers, negative ids, or a file that is damaged.
    """

    def __init__(self, pixels: Pixels, grid: BlockGrid, on_progress: Callable[[int, int], None]) -> None:
        self._pixels = pixels
        self.shape = pixels.shape
        self.ids: NDArray[Any] = np.empty(0, np.int64)
        self.first: NDArray[np.int64] = np.empty(0, np.int64)
        waiting: list[tuple[NDArray[Any], NDArray[np.int64]]] = []
        done, count = 0, 0
        for block in grid:
            waiting.append(self._look_at(block.box))
            count += waiting[-1][0].size
            if count > MERGED_AT:
                self._merge(waiting)
                waiting, count = [], 0
            done += block.box.area
            on_progress(done, pixels.shape[0] * pixels.shape[1])
        self._merge(waiting)

    @property
    def count(self) -> int:
        return int(self.ids.size)

    @property
    def numbers(self) -> Numbers:
        """What is known of objects that were not found here: where they begin."""
        zeros = np.zeros(self.count, np.uint32)
        return Numbers(np.empty(0, np.uint32), self.first, zeros, zeros.astype(np.bool_), 0)

    def read(self, box: Box) -> NDArray[np.uint32]:
        """Return the numbers (h, w) of a part of the image, 0 for background; number k is the id `ids[k - 1]`."""
        labels = self._labels(box)
        starts = _run_starts(labels)
        found = labels.ravel()[starts]
        numbers = np.where(found == 0, 0, np.searchsorted(self.ids, found) + 1).astype(np.uint32)
        return np.repeat(numbers, np.diff(np.append(starts, labels.size))).reshape(labels.shape)

    def _labels(self, box: Box) -> NDArray[Any]:
        return check_labels(self._pixels.read(box), str(self._pixels.path))

    def _look_at(self, box: Box) -> tuple[NDArray[Any], NDArray[np.int64]]:
        """Return the ids of a block and the raster indices, in the image, of their first pixels there."""
        labels = self._labels(box)
        starts = _run_starts(labels)
        ids, places = np.unique(labels.ravel()[starts], return_index=True)
        y, x = np.divmod(starts[places], labels.shape[1])
        return ids[ids != 0], ((y + box.y0) * self.shape[1] + x + box.x0)[ids != 0].astype(np.int64)

    def _merge(self, waiting: list[tuple[NDArray[Any], NDArray[np.int64]]]) -> None:
        ids = np.concatenate([self.ids, *(ids for ids, _ in waiting)])
        first = np.concatenate([self.first, *(first for _, first in waiting)])
        order = np.lexsort((first, ids))
        ids, first = ids[order], first[order]
        new = np.ones(ids.size, np.bool_)
        new[1:] = ids[1:] != ids[:-1]
        self.ids, self.first = ids[new], first[new]


def _run_starts(labels: NDArray[Any]) -> NDArray[np.intp]:
    """Return where, in raster order, a pixel differs from the one before it; objects are wide, so these are few."""
    flat = labels.ravel()
    return np.concatenate([[0], np.flatnonzero(flat[1:] != flat[:-1]) + 1])
