"""Agreement of two partitions of the same pixels: which pixels are kept together, and which apart.

Foreground-restricted, as in the ISBI 2012 challenge: pixels that are background in the truth do not count; predicted
background is one more segment (Arganda-Carreras et al., Frontiers in Neuroanatomy 9:142, 2015).
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from unettile.metrics.overlaps import Overlaps


@dataclass(frozen=True)
class Partition:
    """The scores of two partitions; NaN where the truth has no foreground, or no two pixels of one segment.

    Args:
        rand_precision: pairs of pixels that are rightly together, over those that the prediction has together; merges
            lower it.
        rand_recall: the same over those that the truth has together; splits lower it.
        information_merge, information_split: bits; the entropy of the truth given the prediction, and the other way
            round. Their sum is the variation of information (Meilă, Journal of Multivariate Analysis 98, 2007).
    """

    rand_precision: float
    rand_recall: float
    information_merge: float
    information_split: float

    @property
    def rand_f_score(self) -> float:
        """The harmonic mean of both Rand scores, in [0, 1]: the challenge's V_Rand at α = 0.5."""
        both = self.rand_precision + self.rand_recall
        return 2 * self.rand_precision * self.rand_recall / both if both else 0.0

    @property
    def adapted_rand_error(self) -> float:
        """1 - the Rand F-score."""
        return 1 - self.rand_f_score

    @property
    def variation_of_information(self) -> float:
        return self.information_merge + self.information_split


def score_partition(overlaps: Overlaps) -> Partition:
    """Score a prediction against the truth, both label maps; ids do not matter, pixels of true id 0 are left out.

    >>> from unettile.metrics.overlaps import count_overlaps
    >>> halves, whole = np.array([[1, 1, 2, 2]]), np.array([[7, 7, 7, 7]])
    >>> score = score_partition(count_overlaps(halves, whole))
    >>> score.rand_precision, score.rand_recall, score.information_split
    (1.0, 0.3333333333333333, 1.0)
    """
    inside = overlaps.truth > 0
    restricted = Overlaps(overlaps.truth[inside], overlaps.prediction[inside], overlaps.pixels[inside])
    shared = restricted.pixels.astype(np.float64)
    true = restricted.areas(restricted.truth)[1].astype(np.float64)
    predicted = restricted.areas(restricted.prediction)[1].astype(np.float64)
    together = _pairs(shared)
    return Partition(
        _ratio(together, _pairs(predicted)),
        _ratio(together, _pairs(true)),
        _entropy(shared) - _entropy(predicted),
        _entropy(shared) - _entropy(true),
    )


def _pairs(areas: NDArray[np.float64]) -> float:
    """Return how many ordered pairs of different pixels lie in one segment."""
    return float((areas * (areas - 1)).sum())


def _entropy(areas: NDArray[np.float64]) -> float:
    """Return the entropy of a pixel's segment, bits."""
    share = areas / areas.sum() if areas.size else np.full(1, np.nan)
    return float(-(share * np.log2(share)).sum())


def _ratio(part: float, whole: float) -> float:
    return part / whole if whole else float("nan")
