"""Pieces: what one block shows of the objects of a mask.

An object inside a block is one piece. Of an object that reaches a face of its block, each block has its connected
parts; with splitting, its basins, because which of them belong together is known only from all blocks.

    +---------+---------+
    |  1      3   3     |      1 and 2: whole objects, decided here
    |     333333333333  |      3: a piece in either block; the faces say that they touch
    | 2       |         |
    +---------+---------+
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import cc3d
import numpy as np
from numpy.typing import NDArray

from unettile.box import Box
from unettile.compiled import compiled
from unettile.metrics.overlaps import count_overlaps
from unettile.objects.basins import DOWN, HERE, LEFT, RIGHT, UP, Basins, Passes, merge_basins, unite
from unettile.objects.climbing import Climb, climb, meetings
from unettile.objects.rules import Splitting

NO_PEAK = -1
"""Peak of a piece that has none: all its pixels climb out of the block."""


@dataclass(frozen=True)
class Kinds:
    """Which piece has how many pixels of which class, (M,) each; no pair of piece and class occurs twice.

    Args:
        pieces: int64, numbers from 1.
        classes: int64.
        pixels: int64, at least 1.
    """

    pieces: NDArray[np.int64]
    classes: NDArray[np.int64]
    pixels: NDArray[np.int64]

    @classmethod
    def count(cls, labels: NDArray[np.uint32], classes: NDArray[np.uint32]) -> Kinds:
        """Count the classes of the pixels of each piece; both arrays are (h, w), 0 is background in both."""
        overlaps = count_overlaps(classes, labels)
        inside = overlaps.truth > 0
        return cls(overlaps.truth[inside], overlaps.prediction[inside], overlaps.pixels[inside])

    def summed(self) -> Kinds:
        """Return the same with the pixels of equal pairs added up, in order of piece and class."""
        order = np.lexsort((self.classes, self.pieces))
        pieces, classes, pixels = self.pieces[order], self.classes[order], self.pixels[order]
        first = np.ones(pieces.size, bool)
        first[1:] = (pieces[1:] != pieces[:-1]) | (classes[1:] != classes[:-1])
        starts = np.flatnonzero(first)
        return Kinds(pieces[starts], classes[starts], np.add.reduceat(pixels, starts) if starts.size else pixels)


@dataclass(frozen=True)
class Face:
    """The pixels along one side of a block, n of them, and what the block next to it must know of them.

    Args:
        pieces: (n,) int64, 0 is background.
        classes: (n,) uint32.
        depth: (n,) int32; zeros where nothing is split.
        leaves: (n,) bool, the pixel climbs over this side into the next block; without splitting all do.
    """

    pieces: NDArray[np.int64]
    classes: NDArray[np.uint32]
    depth: NDArray[np.int32]
    leaves: NDArray[np.bool_]

    def renumbered(self, offset: int) -> Face:
        """Return the same with `offset` added to the pieces' numbers."""
        return Face(np.where(self.pieces > 0, self.pieces + offset, 0), self.classes, self.depth, self.leaves)


@dataclass(frozen=True)
class Pieces:
    """The pieces of one block, numbered from 1.

    Args:
        labels: (h, w) uint32, 0 is background.
        first: (N,) raster index, in the image, of the first pixel of each.
        classes: (N,) uint32.
        capped: (N,) bool, a pixel is as deep as depths can be.
        basins: peak, place and area of each; without splitting the peaks mean nothing.
        passes: between pieces of the block, numbers from 1.
        faces: at UP, LEFT, RIGHT, DOWN.
        kinds: of pieces whose pixels may be of several classes: which piece has how many px of which class.
        chance: (N,) sums of the probabilities of their pixels; None where these are not known.
    """

    labels: NDArray[np.uint32]
    first: NDArray[np.int64]
    classes: NDArray[np.uint32]
    capped: NDArray[np.bool_]
    basins: Basins
    passes: Passes
    faces: dict[int, Face]
    kinds: Kinds | None = None
    chance: NDArray[np.int64] | None = None

    @property
    def count(self) -> int:
        return int(self.first.size)


def connected_pieces(classes: NDArray[np.uint32], block: Box, width: int) -> Pieces:
    """Return the connected regions of a block, one class each; neighbours share a side.

    Args:
        classes: (h, w) of the block, 0 is background.
        block: where it is.
        width: of the image, px.
    """
    labels, count = _connected(classes)
    first, areas = np.zeros(count, np.int64), np.zeros(count, np.int64)
    _add_up(labels.reshape(-1), first, areas)
    none = np.empty(0, np.int64)
    known = Basins(np.zeros(count, np.int64), np.arange(count), areas)
    depth, capped = np.zeros(classes.shape, np.int32), np.zeros(count, np.bool_)
    return _described(labels, first, capped, known, classes, depth, None, Passes(none, none, none), block, width)


