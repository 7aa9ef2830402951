"""Likeness: how far what was found looks like the objects that a model knows, by size and by outline."""

from __future__ import annotations

import math

import numpy as np
from numpy.typing import NDArray

from unettile.objectsize import ObjectSize

ROUND = 0.5
"""Of 4π · area / perimeter², from which an object counts as round: a circle has 1, an ellipse of 3 : 1 has 0.6."""

_BEYOND = 1.5  # by which a diameter may leave the model's range


def alike_area(ids: NDArray[np.integer], size: ObjectSize) -> int:
    """Return how many px lie in objects that are about as large as those that a model knows, and round.

    Args:
        ids: (h, w), ids > 0, px of what the network sees.
    """
    area = np.bincount(ids.ravel())
    area[0] = 0
    found = np.flatnonzero(area)
    if not len(found):
        return 0
    diameter = 2 * np.sqrt(area[found] / math.pi)
    fits = (diameter >= size.low / _BEYOND) & (diameter <= size.high * _BEYOND)
    outline = _perimeters(ids, len(area))[found]
    alike = fits & (4 * math.pi * area[found] >= ROUND * outline**2)
    return int(area[found][alike].sum())


def _perimeters(ids: NDArray[np.integer], count: int) -> NDArray[np.float64]:
    """Return the perimeter of each id, px, by the Cauchy-Crofton formula over four directions."""
    wide = np.pad(ids, 1)
    crossings = np.zeros(count)
    directions = (
        (wide[:, 1:], wide[:, :-1], 1.0),
        (wide[1:], wide[:-1], 1.0),
        (wide[1:, 1:], wide[:-1, :-1], math.sqrt(0.5)),
        (wide[1:, :-1], wide[:-1, 1:], math.sqrt(0.5)),
    )
    for one, other, step in directions:
        differ = one != other
        crossings += step * (np.bincount(one[differ], minlength=count) + np.bincount(other[differ], minlength=count))
    return math.pi / 8 * crossings
