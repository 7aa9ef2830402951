"""Neighbours: how far each object is from the next one."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray
from scipy.spatial import cKDTree

ROWS = 2**18
"""Objects that are asked for at once."""


def nearest(points: NDArray[np.float64]) -> NDArray[np.float64]:
    """Return the distance from each point (N, 2) to the nearest other one, (N,); NaN for one that is alone.

    >>> nearest(np.array([[0.0, 0.0], [3.0, 4.0], [3.0, 5.0]])).tolist()
    [5.0, 1.0, 1.0]
    """
    found = np.full(len(points), np.nan)
    if len(points) < 2:
        return found
    tree = cKDTree(points)
    for start in range(0, len(points), ROWS):
        found[start : start + ROWS] = tree.query(points[start : start + ROWS], k=2)[0][:, 1]
    return found
