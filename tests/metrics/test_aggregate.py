"""Aggregated Jaccard, detection, panoptic quality of classes, boundary F1 and pairings as worked out by hand."""

from __future__ import annotations

import math

import numpy as np
import pytest
from numpy.typing import NDArray

from unettile.box import Box
from unettile.metrics.aggregate import Agreement, aggregated_areas, class_counts, near_counts, pool
from unettile.metrics.centroids import Centroids
from unettile.metrics.distances import boundary_f1
from unettile.metrics.overlaps import count_overlaps
from unettile.metrics.pairings import pair_objects


def row(*runs: tuple[int, int]) -> NDArray[np.int64]:
    """Return (1, W) of ids, each so many px long."""
    return np.concatenate([np.full(length, number) for number, length in runs])[None]


def test_aggregated_jaccard_by_hand() -> None:
    truth = row((1, 4), (0, 2), (2, 4), (0, 4))
    prediction = row((7, 3), (0, 3), (8, 6), (0, 1), (9, 1))
    # 1 with 7: 3 of 4; 2 with 8: 4 of 6; 9 is nobody's: 1 px more.
    assert aggregated_areas(count_overlaps(prediction, truth)) == (7, 4 + 6 + 1)


def test_two_true_objects_may_share_a_prediction_and_one_may_have_none() -> None:
    truth = row((1, 4), (2, 4), (0, 2), (3, 5))
    prediction = row((7, 8), (0, 7))
    # 1 and 2 both with 7: 4 of 8 each; 3 has none: 5 px of the union.
    assert aggregated_areas(count_overlaps(prediction, truth)) == (8, 8 + 8 + 5)


def test_of_two_predictions_the_one_of_the_larger_iou_counts_not_of_the_larger_part() -> None:
    truth = row((0, 12), (1, 8), (0, 2))
    prediction = row((5, 17), (6, 3), (0, 2))
    # with 5: 5 of 20; with 6: 3 of 8.
    assert aggregated_areas(count_overlaps(prediction, truth)) == (3, 8 + 17)


def test_no_object_at_all() -> None:
    empty = row((0, 5))
    assert aggregated_areas(count_overlaps(empty, empty)) == (0, 0)
    nothing = Agreement(0, 0, (0, 0, 0))
    assert nothing.aggregated_jaccard == nothing.detection_f1 == 1
    assert math.isnan(nothing.multi_class_panoptic_quality)


def test_detection_takes_as_many_pairs_as_there_can_be() -> None:
    truth = np.array([[0.0, 0.0], [0.0, 10.0], [50.0, 50.0]])
    prediction = np.array([[0.0, 5.0], [0.0, -4.0], [80.0, 80.0]])
    # The first prediction is near both; it must take the second true object, for the other has only the first.
    assert near_counts(prediction, truth, 5.0) == (2, 1, 1)
    assert near_counts(prediction, truth, 4.9) == (1, 2, 2)
    assert near_counts(prediction, np.zeros((0, 2)), 5.0) == (0, 3, 0)
    assert Agreement(0, 0, (2, 1, 1)).detection_f1 == pytest.approx(4 / 6)


def test_panoptic_quality_by_class_by_hand() -> None:
    truth = row((1, 4), (2, 4), (3, 4), (0, 3))
    prediction = row((1, 4), (2, 3), (0, 1), (3, 4), (4, 3))
    table = class_counts(count_overlaps(prediction, truth), {1: 1, 2: 1, 3: 2, 4: 2}, {1: 1, 2: 1, 3: 1}, classes=3)
    # Class 1: IoU 1 and 3 / 4, one missed. Class 2: two invented. Class 3: nothing.
    assert table.tolist() == [[2, 0, 1, 1.75], [0, 2, 0, 0], [0, 0, 0, 0]]
    found = Agreement(0, 0, (0, 0, 0), table)
    np.testing.assert_array_equal(found.panoptic_by_class, [1.75 / 2.5, 0, np.nan])
    assert found.multi_class_panoptic_quality == pytest.approx(0.35)


def test_pooling_adds_objects_and_takes_missing_classes_for_empty() -> None:
    first = Agreement(3, 4, (1, 2, 3), np.array([[1.0, 0, 0, 0.8]]))
    second = Agreement(1, 4, (1, 0, 0), np.array([[1.0, 0, 0, 0.6], [0, 1, 0, 0]]))
    both = pool([first, second], np.array([2, 1]))
    assert (both.shared, both.union, both.near) == (7, 12, (3, 4, 6))
    np.testing.assert_allclose(both.by_class, [[3, 0, 0, 2.2], [0, 1, 0, 0]])


def test_boundary_f1_by_hand() -> None:
    line = np.array([[0, x] for x in range(10)])
    moved = line + np.where(np.arange(10)[:, None] < 6, (2, 0), (9, 0))
    # Six of ten predicted pixels lie within 2 px; of the true ones those too, and the seventh is sqrt(5) away.
    assert boundary_f1(moved, line, 2.0) == pytest.approx(0.6)
    assert boundary_f1(moved, line, 2.3) == pytest.approx(2 * 0.6 * 0.7 / 1.3)
    assert boundary_f1(moved, line, 1.9) == 0 == boundary_f1(line[:0], line, 2.0)
    assert math.isnan(boundary_f1(line[:0], line[:0], 2.0))


def test_centroids_of_blocks_are_those_of_the_whole() -> None:
    labels = np.random.default_rng(0).integers(0, 9, (30, 40))
    parts = Centroids()
    for y in range(0, 30, 7):
        for x in range(0, 40, 11):
            box = Box(y, x, min(y + 7, 30), min(x + 11, 40))
            parts.add(box, labels[box.slices])
    ids, areas, places = parts.table()
    assert ids.tolist() == list(range(1, 9)) and areas.tolist() == [(labels == k).sum() for k in ids]
    np.testing.assert_allclose(places, [np.argwhere(labels == k).mean(axis=0) for k in ids])


def test_every_object_is_listed_once() -> None:
    truth = row((1, 4), (0, 2), (2, 4), (0, 4))
    prediction = row((7, 3), (0, 4), (8, 1), (0, 5), (9, 1))
    rows = pair_objects(count_overlaps(prediction, truth))
    assert [(one.result, one.truth, one.prediction, one.iou) for one in rows] == [
        ("matched", 1, 7, 0.75),
        ("missed", 2, 0, 0.25),
        ("invented", 0, 8, 0.25),
        ("invented", 0, 9, 0.0),
    ]
