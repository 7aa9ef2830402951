"""Basins: which maximum of the depth each pixel climbs to, where basins meet, and which of them are one object.

1. Every pixel points to its highest neighbour of the same class; among equals the first in raster order is the higher.
   Pixels that end at the same maximum are a basin.
2. Where two basins touch, the lower depth of two neighbours is a pass; the highest pass between them counts.
3. From the highest pass down, two basins become one if the lower of their two peaks hardly rises above the pass, or
   the pass is nearly as wide as it (`Splitting`).
4. Again from the highest pass down, an object smaller than asked for joins the one behind its highest pass.

Each step compares pixels with their neighbours, or sorts passes; none knows of blocks. Steps 3 and 4 are the merging of
basins by their dynamics (Najman and Schmitt, IEEE PAMI 18, 1996) and by size (Zlateski and Seung, arXiv 1505.00249).
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from unettile.compiled import compiled
from unettile.objects.depth import steps
from unettile.objects.rules import Splitting

HERE, UP, LEFT, RIGHT, DOWN = 0, 1, 2, 3, 4
"""Where a pixel points; neighbours in raster order."""


@dataclass(frozen=True)
class Basins:
    """What is known of basins; all arrays are (N,).

    Args:
        peak: greatest depth, steps.
        place: raster index of the pixel that has it; no two basins share one.
        area: px.
    """

    peak: NDArray[np.int64]
    place: NDArray[np.int64]
    area: NDArray[np.int64]


@dataclass(frozen=True)
class Passes:
    """Where basins meet: (M,) numbers of the one and the other, and the depth of the pass in steps."""

    one: NDArray[np.int64]
    other: NDArray[np.int64]
    depth: NDArray[np.int64]

    def highest(self) -> Passes:
        """Return one pass for each pair of basins, the highest."""
        low, high = np.minimum(self.one, self.other), np.maximum(self.one, self.other)
        order = np.lexsort((-self.depth, high, low))
        low, high, depth = low[order], high[order], self.depth[order]
        first = np.ones(low.size, bool)
        first[1:] = (low[1:] != low[:-1]) | (high[1:] != high[:-1])
        return Passes(low[first], high[first], depth[first])


def merge_basins(basins: Basins, passes: Passes, splitting: Splitting) -> NDArray[np.int64]:
    """Return for each basin the number of the basin that stands for its object, (N,)."""
    parent = np.arange(basins.peak.size)
    rise = max(1, steps(splitting.rise, splitting.passes))  # what rises by nothing is no peak of its own
    rank = np.empty(basins.peak.size, np.int64)
    rank[np.lexsort((basins.place, -basins.peak))] = np.arange(basins.peak.size)
    low = np.minimum(rank[passes.one], rank[passes.other])
    high = np.maximum(rank[passes.one], rank[passes.other])
    order = np.lexsort((high, low, -passes.depth))
    _merge(
        parent,
        basins.peak.copy(),
        basins.area.copy(),
        passes.one[order],
        passes.other[order],
        passes.depth[order],
        (splitting.neck, rise, splitting.smallest),
    )
    return parent


@compiled
def find(parent, i):  # type: ignore[no-untyped-def]
    """Return the root of i's tree, halving the path to it."""
    while parent[i] != i:
        parent[i] = parent[parent[i]]
        i = parent[i]
    return i


@compiled
def unite(parent, ones, others):  # type: ignore[no-untyped-def]
    """Join trees pair by pair, then point every member to its root, which is its smallest."""
    for k in range(ones.size):
        a, b = find(parent, ones[k]), find(parent, others[k])
        if a < b:
            parent[b] = a
        else:
            parent[a] = b
    for i in range(parent.size):
        parent[i] = find(parent, i)


@compiled
def _merge(parent, peak, area, one, other, depth, rules):  # type: ignore[no-untyped-def]
    neck, rise, smallest = rules
    for sized in (False, True):
        for k in range(one.size):
            a, b = find(parent, one[k]), find(parent, other[k])
            if a == b:
                continue
            if sized:
                joined = area[a] < smallest or area[b] < smallest
            else:
                lower = min(peak[a], peak[b])
                joined = lower - depth[k] < rise or depth[k] > neck * lower
            if joined:
                a, b = min(a, b), max(a, b)
                parent[b] = a
                peak[a] = max(peak[a], peak[b])
                area[a] += area[b]
    for i in range(parent.size):
        parent[i] = find(parent, i)


