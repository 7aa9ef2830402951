"""Depth: how far inside an object a pixel lies; its maxima are the middles of objects, its passes the necks between.

Depths are integers, so that a pixel gets the same one in whichever block it is computed.
"""

from __future__ import annotations

import math
from typing import Any

import numpy as np
from numpy.typing import NDArray

from unettile.compiled import compiled

STEPS = 16
"""Depth steps in a px of distance, or in one grey value of a depth map."""

GAIN = 16
"""What one pass of smoothing multiplies depths by."""


def distance_depth(classes: NDArray[np.uint32], reach: int) -> NDArray[np.int32]:
    """Return the distance to the nearest pixel of another class: Euclidean, in STEPS a px, rounded down, up to `reach`.

    What lies past the array's edge is not known, and so is no other class.

    Args:
        classes: (h, w), 0 is background.
        reach: px; a pixel further than that from every edge of the array that is not the image's has its exact depth.

    Returns:
        (h, w) int32; 0 on background.
    """
    depth = np.zeros(classes.shape, np.int32)
    roots = (np.sqrt(np.arange(reach**2 + 1, dtype=np.float64)) * STEPS).astype(np.int32)
    _distances(np.ascontiguousarray(classes), np.int32(reach), roots, depth)
    return depth


def map_depth(values: NDArray[Any]) -> NDArray[np.int32]:
    """Return a depth map of the user's as depths: STEPS a grey value; floating point counts as 255 grey values to 1.

    Args:
        values: (h, w) uint8, uint16, or floating point from 0 to 1.
    """
    if values.dtype.kind == "f":
        grey: NDArray[np.int32] = np.rint(np.clip(np.nan_to_num(values), 0.0, 1.0) * (255 * STEPS)).astype(np.int32)
        return grey
    steps_of: NDArray[np.int32] = values.astype(np.int32) * np.int32(STEPS)
    return steps_of


def smooth(depth: NDArray[np.int32], passes: int) -> NDArray[np.int32]:
    """Return the depth after `passes` binomial filters of 3 × 3 px, each of which multiplies it by GAIN.

    A pass reaches 1 px; past the array's edge its last row or column is repeated.
    """
    for _ in range(passes):
        depth = _binomial(depth)
    return depth


def steps(amount: float, passes: int) -> int:
    """Return how many steps of a smoothed depth an amount in px, or in grey values, is."""
    return math.ceil(amount * float(STEPS * GAIN**passes))


@compiled
def _distances(classes, reach, roots, out):  # type: ignore[no-untyped-def]
    """Fill `out`: with distances along columns, then with the roots of the least squared distance over each row."""
    height, width = classes.shape
    one = np.int32(1)
    for x in range(width):
        out[0, x] = reach
    for y in range(1, height):
        for x in range(width):
            out[y, x] = one if classes[y, x] != classes[y - 1, x] else min(reach, out[y - 1, x] + one)
    for y in range(height - 2, -1, -1):
        for x in range(width):
            far = one if classes[y, x] != classes[y + 1, x] else min(reach, out[y + 1, x] + one)
            out[y, x] = min(out[y, x], far)
    line = np.empty(width, np.int32)
    for y in range(height):
        x = 0
        while x < width:
            own = classes[y, x]
            begin = x
            if own == 0:
                while x < width and classes[y, x] == 0:
                    out[y, x] = 0
                    x += 1
                continue
            while x < width and classes[y, x] == own:
                line[x] = out[y, x] * out[y, x]
                x += 1
            # Past the ends of the run lie other classes, or what is not known.
            for i in range(begin, x):
                best = line[i]
                before, after = i - begin, x - 1 - i
                if begin > 0:
                    best = min(best, (before + 1) * (before + 1))
                if x < width:
                    best = min(best, (after + 1) * (after + 1))
                k = 1
                both = min(before, after)
                while k <= both and k * k < best:
                    best = min(best, k * k + min(line[i - k], line[i + k]))
                    k += 1
                while k <= before and k * k < best:
                    best = min(best, k * k + line[i - k])
                    k += 1
                while k <= after and k * k < best:
                    best = min(best, k * k + line[i + k])
                    k += 1
                out[y, i] = roots[best]


@compiled
def _binomial(depth):  # type: ignore[no-untyped-def]
    height, width = depth.shape
    out = np.empty((height, width), np.int32)
    line = np.empty(width + 2, np.int32)
    for y in range(height):
        above, below = max(y - 1, 0), min(y + 1, height - 1)
        for x in range(width):
            line[x + 1] = depth[above, x] + 2 * depth[y, x] + depth[below, x]
        line[0], line[width + 1] = line[1], line[width]
        for x in range(width):
            out[y, x] = line[x] + 2 * line[x + 1] + line[x + 2]
    return out
