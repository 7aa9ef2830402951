"""Depths: how far inside its object a pixel lies, as a target that a network learns beside the classes."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from unettile.labels import renumber
from unettile.objects.depth import distance_depth

MARGIN = 64
"""px around a sample within which labels matter to its depths; objects that reach further have theirs nearly right."""


def normalized_depth(labels: NDArray[np.integer]) -> NDArray[np.float32]:
    """Return the inner distance of each pixel of an object over the largest one of that object.

    The inner distance is that to the nearest pixel which is not the object's, another object's too. Nearly 0 at the
    edge, 1 in the middle, whatever the object's size: touching objects have a valley between them.

    Args:
        labels: (H, W) integer ids, 0 is background. What lies outside the array is no edge.

    Returns:
        (H, W) float32 in 0 … 1; 0 on background.
    """
    count, numbered = renumber(labels)
    compact = numbered.astype(np.uint32)
    distance = distance_depth(compact, 2 * MARGIN)
    largest = np.zeros(count + 1, np.int32)
    np.maximum.at(largest, compact.ravel(), distance.ravel())
    depth: NDArray[np.float32] = (distance / np.maximum(largest, 1)[compact]).astype(np.float32)
    return depth
