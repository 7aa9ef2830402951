"""What was found: how many objects, of which classes, and which of them were too large for their rules."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

import numpy as np
from numpy.typing import NDArray

from unettile.images.record import Record
from unettile.objects.columns import Columns
from unettile.objects.geojson import MOST_CLASSES
from unettile.objects.numbering import Numbered
from unettile.objects.plane import Plane


@dataclass(frozen=True)
class Found:
    """What a mask holds.

    Args:
        shape: (H, W), px.
        count: objects.
        dropped: objects that were too small.
        classes: how many there are.
        by_class: objects of each class, by its name; empty if there are more than MOST_CLASSES.
        capped: objects wider than distances reach.
        first_capped: the id of the first of them and its first pixel (y, x), or None.
        uncertain: objects that were not probable enough.
        was_there: all that was asked for was there already, the same byte by byte.
        columns: of the table, if they were asked for.
        in_planes: of a stack, what its planes are called by their columns, and how many objects each has.
        first_capped_in: the plane of `first_capped`, likewise.
    """

    shape: tuple[int, int]
    count: int
    dropped: int
    classes: int
    by_class: dict[str, int]
    capped: int
    first_capped: tuple[int, int, int] | None
    uncertain: int = 0
    was_there: bool = False
    columns: Columns | None = field(default=None, repr=False)
    in_planes: tuple[tuple[dict[str, int], int], ...] = ()
    first_capped_in: dict[str, int] = field(default_factory=dict)

    @classmethod
    def of(cls, objects: Numbered, record: Record) -> Found:
        """Sum up objects, their classes named by the record of their mask."""
        numbers = objects.numbers
        present, counts = np.unique(numbers.classes, return_counts=True)
        capped = np.flatnonzero(numbers.capped)
        first = None
        if capped.size:
            y, x = divmod(int(numbers.first[capped[0]]), objects.shape[1])
            first = (int(capped[0]) + 1, y, x)
        few = present.size <= MOST_CLASSES
        by_class = {record.name(int(number)): int(n) for number, n in zip(present, counts, strict=True)} if few else {}
        wide = int(capped.size)
        return cls(
            objects.shape, objects.count, numbers.dropped, present.size, by_class, wide, first, numbers.uncertain
        )

    def to_dict(self) -> dict[str, Any]:
        return {
            "objects": self.count,
            "classes": self.classes,
            "by_class": self.by_class,
            "too_small": self.dropped,
            "not_probable_enough": self.uncertain,
            "wider_than_max_object": self.capped,
            **({"planes": [plane | {"objects": count} for plane, count in self.in_planes]} if self.in_planes else {}),
        }


class FoundInPlanes:
    """Sums up what is found in one plane after another."""

    def __init__(self) -> None:
        self._planes: list[tuple[Plane, Found]] = []
        self._classes: NDArray[np.uint32] = np.empty(0, np.uint32)
        self._by_class: dict[int, tuple[str, int]] = {}

    def add(self, objects: Numbered, record: Record, plane: Plane) -> None:
        """Take the objects of a plane."""
        self._planes.append((plane, Found.of(objects, record)))
        present, counts = np.unique(objects.numbers.classes, return_counts=True)
        self._classes = np.union1d(self._classes, present)
        if self._classes.size <= MOST_CLASSES:
            for number, count in zip(present.tolist(), counts.tolist(), strict=True):
                self._by_class[number] = record.name(number), count + self._by_class.get(number, ("", 0))[1]

    def summed(self) -> Found:
        """Return what all of them hold."""
        every = [found for _, found in self._planes]
        capped = next(((plane, found) for plane, found in self._planes if found.first_capped is not None), None)
        few = self._classes.size <= MOST_CLASSES
        return Found(
            every[0].shape,
            sum(found.count for found in every),
            sum(found.dropped for found in every),
            int(self._classes.size),
            dict(self._by_class[number] for number in sorted(self._by_class)) if few else {},
            sum(found.capped for found in every),
            None if capped is None else capped[1].first_capped,
            sum(found.uncertain for found in every),
            in_planes=tuple((plane.numbers, found.count) for plane, found in self._planes),
            first_capped_in={} if capped is None else capped[0].numbers,
        )
