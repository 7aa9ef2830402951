"""Basins: which of the basins that `climbing` finds are one object.

1. From the highest pass down, two basins become one if the lower of their two peaks hardly rises above the pass, or
   the pass is nearly as wide as it (`Splitting`).
2. Again from the highest pass down, an object smaller than asked for joins the one behind its highest pass.

Passes are sorted; nothing knows of blocks. This is the merging of basins by their dynamics (Najman and Schmitt, IEEE
PAMI 18, 1996) and by size (Zlateski and Seung, arXiv 1505.00249).
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
