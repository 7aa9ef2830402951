"""Depth: how far inside an object a pixel lies; its maxima are the middles of objects, its passes the necks between.

Depths are integers, so that a pixel gets the same one in whichever block it is computed.
"""

from __future__ import annotations

import math
from typing import Any

import numpy as np
from numpy.typing import NDArray

from unettile.box import Box
from unettile.compiled import compiled

STEPS = 16
"""Depth steps in a px of distance, or in one grey value of a depth map."""

GAIN = 16
"""What one pass of smoothing multiplies depths by."""

CHUNK = 64
"""Pixels of a row that look for their nearest edge together."""


def distance_depth(classes: NDArray[np.uint32], reach: int, within: Box | None = None) -> NDArray[np.int32]:
    """Return the distance to the nearest pixel of another class: Euclidean, in STEPS a px, rounded down, up to `reach`.

    What lies past the array's edge is not known, and so is no other class.

    Args:
        classes: (h, w), 0 is background.
        reach: px, below 2^15; a pixel further than that from every edge of the array that is not the image's has its
            exact depth.
        within: the part of the array whose depth is asked for; None for all of it.

    Returns:
        int32 of that part; 0 on background.
    """
    within = within or Box(0, 0, *classes.shape)
    depth = np.empty(within.shape, np.int32)
    roots = (np.sqrt(np.arange(reach**2 + 1, dtype=np.float64)) * STEPS).astype(np.int32)
    steps_down = np.empty(classes.shape, np.uint16)
    if depth.size:
        _distances(np.ascontiguousarray(classes), np.uint16(reach), roots, steps_down, (within.y0, within.x0), depth)
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
    """Return the depth, in its place, after `passes` binomial filters of 3 × 3 px, each of which multiplies it by GAIN.

    A pass reaches 1 px; past the array's edge its last row or column is repeated.
    """
    for _ in range(passes):
        _binomial(depth)
    return depth


def steps(amount: float, passes: int) -> int:
    """Return how many steps of a smoothed depth an amount in px, or in grey values, is."""
    return math.ceil(amount * float(STEPS * GAIN**passes))


@compiled
def _distances(classes, reach, roots, down, origin, out):  # type: ignore[no-untyped-def]
    """Fill `out`, the part of the array that begins at `origin`, with the roots of the least squared distances.

    1. Going down, each pixel gets its distance to another class above it; going up, that to one below if it is less.
    2. Along a row, the least of squared steps + squared distance there. What is another class beside a run, and then
       all behind it, is as far as its steps at least; of background the distance is 0, so that steps alone decide.

    Loops over rows have no branches, so that they are done in vectors; CHUNK pixels take as many steps as they need.
    """
    height, width = classes.shape
    (top, left), (high, wide) = origin, out.shape
    one, zero, room = np.uint16(1), np.int32(0), np.int64(reach)
    down[0] = reach
    for y in range(1, height):
        own, above, before, here = classes[y], classes[y - 1], down[y - 1], down[y]
        for x in range(width):
            far = min(reach, np.uint16(before[x] + one))
            here[x] = one if own[x] != above[x] else far
    line = np.full(width + 2 * room, 2**30, np.int32)
    squares, least = line[room : room + width], np.empty(width, np.int32)
    for y in range(height - 1, top - 1, -1):
        own, here = classes[y], down[y]
        if y < height - 1:
            below, after = classes[y + 1], down[y + 1]
            for x in range(width):
                far = np.uint16(after[x] + one)
                far = one if own[x] != below[x] else far
                here[x] = min(here[x], far)
        if y >= top + high:
            continue
        for x in range(width):
            far = np.int32(here[x])
            squares[x] = least[x] = np.int32(far * far) if own[x] != 0 else zero
        touching = zero
        for x in range(1, width):
            touching += np.int32((own[x] != own[x - 1]) & (own[x] != 0) & (own[x - 1] != 0))
        if touching > 0:
            _reach_ends(own, room, least)
        for start in range(left, left + wide, CHUNK):
            stop = min(start + CHUNK, left + wide)
            near, deepest = least[start:stop], zero
            for i in range(near.size):
                deepest = max(deepest, near[i])
            k = 1
            while k * k < deepest:
                lefts, rights = line[room + start - k : room + stop - k], line[room + start + k : room + stop + k]
                square, deepest = np.int32(k * k), zero
                for i in range(near.size):
                    found = min(near[i], np.int32(square + min(lefts[i], rights[i])))
                    near[i] = found
                    deepest = max(deepest, found)
                k += 1
            depths = out[y - top, start - left : stop - left]
            for i in range(near.size):
                depths[i] = roots[near[i]]


@compiled
def _reach_ends(own, reach, least):  # type: ignore[no-untyped-def]
    """Lower `least` of a row to the squared distances to the ends of each run of a class, where others touch it."""
    width = own.size
    x = 0
    while x < width:
        begin = x
        while x < width and own[x] == own[begin]:
            x += 1
        for i in range(begin, x):
            before = i + 1 - begin if begin > 0 else reach
            after = x - i if x < width else reach
            steps = min(before, after, reach)
            least[i] = min(least[i], np.int32(steps * steps))


@compiled
def _binomial(depth):  # type: ignore[no-untyped-def]
    height, width = depth.shape
    line = np.empty(width + 2, np.int32)
    lefts, middle, rights = line[:width], line[1 : width + 1], line[2:]
    above = depth[0].copy()
    for y in range(height):
        here, below = depth[y], depth[min(y + 1, height - 1)]
        for x in range(width):
            middle[x] = np.int32(above[x] + np.int32(here[x] + here[x]) + below[x])
            above[x] = here[x]
        line[0], line[width + 1] = line[1], line[width]
        for x in range(width):
            here[x] = np.int32(lefts[x] + np.int32(middle[x] + middle[x]) + rights[x])
