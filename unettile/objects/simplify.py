"""Simplifying: outlines with fewer points, none of which moves by more than a tolerance, and that still fit together.

1. Anchors that lie on the straight parts of a ring become points of it. Between two nodes, where three regions meet,
   a ring is an *arc*, which two objects share, or an object and the background.
2. In each arc, from the end that comes first in raster order, points between two anchors are left out as Douglas and
   Peucker do it (Cartographica 10, 1973): both objects get the same points.
3. Where what is left of an arc would meet itself, the points there stay. Others it cannot meet; see `anchors`.
4. Anchors amid straight lines go again; nodes stay, so that the points of neighbours are the same.
"""

from __future__ import annotations

import math

import numpy as np
from numpy.typing import NDArray

from unettile.compiled import compiled
from unettile.objects.outline import Rings

FREE, ANCHOR, NODE = 0, 1, 2
"""What a point of a ring is."""


def simplify(rings: Rings, starts: NDArray[np.int64], anchors: NDArray[np.int32], tolerance: float) -> Rings:
    """Return rings with fewer points.

    Args:
        rings: of a run of objects.
        starts: (n + 1,) where the anchors of each object begin, and the end.
        anchors: (M, 2): y, and 2 x, with 1 more for a node.
        tolerance: px.
    """
    across = math.ceil(2 * tolerance) + 2
    bounds = (tolerance**2, 2 * (2 * across) ** 2)
    x, y, ring_starts = _simplify(rings.x, rings.y, rings.starts, rings.owners, starts, anchors, bounds)
    return Rings(x, y, ring_starts, rings.owners, rings.parts)


@compiled
def _simplify(x, y, ring_starts, owners, starts, anchors, bounds):  # type: ignore[no-untyped-def]
    """Return x, y and starts of the simplified rings."""
    room = x.size + 2 * anchors.shape[0] + 16
    out_x, out_y = np.empty(room, np.int64), np.empty(room, np.int64)
    out_starts = np.zeros(ring_starts.size, np.int64)
    by_row, by_column = np.empty(0, np.int64), np.empty(0, np.int64)
    count, owner = 0, np.int64(-1)
    for ring in range(ring_starts.size - 1):
        if owners[ring] != owner:
            owner = owners[ring]
            begin, end = starts[owner], starts[owner + 1]
            by_row, by_column = np.empty(end - begin, np.int64), np.empty(end - begin, np.int64)
            for k in range(end - begin):
                row, column = np.int64(anchors[begin + k, 0]), np.int64(anchors[begin + k, 1])
                by_row[k], by_column[k] = row << 32 | column, (column >> 1) << 32 | row << 1 | (column & 1)
            by_row.sort()
            by_column.sort()
        first, last = ring_starts[ring], ring_starts[ring + 1]
        points, kinds = _with_anchors(x[first:last], y[first:last], by_row, by_column)
        kept = _kept_of(points, kinds, bounds)
        for k in range(kept.size):
            if kept[k]:
                out_x[count], out_y[count] = points[k, 1], points[k, 0]
                count += 1
        out_starts[ring + 1] = count
    return out_x[:count], out_y[:count], out_starts


@compiled
def _with_anchors(x, y, by_row, by_column):  # type: ignore[no-untyped-def]
    """Return the points (n, 2) of a ring, y and x, with the anchors that lie on it, and what each is."""
    room = 2 * (x.size + by_row.size) + 4
    points, kinds = np.empty((room, 2), np.int64), np.zeros(room, np.int64)
    count = 0
    for k in range(x.size):
        m = (k + 1) % x.size
        level = y[k] == y[m]
        line, here, there = (y[k], x[k], x[m]) if level else (x[k], y[k], y[m])
        low, high = min(here, there), max(here, there)
        keys = by_row if level else by_column
        a = np.searchsorted(keys, line << 32 | low << 1)
        b = np.searchsorted(keys, line << 32 | high << 1 | 1, side="right")
        points[count, 0], points[count, 1] = y[k], x[k]
        corner, count = count, count + 1
        for n in range(b - a):
            key = keys[a + n] if there > here else keys[b - 1 - n]
            place, kind = (key & 0xFFFFFFFF) >> 1, ANCHOR + (key & 1)
            if place == here:
                kinds[corner] = kind
            elif place != there:
                points[count, 0] = line if level else place
                points[count, 1] = place if level else line
                kinds[count] = kind
                count += 1
    return points[:count], kinds[:count]


