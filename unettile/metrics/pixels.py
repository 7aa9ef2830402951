"""Agreement of two class maps, pixel by pixel.

Everything derives from one K x K table of counts. Tables add, so a large image is scored block by block and a set of
images is pooled by summing.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from unettile.errors import InputError


def confusion_matrix(prediction: NDArray[np.integer], truth: NDArray[np.integer], classes: int) -> NDArray[np.int64]:
    """Count the pixels of every (true class, predicted class) pair.

    prediction, truth: integer or boolean class indices of the same shape, each in 0 .. classes - 1.
    Returns (K, K) int64: rows are the true class, columns the predicted one.

    Raises:
        InputError: the shapes differ, the values are not integers, or a value is not a class.

    >>> confusion_matrix(np.array([0, 1, 1]), np.array([0, 0, 1]), classes=2).tolist()
    [[1, 1], [0, 1]]
    """
    if prediction.shape != truth.shape:
        raise InputError(
            f"prediction and truth differ in size: {_by(prediction)} and {_by(truth)} px; compare equal ones"
        )
    for name, array in (("prediction", prediction), ("truth", truth)):
        if array.dtype.kind not in "iub":
            raise InputError(f"the {name} holds {array.dtype} values; class indices must be integers")
        low, high = (int(array.min()), int(array.max())) if array.size else (0, 0)
        if low < 0 or high >= classes:
            raise InputError(f"the {name} holds values {low} .. {high}; {classes} classes are 0 .. {classes - 1}")
    cells = truth.ravel().astype(np.int64) * classes + prediction.ravel().astype(np.int64)
    counts = np.bincount(cells, minlength=classes * classes)
    return counts.astype(np.int64, copy=False).reshape(classes, classes)


def iou(confusion: NDArray[np.int64]) -> NDArray[np.float64]:
    """Intersection over union of each class: TP / (TP + FP + FN).

    confusion: (K, K) counts, rows are the true class.
    Returns (K,) float64 in [0, 1]; NaN for a class that is in neither map, where the ratio has no meaning.

    >>> iou(np.array([[1, 1], [0, 1]])).tolist()
    [0.5, 0.5]
    """
    shared, true, predicted = _margins(confusion)
    return _ratio(shared, true + predicted - shared)


def dice(confusion: NDArray[np.int64]) -> NDArray[np.float64]:
    """Dice coefficient (F1 score) of each class: 2 TP / (2 TP + FP + FN).

    confusion: (K, K) counts, rows are the true class.
    Returns (K,) float64 in [0, 1]; NaN for a class that is in neither map.
    """
    shared, true, predicted = _margins(confusion)
    return _ratio(2 * shared, true + predicted)


def accuracy(confusion: NDArray[np.int64]) -> float:
    """Fraction of all pixels whose class is right; NaN if there are no pixels."""
    return float(_ratio(np.trace(confusion, dtype=np.int64)[None], confusion.sum()[None])[0])


def _margins(confusion: NDArray[np.int64]) -> tuple[NDArray[np.int64], NDArray[np.int64], NDArray[np.int64]]:
    if confusion.ndim != 2 or confusion.shape[0] != confusion.shape[1]:
        raise InputError(f"a confusion matrix is square; got shape {confusion.shape}")
    return np.diagonal(confusion).copy(), confusion.sum(axis=1), confusion.sum(axis=0)


def _ratio(part: NDArray[np.int64], whole: NDArray[np.int64]) -> NDArray[np.float64]:
    result = np.full(part.shape, np.nan)
    np.divide(part, whole, out=result, where=whole > 0)
    return result


def _by(array: NDArray[np.integer]) -> str:
    return " x ".join(str(length) for length in array.shape)
