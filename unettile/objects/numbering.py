"""Numbering: from the pieces of all blocks to objects with final numbers.

1. Pieces of one object: without splitting, those that touch across a face; with it, those whose pixels climb into
   each other make a basin, and basins merge as `basins.py` says.
2. Objects too small are dropped; the rest are numbered 1 … N by the raster order of their first pixels.

All is done on arrays over pieces, never on pixels.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Protocol

import numpy as np
from numpy.typing import NDArray

from unettile.box import Box
from unettile.objects.basins import DOWN, LEFT, RIGHT, UP, Basins, Passes, merge_basins, unite
from unettile.objects.pieces import NO_PEAK, Face, Kinds, Pieces
from unettile.objects.rules import Splitting
from unettile.tiling import BlockGrid

MOST_OBJECTS = 2**32 - 1


@dataclass(frozen=True)
class Numbers:
    """The objects of an image and which piece belongs to which.

    Args:
        of_piece: (P + 1,) uint32, the object of each piece, 0 for none; place 0 is background.
        first: (N,) int64, raster index of the first pixel of object 1, 2, …
        classes: (N,) uint32.
        capped: (N,) bool, thicker than distances reach.
        dropped: objects that were too small.
        shares: (N,) float64 of the object's pixels that are of its class; None where all are.
        uncertain: objects that were not probable enough.
        confidence: (N,) float64 mean probability over the object's pixels; None where it is not known.
    """

    of_piece: NDArray[np.uint32]
    first: NDArray[np.int64]
    classes: NDArray[np.uint32]
    capped: NDArray[np.bool_]
    dropped: int
    shares: NDArray[np.float64] | None = None
    uncertain: int = 0
    confidence: NDArray[np.float64] | None = None

    @property
    def count(self) -> int:
        return int(self.first.size)


class Numbered(Protocol):
    """The numbered objects of an image, read by region: ids 1 … count."""

    @property
    def numbers(self) -> Numbers: ...

    @property
    def shape(self) -> tuple[int, int]: ...

    @property
    def count(self) -> int: ...

    def read(self, box: Box) -> NDArray[np.uint32]:
        """Return the ids (h, w) of a part of the image, 0 for background."""
        ...


@dataclass(frozen=True)
class _Known:
    """What is kept of a block's pieces, (n,) each, as small as it goes."""

    first: NDArray[np.int64]
    area: NDArray[np.uint32]
    classes: NDArray[np.uint32]
    capped: NDArray[np.bool_]
    peak: NDArray[np.int32]
    place: NDArray[np.int64]
    chance: NDArray[np.int64] | None

    @classmethod
    def of(cls, pieces: Pieces) -> _Known:
        basins = pieces.basins
        return cls(
            pieces.first,
            basins.area.astype(np.uint32),
            pieces.classes,
            pieces.capped,
            basins.peak.astype(np.int32),
            basins.place,
            pieces.chance,
        )


