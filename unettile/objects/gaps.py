"""Gaps: background that lies between two objects, so narrow that it is theirs.

Training on objects that touch carves background between them (`unettile.labels.carve_gaps`), and a network then leaves
it there; closing gaps gives back those pixels, and no others: an object's edge towards open background stays.

1. A background pixel lies in a gap of w px if its distances to the nearest object and to the nearest other one add up
   to less than w + 2. Across a straight gap they add up to w + 1, whatever the pixel; slanting ones are as wide.
2. Objects take such pixels through sides, one px in every round, and meet half-way.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from unettile.compiled import compiled
from unettile.objects.grow import take_rounds


def gap_margin(width: int) -> int:
    """Return the px around a region within which objects decide which gaps are closed in it."""
    return _rounds(width) + width


def close_gaps(labels: NDArray[np.uint32], width: int) -> NDArray[np.uint32]:
    """Return the labels with the gaps between two objects, up to `width` px wide, given to them.

    A pixel that two objects reach in the same round gets the smaller id. What no object reaches through pixels of gaps,
    behind a corner say, stays background, so that objects stay connected.

    >>> close_gaps(np.array([[0, 7, 0, 0, 3, 0, 0, 0, 5]], np.uint32), 2).tolist()
    [[0, 7, 7, 3, 3, 0, 0, 0, 5]]
    """
    if width == 0 or not labels.any():
        return labels
    dy, dx = np.indices((2 * width + 1, 2 * width + 1)).reshape(2, -1) - width
    squares = dy**2 + dx**2
    order = np.argsort(squares, kind="stable")
    order = order[(squares[order] > 0) & (squares[order] < (width + 1) ** 2)]
    offsets = np.stack([dy[order], dx[order], squares[order]], axis=1)
    gaps = _between(np.pad(labels, width), width, offsets)
    return take_rounds(labels, gaps, _rounds(width))


def _rounds(width: int) -> int:
    """Return how many steps through sides no pixel of a gap is further from an object than."""
    return width + 1


@compiled
def _between(labels, width, offsets):  # type: ignore[no-untyped-def]
    """Return where background lies in a gap: bool, `width` px smaller on every side than `labels`.

    offsets: (N, 3) dy, dx and squared distance, nearest first.
    """
    height, length = labels.shape[0] - 2 * width, labels.shape[1] - 2 * width
    found = np.zeros((height, length), np.bool_)
    limit = width + 2
    for y in range(height):
        for x in range(length):
            if labels[y + width, x + width] != 0:
                continue
            first, near = labels.dtype.type(0), 0.0
            for k in range(offsets.shape[0]):
                square = offsets[k, 2]
                label = labels[y + width + offsets[k, 0], x + width + offsets[k, 1]]
                if first == 0:
                    if 4 * square >= limit * limit:  # the nearer of both is less than half of it away
                        break
                    if label != 0:
                        first, near = label, np.sqrt(square)
                elif near + np.sqrt(square) >= limit:
                    break
                elif label != 0 and label != first:
                    found[y, x] = True
                    break
    return found
