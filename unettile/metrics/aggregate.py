"""Agreement that adds up over images, beyond counts at thresholds of the IoU: by area, by place, and by class.

Sources: the aggregated Jaccard index (Kumar et al., IEEE Transactions on Medical Imaging 36, 2017, algorithm 1);
detection by distance (Graham et al., Medical Image Analysis 58, 2019); the mean of the panoptic qualities of classes,
the objects of all images pooled first (CoNIC challenge, arXiv 2111.14485).
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray
from scipy.sparse import csr_array
from scipy.sparse.csgraph import maximum_bipartite_matching
from scipy.spatial import cKDTree

from unettile.metrics.objects import count_matches
from unettile.metrics.overlaps import Overlaps
from unettile.metrics.pairings import pair_objects

UNSAID = -1
"""The class of a true object of which none is known: it does not count, and neither does what matches it."""

TP, FP, FN, IOU_SUM = range(4)
"""Columns of `Agreement.by_class`."""


def _none() -> NDArray[np.float64]:
    return np.zeros((0, 4))


@dataclass(frozen=True)
class Agreement:
    """What scores of objects are made of; adding two pools their objects.

    Args:
        shared, union: px, of the aggregated Jaccard index.
        near: objects whose middles are near each other: matched, invented and missed.
        by_class: (K, 4) of class 1, 2, …: matched, invented and missed at an IoU above 0.5, and the matched ones' IoU.
    """

    shared: float
    union: float
    near: tuple[float, float, float]
    by_class: NDArray[np.float64] = field(default_factory=_none)

    @property
    def aggregated_jaccard(self) -> float:
        """Shared px over those of the union; 1 without any object."""
        return self.shared / self.union if self.union else 1.0

    @property
    def detection_f1(self) -> float:
        """2 TP / (2 TP + FP + FN) of objects that are near each other; 1 without any object."""
        matched, invented, missed = self.near
        whole = 2 * matched + invented + missed
        return 2 * matched / whole if whole else 1.0

    @property
    def panoptic_by_class(self) -> NDArray[np.float64]:
        """Panoptic quality of class 1, 2, …; NaN for a class without objects."""
        table = self.by_class
        whole = table[:, TP] + (table[:, FP] + table[:, FN]) / 2
        found = np.full(len(table), np.nan)
        np.divide(table[:, IOU_SUM], whole, out=found, where=whole > 0)
        return found

    @property
    def multi_class_panoptic_quality(self) -> float:
        """The mean over the classes that have objects; NaN where no classes are known."""
        known = self.panoptic_by_class
        known = known[np.isfinite(known)]
        return float(known.mean()) if known.size else float("nan")


def pool(parts: Sequence[Agreement], times: NDArray[np.int64]) -> Agreement:
    """Add agreements up, each as often as it is counted."""
    classes = max(len(part.by_class) for part in parts)
    table = np.zeros((classes, 4))
    for part, count in zip(parts, times, strict=True):
        table[: len(part.by_class)] += count * part.by_class
    matched, invented, missed = (float(times @ np.array([part.near[k] for part in parts])) for k in range(3))
    shared, union = (float(times @ np.array([getattr(part, name) for part in parts])) for name in ("shared", "union"))
    return Agreement(shared, union, (matched, invented, missed), table)


def aggregated_areas(overlaps: Overlaps) -> tuple[int, int]:
    """Return the shared px and those of the union that the aggregated Jaccard index is made of.

    Each true object counts with the prediction whose IoU with it is largest (of equals the first), which other true
    objects may have as well; what predictions that nobody has cover is added to the union.
    """
    true_ids, true_areas = _objects(*overlaps.areas(overlaps.truth))
    predicted_ids, predicted_areas = _objects(*overlaps.areas(overlaps.prediction))
    both = (overlaps.truth > 0) & (overlaps.prediction > 0)
    rows = np.searchsorted(true_ids, overlaps.truth[both])
    columns = np.searchsorted(predicted_ids, overlaps.prediction[both])
    shared = overlaps.pixels[both]
    union = true_areas[rows] + predicted_areas[columns] - shared
    order = np.lexsort((-columns, shared / union, rows))  # the last of each row is its best
    best = order[np.flatnonzero(np.diff(rows[order], append=-1))]
    alone = np.ones(true_ids.size, bool)
    alone[rows[best]] = False
    unused = np.ones(predicted_ids.size, bool)
    unused[columns[best]] = False
    total = int(union[best].sum() + true_areas[alone].sum() + predicted_areas[unused].sum())
    return int(shared[best].sum()), total


def near_counts(
    prediction: NDArray[np.float64], truth: NDArray[np.float64], distance: float
) -> tuple[float, float, float]:
    """Count matched, invented and missed middles: as many pairs as possible of which no two are further apart.

    Args:
        prediction, truth: (n, 2) middles, px.
        distance: largest distance of a pair, px.
    """
    matched = 0
    if len(prediction) and len(truth):
        close = cKDTree(truth).sparse_distance_matrix(cKDTree(prediction), distance, output_type="coo_matrix")
        shape = (len(truth), len(prediction))
        graph = csr_array((np.ones(close.nnz, np.int8), (close.row, close.col)), shape=shape)
        matched = int((maximum_bipartite_matching(graph, perm_type="column") >= 0).sum())
    return float(matched), float(len(prediction) - matched), float(len(truth) - matched)


def class_counts(
    overlaps: Overlaps, prediction: dict[int, int], truth: dict[int, int], classes: int
) -> NDArray[np.float64]:
    """Return matched, invented and missed objects at an IoU above 0.5, and the matched ones' IoU, by class: (K, 4).

    Args:
        overlaps: of objects.
        prediction, truth: the class of each id; of true ones it may be UNSAID.
        classes: K; classes are 1 … K.
    """
    unsaid = {number for number, one in truth.items() if one == UNSAID}
    if unsaid:
        matched = {pair.prediction for pair in pair_objects(overlaps) if pair.prediction and pair.truth in unsaid}
        prediction = {number: one for number, one in prediction.items() if number not in matched}
    found = np.zeros((classes, 4))
    for number in range(1, classes + 1):
        counts = count_matches(
            Overlaps.summed(
                _of_class(overlaps.truth, truth, number),
                _of_class(overlaps.prediction, prediction, number),
                overlaps.pixels,
            )
        )
        found[number - 1] = counts.tp[0], counts.fp[0], counts.fn[0], counts.iou_sum
    return found


def _of_class(ids: NDArray[np.int64], classes: dict[int, int], number: int) -> NDArray[np.int64]:
    """Return the ids with those of other classes as background."""
    known, index = np.unique(ids, return_inverse=True)
    chosen = np.array([one if classes.get(int(one)) == number else 0 for one in known], np.int64)
    return chosen[index]


def _objects(ids: NDArray[np.int64], areas: NDArray[np.int64]) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """Leave out the background."""
    return ids[ids > 0], areas[ids > 0]
