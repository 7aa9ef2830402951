"""Weight maps: how much each pixel of a label map counts in the loss (U-Net paper, equation 2, arXiv:1505.04597).

    w(x) = w_c(x) + w0 · exp(-(d1(x) + d2(x))² / (2 · sigma²))

d1 and d2 are the Euclidean distances from x to the nearest pixel of the nearest and of the second nearest *cell*, that
is label id: not to the two nearest boundary pixels, which nearly always belong to one and the same cell. The second
term is for background pixels (label 0) and is 0 where there are fewer than two cells.

The distances are exact, and found for all cells at once (`kernel`). Where d1 + d2 is larger than 6.07 sigma, the second
term is below 1e-8 · w0 and is set to 0. A pixel therefore depends on no label further away than that, so that a map can
be computed in parts with this margin, and the parts are identical to the whole.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import ArrayLike, NDArray

from unettile.errors import UsageError
from unettile.labels import check_labels
from unettile.limits import count_threads
from unettile.weightmap.blocks import Search, fill_map
from unettile.weightmap.border import TOLERANCE, Border, reach
from unettile.weightmap.classes import balanced_class_weights, balanced_weights

__all__ = ["TOLERANCE", "Border", "balanced_class_weights", "balanced_weights", "border_term", "reach", "weight_map"]


def weight_map(
    labels: ArrayLike,
    w0: float = 10.0,
    sigma: float = 5.0,
    class_weights: tuple[float, float] | None = None,
    pixel_size: tuple[float, float] = (1.0, 1.0),
    threads: int | None = 1,
) -> NDArray[np.float32]:
    """Compute the weight map of one label map.

    Args:
        labels: (H, W) integer, 0 is background, every other id one cell (in one piece or several).
        w0: height of the second term, ≥ 0; 0 for the first alone.
        sigma: its reach, > 0; in px, or in the unit of `pixel_size`.
        class_weights: w_c of background and of cells; None for 1 and 1. See `balanced_class_weights`.
        pixel_size: height and width of a pixel, in the unit that sigma has.
        threads: to compute with; None for as many as the job may use, see `limits.count_threads`.

    Returns:
        (H, W) float32, within 1e-6 · max(1, w0) of the definition; the same for any number of threads.

    Raises:
        InputError: `labels` is no label map, see `check_labels`.
        UsageError: a number out of range.

    >>> [round(float(w), 3) for w in weight_map([[1, 0, 0, 2]], w0=10, sigma=5)[0]]
    [1.0, 9.353, 9.353, 1.0]
    >>> [round(float(w), 3) for w in weight_map([[1, 0, 0, 2]], w0=10, sigma=2.5, pixel_size=(0.5, 0.5))[0]]
    [1.0, 9.353, 9.353, 1.0]
    """
    border = Border(w0, sigma, pixel_size)
    if threads is not None and threads < 1:
        raise UsageError(f"threads is {threads}: need 1 or more, or None for as many as the job may use")
    ids = check_labels(labels, "labels")
    search = Search(ids.shape, border, (1.0, 1.0) if class_weights is None else class_weights)
    return fill_map(ids, search, count_threads(threads))


def border_term(
    labels: ArrayLike, w0: float = 10.0, sigma: float = 5.0, pixel_size: tuple[float, float] = (1.0, 1.0)
) -> NDArray[np.float32]:
    """Compute the second term alone: `weight_map` with w_c = 0, so 0 on cells and far from any two of them."""
    return weight_map(labels, w0, sigma, class_weights=(0.0, 0.0), pixel_size=pixel_size)
