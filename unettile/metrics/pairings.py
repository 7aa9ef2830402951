"""Pairings: which predicted object is which true one, and which are missed or invented."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from unettile.metrics.overlaps import Overlaps

MATCH = 0.5
"""A pair matches above this IoU: then neither can match twice."""


@dataclass(frozen=True)
class Pairing:
    """One row of the list.

    Args:
        result: matched, missed or invented.
        truth, prediction: ids; 0 for none.
        iou: of the pair; of an object without one, the largest that it has with any.
    """

    result: str
    truth: int
    prediction: int
    iou: float


def pair_objects(overlaps: Overlaps) -> list[Pairing]:
    """Return all objects: matched and missed ones by true id, then invented ones by their id.

    >>> from unettile.metrics.overlaps import count_overlaps
    >>> rows = pair_objects(count_overlaps(np.array([[5, 5, 0, 6]]), np.array([[1, 1, 2, 0]])))
    >>> [(row.result, row.truth, row.prediction) for row in rows]
    [('matched', 1, 5), ('missed', 2, 0), ('invented', 0, 6)]
    """
    true_ids, true_areas = overlaps.areas(overlaps.truth)
    predicted_ids, predicted_areas = overlaps.areas(overlaps.prediction)
    rows = np.searchsorted(true_ids, overlaps.truth)
    columns = np.searchsorted(predicted_ids, overlaps.prediction)
    both = (overlaps.truth > 0) & (overlaps.prediction > 0)
    ious = np.where(both, overlaps.pixels / (true_areas[rows] + predicted_areas[columns] - overlaps.pixels), 0.0)
    best_true, best_predicted = np.zeros(true_ids.size), np.zeros(predicted_ids.size)
    np.maximum.at(best_true, rows, ious)
    np.maximum.at(best_predicted, columns, ious)
    partner = {int(overlaps.truth[k]): int(overlaps.prediction[k]) for k in np.flatnonzero(ious > MATCH)}
    taken = set(partner.values())
    found = [
        Pairing("matched" if number in partner else "missed", number, partner.get(number, 0), float(best))
        for number, best in zip(true_ids.tolist(), best_true, strict=True)
        if number
    ]
    return found + [
        Pairing("invented", 0, number, float(best))
        for number, best in zip(predicted_ids.tolist(), best_predicted, strict=True)
        if number and number not in taken
    ]