@compiled
def climb(classes, depth):  # type: ignore[no-untyped-def]
    """Return where each pixel points, and the basin of each, for a block read with 1 px more on every side.

    classes, depth: (h + 2, w + 2); what lies past the image has class 0.
    Returns (h, w) uint8, HERE … DOWN; (h, w) int32, the basins 1 … N in raster order of the pixels that are their
        ends, 0 for background; (N + 1,) int64 the ends, raster indices in the block; and (N + 1,) int64 their areas. An
        end is a maximum, or a pixel that points out of the block.
    """
    height, width = classes.shape[0] - 2, classes.shape[1] - 2
    points = np.zeros((height, width), np.uint8)
    basin = np.zeros((height, width), np.int32)
    flat = basin.reshape(-1)  # of an end the number of its basin, of others -1 - the next pixel on their way
    ends = np.zeros(4096, np.int64)
    count = 0
    for y in range(height):
        for x in range(width):
            own = classes[y + 1, x + 1]
            if own == 0:
                continue
            i = y * width + x
            top, way = depth[y + 1, x + 1], HERE
            if classes[y, x + 1] == own and depth[y, x + 1] >= top:
                top, way = depth[y, x + 1], UP
            if classes[y + 1, x] == own and (depth[y + 1, x] > top or (way == HERE and depth[y + 1, x] == top)):
                top, way = depth[y + 1, x], LEFT
            if classes[y + 1, x + 2] == own and depth[y + 1, x + 2] > top:
                top, way = depth[y + 1, x + 2], RIGHT
            if classes[y + 2, x + 1] == own and depth[y + 2, x + 1] > top:
                top, way = depth[y + 2, x + 1], DOWN
            points[y, x] = way
            if way == UP and y > 0:
                flat[i] = width - i - 1
            elif way == LEFT and x > 0:
                flat[i] = -i
            elif way == RIGHT and x < width - 1:
                flat[i] = -i - 2
            elif way == DOWN and y < height - 1:
                flat[i] = -i - width - 1
            else:
                count += 1
                flat[i] = count
                if count == ends.size:
                    longer = np.zeros(2 * count, np.int64)
                    longer[:count] = ends
                    ends = longer
                ends[count] = i
    area = np.zeros(count + 1, np.int64)
    for i in range(flat.size):
        number = flat[i]
        if number == 0:
            continue
        if number < 0:
            while number < 0:
                number = flat[-1 - number]
            j = i
            while flat[j] < 0:
                onward = -1 - flat[j]
                flat[j] = number
                j = onward
        area[number] += 1
    return points, basin, ends[: count + 1].copy(), area


def meetings(classes: NDArray[np.uint32], depth: NDArray[np.int32], basin: NDArray[np.int32], count: int) -> Passes:
    """Return the passes inside a block, one for each pair of basins, the highest.

    Args:
        classes, depth, basin: of one shape (h, w).
        count: of basins, which are numbered from 1.
    """
    keys, depths = _meet(classes, depth, basin, count)
    order = np.argsort(keys)
    keys = keys[order]
    return Passes(keys >> 32, keys & 0xFFFFFFFF, depths[order])


@compiled
def _meet(classes, depth, basin, count):  # type: ignore[no-untyped-def]
    """Return the pairs of basins (n,) that touch, as smaller · 2^32 + larger, and the highest passes."""
    height, width = basin.shape
    size = 64
    while size < 6 * count:  # a map of regions in a plane has at most three borders a region
        size *= 2
    keys, depths = np.zeros(size, np.int64), np.zeros(size, np.int64)
    for y in range(height):
        for x in range(width):
            own = classes[y, x]
            if own == 0:
                continue
            here = basin[y, x]
            for step in range(2):
                m, n = (y, x + 1) if step == 0 else (y + 1, x)
                if m == height or n == width or basin[m, n] == here or classes[m, n] != own:
                    continue
                there = basin[m, n]
                key = np.int64(min(here, there)) << 32 | np.int64(max(here, there))
                place = (key * 0x9E3779B1 >> 15) & (size - 1)
                while keys[place] != key and keys[place] != 0:
                    place = (place + 1) & (size - 1)
                keys[place] = key
                depths[place] = max(depths[place], np.int64(min(depth[y, x], depth[m, n])))
    found = np.flatnonzero(keys)
    return keys[found], depths[found]
