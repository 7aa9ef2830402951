"""Diameters: how large the objects of a label map are, as circles of their areas, weighted by area."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Iterable

import numpy as np
from numpy.typing import ArrayLike, NDArray

from unettile.images.zoomed import LARGEST_ZOOM, SMALLEST_ZOOM


def object_areas(pieces: Iterable[NDArray[np.integer]]) -> NDArray[np.int64]:
    """Return the px of each object of a label map that comes in pieces, ids > 0, the same in all pieces."""
    found: Counter[int] = Counter()
    for ids in pieces:
        numbers, counts = np.unique(ids, return_counts=True)
        found.update(dict(zip(numbers.tolist(), counts.tolist(), strict=True)))
    return np.array([count for number, count in sorted(found.items()) if number > 0], np.int64)


def diameter_percentiles(
    areas: ArrayLike, percentiles: ArrayLike, weights: ArrayLike | None = None
) -> NDArray[np.float64]:
    """Return percentiles, px, of the diameters 2·√(area / π); an object counts as much as it has pixels.

    So half of all pixels of objects lie in objects that are no larger than the median, and specks hardly count.

    Args:
        areas: px, more than 0, at least one.
        weights: of each object besides, > 0.

    >>> diameter_percentiles([1, 1, 1, 314], [50]).round(1).tolist()
    [20.0]
    """
    sizes = np.asarray(areas, np.float64)
    order = np.argsort(sizes)
    share = sizes if weights is None else sizes * np.asarray(weights, np.float64)
    sums = np.cumsum(share[order])
    places = np.searchsorted(sums, np.asarray(percentiles, np.float64) / 100 * sums[-1])
    diameters: NDArray[np.float64] = 2 * np.sqrt(sizes[order][np.minimum(places, len(sizes) - 1)] / math.pi)
    return diameters


def zoom_to(diameter: float, areas: NDArray[np.int64]) -> float:
    """Return the factor that brings objects of such areas to a median diameter, px; 1 where there are none."""
    if not len(areas):
        return 1.0
    (median,) = diameter_percentiles(areas, [50])
    return float(min(LARGEST_ZOOM, max(SMALLEST_ZOOM, diameter / median)))
