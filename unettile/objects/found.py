"""What was found: how many objects, of which classes, and which of them were too large for their rules."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

import numpy as np

from unettile.images.record import Record
from unettile.objects.columns import Columns
from unettile.objects.geojson import MOST_CLASSES
from unettile.objects.numbering import Numbered


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
        }
