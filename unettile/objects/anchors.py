"""Anchors: points of outlines that stay where they are when outlines are simplified, so that none crosses another.

An outline that is simplified moves by no more than a tolerance t. So two of its places, or those of two outlines, can
only meet if they were at most 2 t apart. An edge of a pixel on an outline is *free* if all edges of outlines within 2 t
of it are the same line, followed from there without leaving that distance; the ends of all others are anchors.

    +--+--+--+--+--+--+     2 t = 2: o are anchors. Far from others the line is free; where two lines are near each
    |  A  o  B        |     other, or three regions meet (a node), it stays.
    +     o           +
    |     o  +--+     |

Whether an edge is free is a matter of the pixels around it, whatever the blocks.
"""

from __future__ import annotations

import math
from pathlib import Path

import numpy as np

from unettile.compiled import compiled
from unettile.objects.gather import Gathering, Grouped
from unettile.objects.scan import Part

LARGEST = 16.0
"""Largest tolerance, px; its double is the margin that is looked at."""


def margin_of(tolerance: float) -> int:
    """Return how many px around a part must be seen to find its anchors."""
    return math.ceil(2 * tolerance) + 3


class AnchorFinder:
    """Finds the anchors of all objects, part by part; records are y, and 2 x, with 1 more for a node.

    Args:
        directory: of temporary files.
        count: of objects.
        shape: of the image.
        tolerance: px, above 0.
    """

    def __init__(self, directory: Path, count: int, shape: tuple[int, int], tolerance: float) -> None:
        self._gathering = Gathering(directory, count, np.dtype(np.int32), 2)
        self._shape, self._tolerance = shape, tolerance

    def see(self, part: Part) -> None:
        """Find the anchors in a part of the image.

        Raises:
            OSError: no room for the temporary file.
        """
        box, margin = part.box, margin_of(self._tolerance)
        surplus = part.margin - margin
        around = part.around[surplus : part.around.shape[0] - surplus, surplus : part.around.shape[1] - surplus]
        last = (box.y1 == self._shape[0], box.x1 == self._shape[1])
        squared = math.floor(4 * self._tolerance**2)
        owners, places = _scan(np.ascontiguousarray(around), margin, box.y0, box.x0, last, squared)
        self._gathering.add(owners, places)

    def close(self) -> None:
        """Let go of what was found."""
        self._gathering.close()

    def finish(self) -> Grouped:
        """Return the anchors by object.

        Raises:
            OSError: no room for the temporary file.
        """
        return self._gathering.finish()


@compiled
def _degree(labels, i, j):  # type: ignore[no-untyped-def]
    """Return how many edges of outlines meet at the lattice point above and left of pixel (i, j)."""
    a, b, c, d = labels[i - 1, j - 1], labels[i - 1, j], labels[i, j - 1], labels[i, j]
    return int(a != b) + int(c != d) + int(a != c) + int(b != d)


@compiled
def _is_edge(labels, i, j, down):  # type: ignore[no-untyped-def]
    """Tell whether the edge from the lattice point (i, j), downwards or to the right, is of an outline."""
    return labels[i, j - 1] != labels[i, j] if down else labels[i - 1, j] != labels[i, j]


@compiled
def _squared_distance(i, j, down, k, m, other):  # type: ignore[no-untyped-def]
    """Return the squared distance of two edges, each given by its first lattice point and its direction."""
    i1, j1 = i + int(down), j + int(not down)
    k1, m1 = k + int(other), m + int(not other)
    dy, dx = max(0, k - i1, i - k1), max(0, m - j1, j - m1)
    return dy * dy + dx * dx


@compiled
def _is_free(labels, i, j, down, reach, squared):  # type: ignore[no-untyped-def]
    """Tell whether all edges within a distance of an edge are the line that goes through it."""
    followed = 1
    for forwards in (True, False):
        y, x, way = i, j, down  # the edge that was followed last
        y_end = i + int(down) if forwards else i
        x_end = j + int(not down) if forwards else j
        while True:
            if _degree(labels, y_end, x_end) != 2:
                return False
            # The other edge at this end: up, down, left or right of it.
            for k in range(4):
                ny, nx = y_end - int(k == 0), x_end - int(k == 2)
                nway = k < 2
                if (ny != y or nx != x or nway != way) and _is_edge(labels, ny, nx, nway):
                    break
            if ny == i and nx == j and nway == down:
                break  # around the whole ring
            if _squared_distance(i, j, down, ny, nx, nway) > squared:
                break
            followed += 1
            y, x, way = ny, nx, nway
            y_end, x_end = (ny + int(nway), nx + int(not nway)) if (ny, nx) == (y_end, x_end) else (ny, nx)
        if ny == i and nx == j and nway == down:
            break  # both ways are one
    near = 0
    for y in range(i - reach - 1, i + reach + 2):
        for x in range(j - reach - 1, j + reach + 2):
            for way in (True, False):
                if _is_edge(labels, y, x, way) and _squared_distance(i, j, down, y, x, way) <= squared:
                    near += 1
    return near == followed


@compiled
def _scan(labels, margin, top, left, last, squared):  # type: ignore[no-untyped-def]
    """Return owners (n,) and places (n, 2) of the anchors of a part that is seen with a margin around it."""
    reach = margin - 3
    rows = labels.shape[0] - 2 * margin + int(last[0])
    columns = labels.shape[1] - 2 * margin + int(last[1])
    held = np.zeros((rows + 1, columns + 1, 2), np.bool_)  # edges that are not free, of points one before the part on
    for i in range(-1, rows):
        for j in range(-1, columns):
            for way in range(2):
                y, x, down = margin + i, margin + j, way == 1
                if _is_edge(labels, y, x, down):
                    held[i + 1, j + 1, way] = not _is_free(labels, y, x, down, reach, squared)
    room = 4096
    owners, places = np.empty(room, np.uint32), np.empty((room, 2), np.int32)
    count = 0
    for i in range(rows):
        for j in range(columns):
            y, x = margin + i, margin + j
            node = _degree(labels, y, x) > 2
            here, above = held[i + 1, j + 1], held[i, j + 1]
            if not (node or here[0] or here[1] or above[1] or held[i + 1, j, 0]):
                continue
            if count + 4 > room:
                room *= 2
                more, further = np.empty(room, np.uint32), np.empty((room, 2), np.int32)
                more[:count], further[:count] = owners[:count], places[:count]
                owners, places = more, further
            a, b, c, d = labels[y - 1, x - 1], labels[y - 1, x], labels[y, x - 1], labels[y, x]
            for k in range(4):
                own = a if k == 0 else b if k == 1 else c if k == 2 else d
                if own == 0 or (k > 0 and own == a) or (k > 1 and own == b) or (k > 2 and own == c):
                    continue
                owners[count] = own
                places[count, 0], places[count, 1] = top + i, 2 * (left + j) + int(node)
                count += 1
    return owners[:count], places[:count]
