"""Confidence intervals by the bootstrap over images (Efron, The Annals of Statistics 7, 1979)."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

RESAMPLES = 1000
LEVEL = 95.0  # per cent


def resamplings(images: int, resamples: int = RESAMPLES, seed: int = 0) -> NDArray[np.int64]:
    """Return how often each image is drawn in each resampling, (resamples, images); every row sums to `images`.

    The same for the same arguments, whatever else was drawn.
    """
    return np.random.default_rng(seed).multinomial(images, np.full(images, 1 / images), size=resamples)


def interval(values: NDArray[np.float64]) -> tuple[float, float] | None:
    """Return the central 95 % of resampled values, or None where none of them is a number."""
    known = values[np.isfinite(values)]
    if not known.size:
        return None
    low, high = np.percentile(known, ((100 - LEVEL) / 2, (100 + LEVEL) / 2))
    return float(low), float(high)
