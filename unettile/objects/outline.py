"""Outlines: polygons along pixel edges, whose area is the object's number of pixels.

    x 0 1 2 3        A corner is a lattice point where the outline turns. Along each row of the lattice an object's
  y   . . .          corners pair up, first with second, third with fourth, to its horizontal edges; along each column
  0   +---+          to its vertical ones. So an outline needs its corners in any order, from any blocks.
  1   |   +-+        Where two pixels of an object meet at a corner alone, the two corners there are joined so that
  2   +-----+        the background is cut, not the object: rings then touch, but never cross or repeat a point.

An object is connected over sides: its first ring is the outer one, all others are holes.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from unettile.compiled import compiled
from unettile.objects.mapped import MappedArray
from unettile.objects.measure import Labels, OnProgress, read_ringed
from unettile.tiling import BlockGrid

BATCH_CORNERS = 2**20
"""Corners that are joined to rings at once; one object may have more."""


@dataclass(frozen=True)
class Outline:
    """The rings of one object, the outer one first.

    Args:
        number: the object's id.
        rings: (n, 2) int64 each, x and y of lattice points, not closed. (0, 0) is the upper left corner of the image's
            first pixel. Seen with y upwards, the outer ring runs counter-clockwise and holes clockwise (RFC 7946).
    """

    number: int
    rings: tuple[NDArray[np.int64], ...]


class Corners:
    """The corners of all objects, sorted by object, in a temporary file.

    Args:
        starts: (N + 1,) place of the first corner of object 1, 2, …
        places: (M, 2) int32: y, and 4 x + two bits of `_turn`.
    """

    def __init__(self, starts: NDArray[np.int64], places: MappedArray) -> None:
        self._starts, self._places = starts, places

    def outlines(self) -> Iterator[Outline]:
        """Yield the outlines of all objects in the order of their ids."""
        starts, count = self._starts, self._starts.size - 1
        begin = 0
        while begin < count:
            end = int(np.searchsorted(starts, starts[begin] + BATCH_CORNERS, side="right")) - 1
            end = min(max(end, begin + 1), count)
            part = self._places.array[starts[begin] : starts[end]].copy()
            self._places.forget()
            owner = np.repeat(np.arange(end - begin), np.diff(starts[begin : end + 1]))
            yield from _rings(owner, part[:, 0].astype(np.int64), part[:, 1].astype(np.int64), begin + 1)
            begin = end


def find_corners(objects: Labels, grid: BlockGrid, directory: Path, on_progress: OnProgress) -> Corners:
    """Find the corners of all objects, in two passes over the blocks: one counts, one fills.

    Raises:
        InputError: the labels cannot be read.
        OSError: no room for the temporary file.
    """
    counts = np.zeros(objects.count + 1, np.int64)
    total = 2 * objects.shape[0] * objects.shape[1]
    done = 0
    places = MappedArray(directory, np.dtype(np.int32), (0, 2))
    free = counts
    for fill in (False, True):
        if fill:
            starts = np.zeros(objects.count + 1, np.int64)
            np.cumsum(counts[1:], out=starts[1:])
            places = MappedArray(directory, np.dtype(np.int32), (int(starts[-1]), 2))
            free = np.concatenate([[0], starts[:-1]])
        for block in grid:
            labels = read_ringed(objects, block.box)
            last = (block.box.y1 == objects.shape[0], block.box.x1 == objects.shape[1])
            if labels.any():
                _scan(labels, block.box.y0, block.box.x0, last, fill, free, places.array)
                places.forget()
            done += block.box.area
            on_progress(done, total)
    return Corners(starts, places)


def _rings(owner: NDArray[np.int64], y: NDArray[np.int64], x4: NDArray[np.int64], number: int) -> Iterator[Outline]:
    """Yield the outlines of objects number, number + 1, …, from their corners, each with its owner, from 0."""
    order = np.lexsort((x4, y, owner))
    owner, y, x4 = owner[order], y[order], x4[order]
    x = x4 >> 2
    down = np.lexsort((x4 & 1, y, x, owner))  # along columns, upper of two corners at one point first
    partner = np.empty(owner.size, np.int64)
    partner[down[0::2]], partner[down[1::2]] = down[1::2], down[0::2]
    walk, ring_starts = _walk(partner)
    points = np.stack([x[walk], y[walk]], axis=1)
    ring_owner = owner[walk[ring_starts[:-1]]]
    rings: list[NDArray[np.int64]] = []
    for k in range(ring_owner.size):
        ring = points[ring_starts[k] : ring_starts[k + 1]]
        rings.append(ring[::-1] if rings else ring)
        if k + 1 == ring_owner.size or ring_owner[k + 1] != ring_owner[k]:
            yield Outline(number + int(ring_owner[k]), tuple(rings))
            rings = []


@compiled
def _walk(partner):  # type: ignore[no-untyped-def]
    """Follow edges, horizontal and vertical in turn: (M,) corners ring after ring, (R + 1,) where rings start.

    Corners are sorted by row: the other end of the horizontal edge at an even place is at the next place.
    """
    walk = np.empty(partner.size, np.int64)
    starts = np.empty(partner.size // 4 + 1, np.int64)
    seen = np.zeros(partner.size, np.bool_)
    count, rings = 0, 0
    for begin in range(partner.size):
        if seen[begin]:
            continue
        starts[rings] = count
        rings += 1
        here = begin
        while not seen[here]:
            across = here ^ 1
            seen[here] = seen[across] = True
            walk[count], walk[count + 1] = here, across
            count += 2
            here = partner[across]
    starts[rings] = count
    return walk, starts[: rings + 1]


@compiled
def _scan(labels, top, left, last, fill, free, places):  # type: ignore[no-untyped-def]
    """Count the corners of each object in `free`, or put them where `free` says and move it on.

    labels: a block with 1 px more on every side. Its lattice points are the first corners of its own pixels; a block
        that is the last of the image downwards or to the right has the points past its pixels, too.
    """
    rows, columns = labels.shape[0] - 2, labels.shape[1] - 2
    for i in range(rows + (1 if last[0] else 0)):
        for j in range(columns + (1 if last[1] else 0)):
            a, b, c, d = labels[i, j], labels[i, j + 1], labels[i + 1, j], labels[i + 1, j + 1]
            if a == b and b == c and c == d:
                continue
            for k in range(4):
                own = a if k == 0 else b if k == 1 else c if k == 2 else d
                if own == 0 or (k > 0 and own == a) or (k > 1 and own == b) or (k > 2 and own == c):
                    continue  # background, or asked before
                members = (a == own) + (b == own) + (c == own) + (d == own)
                if members == 2 and ((a == own and d == own) or (b == own and c == own)):
                    # Two corners, the left and the right one; bit 1 orders them along the row, bit 0 along the column.
                    falling = a == own
                    for right in range(2):
                        lower = right if not falling else 1 - right
                        if fill:
                            places[free[own], 0] = top + i
                            places[free[own], 1] = 4 * (left + j) + 2 * right + lower
                        free[own] += 1
                elif members == 1 or members == 3:
                    if fill:
                        places[free[own], 0] = top + i
                        places[free[own], 1] = 4 * (left + j)
                    free[own] += 1
