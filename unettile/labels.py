"""Label maps: an id per pixel, 0 is background, every other id one cell; what is one, and cells that touch."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from unettile.errors import InputError, UsageError

BORDER = "border"
"""Name of the class of what lies between objects; it is no object."""


_LARGEST = 2**63 - 1


def check_labels(array: ArrayLike, name: str) -> NDArray[Any]:
    """Return `array` as an (H, W) array of ids, or refuse it.

    A third axis of length 1 is dropped; booleans become 0 and 1; floats that are whole numbers become int64.

    Args:
        array: what was read.
        name: what to call it in messages, usually its path.

    Raises:
        InputError: empty, not two-dimensional (a colour picture), fractions, not finite, negative, or above 2^63 - 1.
    """
    labels = np.asarray(array)
    if labels.ndim == 3 and labels.shape[-1] == 1:
        labels = labels[..., 0]
    if labels.ndim != 2:
        raise InputError(f"{name}: shape {labels.shape} is no label map; need one channel (H, W) with an id per pixel")
    if labels.size == 0:
        raise InputError(f"{name}: the label map is empty, shape {labels.shape}; need at least one pixel")
    if labels.dtype == np.bool_:
        return labels.astype(np.uint8)
    if labels.dtype.kind == "f":
        if not np.all(np.isfinite(labels)) or np.any(labels != np.trunc(labels)) or np.any(np.abs(labels) > 2**53):
            raise InputError(f"{name}: {labels.dtype} values that are no whole numbers; need an integer id per pixel")
        labels = labels.astype(np.int64)
    if labels.dtype.kind not in "iu":
        raise InputError(f"{name}: labels of type {labels.dtype}; need an integer id per pixel")
    if labels.dtype.kind == "i" and labels.min() < 0:
        raise InputError(f"{name}: negative label {labels.min()}; need 0 for background and positive ids")
    if labels.dtype == np.uint64 and labels.max() > _LARGEST:
        raise InputError(f"{name}: label {labels.max()} is above 2^63 - 1, the largest that is counted: renumber them")
    return labels


def renumber(labels: NDArray[Any]) -> tuple[int, NDArray[np.int64]]:
    """Return the number of distinct ids, and labels numbered from 1 in the ids' order, 0 kept; run by run.

    >>> renumber(np.array([[0, 70, 70], [9, 9, 0]]))
    (3, array([[0, 2, 2],
           [1, 1, 0]]))
    """
    flat = labels.ravel()
    starts = np.concatenate([[0], np.flatnonzero(flat[1:] != flat[:-1]) + 1])
    ids, index = np.unique(flat[starts], return_inverse=True)
    numbers = index.reshape(-1) + (ids[0] != 0)
    lengths = np.diff(np.concatenate([starts, [flat.size]]))
    return len(ids), np.repeat(numbers, lengths).reshape(labels.shape)


def carve_gaps(labels: NDArray[Any], gap: int) -> NDArray[Any]:
    """Return a copy of `labels` in which background separates cells that touch.

    Each cell gives up its pixels that have another cell's pixel nearer than `half + 1` px (Euclidean, so corners that
    touch count), where half is gap / 2 rounded up. Both cells give up the same depth, so that no border moves; an odd
    gap is therefore carved one pixel wider. Cells further apart, and borders with background, stay as they are.

    Args:
        labels: (H, W) integer, 0 is background.
        gap: px of background between two cells that shared a straight border; 0 changes nothing.

    Raises:
        UsageError: gap < 0.

    >>> carve_gaps(np.array([[1, 1, 1, 2, 2, 2]]), 2).tolist()
    [[1, 1, 0, 0, 2, 2]]
    """
    if gap < 0:
        raise UsageError(f"gap is {gap}: it is a width in px and must be 0 or more")
    carved = labels.copy()
    half = (gap + 1) // 2
    if half == 0:
        return carved
    height, width = labels.shape
    cells = labels != 0
    for dy in range(min(half, height - 1) + 1):
        for dx in range(-min(half, width - 1), min(half, width - 1) + 1):
            if (dy == 0 and dx <= 0) or dy * dy + dx * dx >= (half + 1) ** 2:
                continue
            # Every pixel and its neighbour at (dy, dx), over the part of the map where both exist.
            here = np.s_[: height - dy, max(0, -dx) : width - max(0, dx)]
            there = np.s_[dy:, max(0, dx) : width - max(0, -dx)]
            other = labels[here] != labels[there]
            other &= cells[here]
            other &= cells[there]
            if other.any():  # most parts of a map have no cells that touch
                carved[here][other] = 0
                carved[there][other] = 0
    return carved