class Register:
    """Collects what is known of the pieces, block by block in raster order, and joins blocks at their faces.

    Args:
        grid: the blocks.
    """

    def __init__(self, grid: BlockGrid) -> None:
        self._grid = grid
        self._count = 0
        self._known: list[_Known] = []
        self._passes: list[tuple[NDArray[np.uint32], NDArray[np.uint32], NDArray[np.int32]]] = []
        self._joined: list[NDArray[np.int64]] = [np.empty((0, 2), np.int64)]
        self._above: list[Face | None] = [None] * grid.columns
        self._left: Face | None = None
        self._kinds: list[Kinds] = []

    def add(self, index: int, pieces: Pieces) -> int:
        """Take the pieces of block `index`; returns what to add to their numbers, which begin at 1."""
        offset = self._count
        column = index % self._grid.columns
        faces = {side: face.renumbered(offset) for side, face in pieces.faces.items()}
        above, left = self._above[column], self._left if column else None
        if above is not None:
            self._join(above, faces[UP])
        if left is not None:
            self._join(left, faces[LEFT])
        self._above[column], self._left = faces[DOWN], faces[RIGHT]
        inside = pieces.passes
        self._keep(Passes(inside.one + offset, inside.other + offset, inside.depth))
        self._known.append(_Known.of(pieces))
        if pieces.kinds is not None:
            self._kinds.append(replace(pieces.kinds, pieces=pieces.kinds.pieces + offset))
        self._count += pieces.count
        assert self._count <= MOST_OBJECTS
        return offset

    def solve(self, splitting: Splitting | None, min_size: int, least: float = 0.0, scale: int = 1) -> Numbers:
        """Return the numbers of all objects that have at least `min_size` px and are probable enough.

        Without splitting, all pieces that share a face are one object.

        Args:
            least: mean probability that an object must have, where the pieces know theirs.
            scale: of the pieces' sums of probabilities.
        """
        parent = np.arange(self._count + 1)
        joined = np.concatenate(self._joined)
        unite(parent, joined[:, 0].copy(), joined[:, 1].copy())
        first, area, classes, capped = self._gather(parent)
        if splitting is not None:
            parent = self._merged(parent, area, splitting)
            first, area, classes, capped = self._gather(parent)
        roots = np.flatnonzero(parent == np.arange(parent.size))[1:]
        kept = roots[area[roots] >= min_size]
        dropped, uncertain, confidence = int(roots.size - kept.size), 0, None
        chance = self._chances(parent)
        if chance is not None:
            sure = kept[chance[kept] >= least * scale * area[kept]]
            uncertain, kept = int(kept.size - sure.size), sure
        kept = kept[np.argsort(first[kept])]
        if chance is not None:
            confidence = chance[kept] / (scale * area[kept])
        number = np.zeros(parent.size, np.uint32)
        number[kept] = np.arange(1, kept.size + 1)
        of_piece, most, shares = number[parent], classes[kept], None
        if self._kinds:
            most, shares = self._majority(of_piece, kept.size)
        return Numbers(of_piece, first[kept], most, capped[kept], dropped, shares, uncertain, confidence)

    def _chances(self, parent: NDArray[np.int64]) -> NDArray[np.int64] | None:
        """Return the sum of the probabilities of every root; None where pieces know none."""
        chance, at, any_known = np.zeros(parent.size, np.int64), 1, False
        for known in self._known:
            if known.chance is not None:
                np.add.at(chance, parent[at : at + known.first.size], known.chance)
                any_known = True
            at += known.first.size
        return chance if any_known else None

    def _majority(self, of_piece: NDArray[np.uint32], count: int) -> tuple[NDArray[np.uint32], NDArray[np.float64]]:
        """Return the class that most pixels of each object have, of equals the first, and their share."""
        objects = of_piece[np.concatenate([kinds.pieces for kinds in self._kinds])].astype(np.int64)
        classes, pixels = (
            np.concatenate([getattr(one, name) for one in self._kinds]) for name in ("classes", "pixels")
        )
        kept = objects > 0
        found = Kinds(objects[kept], classes[kept], pixels[kept]).summed()
        area = np.zeros(count, np.int64)
        np.add.at(area, found.pieces - 1, found.pixels)
        order = np.lexsort((-found.classes, found.pixels, found.pieces))  # the last of each object is its class
        last = np.flatnonzero(np.diff(found.pieces[order], append=-1))
        most = order[last]
        return found.classes[most].astype(np.uint32), found.pixels[most] / area

    def _join(self, before: Face, after: Face) -> None:
        """Note what two faces that lie side by side have in common."""
        touching = (before.classes == after.classes) & (before.classes != 0)
        one, other = before.pieces[touching], after.pieces[touching]
        climbs = before.leaves[touching] | after.leaves[touching]
        depth = np.minimum(before.depth, after.depth)[touching].astype(np.int64)
        self._joined.append(np.unique(np.stack([one[climbs], other[climbs]], axis=1), axis=0))
        self._keep(Passes(one[~climbs], other[~climbs], depth[~climbs]).highest())

    def _keep(self, passes: Passes) -> None:
        self._passes.append(
            (passes.one.astype(np.uint32), passes.other.astype(np.uint32), passes.depth.astype(np.int32))
        )

    def _gather(
        self, parent: NDArray[np.int64]
    ) -> tuple[NDArray[np.int64], NDArray[np.int64], NDArray[np.uint32], NDArray[np.bool_]]:
        """Return first pixel, area, class and capped of every root; the other places mean nothing."""
        first = np.full(parent.size, np.iinfo(np.int64).max)
        area = np.zeros(parent.size, np.int64)
        classes = np.zeros(parent.size, np.uint32)
        capped = np.zeros(parent.size, np.bool_)
        at = 1
        for known in self._known:
            owners = parent[at : at + known.first.size]
            np.minimum.at(first, owners, known.first)
            np.add.at(area, owners, known.area)
            np.logical_or.at(capped, owners, known.capped)
            classes[owners] = known.classes
            at += known.first.size
        return first, area, classes, capped

    def _merged(self, parent: NDArray[np.int64], area: NDArray[np.int64], splitting: Splitting) -> NDArray[np.int64]:
        """Return the parents after basins have merged; `parent` says which pieces are one basin."""
        peak = np.concatenate([np.array([NO_PEAK], np.int64), *(known.peak for known in self._known)])
        place = np.concatenate([np.zeros(1, np.int64), *(known.place for known in self._known)])
        has_peak = np.flatnonzero(peak > NO_PEAK)
        peak[parent[has_peak]], place[parent[has_peak]] = peak[has_peak], place[has_peak]
        one, other, depth = (np.concatenate(columns) for columns in zip(*self._passes, strict=True))
        one, other = parent[one], parent[other]
        apart = one != other
        passes = Passes(one[apart], other[apart], depth[apart].astype(np.int64))
        merged: NDArray[np.int64] = merge_basins(Basins(peak, place, area), passes, splitting)[parent]
        return merged