@compiled
def _kept_of(points, kinds, bounds):  # type: ignore[no-untyped-def]
    """Tell which points (n,) of a ring stay."""
    size = kinds.size
    kept = np.zeros(size, np.bool_)
    first = 0
    while first < size and kinds[first] != NODE:
        first += 1
    if first == size:
        if size <= 4:
            kept[:] = True
            return kept
        arc = np.empty((size + 1, 2), np.int64)
        arc[:size], arc[size] = points, points[0]
        fixed = np.zeros(size + 1, np.bool_)
        fixed[:size] = kinds > FREE
        stays = _reduced(arc, fixed, True, bounds)
        kept[:] = stays[:size]
        kept[0] = kept[0] or stays[size]
        return kept
    begin = first
    while True:
        steps = 1
        while kinds[(begin + steps) % size] != NODE:
            steps += 1
        arc, fixed = np.empty((steps + 1, 2), np.int64), np.zeros(steps + 1, np.bool_)
        for k in range(steps + 1):
            arc[k] = points[(begin + k) % size]
            fixed[k] = kinds[(begin + k) % size] > FREE
        turned = _before(arc[steps], arc[0])
        if arc[0, 0] == arc[steps, 0] and arc[0, 1] == arc[steps, 1]:
            turned = _before(arc[steps - 1], arc[1])
        if turned:
            arc, fixed = arc[::-1].copy(), fixed[::-1].copy()
        stays = _reduced(arc, fixed, False, bounds)
        for k in range(steps + 1):
            if stays[steps - k if turned else k]:
                kept[(begin + k) % size] = True
        begin = (begin + steps) % size
        if begin == first:
            return kept


@compiled
def _before(one, other):  # type: ignore[no-untyped-def]
    return one[0] < other[0] or (one[0] == other[0] and one[1] < other[1])


@compiled
def _reduced(arc, fixed, closed, bounds):  # type: ignore[no-untyped-def]
    """Tell which points (n,) of an arc stay; of a closed one the last point is the first again.

    fixed: (n,) bool, the anchors.
    """
    squared, span = bounds
    size = fixed.size
    kept = fixed.copy()
    kept[0] = kept[size - 1] = True
    if closed and not fixed.any():  # a ring by itself: its first point, and the one that is farthest from it
        far = np.int64(0)
        place = 0
        for k in range(1, size - 1):
            away = (arc[k, 0] - arc[0, 0]) ** 2 + (arc[k, 1] - arc[0, 1]) ** 2
            if away > far:
                far, place = away, k
        kept[place] = True
    walked = np.zeros(size, np.int64)
    for k in range(1, size):
        walked[k] = walked[k - 1] + abs(arc[k, 0] - arc[k - 1, 0]) + abs(arc[k, 1] - arc[k - 1, 1])
    _leave_out(arc, kept, squared)
    while _restore_crossings(arc, kept, walked, closed, span):
        pass
    places = np.flatnonzero(kept)
    if closed and (places.size < 4 or _area(arc, places) * _area(arc, np.arange(size)) <= 0):
        kept[:] = True
        places = np.flatnonzero(kept)
    before = places[0]  # points amid straight lines
    for k in range(1, places.size - 1):
        here, after = places[k], places[k + 1]
        if _turn(arc[before], arc[here], arc[after]) == 0:
            kept[here] = False
        else:
            before = here
    return kept


@compiled
def _turn(a, b, c):  # type: ignore[no-untyped-def]
    """Return twice the area of a triangle, with a sign for the way that it turns."""
    return (b[1] - a[1]) * (c[0] - a[0]) - (b[0] - a[0]) * (c[1] - a[1])


