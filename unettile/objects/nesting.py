"""Nesting: which rings of an object are outlines of its parts, which are holes, and of which part.

A ring begins at its first corner in raster order. Straight above that corner, the nearest edge of the object tells:
no edge, or one that has the object above it, and a part begins here; one that has it below, and this is a hole of it.
"""

from __future__ import annotations

import numpy as np

from unettile.compiled import compiled
from unettile.objects.outline import Rings


def nest(rings: Rings) -> Rings:
    """Return the rings of objects of several parts, part by part, in the order of the parts' first corners.

    Args:
        rings: of each object in the order of their first corners.
    """
    parts = _parts_of(rings.x, rings.y, rings.starts, rings.owners)
    order = np.lexsort((parts, rings.owners))
    sizes = np.diff(rings.starts)[order]
    starts = np.concatenate([[0], np.cumsum(sizes)])
    points = np.repeat(rings.starts[:-1][order] - starts[:-1], sizes) + np.arange(starts[-1])
    return Rings(rings.x[points], rings.y[points], starts, rings.owners[order], parts[order])


@compiled
def above(x, y, starts, first, ring):  # type: ignore[no-untyped-def]
    """Return the ring whose edge is nearest above the first corner of `ring`, and whether that edge goes right.

    first: of the rings of the same object; -1 and False if there is no edge above.
    """
    top, left = y[starts[ring]], x[starts[ring]]
    nearest, found, rightwards = np.int64(-1), -1, False
    for other in range(first, ring):
        begin, end = starts[other], starts[other + 1]
        for k in range(begin, end):
            m = k + 1 if k + 1 < end else begin
            if y[k] != y[m] or y[k] >= top or y[k] <= nearest:
                continue
            if min(x[k], x[m]) <= left < max(x[k], x[m]):
                nearest, found, rightwards = y[k], other, x[m] > x[k]
    return found, rightwards


@compiled
def _parts_of(x, y, starts, owners):  # type: ignore[no-untyped-def]
    """Return the part of its object that each ring is of, counted from 0."""
    parts = np.zeros(owners.size, np.int64)
    hole = np.zeros(owners.size, np.bool_)
    first, count = 0, 0
    for ring in range(owners.size):
        if ring == 0 or owners[ring - 1] != owners[ring]:
            first, count = ring, 1
            continue
        other, rightwards = above(x, y, starts, first, ring)
        # Rings go clockwise: below an edge to the right is what the ring encloses, the object or a hole.
        hole[ring] = other >= 0 and rightwards != hole[other]
        if hole[ring]:
            parts[ring] = parts[other]
        else:
            parts[ring] = count
            count += 1
    return parts
