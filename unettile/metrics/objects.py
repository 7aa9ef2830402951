"""Agreement of two label images, object by object.

A predicted and a true object match at threshold t if their intersection over union exceeds t. Matched pairs are true
positives (TP), unmatched predictions false positives (FP), unmatched true objects false negatives (FN).

Sources: average precision TP / (TP + FP + FN) as in the 2018 Data Science Bowl (Caicedo et al., Nature Methods 16,
2019); F1; panoptic quality (Kirillov et al., CVPR 2019, equation 2); SEG of the Cell Tracking Challenge (Maška et al.,
Bioinformatics 30, 2014).
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy import ndimage
from scipy.sparse import csr_array
from scipy.sparse.csgraph import maximum_bipartite_matching

from unettile.metrics.overlaps import Overlaps, count_overlaps

Figures = NDArray[np.float64]


@dataclass(frozen=True)
class ObjectCounts:
    """What the object scores are made of; adding two pools their objects.

    Args:
        thresholds: of the IoU.
        tp, fp, fn: true positives, false positives and false negatives at each threshold.
        iou_sum: of the pairs whose IoU exceeds 0.5.
        seg_sum: of the IoU of each true object with the prediction that covers more than half of it.
    """

    thresholds: tuple[float, ...]
    tp: tuple[int, ...]
    fp: tuple[int, ...]
    fn: tuple[int, ...]
    iou_sum: float = 0.0
    seg_sum: float = 0.0

    def __post_init__(self) -> None:
        if not len(self.thresholds) == len(self.tp) == len(self.fp) == len(self.fn):
            raise ValueError("need one count of each kind for every threshold")

    def __add__(self, other: ObjectCounts) -> ObjectCounts:
        if self.thresholds != other.thresholds:
            raise ValueError(f"counts at thresholds {self.thresholds} and {other.thresholds} do not add")
        return ObjectCounts(
            self.thresholds,
            tuple(a + b for a, b in zip(self.tp, other.tp, strict=True)),
            tuple(a + b for a, b in zip(self.fp, other.fp, strict=True)),
            tuple(a + b for a, b in zip(self.fn, other.fn, strict=True)),
            self.iou_sum + other.iou_sum,
            self.seg_sum + other.seg_sum,
        )


def match_counts(
    prediction: NDArray[np.integer], truth: NDArray[np.integer], thresholds: Sequence[float] = (0.5,)
) -> ObjectCounts:
    """Count matched, invented and missed objects of two label images; see `count_matches`.

    prediction, truth: (H, W) int, 0 is background, every other value one object; ids need not be consecutive and need
        not agree between the two.

    Raises:
        InputError: the shapes differ, or the values are not integers of at least 0.
        ValueError: a threshold is not in [0, 1).

    >>> truth = np.array([[1, 1, 0, 2, 2]])
    >>> counts = match_counts(np.array([[5, 5, 0, 0, 9]]), truth, (0.5, 0.3))
    >>> counts.tp, counts.fp, counts.fn
    ((1, 2), (1, 0), (1, 0))
    """
    return count_matches(count_overlaps(prediction, truth), thresholds)


def count_matches(overlaps: Overlaps, thresholds: Sequence[float] = (0.5,)) -> ObjectCounts:
    """Count matched, invented and missed objects at each IoU threshold.

    thresholds: in [0, 1); a pair matches if its IoU is strictly greater, so from 0.5 upwards no object can match twice.
        Below 0.5 it might: the largest possible one-to-one matching is counted.

    Raises:
        ValueError: a threshold is not in [0, 1).
    """
    for threshold in thresholds:
        if not 0 <= threshold < 1:
            raise ValueError(f"threshold {threshold} is not an IoU in [0, 1)")
    true_ids, true_areas = _objects(*overlaps.areas(overlaps.truth))
    predicted_ids, predicted_areas = _objects(*overlaps.areas(overlaps.prediction))
    both = (overlaps.truth > 0) & (overlaps.prediction > 0)
    rows = np.searchsorted(true_ids, overlaps.truth[both])
    columns = np.searchsorted(predicted_ids, overlaps.prediction[both])
    shared = overlaps.pixels[both]
    ious = shared / (true_areas[rows] + predicted_areas[columns] - shared)
    shape = (true_areas.size, predicted_areas.size)
    tp = tuple(
        _matched(rows[chosen], columns[chosen], shape, unique=threshold >= 0.5)
        for threshold in thresholds
        for chosen in [ious > threshold]
    )
    return ObjectCounts(
        tuple(float(threshold) for threshold in thresholds),
        tp,
        tuple(predicted_areas.size - matched for matched in tp),
        tuple(true_areas.size - matched for matched in tp),
        float(ious[ious > 0.5].sum()),
        float(ious[2 * shared > true_areas[rows]].sum()),
    )


def average_precision(counts: ObjectCounts) -> Figures:
    """Average precision at each threshold: TP / (TP + FP + FN).

    Returns (T,) float64 in [0, 1]. Where there is no object in either image the two agree, and the value is 1.
    """
    matched = np.array(counts.tp, dtype=np.float64)
    return _share(matched, matched + np.array(counts.fp) + np.array(counts.fn))


def f1(counts: ObjectCounts) -> Figures:
    """F1 score at each threshold: 2 TP / (2 TP + FP + FN); (T,) float64 in [0, 1], 1 without any object."""
    twice = 2 * np.array(counts.tp, dtype=np.float64)
    return _share(twice, twice + np.array(counts.fp) + np.array(counts.fn))


def panoptic_quality(counts: ObjectCounts) -> float:
    """Panoptic quality: the sum of IoU over TP + FP / 2 + FN / 2, matched above 0.5; 1 without any object.

    Raises:
        ValueError: the counts have no threshold of 0.5.
    """
    if 0.5 not in counts.thresholds:
        raise ValueError("panoptic quality is defined at an IoU of 0.5: count matches at that threshold, too")
    at = counts.thresholds.index(0.5)
    return float(_share(np.array(counts.iou_sum), np.array(counts.tp[at] + (counts.fp[at] + counts.fn[at]) / 2)))


def seg(counts: ObjectCounts) -> float:
    """SEG: the mean over true objects of their IoU with the prediction that covers more than half of each, or 0.

    NaN where there is no true object: the measure does not see what was invented.
    """
    objects = counts.tp[0] + counts.fn[0]
    return counts.seg_sum / objects if objects else float("nan")


def connected_components(mask: NDArray[np.integer | np.bool_]) -> NDArray[np.int32]:
    """Number the connected regions of a mask.

    mask: (H, W); every value but 0 is foreground. Pixels that share a side are connected, pixels that share only a
        corner are not: a one-pixel diagonal gap is enough to part two cells.
    Returns (H, W) int32: 0 is background, the regions are 1, 2, ...
    """
    numbered = np.zeros(mask.shape, np.int32)
    ndimage.label(mask != 0, output=numbered)  # its default structure connects the four neighbours
    return numbered


def _objects(ids: NDArray[np.int64], areas: NDArray[np.int64]) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """Leave out the background."""
    return ids[ids > 0], areas[ids > 0]


def _share(part: NDArray[np.float64], whole: NDArray[np.float64]) -> Figures:
    result = np.ones(part.shape)
    np.divide(part, whole, out=result, where=whole > 0)
    return result


def _matched(rows: NDArray[np.intp], columns: NDArray[np.intp], shape: tuple[int, int], *, unique: bool) -> int:
    """Size of the largest one-to-one matching among the pairs (row, column)."""
    if unique or rows.size == 0:
        return int(rows.size)
    graph = csr_array((np.ones(rows.size, np.int8), (rows, columns)), shape=shape)
    return int((maximum_bipartite_matching(graph, perm_type="column") >= 0).sum())
