"""Agreement of two label images, object by object, as the 2018 Data Science Bowl scored it.

A predicted and a true object match at threshold t if their intersection over union exceeds t. Matched pairs are true
positives (TP), unmatched predictions false positives (FP), unmatched true objects false negatives (FN), and the average
precision at t is TP / (TP + FP + FN) (Caicedo et al., Nature Methods 16, 2019).
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy import ndimage
from scipy.sparse import coo_array, csr_array
from scipy.sparse.csgraph import maximum_bipartite_matching

from unettile.errors import InputError


@dataclass(frozen=True)
class ObjectCounts:
    """True positives, false positives and false negatives at each threshold. Adding two pools their objects."""

    thresholds: tuple[float, ...]
    tp: tuple[int, ...]
    fp: tuple[int, ...]
    fn: tuple[int, ...]

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
        )


def match_counts(
    prediction: NDArray[np.integer], truth: NDArray[np.integer], thresholds: Sequence[float] = (0.5,)
) -> ObjectCounts:
    """Count matched, invented and missed objects at each IoU threshold.

    prediction, truth: (H, W) int, 0 is background, every other value one object; ids need not be consecutive and need
        not agree between the two.
    thresholds: in [0, 1); a pair matches if its IoU is strictly greater, so from 0.5 upwards no object can match twice.
        Below 0.5 it might: the largest possible one-to-one matching is counted.

    Raises:
        InputError: the shapes differ, or the values are not integers of at least 0.
        ValueError: a threshold is not in [0, 1).

    >>> truth = np.array([[1, 1, 0, 2, 2]])
    >>> match_counts(np.array([[5, 5, 0, 0, 9]]), truth, (0.5, 0.3))
    ObjectCounts(thresholds=(0.5, 0.3), tp=(1, 2), fp=(1, 0), fn=(1, 0))
    """
    if prediction.shape != truth.shape:
        raise InputError(
            f"prediction and truth differ in shape: {prediction.shape} and {truth.shape}; compare equal ones"
        )
    for threshold in thresholds:
        if not 0 <= threshold < 1:
            raise ValueError(f"threshold {threshold} is not an IoU in [0, 1)")
    prediction_index, prediction_areas = _compact(prediction, "prediction")
    truth_index, truth_areas = _compact(truth, "truth")
    overlaps, rows, columns = _overlaps(truth_index, truth_areas.size, prediction_index, prediction_areas.size)
    ious = overlaps / (truth_areas[rows] + prediction_areas[columns] - overlaps)
    tp = tuple(
        _matched(rows[chosen], columns[chosen], (truth_areas.size, prediction_areas.size), unique=threshold >= 0.5)
        for threshold in thresholds
        for chosen in [ious > threshold]
    )
    return ObjectCounts(
        tuple(float(threshold) for threshold in thresholds),
        tp,
        tuple(prediction_areas.size - matched for matched in tp),
        tuple(truth_areas.size - matched for matched in tp),
    )


def average_precision(counts: ObjectCounts) -> NDArray[np.float64]:
    """Average precision at each threshold: TP / (TP + FP + FN).

    Returns (T,) float64 in [0, 1]. Where there is no object in either image the two agree, and the value is 1.
    """
    matched = np.array(counts.tp, dtype=np.float64)
    objects = matched + np.array(counts.fp) + np.array(counts.fn)
    precision = np.ones_like(matched)
    np.divide(matched, objects, out=precision, where=objects > 0)
    return precision


def connected_components(mask: NDArray[np.integer | np.bool_]) -> NDArray[np.int32]:
    """Number the connected regions of a mask.

    mask: (H, W); every value but 0 is foreground. Pixels that share a side are connected, pixels that share only a
        corner are not: a one-pixel diagonal gap is enough to part two cells.
    Returns (H, W) int32: 0 is background, the regions are 1, 2, ...
    """
    numbered = np.zeros(mask.shape, np.int32)
    ndimage.label(mask != 0, output=numbered)  # its default structure connects the four neighbours
    return numbered


def _compact(labels: NDArray[np.integer], name: str) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """Renumber the objects 1 .. N and measure them: ((H * W,) int64 indices, 0 is background; (N,) areas in px)."""
    if labels.dtype.kind not in "iub":
        raise InputError(f"the {name} holds {labels.dtype} values; object ids must be integers")
    flat = labels.ravel().astype(np.int64)
    if flat.size == 0:
        return flat, np.zeros(0, np.int64)
    if flat.min() < 0:
        raise InputError(f"the {name} holds the id {flat.min()}; ids start at 0, which is background")
    if flat.max() <= 4 * flat.size + 65536:  # a table over the ids is several times faster than sorting the pixels
        areas = np.bincount(flat)
        areas[0] = 0
        present = areas > 0
        return np.where(present, np.cumsum(present), 0)[flat], areas[present]
    ids, index = np.unique(flat, return_inverse=True)
    if ids[0] != 0:
        index = index + 1
    areas = np.bincount(index)
    return index.astype(np.int64, copy=False), areas[1:]


def _overlaps(
    truth: NDArray[np.int64], truths: int, prediction: NDArray[np.int64], predictions: int
) -> tuple[NDArray[np.int64], NDArray[np.intp], NDArray[np.intp]]:
    """List the pairs of objects that share pixels: (pixels shared, index of the true one, of the predicted one)."""
    both = np.flatnonzero((truth > 0) & (prediction > 0))
    ones = np.ones(both.size, np.int64)
    table = coo_array((ones, (truth[both] - 1, prediction[both] - 1)), shape=(truths, predictions))
    table.sum_duplicates()
    rows, columns = table.coords
    return table.data, rows, columns


def _matched(rows: NDArray[np.intp], columns: NDArray[np.intp], shape: tuple[int, int], *, unique: bool) -> int:
    """Size of the largest one-to-one matching among the pairs (row, column)."""
    if unique or rows.size == 0:
        return int(rows.size)
    graph = csr_array((np.ones(rows.size, np.int8), (rows, columns)), shape=shape)
    return int((maximum_bipartite_matching(graph, perm_type="column") >= 0).sum())
