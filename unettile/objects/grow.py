"""Growth: objects take a rim of background, and meet half-way where two of them reach for it."""

from __future__ import annotations

import math

import numpy as np
from numpy.typing import NDArray
from scipy import ndimage

from unettile.compiled import compiled


def grow_margin(growth: int) -> int:
    """Return the px around a region within which objects decide how it is grown over."""
    return _rounds(growth) + growth


def grow(labels: NDArray[np.uint32], growth: int) -> NDArray[np.uint32]:
    """Return the labels with every object grown by `growth` px (Euclidean) into the background.

    Objects grow through neighbours that share a side, one px in every round, so that they stay connected. A pixel that
    two objects reach in the same round gets the smaller id.

    >>> grow(np.array([[7, 0, 0, 0, 0, 3]], np.uint32), 2).tolist()
    [[7, 7, 7, 3, 3, 3]]
    """
    if growth == 0 or not labels.any():
        return labels
    near = ndimage.distance_transform_edt(labels == 0) <= growth
    return take_rounds(labels, near, _rounds(growth))


def take_rounds(labels: NDArray[np.uint32], free: NDArray[np.bool_], rounds: int) -> NDArray[np.uint32]:
    """Return the labels after every object took the free background beside it, so many times.

    A pixel that two objects reach in the same round gets the smaller id.
    """
    taken = labels.copy()
    for _ in range(rounds):
        if not _round(taken, free):
            break
    return taken


def _rounds(growth: int) -> int:
    return math.ceil(math.sqrt(2) * growth)


@compiled
def _round(labels, near):  # type: ignore[no-untyped-def]
    """Let every object take the free pixels beside it, in place; returns whether any was taken."""
    height, width = labels.shape
    above = np.zeros(width, labels.dtype)  # the row above as it was before this round
    changed = False
    for y in range(height):
        left = labels.dtype.type(0)
        for x in range(width):
            own = labels[y, x]
            if own == 0 and near[y, x]:
                best = above[x]
                if left != 0 and (best == 0 or left < best):
                    best = left
                if x + 1 < width and labels[y, x + 1] != 0 and (best == 0 or labels[y, x + 1] < best):
                    best = labels[y, x + 1]
                if y + 1 < height and labels[y + 1, x] != 0 and (best == 0 or labels[y + 1, x] < best):
                    best = labels[y + 1, x]
                if best != 0:
                    labels[y, x] = best
                    changed = True
            left = own
            above[x] = own
    return changed
