"""Figures: what a file of polygons says, whatever its format: shapes, which object each belongs to, what to ignore."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from unettile.drawn.geojson import Drawing
from unettile.drawn.shapes import Ring, Shapes
from unettile.errors import InputError

IGNORED = 2**31 - 1
"""The number of pixels that are not to count, in the place of an id."""


@dataclass(frozen=True)
class Figure:
    """One object as it was drawn.

    Args:
        shapes: the rings of each of its parts; a pixel in any of them is the object's.
        ignored: no object but a region that is not to count.
        name: of its class; "" where it has none.
    """

    shapes: tuple[tuple[Ring, ...], ...]
    ignored: bool = False
    name: str = ""


@dataclass(frozen=True, eq=False)
class Figures:
    """The objects of one image.

    Args:
        drawing: shapes in the order in which they are drawn, later ones over earlier ones, regions to ignore over all.
        ids: (S,) uint32 of each shape, objects from 1 in the file's order; IGNORED.
        objects: how many there are.
        size: height and width of the image that they were drawn on, px, if the file states it; coordinates are then px
            of that image, else of its largest resolution.
        is_on_earth: coordinates of a map are places on earth.
        names: of the class of each object; "" of one that has none.
    """

    drawing: Drawing
    ids: NDArray[np.uint32]
    objects: int
    size: tuple[int, int] | None = None
    is_on_earth: bool = False
    names: tuple[str, ...] = ()

    @classmethod
    def of(
        cls,
        figures: Sequence[Figure],
        size: tuple[int, int] | None = None,
        epsg: int | None = None,
        *,
        is_on_earth: bool = False,
    ) -> Figures:
        """Return figures, numbered; those of no area have no number."""
        objects = [one for one in figures if not one.ignored and _has_area(one)]
        ignored = [one for one in figures if one.ignored]
        shapes, ids = [], []
        for number, one in [*enumerate(objects, start=1), *((IGNORED, one) for one in ignored)]:
            for rings in one.shapes:
                if any(len(ring) >= 3 for ring in rings):
                    shapes.append(rings)
                    ids.append(number)
        drawing = Drawing(Shapes.of_rings(shapes), epsg)
        names = tuple(one.name for one in objects)
        return cls(drawing, np.array(ids, np.uint32), len(objects), size, is_on_earth, names)

    def of_classes(self, classes: Sequence[str], name: str) -> NDArray[np.uint32]:
        """Return the number of each shape's class in the place of its id; what has no class is of the only one.

        Args:
            classes: their names, background first; case does not count.
            name: of the drawing, for messages.

        Raises:
            InputError: a class that is none of them, or none where there are several.
        """
        known = {one.casefold(): number for number, one in enumerate(classes) if number}
        if len(known) == 1:
            known.setdefault("", 1)
        strange = sorted({one for one in self.names if one.casefold() not in known})
        if strange:
            text = f"the class {strange[0][:60]!r}" if strange[0] else "objects without a class"
            raise InputError(f"{name} has {text}: need one of {', '.join(classes[1:])}; name all classes")
        numbers = np.array([0, *(known[one.casefold()] for one in self.names)], np.uint32)
        return np.where(self.ids == IGNORED, self.ids, numbers[np.where(self.ids == IGNORED, 0, self.ids)])

    @property
    def has_ignored(self) -> bool:
        """Whether some region is not to count."""
        return bool((self.ids == IGNORED).any())


def means_ignore(name: str) -> bool:
    """Whether a class is one of pixels that are not to count: QuPath's `Ignore*`, LabelMe's `__ignore__`.

    >>> means_ignore("Ignore*"), means_ignore("__ignore__"), means_ignore("Tumor")
    (True, True, False)
    """
    return name.strip(" _").casefold().startswith("ignore")


def _has_area(figure: Figure) -> bool:
    return any(len(ring) >= 3 for rings in figure.shapes for ring in rings)
