"""Shape of objects, from the corners of their outlines: filled and convex area, and Feret's diameters.

1. Rings are walked so that the background is joined where two pixels meet at a corner alone; what those enclose that
   lie in no other is the filled area. A connected object has one of them, its first ring.
2. Of every row of pixels the rings tell the first and the last one of the object.
3. The convex hull is that of the middles of the pixels' sides, as scikit-image's `convex_hull_image` has it; in half
   px all its points are whole numbers. Pixels whose middles it holds are the convex area.
4. Feret's diameters are the largest distance of two points of those pixels' own hull, and its smallest width.

All in whole numbers until a square root is taken; objects may be of any size.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from unettile.compiled import compiled
from unettile.objects.gather import Grouped
from unettile.objects.nesting import above
from unettile.objects.outline import link, walk_rings

NONE = np.int64(-1)
"""Place of the first or last pixel of a row that has none."""


@dataclass(frozen=True)
class Shapes:
    """Figures of consecutive objects, (n,) float64 each.

    Args:
        filled, convex: areas, px.
        feret_max, feret_min: px.
    """

    filled: NDArray[np.float64]
    convex: NDArray[np.float64]
    feret_max: NDArray[np.float64]
    feret_min: NDArray[np.float64]


def measure_shapes(corners: Grouped, begin: int, end: int, parted: bool = False) -> Shapes:
    """Return the shapes of the objects begin + 1 … end.

    Args:
        corners: as `outline` finds them.
        parted: objects may have several parts that are not connected.
    """
    starts, places = corners.part(begin, end)
    y, x4, partner = link(starts, places, False)
    x = x4 >> 2
    firsts = _outermost(starts, y, x, partner) if parted else starts[:-1]
    found = np.empty((4, end - begin), np.float64)
    _measure(starts, y, x, partner, firsts, found)
    return Shapes(*found)


@compiled
def _outermost(starts, y, x, partner):  # type: ignore[no-untyped-def]
    """Return the first corners (m,) of all rings that lie in no other ring of their object."""
    walk, ring_starts = walk_rings(partner)
    rings_x, rings_y = x[walk], y[walk]
    found, count = np.empty(ring_starts.size - 1, np.int64), 0
    outermost = np.zeros(ring_starts.size - 1, np.bool_)
    first, owner = 0, 0
    for ring in range(ring_starts.size - 1):
        corner = walk[ring_starts[ring]]
        while corner >= starts[owner + 1]:
            owner, first = owner + 1, ring
        other, rightwards = above(rings_x, rings_y, ring_starts, first, ring)
        outermost[ring] = other < 0 or (outermost[other] and not rightwards)
        if outermost[ring]:
            found[count] = corner
            count += 1
    return found[:count]


@compiled
def _measure(starts, y, x, partner, firsts, found):  # type: ignore[no-untyped-def]
    """Fill (4, n): filled area, convex area, largest and smallest Feret diameter.

    firsts: (m,) first corners of the rings that lie in no other, at least one of each object.
    """
    at = 0
    for k in range(starts.size - 1):
        first, last = starts[k], starts[k + 1]
        top, bottom = y[first], y[last - 1]
        rows = bottom - top
        low, high = np.full(rows, NONE), np.full(rows, NONE)
        filled = np.int64(0)
        while at < firsts.size and firsts[at] < last:
            here = firsts[at]
            while True:
                across = here ^ 1  # of an object the number of corners is even, as in each of its rows
                there = partner[across]
                # From `across` to `there` the ring goes down along the right side of pixels, or up along their left.
                filled += x[across] * (y[there] - y[across])
                if y[there] > y[across]:
                    for row in range(y[across] - top, y[there] - top):
                        high[row] = max(high[row], x[across] - 1) if high[row] != NONE else x[across] - 1
                else:
                    for row in range(y[there] - top, y[across] - top):
                        low[row] = min(low[row], x[across]) if low[row] != NONE else x[across]
                here = there
                if here == firsts[at]:
                    break
            at += 1
        found[0, k] = filled
        left, right = _hull(low, True), _hull(high, False)
        area = np.int64(0)
        a, b = 0, 0
        for row in range(rows):
            v = 2 * row + 1  # half px below the top of the hull, which begins half a px above the first row's middle
            while left[a + 1, 0] < v:
                a += 1
            while right[b + 1, 0] < v:
                b += 1
            # u at height v on the side, as a fraction
            span, run = left[a + 1, 0] - left[a, 0], left[a + 1, 1] - left[a, 1]
            low[row] = -((-(left[a, 1] * span + run * (v - left[a, 0]))) // (2 * span))
            span, run = right[b + 1, 0] - right[b, 0], right[b + 1, 1] - right[b, 1]
            high[row] = (right[b, 1] * span + run * (v - right[b, 0])) // (2 * span)
            area += high[row] - low[row] + 1
        found[1, k] = area
        left, right = _hull(low, True), _hull(high, False)
        ring = np.empty((left.shape[0] + right.shape[0], 2), np.float64)
        for i in range(left.shape[0]):
            ring[i, 0], ring[i, 1] = left[i, 0], left[i, 1]
        for i in range(right.shape[0]):
            j = right.shape[0] - 1 - i
            ring[left.shape[0] + i, 0], ring[left.shape[0] + i, 1] = right[j, 0], right[j, 1]
        largest, smallest = 0.0, np.inf
        count = ring.shape[0]
        for i in range(count):
            j = (i + 1) % count
            dv, du = ring[j, 0] - ring[i, 0], ring[j, 1] - ring[i, 1]
            length = np.sqrt(dv * dv + du * du)
            away = 0.0
            for m in range(count):
                pv, pu = ring[m, 0] - ring[i, 0], ring[m, 1] - ring[i, 1]
                largest = max(largest, pv * pv + pu * pu)
                away = max(away, abs(dv * pu - du * pv))
            if length > 0:
                smallest = min(smallest, away / length)
        found[2, k], found[3, k] = np.sqrt(largest) / 2, smallest / 2


@compiled
def _hull(ends, is_left):  # type: ignore[no-untyped-def]
    """Return one side of the hull of pixels, (n, 2): v, u in half px, downwards.

    ends: (rows,) the first or the last pixel of each row; NONE of a row without any, between two parts. v counts from
        half a px above the middle of the first row.
    """
    rows = ends.size
    chain = np.empty((2 * rows + 1, 2), np.int64)
    count = 0
    for v in range(2 * rows + 1):
        row = v // 2
        if v % 2 == 1:
            if ends[row] == NONE:
                continue
            u = 2 * ends[row] - 1 if is_left else 2 * ends[row] + 1
        else:  # between two rows
            one, other = ends[min(row, rows - 1)], ends[max(row - 1, 0)]
            if one == NONE:
                one = other
            if other == NONE:
                other = one
            if one == NONE:
                continue
            u = 2 * min(one, other) if is_left else 2 * max(one, other)
        while count > 1:
            v1, u1 = chain[count - 1, 0] - chain[count - 2, 0], chain[count - 1, 1] - chain[count - 2, 1]
            v2, u2 = v - chain[count - 2, 0], u - chain[count - 2, 1]
            turn = v1 * u2 - u1 * v2
            if (is_left and turn > 0) or (not is_left and turn < 0):
                break
            count -= 1
        chain[count, 0], chain[count, 1] = v, u
        count += 1
    return chain[:count]
