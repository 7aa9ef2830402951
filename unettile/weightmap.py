"""Weight maps: how much each pixel of a label map counts in the loss (U-Net paper, equation 2, arXiv:1505.04597).

    w(x) = w_c(x) + w0 · exp(-(d1(x) + d2(x))² / (2 · sigma²))

d1 and d2 are the Euclidean distances (px) from x to the nearest pixel of the nearest and of the second nearest *cell*,
that is label id: not to the two nearest boundary pixels, which nearly always belong to one and the same cell. The
second term is for background pixels (label 0) and is 0 where there are fewer than two cells.

The distances are exact, and found for all cells at once:

1. Down each column, remember the two distinct ids met last; up each column, the same; keep the nearer two of the four.
   A third id of a column can never be among the nearest two of any pixel: from wherever one looks, two are nearer.
2. Along each row, a pixel looks at columns at dx = 0, 1, 2, … on both sides and keeps the nearest two distinct ids,
   until dx² reaches the second of them.

Both passes stop at `reach(sigma)`: where d1 + d2 is larger, the second term is below 1e-8 · w0 and is set to 0. A pixel
therefore depends on no label further away than that, so that large maps can be computed in parts with this margin, and
the parts are identical to the whole.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Sequence
from typing import Any

import numba
import numpy as np
from numpy.typing import ArrayLike, NDArray

from unettile.errors import InputError, UsageError
from unettile.labels import check_labels

TOLERANCE = 1e-8  # share of w0 below which the second term is taken as 0
STRIP = 256  # rows computed at once, at least: bounds what is remembered per column


def weight_map(
    labels: ArrayLike, w0: float = 10.0, sigma: float = 5.0, class_weights: tuple[float, float] | None = None
) -> NDArray[np.float32]:
    """Compute the weight map of one label map.

    Args:
        labels: (H, W) integer, 0 is background, every other id one cell (in one piece or several).
        w0: height of the second term, ≥ 0.
        sigma: its reach, px, > 0.
        class_weights: w_c of background and of cells; None for 1 and 1. See `balanced_class_weights`.

    Returns:
        (H, W) float32, within 1e-6 · max(1, w0) of the definition.

    Raises:
        InputError: `labels` is no label map, see `check_labels`.
        UsageError: `w0` or `sigma` out of range.

    >>> [round(float(w), 3) for w in weight_map([[1, 0, 0, 2]], w0=10, sigma=5)[0]]
    [1.0, 9.353, 9.353, 1.0]
    """
    background, cell = (1.0, 1.0) if class_weights is None else class_weights
    check_border(w0, sigma)
    cells = _compact(check_labels(labels, "labels"))
    return _fill(cells, float(w0), float(sigma), float(background), float(cell))


def border_term(labels: ArrayLike, w0: float = 10.0, sigma: float = 5.0) -> NDArray[np.float32]:
    """Compute the second term alone: `weight_map` with w_c = 0, so 0 on cells and far from any two of them."""
    return weight_map(labels, w0, sigma, class_weights=(0.0, 0.0))


def reach(sigma: float) -> int:
    """Return the distance in px beyond which no label matters: ceil(sigma · √(2 ln 1e8)), about 6.1 sigma."""
    return math.ceil(_cutoff(sigma))


def check_border(w0: float, sigma: float) -> None:
    """Refuse a w0 below 0 and a sigma that is not above 0, with UsageError."""
    if not (math.isfinite(w0) and w0 >= 0):
        raise UsageError(f"w0 is {w0:g}: it is the height of the border term and must be 0 or more")
    if not (math.isfinite(sigma) and sigma > 0):
        raise UsageError(f"sigma is {sigma:g}: it is a distance in px and must be above 0")


def balanced_weights(counts: Sequence[int]) -> tuple[float, ...]:
    """Return the weight of each class that gives all classes the same share in the loss: n / (K · n_k).

    n is the sum of `counts` and K the number of classes that occur. A class that does not occur has weight 0: no pixel
    uses it, and the mean weight over the pixels counted stays 1, whatever the classes.

    Args:
        counts: pixels of each class, over the whole label set.

    Raises:
        InputError: no pixels at all.

    >>> balanced_weights([300, 100, 0])
    (0.6666666666666666, 2.0, 0.0)
    """
    pixels = sum(counts)
    if pixels == 0:
        raise InputError("balanced class weights need labelled pixels, got none")
    present = sum(count > 0 for count in counts)
    return tuple(pixels / (present * count) if count else 0.0 for count in counts)


def balanced_class_weights(label_maps: Iterable[ArrayLike]) -> tuple[float, float]:
    """Return the balanced weights of background and of cells over a whole set of label maps.

    Args:
        label_maps: (H, W) integer each, 0 is background; read once, one at a time.

    >>> balanced_class_weights([np.array([[0, 0, 0, 7]])])
    (0.6666666666666666, 2.0)
    """
    pixels = cells = 0
    for labels in label_maps:
        array = check_labels(labels, "labels")
        pixels += array.size
        cells += int(np.count_nonzero(array))
    background, cell = balanced_weights((pixels - cells, cells))
    return background, cell


def _cutoff(sigma: float) -> float:
    return sigma * math.sqrt(-2 * math.log(TOLERANCE))


def _compact(labels: NDArray[Any]) -> NDArray[np.int32]:
    """Return the same cells with ids that fit 32 bits, row by row in memory."""
    small = labels
    if labels.max() > np.iinfo(np.int32).max:
        ids, index = np.unique(labels, return_inverse=True)
        small = index.reshape(labels.shape) + (ids[0] != 0)  # without background, the first id is a cell too
    # Writable or not is part of a type for numba: one type alone keeps it from compiling again.
    return np.require(small, np.int32, ["C_CONTIGUOUS", "WRITEABLE"])


def _fill(labels: NDArray[np.int32], w0: float, sigma: float, background: float, cell: float) -> NDArray[np.float32]:
    """Compute the map strip by strip, so that what is remembered per pixel never exceeds one strip."""
    height, width = labels.shape
    out = np.empty((height, width), np.float32)
    cutoff = min(_cutoff(sigma), 2.0 * math.hypot(height, width))  # nothing in the map is further away
    rows = max(STRIP, 4 * math.ceil(cutoff))  # a strip also looks at this cutoff above and below: keep that share small
    for start in range(0, height, rows):
        stop = min(start + rows, height)
        _fill_strip(labels, start, stop, cutoff, w0, sigma, background, cell, out)
    return out


def _compiled(function: Callable[..., None]) -> Callable[..., None]:
    """Compile with numba, on one thread: safe in forked and spawned workers, which bring their own parallelism."""
    try:
        compiled: Callable[..., None] = numba.njit(function, cache=True, nogil=True)
    except RuntimeError:  # neither the package nor the home directory can be written: compile anew in each process
        compiled = numba.njit(function, nogil=True)
    return compiled


@_compiled
def _fill_strip(  # type: ignore[no-untyped-def]
    labels, start, stop, cutoff, w0, sigma, background, cell, out
):
    """Fill rows start … stop - 1 of `out`; the numbered passes are those of the module's docstring."""
    height, width = labels.shape
    limit = math.ceil(cutoff)
    none = limit + 1  # a distance that never wins
    id1 = np.zeros((stop - start, width), np.int32)
    id2 = np.zeros((stop - start, width), np.int32)
    far1 = np.full((stop - start, width), none, np.int32)
    far2 = np.full((stop - start, width), none, np.int32)

    # 1. Columns, downwards then upwards; whole rows at a time, since rows are contiguous in memory.
    last1, last2 = np.zeros(width, np.int32), np.zeros(width, np.int32)
    row1, row2 = np.zeros(width, np.int32), np.zeros(width, np.int32)
    for y in range(max(0, start - limit), stop):
        for x in range(width):
            label = labels[y, x]
            if label != 0:
                if label != last1[x]:
                    last2[x], row2[x] = last1[x], row1[x]
                    last1[x] = label
                row1[x] = y
            if y >= start:
                if last1[x] != 0 and y - row1[x] <= limit:
                    id1[y - start, x], far1[y - start, x] = last1[x], y - row1[x]
                if last2[x] != 0 and y - row2[x] <= limit:
                    id2[y - start, x], far2[y - start, x] = last2[x], y - row2[x]
    last1[:] = 0
    last2[:] = 0
    for y in range(min(height, stop + limit) - 1, start - 1, -1):
        for x in range(width):
            label = labels[y, x]
            if label != 0:
                if label != last1[x]:
                    last2[x], row2[x] = last1[x], row1[x]
                    last1[x] = label
                row1[x] = y
            if y < stop:
                i = y - start
                for k in range(2):
                    found = last1[x] if k == 0 else last2[x]
                    distance = (row1[x] if k == 0 else row2[x]) - y
                    if found == 0 or distance > limit:
                        continue
                    if found == id1[i, x]:
                        far1[i, x] = min(far1[i, x], distance)
                    elif distance < far1[i, x]:
                        id2[i, x], far2[i, x] = id1[i, x], far1[i, x]
                        id1[i, x], far1[i, x] = found, distance
                    elif distance < far2[i, x]:
                        id2[i, x], far2[i, x] = found, distance

    # 2. Rows.
    outside = np.int64(cutoff * cutoff) + 1  # the first squared distance that is too far
    for i in range(stop - start):
        for x in range(width):
            if labels[start + i, x] != 0:
                out[start + i, x] = cell
                continue
            nearest, best, second = np.int32(0), outside, outside
            for dx in range(limit + 1):
                square = np.int64(dx) * dx
                if square >= second:
                    break
                for side in range(1 if dx == 0 else 2):
                    column = x - dx if side == 0 else x + dx
                    if column < 0 or column >= width:
                        continue
                    distance = np.int64(far1[i, column]) * far1[i, column] + square
                    if distance >= second:
                        continue  # nor can the column's second, which is further away
                    found = id1[i, column]
                    if found == nearest:
                        best = min(best, distance)
                    elif distance < best:
                        nearest, best, second = found, distance, best
                    else:
                        second = distance
                    distance = np.int64(far2[i, column]) * far2[i, column] + square
                    if distance >= second:
                        continue
                    found = id2[i, column]
                    if found == nearest:
                        best = min(best, distance)
                    elif distance < best:
                        nearest, best, second = found, distance, best
                    else:
                        second = distance
            weight = background
            if second < outside:
                total = math.sqrt(best) + math.sqrt(second)
                if total <= cutoff:
                    weight += w0 * math.exp(-0.5 * (total / sigma) ** 2)
            out[start + i, x] = weight
