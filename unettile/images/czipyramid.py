"""The lower resolutions of a CZI: tiles that show more of the image than they have pixels.

A resolution counts where its tiles lie wherever those of the image do, in every plane: where none lies, the library
reads 0.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from unettile.box import Box

_POINTS = 128  # along the longer edge of the image, at which gaps are looked for
_STEPS = tuple(
    sorted({base**k for base in (2, 3) for k in range(1, 20 if base == 2 else 12)})
)  # as Zeiss's programs do
_NEAR = 0.15  # the last tile of a row may be rounded


@dataclass(frozen=True)
class _Tile:
    """A tile: where it lies in the frame of the largest resolution, how much smaller it is, and of which plane."""

    box: Box
    factor: int
    plane: tuple[int, int, int]


def pyramid_factors(czi: Any, scene: int | None, box: Box) -> tuple[int, ...]:
    """Return how many px of the image a px of each resolution is, 1 the first.

    Args:
        czi: an open reader of pylibCZIrw.
        scene: its number; None of a file that has none.
        box: of the scene, in the file's frame.
    """
    if not _has_smaller(czi):
        return (1,)
    planes: dict[tuple[int, int, int], dict[int, list[Box]]] = defaultdict(lambda: defaultdict(list))
    for tile in _tiles(czi, scene):
        planes[tile.plane][tile.factor].append(tile.box)
    common = set.intersection(*(set(one) for one in planes.values())) if planes else set()
    factors = [1]
    for factor in sorted(common - {1}):
        if all(_covers(one[factor], one[1], box, factor) for one in planes.values()):
            factors.append(factor)
    return tuple(factor for factor in factors if min(box.shape) >= factor)


def _has_smaller(czi: Any) -> bool:
    found = False

    def look(_: int, tile: Any) -> bool:
        nonlocal found
        found = tile.logicalRect.w > tile.physicalSize.w
        return not found

    czi.enumerate_subblocks(look)
    return found


def _tiles(czi: Any, scene: int | None) -> list[_Tile]:
    """Return the tiles of a scene; those that are no smaller by a step that is known are left out."""
    found = []

    def look(_: int, tile: Any) -> bool:
        at, place, size = tile.coordinate.to_dict(), tile.logicalRect, tile.physicalSize
        if scene is not None and at.get("S", scene) != scene:
            return True
        ratio = max((place.w, size.w), (place.h, size.h))
        factor = _factor(ratio[0] / max(ratio[1], 1))
        if factor is not None:
            box = Box(place.y, place.x, place.y + place.h, place.x + place.w)
            found.append(_Tile(box, factor, (at.get("T", 0), at.get("Z", 0), at.get("C", 0))))
        return True

    czi.enumerate_subblocks(look)
    return found


def _factor(ratio: float) -> int | None:
    nearest = min((1, *_STEPS), key=lambda step: abs(ratio / step - 1))
    return nearest if abs(ratio / nearest - 1) < _NEAR else None


def _covers(tiles: Iterable[Box], others: Iterable[Box], whole: Box, slack: int) -> bool:
    """Whether tiles lie wherever others do, as far as a lattice of points shows it.

    Args:
        slack: by so many px tiles may end too early, as those that were rounded do.
    """
    step = max(1, -(-max(whole.shape) // _POINTS))
    ys, xs = (np.arange(step // 2, length, step) for length in whole.shape)

    def points(boxes: Iterable[Box]) -> NDArray[np.bool_]:
        found = np.zeros((ys.size, xs.size), np.bool_)
        for box in boxes:
            rows = slice(*np.searchsorted(ys, (box.y0 - whole.y0, box.y1 - whole.y0)))
            columns = slice(*np.searchsorted(xs, (box.x0 - whole.x0, box.x1 - whole.x0)))
            found[rows, columns] = True
        return found

    return not (points(others) & ~points(tile.expand(slack) for tile in tiles)).any()
