"""Outlines: polygons along pixel edges, whose area is the object's number of pixels.

    x 0 1 2 3        A corner is a lattice point where the outline turns. Along each row of the lattice an object's
  y   . . .          corners pair up, first with second, third with fourth, to its horizontal edges; along each column
  0   +---+          to its vertical ones. So an outline needs its corners in any order, from any blocks.
  1   |   +-+        Where two pixels of an object meet at a corner alone, the two corners there are joined so that
  2   +-----+        the background is cut, not the object: rings then touch, but never cross or repeat a point.

An object that is connected over sides has one outer ring, its first one; all others are holes.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from unettile.compiled import compiled
from unettile.objects.gather import Gathering, Grouped
from unettile.objects.scan import Part


class CornerFinder:
    """Finds the corners of all objects, part by part; records are y, and 4 x + two bits of `_scan`.

    Args:
        directory: of temporary files.
        count: of objects.
        shape: of the image.
    """

    def __init__(self, directory: Path, count: int, shape: tuple[int, int]) -> None:
        self._gathering = Gathering(directory, count, np.dtype(np.int32), 2)
        self._shape = shape

    def see(self, part: Part) -> None:
        """Find the corners in a part of the image.

        Raises:
            OSError: no room for the temporary file.
        """
        box = part.box
        last = (box.y1 == self._shape[0], box.x1 == self._shape[1])
        runs = part.runs
        room = 4 * runs.ends.size  # two for each of two objects that meet where a run ends; twice, from two rows
        owners, places = np.empty(room, np.uint32), np.empty((room, 2), np.int32)
        count = _scan(runs.starts, runs.ends, runs.values, (box.y0, box.x0), box.width, last, owners, places)
        self._gathering.add(owners[:count], places[:count])

    def close(self) -> None:
        """Let go of what was found."""
        self._gathering.close()

    def finish(self) -> Grouped:
        """Return the corners by object.

        Raises:
            OSError: no room for the temporary file.
        """
        return self._gathering.finish()


@dataclass(frozen=True)
class Rings:
    """The rings of a run of objects, part by part; of each part the outer one is first.

    Args:
        x, y: (M,) lattice points, ring after ring, clockwise on the screen.
        starts: (R + 1,) where rings begin, and the end.
        owners: (R,) which object each is of, counted from 0.
        parts: (R,) which part of its object each is of, counted from 0; None where every object has one.
    """

    x: NDArray[np.int64]
    y: NDArray[np.int64]
    starts: NDArray[np.int64]
    owners: NDArray[np.int64]
    parts: NDArray[np.int64] | None = None


def rings_of(starts: NDArray[np.int64], places: NDArray[np.int32]) -> Rings:
    """Return the rings of connected objects from their corners; see `Grouped.part`."""
    y, x4, partner = link(starts, places, True)
    walk, ring_starts = walk_rings(partner)
    owner = np.repeat(np.arange(starts.size - 1), np.diff(starts))
    return Rings(x4[walk] >> 2, y[walk], ring_starts, owner[walk[ring_starts[:-1]]])


@compiled
def link(starts, places, joined):  # type: ignore[no-untyped-def]
    """Return y and 4 x + bits of each object's corners, row by row, and which corner is above or below each.

    starts: (n + 1,) where the corners of each object begin, and the end.
    joined: where two pixels meet at a corner alone, the object is joined; else the background is.
    """
    total = places.shape[0]
    y, x4, partner = np.empty(total, np.int64), np.empty(total, np.int64), np.empty(total, np.int64)
    waiting = np.empty(64, np.int64)  # of each column of an object, the corner above whose partner is yet to come
    for k in range(starts.size - 1):
        begin, end = starts[k], starts[k + 1]
        keys = np.empty(end - begin, np.int64)
        in_order = True
        for i in range(end - begin):
            keys[i] = np.int64(places[begin + i, 0]) << 32 | np.int64(places[begin + i, 1])
            if i > 0 and keys[i] < keys[i - 1]:
                in_order = False
        if not in_order:
            keys.sort()
        low, high = np.int64(2**62), np.int64(0)
        for i in range(end - begin):
            y[begin + i], x4[begin + i] = keys[i] >> 32, keys[i] & 0xFFFFFFFF
            low, high = min(low, x4[begin + i] >> 2), max(high, x4[begin + i] >> 2)
        if high - low >= waiting.size:
            waiting = np.empty(2 * (high - low), np.int64)
        waiting[: max(0, high - low + 1)] = -1
        i = begin
        while i < end:
            column = (x4[i] >> 2) - low
            upper = lower = i
            if i + 1 < end and y[i + 1] == y[i] and x4[i + 1] >> 2 == x4[i] >> 2:
                # Two at one point: bit 0 tells which of them ends the edge from above.
                upper, lower = (i, i + 1) if (x4[i] & 1 == 0) == joined else (i + 1, i)
            if waiting[column] < 0:
                waiting[column] = lower
            else:
                partner[upper], partner[waiting[column]] = waiting[column], upper
                waiting[column] = lower if lower != upper else -1
            i = max(upper, lower) + 1
    return y, x4, partner


@compiled
def walk_rings(partner):  # type: ignore[no-untyped-def]
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
def _scan(starts, ends, values, corner, across, last, owners, places):  # type: ignore[no-untyped-def]
    """Put the corners into `owners` and `places`, and return how many there are.

    starts, ends, values: runs of a part with 1 px more on every side, `across` px wide without. Its lattice points are
        the first corners of its own pixels; a part that is the last of the image downwards or to the right has the
        points past its pixels, too. Corners lie where a run ends, above or below.
    """
    top, left = corner
    points = across + (1 if last[1] else 0)
    count = 0
    rows = starts.size - 3
    for i in range(rows + (1 if last[0] else 0)):
        above, below = starts[i], starts[i + 1]
        while True:
            end = min(ends[above], ends[below])
            if end > points:
                break
            a, c = values[above], values[below]
            above += ends[above] == end
            below += ends[below] == end
            b, d = values[above], values[below]
            if (a == b and c == d) or (a == c and b == d):
                continue
            x4 = 4 * (left + end - 1)
            for k in range(4):
                own = a if k == 0 else b if k == 1 else c if k == 2 else d
                if own == 0 or (k > 0 and own == a) or (k > 1 and own == b) or (k > 2 and own == c):
                    continue  # background, or asked before
                members = (a == own) + (b == own) + (c == own) + (d == own)
                if members == 2 and ((a == own and d == own) or (b == own and c == own)):
                    # Two corners, the left and the right one; bit 1 orders them along the row, bit 0 along the column.
                    falling = a == own
                    for right in range(2):
                        owners[count] = own
                        places[count, 0] = top + i
                        places[count, 1] = x4 + 2 * right + (right if not falling else 1 - right)
                        count += 1
                elif members == 1 or members == 3:
                    owners[count] = own
                    places[count, 0] = top + i
                    places[count, 1] = x4
                    count += 1
    return count
