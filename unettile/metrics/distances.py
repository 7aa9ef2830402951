"""How far apart the outlines of two masks are.

Outlines are collected block by block, so that memory grows with their length and not with the image.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray
from scipy.spatial import cKDTree

from unettile.box import Box


class Outline:
    """The outline of a mask: foreground pixels of whose four neighbours one is background or outside the image."""

    def __init__(self, shape: tuple[int, int]) -> None:
        self._image = Box.of_shape(shape)
        self._points: list[NDArray[np.int64]] = []

    def window(self, box: Box) -> Box:
        """Return the pixels that `add` needs to see for `box`: one more on each side, where the image has them."""
        return box.expand(1).intersect(self._image)

    def add(self, box: Box, mask: NDArray[np.bool_], ignored: NDArray[np.bool_] | None = None) -> None:
        """Add the outline within `box`.

        Args:
            mask: the pixels of `window(box)`.
            ignored: which of them are neither background nor outline; None for none.
        """
        seen = self.window(box)
        missing = [(seen.y0 - box.y0 + 1, box.y1 + 1 - seen.y1), (seen.x0 - box.x0 + 1, box.x1 + 1 - seen.x1)]
        whole = mask if ignored is None else mask | ignored
        padded = np.pad(whole, missing)  # what lies outside the image is background
        inner = np.pad(mask, missing)[1:-1, 1:-1]
        inside = padded[:-2, 1:-1] & padded[2:, 1:-1] & padded[1:-1, :-2] & padded[1:-1, 2:]
        self._points.append(np.argwhere(inner & ~inside) + np.array((box.y0, box.x0)))

    @property
    def points(self) -> NDArray[np.int64]:
        """Return the pixels (n, 2), (y, x)."""
        return np.concatenate([np.zeros((0, 2), np.int64), *self._points])


def hausdorff(first: NDArray[np.int64], second: NDArray[np.int64], percentile: float = 95.0) -> float:
    """Return the Hausdorff distance of two outlines, px: the larger of the two directed distances.

    The distance from one outline to the other is the `percentile` of the distances from each pixel of the one to the
    nearest pixel of the other; 100 is the classic distance, 95 ("HD95") forgives one pixel in twenty
    (Huttenlocher et al., IEEE TPAMI 15, 1993, for the ranked distance).

    Args:
        first, second: (n, 2) pixels.
        percentile: in [0, 100].

    Returns:
        0 if both are empty; infinity if one is.
    """
    if not len(first) or not len(second):
        return 0.0 if len(first) == len(second) else float("inf")
    directed = (np.percentile(cKDTree(b).query(a)[0], percentile) for a, b in ((first, second), (second, first)))
    return float(max(directed))


def boundary_f1(prediction: NDArray[np.int64], truth: NDArray[np.int64], tolerance: float) -> float:
    """Return the F1 score of two outlines: how much of either lies near the other.

    Precision is the share of the predicted outline's pixels that are no further than `tolerance` from the true one,
    recall the same with the parts changed (Csurka et al., BMVC 2013).

    Args:
        prediction, truth: (n, 2) pixels.
        tolerance: px.

    Returns:
        2 P R / (P + R); NaN if both are empty, 0 if one is.
    """
    if not len(prediction) or not len(truth):
        return float("nan") if len(prediction) == len(truth) else 0.0
    near = [
        float((cKDTree(other).query(own, distance_upper_bound=np.nextafter(tolerance, np.inf))[0] <= tolerance).mean())
        for own, other in ((prediction, truth), (truth, prediction))
    ]
    return 2 * near[0] * near[1] / sum(near) if sum(near) else 0.0