@compiled
def _area(arc, places):  # type: ignore[no-untyped-def]
    total = np.int64(0)
    for k in range(places.size - 1):
        a, b = arc[places[k]], arc[places[k + 1]]
        total += (a[1] - arc[0, 1]) * (b[0] - arc[0, 0]) - (b[1] - arc[0, 1]) * (a[0] - arc[0, 0])
    return np.sign(total)


@compiled
def _leave_out(arc, kept, squared):  # type: ignore[no-untyped-def]
    """Keep, between any two points that are kept, what is needed for all to be near the lines."""
    stack = np.empty((kept.size + 2, 2), np.int64)
    depth = 0
    last = -1
    for k in range(kept.size):
        if kept[k]:
            if last >= 0 and k - last > 1:
                stack[depth] = last, k
                depth += 1
            last = k
    while depth:
        depth -= 1
        a, b = stack[depth]
        dy, dx = arc[b, 0] - arc[a, 0], arc[b, 1] - arc[a, 1]
        length = dy * dy + dx * dx
        worst, place = -1.0, a
        for k in range(a + 1, b):
            py, px = arc[k, 0] - arc[a, 0], arc[k, 1] - arc[a, 1]
            along = py * dy + px * dx
            if along <= 0 or length == 0:
                away = float(py * py + px * px)
            elif along >= length:
                away = float((arc[k, 0] - arc[b, 0]) ** 2 + (arc[k, 1] - arc[b, 1]) ** 2)
            else:
                away = float(dy * px - dx * py) ** 2 / length
            if away > worst:
                worst, place = away, k
        if worst > squared:
            kept[place] = True
            if place - a > 1:
                stack[depth] = a, place
                depth += 1
            if b - place > 1:
                stack[depth] = place, b
                depth += 1


@compiled
def _restore_crossings(arc, kept, walked, closed, span):  # type: ignore[no-untyped-def]
    """Keep all points of lines that meet others of the same arc; tell whether there were any.

    span: px along the arc within which lines can meet that were moved.
    """
    places = np.flatnonzero(kept)
    lines, total = places.size - 1, walked[-1]
    found = False
    for i in range(lines):
        a, b = places[i], places[i + 1]
        if b - a == 1:
            continue  # it was not moved; those that were look at it
        for forwards in (True, False):
            for step in range(1, lines):
                j = i + step if forwards else i - step
                if not closed and not 0 <= j < lines:
                    break
                j %= lines
                c, d = places[j], places[j + 1]
                gap = (walked[c] - walked[b]) if forwards else (walked[a] - walked[d])
                if (gap if gap >= 0 else gap + total) > span:
                    break
                if _meet(arc[a], arc[b], arc[c], arc[d]) if forwards else _meet(arc[c], arc[d], arc[a], arc[b]):
                    kept[a : b + 1] = True
                    kept[c : d + 1] = True
                    found = True
    return found


@compiled
def _meet(a, b, c, d):  # type: ignore[no-untyped-def]
    """Tell whether two lines have a point in common; of lines that are joined, whether one goes back on the other."""
    joined = b[0] == c[0] and b[1] == c[1]
    if joined or (d[0] == a[0] and d[1] == a[1]):
        back = (b[0] - a[0]) * (d[0] - c[0]) + (b[1] - a[1]) * (d[1] - c[1]) < 0
        return back and _turn(a, b, d if joined else c) == 0
    if max(a[0], b[0]) < min(c[0], d[0]) or max(c[0], d[0]) < min(a[0], b[0]):
        return False
    if max(a[1], b[1]) < min(c[1], d[1]) or max(c[1], d[1]) < min(a[1], b[1]):
        return False
    one, other = np.sign(_turn(a, b, c)), np.sign(_turn(a, b, d))
    third, fourth = np.sign(_turn(c, d, a)), np.sign(_turn(c, d, b))
    return one * other <= 0 and third * fourth <= 0
