"""How two label maps overlap: which ids share how many pixels, counted block by block.

Every score of objects and of partitions derives from this one table. It grows with the number of objects, not with the
number of pixels, so images of any size are scored; it does not depend on the blocks.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from unettile.errors import InputError

_PENDING = 2**20  # pairs that wait to be joined


@dataclass(frozen=True)
class Overlaps:
    """The pairs of ids that share pixels, 0 (background) included.

    Args:
        truth, prediction: (n,) int64, the ids of each pair; no pair occurs twice.
        pixels: (n,) int64, the pixels that they share, at least 1.
    """

    truth: NDArray[np.int64]
    prediction: NDArray[np.int64]
    pixels: NDArray[np.int64]

    @classmethod
    def summed(cls, truth: NDArray[np.int64], prediction: NDArray[np.int64], pixels: NDArray[np.int64]) -> Overlaps:
        """Return the distinct pairs of (n,) ids, in order, and the sums of their pixels."""
        if truth.size == 0:
            return cls(truth, prediction, pixels)
        order = np.lexsort((prediction, truth))
        t, p = truth[order], prediction[order]
        starts = np.flatnonzero(np.concatenate([[True], (t[1:] != t[:-1]) | (p[1:] != p[:-1])]))
        return cls(t[starts], p[starts], np.add.reduceat(pixels[order], starts))

    def areas(self, of: NDArray[np.int64]) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
        """Return the distinct ids of `of` (`truth` or `prediction`), in order, and their areas in px."""
        ids, index = np.unique(of, return_inverse=True)
        areas = np.zeros(ids.size, np.int64)
        np.add.at(areas, index, self.pixels)
        return ids, areas


class OverlapCounter:
    """Counts overlaps, a block at a time."""

    def __init__(self) -> None:
        self._parts: list[Overlaps] = []
        self._kept = 0

    def add(self, prediction: NDArray[np.integer], truth: NDArray[np.integer]) -> None:
        """Count a block: two integer arrays of one shape, ids from 0.

        Raises:
            InputError: the shapes differ, or a value is no id.
        """
        if prediction.shape != truth.shape:
            raise InputError(
                f"prediction and truth differ in shape: {prediction.shape} and {truth.shape}; compare equal ones"
            )
        if prediction.size == 0:
            return
        t, p = _ids(truth, "truth"), _ids(prediction, "prediction")
        changes = (t[1:] != t[:-1]) | (p[1:] != p[:-1])
        starts = np.flatnonzero(np.concatenate([[True], changes]))  # runs: far fewer than pixels
        self._parts.append(Overlaps.summed(t[starts], p[starts], np.diff(starts, append=t.size)))
        if sum(part.pixels.size for part in self._parts) > 2 * self._kept + _PENDING:
            self._join()  # pairs that blocks cut are joined now and then, so that none pile up

    def overlaps(self) -> Overlaps:
        """Return what was counted so far."""
        self._join()
        return self._parts[0]

    def _join(self) -> None:
        columns = [
            np.concatenate([np.zeros(0, np.int64), *parts])
            for parts in (
                [part.truth for part in self._parts],
                [part.prediction for part in self._parts],
                [part.pixels for part in self._parts],
            )
        ]
        self._parts = [Overlaps.summed(*columns)]
        self._kept = self._parts[0].pixels.size


def count_overlaps(prediction: NDArray[np.integer], truth: NDArray[np.integer]) -> Overlaps:
    """Return the overlaps of two whole label maps.

    >>> counted = count_overlaps(np.array([[5, 5, 0]]), np.array([[1, 1, 1]]))
    >>> counted.truth.tolist(), counted.prediction.tolist(), counted.pixels.tolist()
    ([1, 1], [0, 5], [1, 2])
    """
    counter = OverlapCounter()
    counter.add(prediction, truth)
    return counter.overlaps()


def _ids(labels: NDArray[np.integer], name: str) -> NDArray[np.int64]:
    if labels.dtype.kind not in "iub":
        raise InputError(f"the {name} holds {labels.dtype} values; object ids must be integers")
    if labels.min() < 0:
        raise InputError(f"the {name} holds the id {labels.min()}; ids start at 0, which is background")
    return labels.ravel().astype(np.int64)
