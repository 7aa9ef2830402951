"""Pixel scores equal hand-computed values and scikit-image's own counts."""

import numpy as np
import pytest
from skimage.metrics import contingency_table

from unettile.errors import InputError
from unettile.metrics.pixels import accuracy, confusion_matrix, dice, iou

TRUTH = np.array([[0, 0, 1], [1, 1, 2]])
PREDICTION = np.array([[0, 1, 1], [1, 2, 2]])


def test_counts_worked_out_by_hand() -> None:
    confusion = confusion_matrix(PREDICTION, TRUTH, classes=3)
    assert confusion.dtype == np.int64
    assert confusion.tolist() == [[1, 1, 0], [0, 2, 1], [0, 0, 1]]
    assert iou(confusion).tolist() == [1 / 2, 2 / 4, 1 / 2]
    assert dice(confusion).tolist() == [2 / 3, 4 / 6, 2 / 3]
    assert accuracy(confusion) == 4 / 6


def test_an_absent_class_has_no_score() -> None:
    confusion = confusion_matrix(PREDICTION, TRUTH, classes=4)
    assert np.isnan(iou(confusion)).tolist() == [False, False, False, True]
    assert np.isnan(dice(confusion)).tolist() == [False, False, False, True]
    assert np.isnan(accuracy(np.zeros((2, 2), np.int64)))


@pytest.mark.parametrize("dtype", ["u1", "i2", "u8", "i8"])
def test_counts_equal_scikit_image(dtype: str) -> None:
    random = np.random.default_rng(3)
    truth, prediction = random.integers(0, 5, (2, 61, 47)).astype(dtype)
    expected = contingency_table(truth.astype(int), prediction.astype(int)).toarray()
    assert np.array_equal(confusion_matrix(prediction, truth, classes=5), expected)


def test_tables_of_blocks_add_up_to_the_table_of_the_image() -> None:
    random = np.random.default_rng(4)
    truth, prediction = random.integers(0, 3, (2, 50, 40))
    parts = [confusion_matrix(prediction[rows], truth[rows], 3) for rows in (slice(0, 17), slice(17, 50))]
    assert np.array_equal(parts[0] + parts[1], confusion_matrix(prediction, truth, 3))


def test_boolean_masks_are_two_classes() -> None:
    assert confusion_matrix(PREDICTION > 0, TRUTH > 0, classes=2).tolist() == [[1, 1], [0, 4]]


@pytest.mark.parametrize(
    ("prediction", "truth", "message"),
    [
        (np.zeros((2, 3), int), np.zeros((3, 2), int), "2 x 3 and 3 x 2 px"),
        (np.zeros((2, 2)), np.zeros((2, 2), int), "float64"),
        (np.full((2, 2), 7), np.zeros((2, 2), int), "7 .. 7"),
        (np.zeros((2, 2), int), np.full((2, 2), -1), "-1 .. -1"),
    ],
)
def test_refusals_say_what_was_got(prediction: np.ndarray, truth: np.ndarray, message: str) -> None:
    with pytest.raises(InputError, match=message):
        confusion_matrix(prediction, truth, classes=2)


def test_a_table_that_is_not_square_is_refused() -> None:
    with pytest.raises(InputError, match="square"):
        iou(np.zeros((2, 3), np.int64))
