"""Partition scores equal scikit-image's and values worked out by hand."""

from __future__ import annotations

import numpy as np
import pytest
from skimage.metrics import adapted_rand_error, variation_of_information

from unettile.metrics.overlaps import OverlapCounter, count_overlaps
from unettile.metrics.partitions import score_partition


def random_maps(seed: int) -> tuple[np.ndarray, np.ndarray]:
    random = np.random.default_rng(seed)
    coarse = np.kron(random.integers(0, 6, (9, 8)), np.ones((7, 7), int))
    return np.roll(coarse, random.integers(0, 4, 2), (0, 1)), coarse


@pytest.mark.parametrize("seed", range(4))
def test_equal_to_scikit_image(seed: int) -> None:
    prediction, truth = random_maps(seed)
    score = score_partition(count_overlaps(prediction, truth))
    error, *_ = adapted_rand_error(truth, prediction)
    split, merge = variation_of_information(truth, prediction, ignore_labels=(0,))
    assert score.adapted_rand_error == pytest.approx(error, abs=1e-12)
    assert (score.information_split, score.information_merge) == pytest.approx((split, merge), abs=1e-9)
    assert score.variation_of_information > 0


def test_merges_and_splits_are_told_apart() -> None:
    two, one = np.array([[1, 1, 2, 2]]), np.ones((1, 4), int)
    split, merged = score_partition(count_overlaps(two, one)), score_partition(count_overlaps(one, two))
    assert (split.rand_precision, split.rand_recall) == (1, pytest.approx(1 / 3))
    assert (merged.rand_precision, merged.rand_recall) == (pytest.approx(1 / 3), 1)
    assert (split.information_merge, split.information_split) == (0, 1)
    assert (merged.information_merge, merged.information_split) == (1, 0)


def test_true_background_does_not_count_and_without_foreground_there_is_no_score() -> None:
    truth = np.array([[1, 1, 0, 0, 0]])
    assert score_partition(count_overlaps(np.array([[3, 3, 4, 5, 6]]), truth)).adapted_rand_error == 0
    nothing = score_partition(count_overlaps(truth, np.zeros_like(truth)))
    assert np.isnan(nothing.rand_f_score) and np.isnan(nothing.variation_of_information)
    apart = score_partition(count_overlaps(np.array([[1, 2, 3]]), np.array([[4, 4, 4]])))
    assert np.isnan(apart.rand_f_score) and apart.rand_recall == 0


def test_blocks_do_not_matter() -> None:
    prediction, truth = random_maps(9)
    counter = OverlapCounter()
    for y in range(0, 63, 10):
        for x in range(0, 56, 13):
            counter.add(prediction[y : y + 10, x : x + 13], truth[y : y + 10, x : x + 13])
    whole, pieces = count_overlaps(prediction, truth), counter.overlaps()
    for name in ("truth", "prediction", "pixels"):
        assert np.array_equal(getattr(whole, name), getattr(pieces, name))
    assert whole.pixels.sum() == truth.size
