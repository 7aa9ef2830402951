"""Object scores equal hand-computed values and a brute-force comparison of every pair of masks."""

import time
from itertools import permutations

import numpy as np
import pytest
from numpy.typing import NDArray
from skimage.measure import label

from unettile.errors import InputError
from unettile.metrics.objects import (
    ObjectCounts,
    average_precision,
    connected_components,
    f1,
    match_counts,
    panoptic_quality,
    seg,
)

THRESHOLDS = tuple(np.arange(50, 100, 5) / 100)


def brute_force_ious(prediction: NDArray, truth: NDArray) -> NDArray:
    """Compare every true mask with every predicted mask, pixel by pixel: (true, predicted)."""
    trues = [truth == i for i in np.unique(truth) if i]
    predicted = [prediction == i for i in np.unique(prediction) if i]
    return np.array([[(t & p).sum() / (t | p).sum() for p in predicted] for t in trues]).reshape(
        len(trues), len(predicted)
    )


def random_labels(random: np.random.Generator, shape: tuple[int, int], objects: int) -> NDArray[np.int32]:
    labels = np.zeros(shape, np.int32)
    for number in range(1, objects + 1):
        y, x = random.integers(0, shape[0] - 6), random.integers(0, shape[1] - 6)
        labels[y : y + random.integers(2, 9), x : x + random.integers(2, 9)] = number
    return labels


def moved(labels: NDArray, random: np.random.Generator) -> NDArray:
    """Shift the labels by a pixel or two, drop a few and renumber the rest at random."""
    shifted = np.roll(labels, (1, random.integers(0, 2)), (0, 1))
    numbers = random.permutation(labels.max() + 1) * random.integers(1, 4) + 1
    numbers[random.random(numbers.size) < 0.1] = 0
    numbers[0] = 0
    return numbers[shifted]


def test_counts_worked_out_by_hand() -> None:
    truth = np.zeros((4, 12), int)
    truth[:, 0:3], truth[:, 4:7], truth[:, 8:10] = 1, 2, 3
    prediction = np.zeros((4, 12), int)
    prediction[:, 0:3] = 40  # IoU 1 with 1
    prediction[:3, 4:7] = 7  # IoU 9 / 12 with 2
    prediction[0, 8:10] = 8  # IoU 2 / 8 with 3
    prediction[:, 11] = 9  # invented
    counts = match_counts(prediction, truth, (0.5, 0.7, 0.8))
    assert (counts.tp, counts.fp, counts.fn) == ((2, 2, 1), (2, 2, 3), (1, 1, 2))
    assert average_precision(counts).tolist() == [2 / 5, 2 / 5, 1 / 6]


def test_the_threshold_itself_does_not_match() -> None:
    truth = np.array([[1, 1, 1, 1]])
    halves = np.array([[1, 1, 2, 2]])  # both have IoU 0.5 exactly: neither may claim the object
    assert match_counts(halves, truth, (0.5,)).tp == (0,)
    assert match_counts(halves, truth, (0.49,)).tp == (1,)


@pytest.mark.parametrize("seed", range(5))
def test_counts_equal_brute_force(seed: int) -> None:
    random = np.random.default_rng(seed)
    truth = random_labels(random, (60, 50), 40)
    prediction = moved(truth, random)
    ious = brute_force_ious(prediction, truth)
    counts = match_counts(prediction, truth, THRESHOLDS)
    for index, threshold in enumerate(THRESHOLDS):
        matches = ious > threshold
        assert matches.sum(axis=0).max() <= 1 and matches.sum(axis=1).max() <= 1
        assert counts.tp[index] == matches.sum()
        assert counts.fp[index] == ious.shape[1] - matches.sum()
        assert counts.fn[index] == ious.shape[0] - matches.sum()
    assert counts.tp[0] > counts.tp[-1]


@pytest.mark.parametrize("seed", range(5))
def test_below_one_half_the_largest_matching_counts(seed: int) -> None:
    random = np.random.default_rng(seed)
    truth, prediction = random_labels(random, (14, 14), 6), random_labels(random, (14, 14), 5)
    matches = brute_force_ious(prediction, truth) > 0.05
    if matches.shape[0] > matches.shape[1]:
        matches = matches.T
    best = max(
        sum(row[c] for row, c in zip(matches, order, strict=False)) for order in permutations(range(matches.shape[1]))
    )
    assert match_counts(prediction, truth, (0.05,)).tp == (best,)


def test_ids_do_not_matter() -> None:
    random = np.random.default_rng(9)
    truth = random_labels(random, (40, 40), 20)
    prediction = moved(truth, random)
    expected = match_counts(prediction, truth, THRESHOLDS)
    sparse = np.where(truth > 0, truth.astype(np.int64) * 10**12 + 5, 0)
    assert match_counts(prediction.astype(np.uint16), sparse, THRESHOLDS) == expected
    without_background = np.full((8, 8), 10**12)
    assert match_counts(without_background, np.ones((8, 8), np.uint8)).tp == (1,)


