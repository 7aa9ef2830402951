"""Calibration: by how much the background's logit is shifted, so that what is likeliest is also what scores best."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

SHIFTS = tuple(step / 4 for step in range(-8, 9))
"""Of the logit of class 0, natural logarithms of odds; 0 is in the middle."""


def best_shift(figures: Sequence[float]) -> int:
    """Return the number of the shift whose figure, averaged with its neighbours' against noise, is the largest.

    Of equals the one nearest to no shift.

    Args:
        figures: one for each of `SHIFTS`, larger is better.
    """
    padded = np.pad(np.asarray(figures, np.float64), 1, mode="edge")
    smooth = (padded[:-2] + padded[1:-1] + padded[2:]) / 3
    best = np.flatnonzero(smooth >= smooth.max())
    return int(best[np.abs(best - len(SHIFTS) // 2).argmin()])
