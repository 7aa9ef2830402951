"""Polygons: the outlines of all objects as files hold them, along pixel edges or simplified, of one part or several."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from unettile.images.record import Record
from unettile.objects.gather import Grouped
from unettile.objects.nesting import nest
from unettile.objects.outline import Rings, rings_of
from unettile.objects.plane import SINGLE, Plane
from unettile.objects.simplify import simplify

Ring = NDArray[np.int64]


@dataclass(frozen=True)
class Outline:
    """The rings of one object.

    Args:
        number: of the object, from 1.
        parts: of each part the rings, (n, 2) int64 each, x and y of lattice points, not closed; the outer one first.
            (0, 0) is the upper left corner of the image's first pixel. Seen with y upwards, the outer ring runs
            counter-clockwise and holes clockwise (RFC 7946).
    """

    number: int
    parts: tuple[tuple[Ring, ...], ...]

    @property
    def rings(self) -> tuple[Ring, ...]:
        """All rings, part by part."""
        return tuple(ring for part in self.parts for ring in part)


class Polygons:
    """The polygons of all objects.

    Args:
        corners: of all objects.
        parted: objects may have several parts that are not connected.
        anchors: points that stay; with `tolerance`.
        tolerance: how far simplifying may move an outline, px; 0 leaves them along pixel edges.
    """

    def __init__(
        self, corners: Grouped, *, parted: bool = False, anchors: Grouped | None = None, tolerance: float = 0.0
    ) -> None:
        self._corners, self.parted, self._anchors, self._tolerance = corners, parted, anchors, tolerance

    @property
    def exact(self) -> Polygons:
        """The same along pixel edges."""
        return Polygons(self._corners, parted=self.parted)

    def batches(self) -> Iterator[tuple[int, int, Rings]]:
        """Yield (begin, end, rings) for runs of objects begin + 1 … end."""
        for begin, starts, places in self._corners.batches():
            end = begin + starts.size - 1
            rings = rings_of(starts, places)
            if self.parted:
                rings = nest(rings)
            if self._anchors is not None:
                rings = simplify(rings, *self._anchors.part(begin, end), self._tolerance)
            yield begin, end, rings

    def __iter__(self) -> Iterator[Outline]:
        """Yield the outlines of all objects in order."""
        for begin, _, found in self.batches():
            points = np.stack([found.x, found.y], axis=1)
            parts: list[list[Ring]] = []
            last = found.owners.size - 1
            for k in range(found.owners.size):
                ring = points[found.starts[k] : found.starts[k + 1]]
                if parts and (found.parts is None or found.parts[k] == found.parts[k - 1]):
                    parts[-1].append(ring[::-1])
                else:
                    parts.append([ring])
                if k == last or found.owners[k + 1] != found.owners[k]:
                    yield Outline(begin + 1 + int(found.owners[k]), tuple(tuple(part) for part in parts))
                    parts = []


@dataclass(frozen=True)
class Outlined:
    """The outlines of the objects of a plane, and what else files say of them.

    Args:
        polygons: of all of them.
        classes: (N,) uint32 of each.
        record: of the mask: names and colours of classes, and how far it was reduced.
        plane: of a stack.
    """

    polygons: Polygons
    classes: NDArray[np.uint32]
    record: Record
    plane: Plane = SINGLE