def split_pieces(
    classes: NDArray[np.uint32],
    depth: NDArray[np.int32],
    cap: int,
    splitting: Splitting,
    block: Box,
    image: Box,
) -> Pieces:
    """Return the objects inside a block, and the basins of those that reach one of its faces.

    Args:
        classes, depth: (h + 2, w + 2), the block with 1 px around it; class 0 outside of the image.
        cap: depth from which a pixel counts as capped.
        block: where it is.
        image: the whole image; where a side of the block is the image's, nothing reaches a face.
    """
    climbed = climb(classes, depth)
    basin, ends = climbed.basin, climbed.ends
    inner, deep = classes[1:-1, 1:-1], depth[1:-1, 1:-1]
    met = meetings(classes, depth, climbed)
    passes = Passes(met.one - 1, met.other - 1, met.depth)
    y, x = np.divmod(ends[1:], inner.shape[1])
    is_peak = climbed.points[y, x] == HERE
    deepest = deep[y, x]  # of their basins: no way leads down
    peak = np.where(is_peak, deepest, NO_PEAK).astype(np.int64)
    place = (y + block.y0) * image.width + x + block.x0
    area = climbed.area[1:]

    at_face = np.zeros(ends.size, np.bool_)  # of basins, and then of all that are connected with them
    for touches, side in (
        (block.y0 > 0, np.s_[0, :]),
        (block.y1 < image.y1, np.s_[-1, :]),
        (block.x0 > 0, np.s_[:, 0]),
        (block.x1 < image.x1, np.s_[:, -1]),
    ):
        if touches:
            at_face[basin[side]] = True
    parent = np.arange(ends.size - 1)
    unite(parent, passes.one, passes.other)
    reaches = np.zeros(ends.size - 1, np.bool_)
    reaches[parent[at_face[1:]]] = True
    whole = ~reaches[parent]
    inside = whole[passes.one]
    final = merge_basins(
        Basins(peak, place, area), Passes(passes.one[inside], passes.other[inside], passes.depth[inside]), splitting
    )
    numbers = np.zeros(ends.size, np.uint32)
    stands = final == np.arange(final.size)
    numbers[1:][stands] = np.arange(1, np.count_nonzero(stands) + 1)
    numbers[1:] = numbers[1:][final]
    open_passes = Passes(
        numbers[1:][passes.one[~inside]].astype(np.int64),
        numbers[1:][passes.other[~inside]].astype(np.int64),
        passes.depth[~inside],
    )
    labels, first, joined, capped = _joined(climbed, numbers, int(stands.sum()), deepest >= cap)
    known = Basins(peak[stands], place[stands], joined)
    return _described(labels, first, capped, known, inner, deep, climbed.points, open_passes, block, image.width)


def _connected(classes: NDArray[np.uint32]) -> tuple[NDArray[np.uint32], int]:
    found: Any = cc3d.connected_components(classes, connectivity=4, return_N=True, out_dtype=np.uint32)
    return found[0], int(found[1])


def _described(
    labels: NDArray[np.uint32],
    first: NDArray[np.int64],
    capped: NDArray[np.bool_],
    basins: Basins,
    classes: NDArray[np.uint32],
    depth: NDArray[np.int32],
    points: NDArray[np.uint8] | None,
    passes: Passes,
    block: Box,
    width: int,
) -> Pieces:
    """Return pieces with what lies at the faces of their block; `first` are raster indices in the block."""
    y, x = np.divmod(first, block.width)
    faces = {}
    for side, line in ((UP, np.s_[0, :]), (LEFT, np.s_[:, 0]), (RIGHT, np.s_[:, -1]), (DOWN, np.s_[-1, :])):
        leaves = np.ones(labels[line].size, np.bool_) if points is None else np.asarray(points[line] == side)
        faces[side] = Face(labels[line].astype(np.int64), classes[line].copy(), depth[line].copy(), leaves)
    return Pieces(labels, (y + block.y0) * width + x + block.x0, classes[y, x], capped, basins, passes, faces)


def _joined(
    climbed: Climb, numbers: NDArray[np.uint32], count: int, capped: NDArray[np.bool_]
) -> tuple[NDArray[np.uint32], NDArray[np.int64], NDArray[np.int64], NDArray[np.bool_]]:
    """Return the labels numbers[basin], and of each the first pixel, the area, and whether any of its basins is capped.

    Args:
        numbers: (N + 1,) of the basins, 1 … count; place 0 is background.
        capped: (N,) of the basins.
    """
    labels = climbed.basin  # which is of no more use
    _renumber(climbed.pixels, numbers, labels.reshape(-1))
    owners = numbers[1:].astype(np.int64) - 1
    first, area = np.full(count, labels.size, np.int64), np.zeros(count, np.int64)
    np.minimum.at(first, owners, climbed.first[1:])
    np.add.at(area, owners, climbed.area[1:])
    found = np.zeros(count, np.bool_)
    found[owners[capped]] = True
    return labels, first, area, found


@compiled
def _renumber(pixels, numbers, labels):  # type: ignore[no-untyped-def]
    for k in range(pixels.size):
        labels[pixels[k]] = numbers[labels[pixels[k]]]


@compiled
def _add_up(labels, first, area):  # type: ignore[no-untyped-def]
    """Fill in the first pixel and the area of the labels 1 … N."""
    for i in range(labels.size - 1, -1, -1):
        if labels[i] != 0:
            first[labels[i] - 1] = i
            area[labels[i] - 1] += 1