def test_empty_images_agree() -> None:
    nothing, something = np.zeros((5, 5), int), np.eye(5, dtype=int)
    assert average_precision(match_counts(nothing, nothing)).tolist() == [1.0]
    assert match_counts(something, nothing) == ObjectCounts((0.5,), (0,), (1,), (0,))
    assert match_counts(nothing, something) == ObjectCounts((0.5,), (0,), (0,), (1,))
    assert average_precision(match_counts(nothing, something, (0.5, 0.2))).tolist() == [0.0, 0.0]
    assert match_counts(np.zeros((0, 4), int), np.zeros((0, 4), int)).tp == (0,)


def test_counts_pool_by_addition() -> None:
    first, second = ObjectCounts((0.5,), (3,), (1,), (0,)), ObjectCounts((0.5,), (1,), (0,), (3,))
    assert first + second == ObjectCounts((0.5,), (4,), (1,), (3,))
    assert average_precision(first + second).tolist() == [0.5]
    with pytest.raises(ValueError, match="do not add"):
        _ = first + ObjectCounts((0.7,), (1,), (1,), (1,))
    with pytest.raises(ValueError, match="every threshold"):
        ObjectCounts((0.5, 0.6), (1,), (1,), (1,))


def test_refusals_say_what_was_got() -> None:
    image = np.ones((3, 3), int)
    with pytest.raises(InputError, match=r"\(3, 3\) and \(3, 4\)"):
        match_counts(image, np.ones((3, 4), int))
    with pytest.raises(InputError, match="the truth holds float64"):
        match_counts(image, image / 2)
    with pytest.raises(InputError, match="the prediction holds the id -1"):
        match_counts(-image, image)
    with pytest.raises(ValueError, match=r"1\.0 is not an IoU"):
        match_counts(image, image, (1.0,))


def test_ten_thousand_objects_take_a_moment() -> None:
    truth = np.kron(np.arange(1, 10_001).reshape(100, 100), np.pad(np.ones((14, 14), int), ((0, 6), (0, 6))))
    prediction = np.roll(truth, 1, axis=0)
    start = time.process_time()  # of this process alone: other work on the machine does not count
    counts = match_counts(prediction, truth, THRESHOLDS)
    assert time.process_time() - start < 10  # about 0.15 s on one core; a comparison of all pairs would take hours
    assert counts.tp[:8] == (10_000,) * 8  # IoU 13 / 15 = 0.867
    assert counts.tp[8:] == (0, 0)


def test_components_equal_scikit_image() -> None:
    mask = np.random.default_rng(1).random((80, 90)) < 0.55
    labels, expected = connected_components(mask), label(mask, connectivity=1)
    pairs = np.unique(np.stack([labels.ravel(), expected.ravel()]), axis=1)
    assert (
        pairs.shape[1] == labels.max() + 1 == expected.max() + 1
    )  # one to one: the same regions, whatever their numbers


def test_components_share_a_side() -> None:
    mask = np.array([[2, 0, 0, 1], [0, 1, 0, 1], [0, 1, 1, 0]])
    labels = connected_components(mask)
    assert labels.dtype == np.int32
    assert labels.tolist() == [[1, 0, 0, 2], [0, 3, 0, 2], [0, 3, 3, 0]]
    assert connected_components(mask > 0).tolist() == labels.tolist()
    assert not connected_components(np.zeros((3, 0), bool)).size


def test_panoptic_quality_f1_and_seg_worked_out_by_hand() -> None:
    truth = np.zeros((4, 12), int)
    truth[:, 0:3], truth[:, 4:7], truth[:, 8:10] = 1, 2, 3
    prediction = np.zeros((4, 12), int)
    prediction[:, 0:3] = 40  # IoU 1 with 1
    prediction[:3, 4:7] = 7  # IoU 9 / 12 with 2
    prediction[0, 8:10] = 8  # IoU 2 / 8 with 3, of which it covers a quarter
    prediction[:, 11] = 9  # invented
    counts = match_counts(prediction, truth, (0.5, 0.8))
    assert panoptic_quality(counts) == pytest.approx((1 + 0.75) / (2 + 2 / 2 + 1 / 2))
    assert f1(counts).tolist() == [4 / 7, 2 / 7]
    assert seg(counts) == pytest.approx((1 + 0.75 + 0) / 3)
    large = match_counts(np.ones((4, 12), int), truth)  # covers each object wholly, resembles none
    assert large.tp == (0,) and panoptic_quality(large) == 0
    assert seg(large) == pytest.approx((12 / 48 + 12 / 48 + 8 / 48) / 3)
    nothing = np.zeros((2, 2), int)
    assert panoptic_quality(match_counts(nothing, nothing)) == 1 and np.isnan(seg(match_counts(nothing, nothing)))
    with pytest.raises(ValueError, match=r"IoU of 0\.5"):
        panoptic_quality(match_counts(truth, truth, (0.7,)))
    doubled = counts + counts
    assert panoptic_quality(doubled) == panoptic_quality(counts) and seg(doubled) == pytest.approx(seg(counts))
